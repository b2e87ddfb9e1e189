"""What every side keeps, whatever it is made of: causality, padding, cache, width, size, dropout, packing."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, get_args

import pytest
import torch
from sides import ALL, DECODERS, ENCODERS, PAIRS, VOCABULARY, WIDTH, WRITERS, hidden_of, memory_of, strong, texts
from torch import Tensor

from yuyan.config import Config, build, dump
from yuyan.models.cost import flops_per_token, parameter_count, parameter_kinds, parameters_by_part
from yuyan.models.network import Network, NetworkModule
from yuyan.nn.cache import Cache
from yuyan.nn.ffn import Activation, Ffn
from yuyan.nn.head import WORDS, Head
from yuyan.nn.mask import Mask
from yuyan.nn.norm import Norm
from yuyan.nn.position import Position
from yuyan.nn.recurrent import Recurrent, RecurrentCross
from yuyan.nn.residual import Residual
from yuyan.nn.rotary import DynamicScaling, Scaling

LENGTHS = (13, 8, 1)


def close(actual: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(actual, expected, rtol=1e-4, atol=2e-5)


def padded(ids: Tensor, side: str) -> tuple[Tensor, Tensor]:
    """Rows cut to LENGTHS and padded, with other tokens in the padding than before."""
    out, mask = texts(*ids.shape, seed=9), torch.zeros_like(ids)
    for row, length in enumerate(LENGTHS):
        place = slice(ids.shape[1] - length, None) if side == "left" else slice(0, length)
        out[row, place], mask[row, place] = ids[row, :length], 1
    return out, mask


# ---------------------------------------------------------------- the list is complete


def configs_in(config: Config) -> Iterator[Config]:
    yield config
    for name in type(config).model_fields:
        value = getattr(config, name)
        if isinstance(value, Config):
            yield from configs_in(value)


def test_every_member_of_every_union_is_here() -> None:
    seen = {type(part) for config in ALL.values() for part in configs_in(config)}
    unions = (Norm, Position, Mask, Ffn, Head, Scaling, RecurrentCross)
    members = {member for union in unions for member in get_args(get_args(union)[0])}
    assert members - seen <= {DynamicScaling}  # its rates change with the length: a cache cannot keep what it turned
    values = {str(v) for config in ALL.values() for part in configs_in(config) for v in dict(part).values()}
    assert {*get_args(Residual), "rnn", "gru", "lstm"} <= values
    assert len(get_args(Activation)) == 6


# ---------------------------------------------------------------- what is seen


@pytest.mark.parametrize("name", WRITERS)
@torch.no_grad()
def test_a_decoder_does_not_see_what_comes_later(name: str) -> None:
    model, ids = strong(WRITERS[name]), texts()
    before = hidden_of(model, ids)
    for cut in (1, 5, 12):
        other = ids.clone()
        other[:, cut:] = (ids[:, cut:] + 1) % VOCABULARY
        after = hidden_of(model, other)
        assert torch.equal(after[:, :cut], before[:, :cut])
        assert bool((after[:, cut] - before[:, cut]).abs().amax(-1).min() > 1e-4)


@pytest.mark.parametrize("name", ENCODERS)
@torch.no_grad()
def test_an_encoder_sees_what_comes_later(name: str) -> None:
    model, ids = strong(ENCODERS[name]), texts()
    other = ids.clone()
    other[:, -1] = (ids[:, -1] + 1) % VOCABULARY
    assert bool((hidden_of(model, other) - hidden_of(model, ids))[:, 0].abs().amax(-1).min() > 1e-6)


@pytest.mark.parametrize("name", PAIRS)
@torch.no_grad()
def test_a_decoder_reads_the_real_tokens_of_its_memory_alone(name: str) -> None:
    model, ids = strong(PAIRS[name]), texts()
    given = memory_of(model)
    before = model.decode(ids, **given)
    spoiled = given["memory"].clone()
    spoiled[1, 4:] += 1.0
    assert torch.equal(model.decode(ids, memory=spoiled, memory_mask=given["memory_mask"]), before)
    spoiled[1, 0] += 1.0
    after = model.decode(ids, memory=spoiled, memory_mask=given["memory_mask"])
    assert bool((after - before)[1].abs().amax(-1).min() > 1e-5)
    assert torch.equal(after[0], before[0])


# ---------------------------------------------------------------- padding


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("name", ALL)
@torch.no_grad()
def test_padding_changes_nothing(name: str, side: str) -> None:
    model, ids = strong(ALL[name]), texts()
    out = hidden_of(model, *padded(ids, side))
    for row, length in enumerate(LENGTHS):
        if model.decoder is None:
            alone = model.encode(ids[row : row + 1, :length])
        else:
            given = {key: value[row : row + 1] for key, value in memory_of(model).items()}
            alone = model.decode(ids[row : row + 1, :length], **given)
        close(out[row, 13 - length :] if side == "left" else out[row, :length], alone[0])


@pytest.mark.parametrize("name", ALL)
@torch.no_grad()
def test_a_row_of_padding_alone_is_finite_and_disturbs_no_other(name: str) -> None:
    model, ids = strong(ALL[name]), texts()
    mask = torch.ones_like(ids)
    mask[1] = 0
    out = hidden_of(model, ids, mask)
    assert bool(out.isfinite().all())
    close(out[[0, 2]], hidden_of(model, ids)[[0, 2]])


@pytest.mark.parametrize("name", PAIRS)
@torch.no_grad()
def test_an_empty_memory_is_finite(name: str) -> None:
    model = strong(PAIRS[name])
    given = memory_of(model) | {"memory_mask": torch.zeros(3, 7)}
    assert bool(model.decode(texts(), **given).isfinite().all())


# ---------------------------------------------------------------- cache


@pytest.mark.parametrize("name", WRITERS)
@torch.no_grad()
def test_a_cache_changes_nothing(name: str) -> None:
    model, ids = strong(WRITERS[name]), texts()
    given = memory_of(model)
    whole = model.decode(ids, **given)
    for pieces in ([5, 1, 1, 6], [1] * 13, [12, 1]):
        cache = Cache(step=4)
        parts = [model.decode(part, cache=cache, **given) for part in ids.split(pieces, dim=1)]
        close(torch.cat(parts, 1), whole)
        assert cache.length == 13


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("name", WRITERS)
@torch.no_grad()
def test_a_cache_goes_on_from_texts_of_several_lengths(name: str, side: str) -> None:
    """A padded batch of prompts, then token by token: as if each row had been alone and whole."""
    model, ids = strong(WRITERS[name]), texts()
    more = texts(3, 4, seed=8)
    given, cache = memory_of(model), Cache(step=3)
    model.decode(*padded(ids, side), cache=cache, **given)
    steps = [model.decode(more[:, t : t + 1], cache=cache, **given) for t in range(3)]
    steps.append(model.decode(more[:, 3:], torch.ones(3, 1), cache=cache, **given))
    for row, length in enumerate(LENGTHS):
        alone = torch.cat((ids[row, :length], more[row]))[None]
        own = {key: value[row : row + 1] for key, value in given.items()}
        close(torch.cat(steps, 1)[row], model.decode(alone, **own)[0, length:])


@pytest.mark.parametrize("name", WRITERS)
@torch.no_grad()
def test_a_row_that_has_ended_waits(name: str) -> None:
    """Tokens marked as padding in the middle of generation leave no trace."""
    model, ids = strong(WRITERS[name]), texts()
    given, cache = memory_of(model), Cache()
    model.decode(ids[:, :5], cache=cache, **given)
    model.decode(texts(3, 2, seed=8), torch.tensor([[1, 1], [0, 0], [1, 0]]), cache=cache, **given)
    out = model.decode(ids[:, 5:8], cache=cache, **given)
    own = {key: value[1:2] for key, value in given.items()}
    close(out[1], model.decode(ids[1:2, :8], **own)[0, 5:])


@pytest.mark.parametrize("name", WRITERS)
@torch.no_grad()
def test_a_cache_follows_its_rows(name: str) -> None:
    model, ids = strong(WRITERS[name]), texts()
    given, cache, order = memory_of(model), Cache(), torch.tensor([2, 0, 0, 1])
    model.decode(*padded(ids, "left"), cache=cache, **given)
    cache.reorder(order)
    given = {key: value[order] for key, value in given.items()}
    out = model.decode(ids[order, :2], cache=cache, **given)
    again = Cache()
    left, mask = padded(ids, "left")
    model.decode(left[order], mask[order], cache=again, **given)
    close(out, model.decode(ids[order, :2], cache=again, **given))


# ---------------------------------------------------------------- packing


@pytest.mark.parametrize("name", DECODERS | ENCODERS)
@torch.no_grad()
def test_documents_in_one_row_do_not_see_each_other(name: str) -> None:
    model, ids = strong((DECODERS | ENCODERS)[name]), texts()
    read = model.decode if name in DECODERS else model.encode
    documents = torch.tensor([[0] * 5 + [1] * 8, [7] * 13, [3] + [2] * 6 + [4] * 6])
    out = read(ids, document_ids=documents)
    for row, (start, end) in [(0, (0, 5)), (0, (5, 13)), (1, (0, 13)), (2, (0, 1)), (2, (1, 7)), (2, (7, 13))]:
        close(out[row, start:end], read(ids[row : row + 1, start:end])[0])


# ---------------------------------------------------------------- size and shape


@pytest.mark.parametrize("name", ALL)
@torch.no_grad()
def test_width_and_scores(name: str) -> None:
    config = ALL[name]
    model = config.build().eval()
    hidden = hidden_of(model, texts())
    assert hidden.shape == (3, 13, WIDTH)
    if config.head is not None:
        labels = {"labels": len(getattr(config.head, "labels", ())), "replaced": 1, "pooler": WIDTH}
        assert model.score(hidden).shape == (3, 13, labels.get(config.head.kind, VOCABULARY))


@pytest.mark.parametrize("name", ALL)
def test_parameters_are_as_predicted(name: str) -> None:
    config = ALL[name]
    model = config.build()
    assert parameter_count(config) == sum(p.numel() for p in model.parameters())
    for part, count in parameters_by_part(config).items():
        assert count == sum(p.numel() for p in getattr(model, part).parameters()), part
    kinds = parameter_kinds(model)
    assert set(kinds) == {key for key, _ in model.named_parameters()}
    assert kinds["embedding.token.weight"] == "embedding"
    assert all(kind == "vector" for key, kind in kinds.items() if model.get_parameter(key).ndim < 2)


@pytest.mark.parametrize("name", DECODERS)
def test_arithmetic_is_as_counted(name: str) -> None:
    """Against the products that PyTorch counts while it runs, attention included."""
    from torch.utils.flop_counter import FlopCounterMode

    config, length = DECODERS[name], 13
    if isinstance(config.decoder, Recurrent):
        pytest.skip("PyTorch does not count the products of its recurrent layers")
    model = config.build().eval()
    with (
        torch.no_grad(),
        FlopCounterMode(display=False) as counter,
        torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH),
    ):
        model.score(model.decode(texts(1, length)))
    vectors = 2 * sum(p.numel() for p in model.parameters() if p.ndim < 2)  # counted by us, no products
    counted, ours = counter.get_total_flops() / length, flops_per_token(config, length)
    assert counted * 0.9 - 4 * vectors < ours < counted * 1.1 + 4 * vectors


# ---------------------------------------------------------------- training


def dropouts(data: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The path of each dropout in a config that can matter."""
    for key, value in data.items() if isinstance(data, dict) else ():
        if key.endswith("dropout"):
            if (key, data.get("kind"), data.get("num_layers")) != ("dropout", "recurrent", 1):  # none between layers
                yield (*path, key)
        else:
            yield from dropouts(value, (*path, key))


