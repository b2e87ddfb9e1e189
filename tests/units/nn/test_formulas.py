"""Every formula of the parts against the formula written out naively, number by number, in float64."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
from naive import Matrix, attention, near, places, product, rows, softmax
from torch import Tensor, nn

from yuyan.nn.attention import Attention, Heads, View
from yuyan.nn.cache import NoCache
from yuyan.nn.embed import Embedding, EmbeddingModule
from yuyan.nn.ffn import ACTIVATIONS, Gated, Mlp
from yuyan.nn.mask import Causal, Full, TwoSidedWindow, Window
from yuyan.nn.norm import LayerNorm, RMSNorm
from yuyan.nn.position import (
    Alibi,
    Learned,
    PositionModule,
    RelativeBias,
    RelativeBiasPosition,
    Rotary,
    Sinusoidal,
    alibi_slopes,
)
from yuyan.nn.residual import PostNorm, PreNorm
from yuyan.nn.rotary import (
    DynamicScaling,
    LinearScaling,
    Llama3Scaling,
    YarnScaling,
    plain_rates,
    rotate,
)

# ---------------------------------------------------------------- attention


@pytest.fixture(autouse=True)
def float64() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize(
    "heads", [Heads(count=3), Heads(count=4, key_value_heads=2, head_size=5, scale=0.7, bias=True)]
)
@pytest.mark.parametrize("causal", [False, True])
def test_multi_head_attention(heads: Heads, causal: bool) -> None:
    torch.manual_seed(1)
    module, x = Attention(heads, 12), torch.randn(2, 6, 12)
    out = module(x, View(None, causal, None, None, NoCache()))
    size, group = module.head_size, heads.count // (heads.key_value_heads or heads.count)
    scale = heads.scale if heads.scale is not None else 1 / math.sqrt(size)
    blocked = [[causal and key > query for key in range(6)] for query in range(6)]
    for b in range(2):
        q, k, v = (product(rows(x[b]), p.weight, p.bias) for p in (module.q_proj, module.k_proj, module.v_proj))
        joined: Matrix = [[] for _ in range(6)]
        for head in range(heads.count):
            own, shared = slice(head * size, (head + 1) * size), slice(head // group * size, (head // group + 1) * size)
            parts = [r[own] for r in q], [r[shared] for r in k], [r[shared] for r in v]
            for line, part in zip(joined, attention(*parts, scale, blocked, -math.inf), strict=True):
                line.extend(part)
        near(out[b], product(joined, module.o_proj.weight, module.o_proj.bias))


def test_a_large_negative_mask_equals_minus_infinity() -> None:
    """-1e9 added to the blocked scores, as the theory writes it, and the booleans of the code give the same."""
    torch.manual_seed(2)
    q, k, v = (torch.randn(5, 4) for _ in range(3))
    visible = Causal().allows(torch.arange(5)[:, None], torch.arange(5)[None])
    blocked = (~visible).tolist()
    written = attention(rows(q), rows(k), rows(v), 0.5, blocked, -1e9)
    assert written == attention(rows(q), rows(k), rows(v), 0.5, blocked, -math.inf)
    near(F.scaled_dot_product_attention(q[None], k[None], v[None], attn_mask=visible[None], scale=0.5)[0], written)


def test_cross_attention_reads_the_memory() -> None:
    torch.manual_seed(3)
    module, x, memory = Attention(Heads(count=1), 4), torch.randn(1, 3, 4), torch.randn(1, 5, 4)
    out = module(x, View(None, False, None, memory, NoCache()))
    q = product(rows(x[0]), module.q_proj.weight)
    k, v = (product(rows(memory[0]), p.weight) for p in (module.k_proj, module.v_proj))
    near(out[0], product(attention(q, k, v, 0.5, [[False] * 5] * 3, 0.0), module.o_proj.weight))


def test_queries_and_keys_are_normed_in_each_head() -> None:
    torch.manual_seed(4)
    module, x = Attention(Heads(count=2, qk_norm=RMSNorm(eps=1e-3)), 8), torch.randn(1, 3, 8)
    with torch.no_grad():
        module.q_norm.weight.copy_(torch.rand(4))
        module.k_norm.weight.copy_(torch.rand(4))

    def normed(matrix: Matrix, weight: Tensor) -> Matrix:
        return [
            [a / math.sqrt(sum(b * b for b in r) / 4 + 1e-3) * w for a, w in zip(r, weight.tolist(), strict=True)]
            for r in matrix
        ]

    joined: Matrix = [[], [], []]
    for head in (slice(0, 4), slice(4, 8)):
        q, k, v = (
            [r[head] for r in product(rows(x[0]), p.weight)] for p in (module.q_proj, module.k_proj, module.v_proj)
        )
        q, k = normed(q, module.q_norm.weight), normed(k, module.k_norm.weight)
        for line, part in zip(joined, attention(q, k, v, 0.5, [[False] * 3] * 3, 0.0), strict=True):
            line.extend(part)
    out = module(x, View(None, False, None, None, NoCache()))
    near(out[0], product(joined, module.o_proj.weight))


# ---------------------------------------------------------------- masks


@pytest.mark.parametrize(
    ("mask", "seen"),
    [
        (Full(), lambda q, k: True),
        (Causal(), lambda q, k: k <= q),
        (Window(size=3), lambda q, k: q - 3 < k <= q),
        (TwoSidedWindow(reach=2), lambda q, k: q - 2 <= k <= q + 2),
    ],
)
def test_masks(mask: Causal, seen: object) -> None:
    at = torch.arange(7)
    expected = [[seen(q, k) for k in range(7)] for q in range(7)]  # type: ignore[operator]
    assert mask.allows(at[:, None], at[None]).tolist() == expected
    assert (mask.shape(7, 0) == "full") == all(all(r) for r in expected)
    assert mask.shape(7, 0) != "causal" or expected == Causal().allows(at[:, None], at[None]).tolist()


# ---------------------------------------------------------------- positions


def test_sinusoidal_positions() -> None:
    """PE(pos, 2i) = sin(pos / 10000^(2i/D)), PE(pos, 2i+1) = cos(pos / 10000^(2i/D))."""
    module = Sinusoidal().build(6, 1, 6)
    out = module.embed(torch.zeros(1, 50, 6), places((1, 50)))
    expected = [
        [(math.sin if d % 2 == 0 else math.cos)(pos / 10000 ** ((d - d % 2) / 6)) for d in range(6)]
        for pos in range(50)
    ]
    near(out[0], expected, 1e-5)  # the angles are float32


def test_learned_positions() -> None:
    module = Learned(max_position_embeddings=5, offset=2).build(3, 1, 3)
    x = torch.randn(2, 4, 3)
    out = module.embed(x, places((2, 4), attention_mask=torch.tensor([[0, 1, 1, 1], [1, 1, 1, 1]])))
    table = module.table.weight  # type: ignore[union-attr]
    assert torch.equal(out[0, 1:], x[0, 1:] + table[2:5])
    assert torch.equal(out[1], x[1] + table[2:6])
    assert torch.equal(module.embed(x, places((2, 4))), x + table[2:6])


def turned(x: list[float], position: int, rates: list[float], magnitude: float = 1.0) -> list[float]:
    """Each pair (i, i + K/2) as a point in the plane, turned by position * rate_i."""
    half = len(x) // 2
    out = [0.0] * len(x)
    for i, rate in enumerate(rates):
        point = complex(x[i], x[i + half]) * complex(math.cos(position * rate), math.sin(position * rate)) * magnitude
        out[i], out[i + half] = point.real, point.imag
    return out


@pytest.mark.parametrize(
    ("scaling", "rates", "magnitude"),
    [
        (None, [1.0, 0.1, 0.01], 1.0),
        (LinearScaling(factor=4.0), [0.25, 0.025, 0.0025], 1.0),
        # theta * ((2 * 20 / 10) - 1) ** (6 / 4), for a text of 20 tokens
        (
            DynamicScaling(factor=2.0, original_max_position_embeddings=10),
            [(1000 * 3**1.5) ** (-2 * i / 6) for i in range(3)],
            1.0,
        ),
    ],
)
def test_rotary_positions(scaling: object, rates: list[float], magnitude: float) -> None:
    module = Rotary(theta=1000.0, scaling=scaling).build(6, 1, 6)
    x = torch.randn(1, 2, 20, 6)
    out = rotate(x, module.rotation(places((1, 20))))
    for head in range(2):
        expected = [turned(x[0, head, t].tolist(), t, rates, magnitude) for t in range(20)]
        near(out[0, head], expected, 1e-5)


def test_dynamic_scaling_forgets_the_length_of_the_last_text() -> None:
    scaling = DynamicScaling(factor=2.0, original_max_position_embeddings=10)
    module = Rotary(scaling=scaling).build(6, 1, 6)
    x = torch.randn(1, 1, 12, 6)
    short = rotate(x, module.rotation(places((1, 12))))
    longer = torch.cat((x, torch.randn(1, 1, 28, 6)), 2)
    long = rotate(longer, module.rotation(places((1, 40))))
    assert not torch.equal(long[:, :, :12], short)
    assert torch.equal(rotate(x, module.rotation(places((1, 12)))), short)


def test_rotated_scores_depend_on_distance_alone() -> None:
    module = Rotary(theta=100.0).build(8, 1, 8)
    q, k = torch.randn(8), torch.randn(8)
    both = rotate(torch.stack((q, k))[None, :, None].expand(1, 2, 30, 8), module.rotation(places((1, 30))))
    scores = both[0, 0] @ both[0, 1].T
    for distance in (0, 3, 11):
        near(scores.diagonal(-distance), [float(scores[distance, 0])] * (30 - distance), 1e-5)
    assert abs(float(scores[3, 0] - scores[0, 3])) > 1e-3


def test_llama3_scaling() -> None:
    scaling = Llama3Scaling(factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=64)
    expected = []
    for rate in plain_rates(10000.0, 16).tolist():
        wave = 2 * math.pi / rate
        if wave < 64 / 4:
            expected.append(rate)
        elif wave > 64 / 1:
            expected.append(rate / 8)
        else:
            smooth = (64 / wave - 1) / (4 - 1)
            expected.append((1 - smooth) * rate / 8 + smooth * rate)
    near(scaling.rates(10000.0, 16, 1), expected, 1e-6)
    assert len({round(a / b, 3) for a, b in zip(expected, plain_rates(10000.0, 16).tolist(), strict=True)}) > 2


def test_yarn_scaling() -> None:
    """Peng 2023, section 3.2, with r(d) the turns of a pair in the training length."""
    scaling = YarnScaling(factor=4.0, original_max_position_embeddings=256, truncate=False)
    size, theta = 16, 10000.0
    ends = [size * math.log(256 / (turns * 2 * math.pi)) / (2 * math.log(theta)) for turns in (32, 1)]
    expected = []
    for i, rate in enumerate(plain_rates(theta, size).tolist()):
        slowed = min(max((i - max(ends[0], 0)) / (min(ends[1], size - 1) - max(ends[0], 0)), 0), 1)
        expected.append(rate / 4 * slowed + rate * (1 - slowed))
    near(scaling.rates(theta, size, 1), expected, 1e-6)
    assert scaling.magnitude == pytest.approx(0.1 * math.log(4) + 1)


@pytest.mark.parametrize("bidirectional", [True, False])
def test_relative_buckets(bidirectional: bool) -> None:
    """Raffel 2020, section 2.1: exact buckets to half, then logarithmic, sharing one from `max_distance` on."""

    def bucket(offset: int) -> int:
        count, start = 32, 0
        if bidirectional:
            count, start, offset = 16, 16 if offset > 0 else 0, abs(offset)
        else:
            offset = max(-offset, 0)
        if offset < count // 2:
            return start + offset
        share = math.log(offset / (count // 2)) / math.log(128 / (count // 2))
        return start + min(count // 2 + int(share * (count - count // 2) + 1e-9), count - 1)

    module = RelativeBiasPosition(RelativeBias(bidirectional=bidirectional), 2)
    offsets = [o for o in range(-300, 301) if abs(o) not in (16, 32, 64)]  # exact powers are rounded as in float32
    assert module.bucket(torch.tensor(offsets)).tolist() == [bucket(o) for o in offsets]
    bias = module.bias(places((1, 4)))
    for query in range(4):
        for key in range(4):
            assert torch.equal(bias[0, :, query, key], module.table.weight[bucket(key - query)])


@pytest.mark.parametrize("heads", [1, 4, 8, 6])
def test_alibi(heads: int) -> None:
    slopes = alibi_slopes(heads)
    if heads != 6:
        assert slopes == [2 ** (-8 * (i + 1) / heads) for i in range(heads)]
    else:
        assert slopes == [2**-2, 2**-4, 2**-6, 2**-8, 2**-1, 2**-3]
    bias = Alibi().build(8, heads, 8).bias(places((1, 5)))
    assert bias is not None
    near(bias[0], [[[-s * abs(q - k) for k in range(5)] for q in range(5)] for s in slopes], 1e-6)


# ---------------------------------------------------------------- norms, residuals, feed-forward, embedding


def test_layer_norm_and_rms_norm() -> None:
    x = torch.randn(3, 5) * 3 + 1
    plain, layer, rms = LayerNorm(eps=0.1, bias=False).build(5), LayerNorm(eps=0.1).build(5), RMSNorm(eps=0.1).build(5)
    with torch.no_grad():
        for module in (plain, layer, rms):
            for parameter in module.parameters():
                parameter.copy_(torch.randn(5))
    centred, squares = [], []
    for r in rows(x):
        mean = sum(r) / 5
        variance = sum((a - mean) ** 2 for a in r) / 5
        centred.append([(a - mean) / math.sqrt(variance + 0.1) for a in r])
        squares.append([a / math.sqrt(sum(b * b for b in r) / 5 + 0.1) for a in r])

    def scaled(matrix: Matrix, weight: Tensor, shift: Tensor | None = None) -> Matrix:
        add = [0.0] * 5 if shift is None else shift.tolist()
        return [[a * w + s for a, w, s in zip(r, weight.tolist(), add, strict=True)] for r in matrix]

    near(layer(x), scaled(centred, layer.weight, layer.bias))
    near(plain(x), scaled(centred, plain.weight))
    near(rms(x), scaled(squares, rms.weight))


def test_residuals() -> None:
    x, inner, norm = torch.randn(2, 4), nn.Linear(4, 4), LayerNorm().build(4)
    assert torch.equal(PreNorm(norm, inner, 0.0)(x), x + inner(norm(x)))
    assert torch.equal(PostNorm(norm, inner, 0.0)(x), norm(x + inner(x)))


def test_activations() -> None:
    values = [-3.0, -0.7, 0.0, 0.2, 1.5, 4.0]
    formulas = {
        "relu": lambda v: max(v, 0.0),
        "gelu": lambda v: v * 0.5 * (1 + math.erf(v / math.sqrt(2))),
        "gelu_tanh": lambda v: 0.5 * v * (1 + math.tanh(math.sqrt(2 / math.pi) * (v + 0.044715 * v**3))),
        "silu": lambda v: v / (1 + math.exp(-v)),
        "relu2": lambda v: max(v, 0.0) ** 2,
        "tanh": math.tanh,
    }
    assert set(formulas) == set(ACTIVATIONS)
    for name, formula in formulas.items():
        near(ACTIVATIONS[name](torch.tensor(values)), [formula(v) for v in values])


def test_feed_forward() -> None:
    """FFN(x) = max(0, x W1 + b1) W2 + b2; gated: (silu(x W) * x V) W2."""
    x = torch.randn(3, 4)
    mlp = Mlp(intermediate_size=6, activation="relu").build(4)
    hidden = [[max(a, 0.0) for a in r] for r in product(rows(x), mlp.up_proj.weight, mlp.up_proj.bias)]
    near(mlp(x), product(hidden, mlp.down_proj.weight, mlp.down_proj.bias))
    gated = Gated(intermediate_size=6).build(4)
    gate, up = product(rows(x), gated.gate_proj.weight), product(rows(x), gated.up_proj.weight)
    hidden = [[a / (1 + math.exp(-a)) * b for a, b in zip(g, u, strict=True)] for g, u in zip(gate, up, strict=True)]
    near(gated(x), product(hidden, gated.down_proj.weight))


def test_embedding_adds_segments_and_scales_tokens() -> None:
    module = EmbeddingModule(Embedding(type_vocab_size=2, scaled=True), 7, 4)
    ids, kinds = torch.tensor([[1, 5, 5]]), torch.tensor([[0, 1, 0]])
    at, position = places((1, 3)), PositionModule()
    token, kind = module.token.weight, module.token_type.weight  # type: ignore[union-attr]
    near(module(ids, kinds, at, position)[0], (token[[1, 5, 5]] * 2 + kind[[0, 1, 0]]).tolist())
    near(module(ids, None, at, position)[0], (token[[1, 5, 5]] * 2 + kind[[0, 0, 0]]).tolist())


def test_the_probability_of_the_next_token_is_a_softmax_of_scores() -> None:
    """p(w | h) = exp(h . e_w) / sum_v exp(h . e_v), and its cross-entropy."""
    hidden, table = torch.randn(3, 4), torch.randn(6, 4)
    expected = [softmax(r) for r in product(rows(hidden), table)]
    near(F.linear(hidden, table).softmax(-1), expected)
    labels = [2, 0, 5]
    loss = F.cross_entropy(F.linear(hidden, table), torch.tensor(labels), reduction="none")
    near(loss, [-math.log(p[label]) for p, label in zip(expected, labels, strict=True)])


def test_the_sizes_of_slopes_fall() -> None:
    assert all(a > b for a, b in pairwise(alibi_slopes(16)))
