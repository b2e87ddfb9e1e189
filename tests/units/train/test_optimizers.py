"""Each optimizer against its published formula, written out in float64; and what its groups hold."""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from yuyan.models.classic import Lstm
from yuyan.models.presets import Gpt
from yuyan.train import AdamW, parameter_kinds
from yuyan.train.optimizer import Adafactor, Kind, Muon, OptimizerConfig, Rates, Sgd
from yuyan.train.optimizer.adamw import ScalingAdamW
from yuyan.train.optimizer.groups import Scaling
from yuyan.train.optimizer.muon import orthogonal

STEPS = 4


class Parts(nn.Module):
    """A matrix of each form, a table, a cell with gates, a norm."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(7, 6)
        self.wide, self.tall, self.again = nn.Linear(10, 6), nn.Linear(6, 10, bias=False), nn.Linear(10, 6)
        self.row = nn.Linear(6, 1)
        self.norm = nn.LayerNorm(6)
        self.cell = nn.LSTM(6, 5)


def trained(config: OptimizerConfig) -> tuple[dict[str, Tensor], list[dict[str, Tensor]], dict[str, Tensor]]:
    """Weights before, the gradients of each step, weights after; gradients are drawn."""
    torch.manual_seed(0)
    model = Parts()
    masters = dict(model.named_parameters())
    optimizer = config.build(masters, parameter_kinds(model))
    before = {name: p.detach().clone() for name, p in masters.items()}
    gradients = [{name: torch.randn_like(p) * 0.1 for name, p in masters.items()} for _ in range(STEPS)]
    for each in gradients:
        for name, p in masters.items():
            p.grad = each[name].clone()
        optimizer.step()
    return before, gradients, {name: p.detach() for name, p in masters.items()}


def check(config: OptimizerConfig, formula: Callable[[str, Tensor, list[Tensor]], Tensor]) -> None:
    """`formula(name, weight, gradients)` gives the weight after all steps, in float64."""
    before, gradients, after = trained(config)
    for name, weight in before.items():
        expected = formula(name, weight.double(), [each[name].double() for each in gradients])
        torch.testing.assert_close(
            after[name].double(), expected, rtol=1e-4, atol=2e-6, msg=lambda m, n=name: f"{n}: {m}"
        )


def is_matrix(name: str, weight: Tensor) -> bool:
    return weight.ndim == 2 and not name.startswith("table")


@pytest.mark.parametrize("nesterov", [False, True])
def test_sgd(nesterov: bool) -> None:
    def formula(name: str, w: Tensor, gradients: list[Tensor]) -> Tensor:
        m = torch.zeros_like(w)
        for g in gradients:
            m = 0.8 * m + g
            decayed = w * (1 - 0.05 * 0.3) if is_matrix(name, w) else w
            w = decayed - 0.05 * (g + 0.8 * m if nesterov else m)
        return w

    check(Sgd(lr=0.05, momentum=0.8, nesterov=nesterov, weight_decay=0.3), formula)


def test_sgd_without_momentum_is_plain() -> None:
    check(
        Sgd(lr=0.05, momentum=0.0, nesterov=True), lambda name, w, gradients: w - 0.05 * torch.stack(gradients).sum(0)
    )


def test_adafactor() -> None:
    """Shazeer & Stern 2018, algorithms 4 and 5; epsilon 1 is float32's, as PyTorch has it."""

    def formula(name: str, w: Tensor, gradients: list[Tensor]) -> Tensor:
        row = column = square = torch.zeros(())
        for t, g in enumerate(gradients, 1):
            beta = 1 - t**-0.8
            if w.ndim == 2:
                row = beta * row + (1 - beta) * (g**2).mean(1)
                column = beta * column + (1 - beta) * (g**2).mean(0)
                v = torch.outer(row, column) / row.mean()
            else:
                v = square = beta * square + (1 - beta) * g**2
            u = g / v.sqrt()
            u = u / max(1.0, float((u**2).mean().sqrt()) / 1.0)
            size = max(1e-3, float((w**2).mean().sqrt()))
            w = (w * (1 - 0.01 * 0.3) if is_matrix(name, w) else w) - min(0.01, t**-0.5) * size * u
        return w

    check(Adafactor(lr=0.01, weight_decay=0.3), formula)


