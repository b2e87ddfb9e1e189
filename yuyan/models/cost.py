"""What a network costs, from its config alone: parameters by part, arithmetic by token, kinds of parameters.

Counts are closed formulas, so they are known before anything is allocated; a test holds them against built models.
A multiplication and its addition count as two operations.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Literal

from torch import nn

from yuyan.models.network import Network, NetworkModule, Side
from yuyan.nn.attention import Heads
from yuyan.nn.embed import Embedding
from yuyan.nn.feed_forward import FeedForward
from yuyan.nn.ffn import Gated, Mlp
from yuyan.nn.head import AdaptiveHead, Head, LabelHead, LanguageModelHead, MaskedHead, ReplacedHead
from yuyan.nn.mask import Full, TwoSidedWindow, Window
from yuyan.nn.norm import LayerNorm, RMSNorm
from yuyan.nn.position import Learned, RelativeBias
from yuyan.nn.recurrent import Additive, Multiplicative, Recurrent
from yuyan.nn.stack import Stack

ParameterKind = Literal["embedding", "head", "matrix", "vector"]
GATES = {"rnn": 1, "gru": 3, "lstm": 4}


# ---------------------------------------------------------------- parameters


def parameter_count(network: Network) -> int:
    """How many parameters the built network has; shared ones once."""
    return sum(parameters_by_part(network).values())


def parameters_by_part(network: Network) -> dict[str, int]:
    """Parameters of the embedding, each side and the head; a tied head counts with the embedding."""
    network = network.filled()
    inner, hidden = network.embedding_size, network.hidden_size
    parts = {"embedding": _embedding(network.embedding, network.vocab_size, inner)}
    for name, side in (("encoder", network.encoder), ("decoder", network.decoder)):
        if side is not None:
            parts[name] = _side(side, inner, hidden)
    if network.head is not None:
        parts["head"] = _head(network.head, network.vocab_size, hidden, inner)
    return parts


def _linear(inputs: int, outputs: int, bias: bool) -> int:
    return inputs * outputs + (outputs if bias else 0)


def _norm(norm: LayerNorm | RMSNorm, size: int) -> int:
    return size * (2 if isinstance(norm, LayerNorm) and norm.bias else 1)


def _embedding(config: Embedding, vocab_size: int, size: int) -> int:
    return (vocab_size + config.type_vocab_size) * size + (_norm(config.norm, size) if config.norm else 0)


def _attention(heads: Heads, hidden: int) -> int:
    assert heads.head_size and heads.key_value_heads and heads.output_bias is not None
    query, key = heads.count * heads.head_size, heads.key_value_heads * heads.head_size
    projections = _linear(hidden, query + 2 * key, heads.bias) + _linear(query, hidden, heads.output_bias)
    return projections + (2 * _norm(heads.qk_norm, heads.head_size) if heads.qk_norm else 0)


def _ffn(ffn: Mlp | Gated, hidden: int) -> int:
    ups = 2 if isinstance(ffn, Gated) else 1
    return ups * _linear(hidden, ffn.intermediate_size, ffn.bias) + _linear(ffn.intermediate_size, hidden, ffn.bias)


def _position(position: object, size: int, heads: int) -> int:
    if isinstance(position, Learned):
        return (position.max_position_embeddings + position.offset) * size
    return position.num_buckets * heads if isinstance(position, RelativeBias) else 0


def _side(side: Side, inner: int, hidden: int) -> int:
    if isinstance(side, Stack):
        return _stack(side, inner, hidden)
    return _recurrent(side, inner, hidden) if isinstance(side, Recurrent) else _feed_forward(side, inner, hidden)


def _feed_forward(side: FeedForward, inner: int, hidden: int) -> int:
    return _linear((side.order - 1) * inner, side.layer_size(inner, hidden), True)


def _stack(stack: Stack, inner: int, hidden: int) -> int:
    norm, attentions = _norm(stack.norm, hidden), 2 if stack.cross else 1
    layer = attentions * (_attention(stack.heads, hidden) + norm) + _ffn(stack.ffn, hidden) + norm
    total = stack.num_layers * layer + (norm if stack.residual == "pre" else 0) - (0 if stack.first_norm else norm)
    total += _position(stack.position, inner, stack.heads.count)
    total += _position(stack.local.position, inner, stack.heads.count) if stack.local else 0
    return total + (_linear(inner, hidden, True) if inner != hidden else 0)


def _recurrent(side: Recurrent, inner: int, hidden: int) -> int:
    directions = 2 if side.bidirectional else 1
    state = hidden // directions
    total, inputs = 0, inner + (hidden if isinstance(side.cross, Additive) else 0)
    for layer in range(side.num_layers):
        cell = GATES[side.cell] * state * ((inputs if layer == 0 else hidden) + state + 2)
        total += directions * cell
    if side.cross is not None:
        total += _linear(hidden, (2 if side.cell == "lstm" else 1) * side.num_layers * hidden, True)
    if isinstance(side.cross, Additive):
        size = side.cross.size or hidden
        total += 2 * hidden * size + size
    if isinstance(side.cross, Multiplicative):
        total += hidden * hidden
    return total + (2 * hidden * hidden if isinstance(side.cross, Additive | Multiplicative) else 0)


def _head(head: Head, vocab_size: int, hidden: int, inner: int) -> int:
    if isinstance(head, LanguageModelHead):
        own = hidden * inner if head.tied and inner != hidden else 0
        return own + (0 if head.tied else vocab_size * hidden) + (vocab_size if head.bias else 0)
    if isinstance(head, AdaptiveHead):
        bounds, widths = head.bounds(vocab_size), head.widths(vocab_size, hidden)
        sizes = [high - low for low, high in pairwise(bounds)]
        return hidden * (sizes[0] + len(widths)) + sum(
            width * (hidden + size) for width, size in zip(widths, sizes[1:], strict=True)
        )
    if isinstance(head, MaskedHead):
        own = _linear(hidden, inner, head.dense_bias) + _norm(head.norm, inner) + vocab_size
        return own + (0 if head.tied else vocab_size * inner)
    if isinstance(head, LabelHead):
        layer = _linear(hidden, hidden, head.layer_bias) if head.activation else 0
        return layer + (_norm(head.norm, hidden) if head.norm else 0) + _linear(hidden, len(head.labels), head.bias)
    return _linear(hidden, hidden, True) + (_linear(hidden, 1, True) if isinstance(head, ReplacedHead) else 0)


# ---------------------------------------------------------------- arithmetic


def flops_per_token(network: Network, context: int) -> int:
    """Operations of one forward pass for each token of a text of `context` tokens, scores included.

    Two for each weight that multiplies (Kaplan 2020, section 2.1), and the products of attention with the keys that a
    token sees on average. Training costs three times as much. A text of an encoder-decoder counts on both sides.
    """
    network = network.filled()
    inner, hidden = network.embedding_size, network.hidden_size
    total = 0
    for side in (network.encoder, network.decoder):
        if isinstance(side, Recurrent | FeedForward):
            total += 2 * _side(side, inner, hidden)
        elif side is not None:
            parts = _attention(side.heads, hidden) * (2 if side.cross else 1) + _ffn(side.ffn, hidden)
            total += 2 * side.num_layers * parts + (2 * inner * hidden if inner != hidden else 0)
            total += sum(_products(side, layer, context) for layer in range(side.num_layers))
    if network.head is not None:
        total += 2 * _head(network.head, network.vocab_size, hidden, inner)
        tied = isinstance(network.head, LanguageModelHead | MaskedHead) and network.head.tied
        total += 2 * network.vocab_size * inner if tied else 0
    return total


def flops_per_pair(network: Network, source: int, target: int) -> int:
    """Operations of one forward pass, without scores, of a text of `source` tokens that the encoder reads and one of
    `target` tokens that the decoder writes: keys and values of the source are made once a layer."""
    network = network.filled()
    encoder = network.model_copy(update={"decoder": None, "head": None})
    side = network.decoder
    total = source * flops_per_token(encoder, source)
    if not isinstance(side, Stack) or not side.cross:
        return total + target * flops_per_token(network.model_copy(update={"encoder": None, "head": None}), target)
    alone = side.model_copy(update={"cross": False})
    decoder = network.model_copy(update={"encoder": None, "head": None, "decoder": alone})
    heads = side.heads.filled(network.hidden_size)
    assert heads.head_size and heads.key_value_heads
    query, key = heads.count * heads.head_size, heads.key_value_heads * heads.head_size
    reading = 4 * network.hidden_size * (query * target + key * source) + 4 * query * source * target
    return total + target * flops_per_token(decoder, target) + side.num_layers * reading


def _products(stack: Stack, layer: int, context: int) -> int:
    """Scores and weighted sums of one layer for one token: two products with as many keys as it sees."""
    assert stack.heads.head_size
    mask = stack.local.mask if stack.local and layer in stack.local.layers else stack.mask
    if isinstance(mask, Full):
        seen = context
    elif isinstance(mask, TwoSidedWindow):
        seen = min(context, 2 * mask.reach + 1)
    else:
        window = min(context, mask.size) if isinstance(mask, Window) else context
        seen = (context + 1) // 2 if window == context else window
    return 4 * stack.heads.count * stack.heads.head_size * (seen + (context if stack.cross else 0))


# ---------------------------------------------------------------- kinds


def parameter_kinds(model: nn.Module) -> dict[str, ParameterKind]:
    """What each parameter is, by the structure of the model: tables, the last product, other matrices, the rest.

    Optimizers treat them apart: tables and vectors are not decayed, and only matrices suit a matrix method. A tied
    output table is an embedding.
    """
    tables = {id(m.weight) for m in model.modules() if isinstance(m, nn.Embedding)}
    networks = [m for m in model.modules() if isinstance(m, NetworkModule) and m.head is not None]
    output = {id(part) for network in networks for part in network.last_weights()}
    return {name: _kind(parameter, tables, output) for name, parameter in model.named_parameters()}


def _kind(parameter: nn.Parameter, tables: set[int], output: set[int]) -> ParameterKind:
    if id(parameter) in tables:
        return "embedding"
    if parameter.ndim < 2:
        return "vector"
    return "head" if id(parameter) in output else "matrix"