def with_dropout(config: Network, path: tuple[str, ...]) -> Network:
    data = node = dump(config)
    for key in path[:-1]:
        node = node[key]
    node[path[-1]] = 0.5
    return build(Network, data)


@pytest.mark.parametrize(
    ("name", "path"),
    [pytest.param(n, p, id=f"{n} {'.'.join(p)}") for n, config in ALL.items() for p in dropouts(dump(config))],
)
@torch.no_grad()
def test_each_dropout_is_on_in_training_and_off_in_evaluation(name: str, path: tuple[str, ...]) -> None:
    plain, ids = strong(ALL[name]), texts()
    model = with_dropout(ALL[name], path).build()
    model.load_state_dict(plain.state_dict())

    def out(model: NetworkModule) -> Tensor:
        hidden = hidden_of(model, ids)
        return hidden if model.head is None else model.score(hidden)

    model.train()
    assert not torch.equal(out(model), out(model))
    model.eval()
    assert torch.equal(out(model), out(plain))
    plain.train()
    close(out(plain), out(plain.eval()))


@pytest.mark.parametrize("name", ALL)
def test_every_parameter_learns(name: str) -> None:
    model = strong(ALL[name])
    hidden = hidden_of(model, texts())
    if model.config.embedding.type_vocab_size:
        hidden = model.encode(texts(), token_type_ids=texts() % 2)
    out = hidden if model.head is None else model.score(hidden)
    (out * torch.randn(out.shape, generator=torch.Generator().manual_seed(1))).sum().backward()
    idle = [key for key, p in model.named_parameters() if p.grad is None or not bool(p.grad.any())]
    assert not idle