@pytest.mark.parametrize("scale", ["rms", "spectral"])
@pytest.mark.parametrize("nesterov", [False, True])
def test_muon(scale: str, nesterov: bool) -> None:
    """Jordan et al. 2024 for matrices, the gates of a cell each by itself; AdamW for the rest."""

    def polynomial(g: Tensor) -> Tensor:
        u, s, vh = torch.linalg.svd(g / g.norm(), full_matrices=False)  # on singular values, it is one of numbers
        for _ in range(5):
            s = 3.4445 * s - 4.7750 * s**3 + 2.0315 * s**5
        return u @ torch.diag(s) @ vh

    def formula(name: str, w: Tensor, gradients: list[Tensor]) -> Tensor:
        if not is_matrix(name, w) or name.startswith("row"):
            return adam(w, gradients, decay=0.2 if name == "row.weight" else 0.0)
        m = torch.zeros_like(w)
        for g in gradients:
            m = 0.9 * m + 0.1 * g
            mixed = 0.1 * g + 0.9 * m if nesterov else m
            blocks = mixed.chunk(4) if name.startswith("cell") else [mixed]
            rows, columns = blocks[0].shape
            length = 0.2 * math.sqrt(max(rows, columns)) if scale == "rms" else math.sqrt(max(1, rows / columns))
            w = w * (1 - 0.02 * 0.3) - 0.02 * length * torch.cat([polynomial(block) for block in blocks])
        return w

    rest = AdamW(lr=0.01, beta1=0.8, beta2=0.9, eps=1e-6, weight_decay=0.2)
    check(
        Muon(lr=0.02, momentum=0.9, weight_decay=0.3, scale=scale, nesterov=nesterov, precision="float32", rest=rest),
        formula,
    )


def adam(w: Tensor, gradients: list[Tensor], *, decay: float) -> Tensor:
    m = v = torch.zeros_like(w)
    for t, g in enumerate(gradients, 1):
        m, v = 0.8 * m + 0.2 * g, 0.9 * v + 0.1 * g**2
        w = w * (1 - 0.01 * decay) - 0.01 * (m / (1 - 0.8**t)) / ((v / (1 - 0.9**t)).sqrt() + 1e-6)
    return w


ADAMW = AdamW(lr=0.01, beta1=0.8, beta2=0.9, eps=1e-6, weight_decay=0.2)


@pytest.mark.parametrize(
    "config",
    [ADAMW, ADAMW.model_copy(update={"weight_decay": 0.0}), Muon(lr=0.01, precision="float32", rest=ADAMW)],
    ids=str,
)
def test_a_step_on_bfloat16_is_that_on_float32(config: AdamW | Muon) -> None:
    """AdamW's one pass is PyTorch's: gradients in bfloat16 and a factor that they are multiplied by as they are read; rows of a table that nothing has
    touched, one that was touched once, decayed ones."""
    torch.manual_seed(2)
    ours, theirs = Parts(), Parts()
    theirs.load_state_dict(ours.state_dict())
    mine, other = (config.build(dict(m.named_parameters()), parameter_kinds(m)) for m in (ours, theirs))
    assert isinstance(mine, Scaling) and isinstance(other, Scaling)
    copies = {p: p.detach().bfloat16() for p in ours.parameters()}
    for step in range(STEPS):
        for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
            a.grad_dtype = None
            drawn = (torch.randn_like(a) * 30).bfloat16()
            if a is ours.table.weight:
                drawn[2 if step else 3 :] = 0
            a.grad, b.grad = drawn, drawn.float()
        assert mine.step_scaled(0.01, copies)
        assert not other.step_scaled(0.01, {}), "float32 gradients take PyTorch's way"
        torch._foreach_mul_([b.grad for b in theirs.parameters()], 0.01)
        other.step()
    for (name, a), b in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6, msg=lambda m, n=name: f"{n}: {m}")
        assert torch.equal(copies[a], a.bfloat16())
        assert mine.state[a].keys() == other.state[b].keys() > set()
        for key, kept in mine.state[a].items():
            torch.testing.assert_close(kept, other.state[b][key], rtol=1e-5, atol=1e-7)


def test_adamw_does_not_take_one_number_for_a_whole_row() -> None:
    """What is left of a row whose last gradient was long ago still moves it."""
    weight = nn.Parameter(torch.ones(2, 40))
    weight.grad_dtype = None
    optimizer = AdamW(lr=0.1, weight_decay=0.0).build({"w": weight}, {"w": Kind("embedding")})
    assert isinstance(optimizer, ScalingAdamW)
    copies = {weight: torch.ones(2, 40).bfloat16()}
    weight.grad = torch.zeros(2, 40).bfloat16()
    weight.grad[1, 39] = 1.0
    optimizer.step_scaled(1.0, copies)
    moved = weight.detach().clone()
    assert bool((moved[0] == 1).all()) and int((moved[1] != 1).sum()) == 1
    weight.grad = torch.zeros(2, 40).bfloat16()
    optimizer.step_scaled(1.0, copies)
    assert float(weight[1, 39].detach()) < float(moved[1, 39]) < 1
    assert torch.equal(copies[weight], weight.bfloat16())


