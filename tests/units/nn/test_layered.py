"""Dropping for a whole text: the masks are of the text, the weights of the pass, and the rest is PyTorch's cell."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from yuyan.models.classic import Lstm
from yuyan.nn import layered
from yuyan.nn.layered import Drops, Layers, TextDropout

CELLS = {"rnn": nn.RNN, "gru": nn.GRU, "lstm": nn.LSTM}
ROWS, LENGTH, INPUTS, SIZE, LAYERS = 3, 7, 5, 6, 3


def made(kind: str, bidirectional: bool = False) -> tuple[nn.RNNBase, Tensor, tuple[Tensor, ...]]:
    torch.manual_seed(0)
    cell = CELLS[kind](INPUTS, SIZE, LAYERS, batch_first=True, bidirectional=bidirectional)
    count = LAYERS * (2 if bidirectional else 1)
    states = tuple(torch.randn(count, ROWS, SIZE) for _ in range(2 if kind == "lstm" else 1))
    return cell, torch.randn(ROWS, LENGTH, INPUTS), states


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("kind", CELLS)
def test_without_drops_it_is_the_cell(kind: str, bidirectional: bool) -> None:
    cell, x, state = made(kind, bidirectional)
    out, last = cell(x, state if kind == "lstm" else state[0])
    ours, after = Layers(cell).run(x, state)
    torch.testing.assert_close(ours, out)
    torch.testing.assert_close(after, last if isinstance(last, tuple) else (last,))


@pytest.mark.parametrize("kind", CELLS)
def test_texts_of_several_lengths_too(kind: str) -> None:
    cell, x, state = made(kind)
    packed = pack_padded_sequence(x, torch.tensor([4, 7, 2]), batch_first=True, enforce_sorted=False)
    out, last = cell(packed, state if kind == "lstm" else state[0])
    ours, after = Layers(cell).run_packed(packed, state)
    torch.testing.assert_close(ours.data, out.data)
    torch.testing.assert_close(after, last if isinstance(last, tuple) else (last,))


def test_recurrent_weights_are_missing_for_the_whole_pass_and_get_their_gradient() -> None:
    cell, x, state = made("gru")
    layers = Layers(cell, Drops(weights=0.4))
    thinned = nn.GRU(INPUTS, SIZE, LAYERS, batch_first=True)
    thinned.load_state_dict(cell.state_dict())
    for layer in range(LAYERS):
        whole, kept = getattr(cell, f"weight_hh_l{layer}"), layers.weights[layer][1]
        dropped = kept == 0
        assert 0 < dropped.float().mean() < 1
        torch.testing.assert_close(kept[~dropped], (whole / 0.6)[~dropped])
        assert torch.equal(layers.weights[layer][0], getattr(cell, f"weight_ih_l{layer}"))
        getattr(thinned, f"weight_hh_l{layer}").data.copy_(kept)
    out, _ = layers.run(x, state)
    torch.testing.assert_close(out, thinned(x, state[0])[0])
    again, _ = layers.run(x, state)
    assert torch.equal(out, again), "one pass, one draw"
    assert not torch.equal(out, Layers(cell, Drops(weights=0.4)).run(x, state)[0])
    out.sum().backward()
    gradient = cell.weight_hh_l0.grad
    assert gradient is not None and bool((gradient[layers.weights[0][1] == 0] == 0).all()) and bool(gradient.any())


@pytest.mark.parametrize("packed", [False, True])
def test_what_lies_between_layers_is_missing_in_all_tokens_of_a_text(
    packed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With weights that pass their input on, what the second layer gets shows in its first token and its last."""
    cell, x, state = made("rnn")
    seen: list[Tensor] = []
    drop = F.dropout

    def watched(*arguments: object, **named: object) -> Tensor:
        seen.append(drop(*arguments, **named))  # type: ignore[arg-type]
        return seen[-1]

    monkeypatch.setattr(F, "dropout", watched)
    layers = Layers(cell, Drops(between=0.5, whole_text=True))
    seen.clear()
    if packed:
        texts = pack_padded_sequence(x, torch.tensor([4, 7, 2]), batch_first=True, enforce_sorted=False)
        out = pad_packed_sequence(layers.run_packed(texts, state)[0], batch_first=True)[0]
    else:
        out = layers.run(x, state)[0]
    assert [tuple(mask.shape) for mask in seen] == [(ROWS, SIZE)] * (LAYERS - 1)
    order = [1, 0, 2] if packed else [0, 1, 2]  # the longest text comes first
    hidden: Tensor = x
    for layer in range(LAYERS):
        one = nn.RNN(hidden.shape[-1], SIZE, batch_first=True)
        for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
            getattr(one, f"{name}_l0").data.copy_(getattr(cell, f"{name}_l{layer}"))
        if layer:
            mask = torch.empty_like(seen[layer - 1])
            mask[order] = seen[layer - 1]
            hidden = hidden * mask[:, None]
        hidden = one(hidden, state[0][layer : layer + 1])[0]
    for row, length in enumerate([4, 7, 2] if packed else [LENGTH] * ROWS):
        torch.testing.assert_close(out[row, :length], hidden[row, :length])


def test_text_dropout_is_one_mask_a_text_right_on_average_and_nothing_when_measuring() -> None:
    drop, x = TextDropout(0.25), torch.ones(200, 5, 40)
    out = drop(x)
    assert torch.equal(out[:, 0], out[:, 4]) and not torch.equal(out[0], out[1])
    assert out.unique().tolist() == pytest.approx([0.0, 4 / 3])
    assert float(out.mean()) == pytest.approx(1, abs=0.05)
    assert drop.eval()(x) is x


def test_in_bfloat16_the_fast_layer_takes_the_thinned_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    preset = Lstm(hidden_size=16, num_layers=2, dropout=0.2, dropout_masks="text", weight_dropout=0.5)
    network = preset.network(20).build(seed=0).train()
    ids = torch.randint(0, 20, (2, 9))
    monkeypatch.setattr(layered, "dropout", lambda x, rate: x * torch.linspace(0, 2 * rate, x.shape[-1]).to(x.dtype))
    exact = network.decode(ids)
    network.bfloat16()
    monkeypatch.setattr(torch, "lstm", None)
    assert float((network.decode(ids) - exact).detach().norm() / exact.detach().norm()) < 0.05
    whole = network.eval().decode(ids)
    assert torch.equal(whole, network.decode(ids))