@pytest.mark.parametrize("name", ALL)
def test_the_start_is_a_function_of_the_seed_alone(name: str) -> None:
    state = torch.get_rng_state()
    first, again, other = (ALL[name].build(seed) for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), state)
    pairs = zip(first.state_dict().values(), again.state_dict().values(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)
    assert not torch.equal(first.embedding.token.weight, other.embedding.token.weight)


@pytest.mark.parametrize("name", ALL)
def test_the_config_survives_a_file(name: str) -> None:
    assert build(Network, dump(ALL[name])) == ALL[name]
    filled = ALL[name].filled()
    assert filled.filled() == filled and build(Network, dump(filled)) == filled


def test_scores_are_the_projection_of_what_comes_before_it() -> None:
    for config in ALL.values():
        model: NetworkModule = strong(config)
        if config.head is None or config.head.kind in ("pooler", "adaptive"):
            continue
        hidden = hidden_of(model, texts())
        weight, bias = model.output_projection()
        by_hand = model.before_projection(hidden) @ weight.T + (0 if bias is None else bias)
        close(by_hand, model.score(hidden))


@pytest.mark.parametrize("name", [name for name, config in ALL.items() if isinstance(config.head, WORDS)])
def test_a_loss_is_the_cross_entropy_of_the_scores_with_its_gradient_for_every_weight(name: str) -> None:
    model, ids = strong(ALL[name]), texts(2, 6)
    labels = texts(2, 6, seed=8).flatten()
    labels[4] = -100
    found = []
    for way in ("at once", "of scores"):
        model.zero_grad()
        hidden = hidden_of(model, ids).flatten(0, 1)
        if way == "at once":
            losses = model.token_losses(hidden, labels)
        else:
            losses = torch.nn.functional.cross_entropy(model.score(hidden), labels, reduction="none")
        losses.sum().backward()
        found.append((losses.detach(), {k: p.grad.clone() for k, p in model.named_parameters() if p.grad is not None}))
    (losses, gradients), (expected, theirs) = found
    close(losses, expected)
    assert gradients.keys() == theirs.keys()
    for key, gradient in gradients.items():
        torch.testing.assert_close(gradient, theirs[key], rtol=1e-3, atol=1e-4, msg=key)