def test_training_in_bfloat16_does_not_load_the_compiler() -> None:
    """Which takes longer than all else that a small run begins with."""
    code = """
import sys, torch
from yuyan.models.presets import Bert
from yuyan.train import AdamW, MasterWeights, parameter_kinds
model = Bert(hidden_size=16, num_layers=1, num_heads=2).build(50, 0)
weights = MasterWeights(model, torch.bfloat16)
optimizer = AdamW().build(weights.masters, parameter_kinds(model))
model.encode(torch.ones(2, 3, dtype=torch.long)).sum().backward()
weights.take_gradients()
assert optimizer.step_scaled(1.0, weights.copies)
assert "torch._dynamo" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("shape", [(3, 24, 24), (1, 24, 60), (3, 60, 24), (1, 300, 280)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_what_is_made_orthogonal_has_singular_values_near_one(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    matrices = torch.randn(shape)
    values = torch.linalg.svdvals(orthogonal(matrices.to(dtype), 10).float())
    assert values.min() > 0.6 and values.max() < 1.3
    assert not orthogonal(torch.zeros(shape, dtype=dtype), 5).any(), "nothing stays nothing"


def test_muon_is_pytorchs_where_both_can() -> None:
    """One square and one wide matrix, in bfloat16; its rounding is all that may differ."""
    torch.manual_seed(1)
    ours, theirs = (nn.ModuleList([nn.Linear(40, 40, bias=False), nn.Linear(90, 40, bias=False)]) for _ in range(2))
    theirs.load_state_dict(ours.state_dict())
    start = [p.detach().clone() for p in ours.parameters()]
    config = Muon(lr=0.01, weight_decay=0.1, scale="rms", precision="bfloat16")
    optimizer = config.build(dict(ours.named_parameters()), parameter_kinds(ours))
    peer = torch.optim.Muon(theirs.parameters(), lr=0.01, weight_decay=0.1, adjust_lr_fn="match_rms_adamw")
    for _ in range(5):
        for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
            a.grad = torch.randn_like(a)
            b.grad = a.grad.clone()
        optimizer.step()
        peer.step()
    for a, b, before in zip(ours.parameters(), theirs.parameters(), start, strict=True):
        assert float((a - b).detach().norm() / (a - before).detach().norm()) < 0.02


def test_the_parts_of_a_network() -> None:
    """A tied table is an embedding; a table of its own at the end is the head; gates lie in blocks."""
    kinds = parameter_kinds(Gpt(hidden_size=16, num_layers=1, num_heads=2).build(50, 0))
    assert {kind.part for kind in kinds.values()} == {"embedding", "matrix", "vector"}
    assert [name for name, kind in kinds.items() if kind.part == "embedding"] == ["embedding.token.weight"]
    lstm = parameter_kinds(Lstm(hidden_size=16, num_layers=1).build(50, 0))
    assert {name.rpartition(".")[2]: kind.blocks for name, kind in lstm.items() if kind.blocks > 1} == {
        "weight_ih_l0": 4, "weight_hh_l0": 4,
    }  # fmt: skip
    network = Gpt(hidden_size=16, num_layers=1, num_heads=2).network(50)
    assert network.head is not None
    untied = network.model_copy(update={"head": network.head.model_copy(update={"tied": False})}).build()
    assert [name for name, kind in parameter_kinds(untied).items() if kind.part == "head"] == ["head.output.weight"]


@pytest.mark.parametrize("config", [AdamW(), Muon(), Sgd(), Adafactor()], ids=lambda c: c.kind)
def test_every_parameter_is_in_one_group_with_the_rate_of_its_part(config: OptimizerConfig) -> None:
    rates = Rates(matrix=0.5, embedding=3.0, vector=0.0)
    if isinstance(config, Muon):
        config = config.model_copy(update={"rest": AdamW(lr=config.lr, rates=rates)})
    else:
        config = config.model_copy(update={"rates": rates})
    model = Parts()
    kinds = parameter_kinds(model)
    optimizer = config.build(dict(model.named_parameters()), kinds)
    names = {id(p): name for name, p in model.named_parameters()}
    held = [names[id(p)] for group in optimizer.param_groups for p in group["params"]]
    assert sorted(held) == sorted(kinds)
    for group in optimizer.param_groups:
        assert {kinds[names[id(p)]].part for p in group["params"]} == {group["part"]}
        own = isinstance(config, Muon) and "blocks" in group and group["part"] == "matrix" and "betas" not in group
        assert group["lr"] == pytest.approx(config.lr * (1.0 if own else getattr(rates, group["part"])))
