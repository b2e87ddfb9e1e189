"""What a network needs in memory, from its config alone: to train it, and to write with it.

Weights, gradients and what the optimizer keeps are exact. What the forward pass keeps for the backward pass is an
estimate: the tensors that each part is known to keep, counted; a test holds it against what PyTorch does keep.

B rows, T tokens of a row, H heads, D hidden size, Q and K widths of queries and keys, F width of the feed-forward layer.
"""

from __future__ import annotations

from typing import NamedTuple

from yuyan.models.network import Network
from yuyan.nn.attend import LONGEST_BLOCKED, block_size
from yuyan.nn.attention import Heads
from yuyan.nn.feed_forward import FeedForward
from yuyan.nn.ffn import Gated, Mlp
from yuyan.nn.head import WORDS
from yuyan.nn.linear_cross_entropy import chunk_tokens
from yuyan.nn.mask import Causal
from yuyan.nn.position import Alibi, RelativeBias
from yuyan.nn.recurrent import Additive, Multiplicative, Recurrent
from yuyan.nn.stack import Stack

FLOAT32 = 4
HELD = 1.2
"""Times what is used: freed memory is kept for the next step, in pieces. Measured: 0.95 to 1.35."""
ADAM_TENSORS = 2
CELL_NUMBERS = {"rnn": 2, "gru": 8}
"""Numbers that a recurrent layer keeps for each token and unit of its state, as measured."""
LSTM_BYTES = {(4, False): 68, (2, False): 24, (4, True): 98, (2, True): 72}
"""Bytes that PyTorch's LSTM kernel keeps, by the bytes of a number and whether it reads both ways, as measured."""


class TrainingMemory(NamedTuple):
    """Bytes of a training run, by what they are for."""

    weights: int
    """In the number format of the computation."""
    masters: int
    """Exact copies of what is trained, where the computation is not exact."""
    gradients: int
    optimizer: int
    """What the optimizer remembers; of AdamW the mean and the mean square of each gradient."""
    copy: int
    """The float32 network that is measured and saved."""
    activations: int
    """What a micro-batch takes: what its forward pass keeps, what the backward pass of a block makes meanwhile, and freed
    pieces that nothing else fits into; an estimate."""

    @property
    def total(self) -> int:
        """All of it."""
        return sum(self)


class GenerationMemory(NamedTuple):
    """Bytes of generation."""

    weights: int
    cache_per_token: int
    """Keys and values of one token of one text; 0 where a state is carried on."""
    state: int
    """What one text needs whatever its length."""
    source_per_token: int
    """With an encoder, for each token that it read: its hidden state, and the keys and values that the decoder makes of it."""


def training_memory(
    network: Network,
    parameters: int,
    trained: int,
    *,
    rows: int,
    context: int,
    number_bytes: int,
    kept: int | None = None,
    recompute: bool = False,
) -> TrainingMemory:
    """Of micro-batches of `rows` texts of `context` tokens, in numbers of `number_bytes`.

    `kept` is how many numbers the optimizer remembers; by default AdamW's two for each parameter that is trained.
    `recompute`: whether blocks are computed again for their gradients.
    """
    exact = number_bytes == FLOAT32
    return TrainingMemory(
        weights=parameters * number_bytes,
        masters=0 if exact else trained * FLOAT32,
        gradients=trained * (FLOAT32 if exact else FLOAT32 + number_bytes),
        optimizer=FLOAT32 * (trained * ADAM_TENSORS if kept is None else kept),
        copy=parameters * FLOAT32,
        activations=int(HELD * (
            activation_bytes(network, rows, context, number_bytes, recompute=recompute)
            + _backward(network.filled(), rows * context, context, number_bytes)
        )),
    )  # fmt: skip


def generation_memory(network: Network, parameters: int, number_bytes: int) -> GenerationMemory:
    """With a cache of keys and values."""
    network = network.filled()
    side = network.decoder
    token = state = 0
    if isinstance(side, Stack):
        assert side.heads.head_size and side.heads.key_value_heads
        token = 2 * side.num_layers * side.heads.key_value_heads * side.heads.head_size * number_bytes
    elif isinstance(side, FeedForward):
        state = (side.order - 2) * network.embedding_size * number_bytes
    elif side is not None:
        state = (2 if side.cell == "lstm" else 1) * side.num_layers * network.hidden_size * number_bytes
    return GenerationMemory(parameters * number_bytes, token, state, _source(network) * number_bytes)


def _source(network: Network) -> int:
    """Numbers kept of each token of the text that the encoder read."""
    side, hidden = network.decoder, network.hidden_size
    if network.encoder is None or side is None:
        return 0
    if isinstance(side, Stack):
        assert side.heads.head_size and side.heads.key_value_heads
        return hidden + 2 * side.num_layers * side.heads.key_value_heads * side.heads.head_size
    if isinstance(side.cross, Additive):
        return hidden + (side.cross.size or hidden)
    return 2 * hidden if isinstance(side.cross, Multiplicative) else hidden


# ---------------------------------------------------------------- activations


def activation_bytes(network: Network, rows: int, context: int, number_bytes: int, *, recompute: bool = False) -> int:
    """What the forward pass keeps for the backward pass, both sides reading `context` tokens, the loss included."""
    network = network.filled()
    hidden, inner = network.hidden_size, network.embedding_size
    total = 0.0
    for side in (network.encoder, network.decoder):
        if isinstance(side, Stack):
            layer = _layer(side, hidden, context, number_bytes)
            total += side.num_layers * hidden * number_bytes + layer if recompute else side.num_layers * layer
            total += hidden * number_bytes * (2 if side.residual == "pre" else 1)
            total += _bias(side, context, number_bytes) / rows
        elif isinstance(side, FeedForward):
            total += _feed_forward(side, inner, hidden, number_bytes) * number_bytes
        elif side is not None:
            total += _recurrent(side, hidden, number_bytes)
    total += (
        inner * number_bytes * ((1 if network.embedding.norm else 0) + _mask(network.embedding.dropout, number_bytes))
    )
    return int(rows * context * total) + _loss(network, rows * context, number_bytes)


def _backward(network: Network, tokens: int, context: int, number_bytes: int) -> float:
    """Of the block whose gradients are made: as much as it kept."""
    stacks = [side for side in (network.encoder, network.decoder) if isinstance(side, Stack)]
    return tokens * max((_layer(stack, network.hidden_size, context, number_bytes) for stack in stacks), default=0.0)


def _mask(rate: float, number_bytes: int) -> int:
    """Numbers that dropout keeps for each of its own: none in bfloat16, where the mask is computed anew."""
    return int(rate > 0 and number_bytes >= FLOAT32)


def _layer(stack: Stack, hidden: int, context: int, number_bytes: int) -> float:
    """Bytes of one block for each token."""
    parts = 3 if stack.cross else 2
    numbers = parts * hidden * 2  # what each norm keeps, and what the products after it read
    numbers += parts * hidden * _mask(stack.dropout, number_bytes)
    causal = isinstance(stack.mask, Causal) and not isinstance(stack.position, RelativeBias | Alibi)
    kept = numbers * number_bytes + _attention(stack, stack.heads, context, number_bytes, causal)
    if stack.cross:
        kept += _attention(stack, stack.heads, context, number_bytes, causal=False, own=False)
    return kept + _ffn(stack.ffn, number_bytes) * number_bytes


def _attention(stack: Stack, heads: Heads, context: int, number_bytes: int, causal: bool, own: bool = True) -> float:
    assert heads.head_size and heads.key_value_heads
    query, key = heads.count * heads.head_size, heads.key_value_heads * heads.head_size
    kept = (2 * query + 2 * key + (query + key if heads.qk_norm else 0)) * number_bytes
    blocked = number_bytes < FLOAT32 and context <= LONGEST_BLOCKED
    if heads.dropout and not blocked:
        return kept + 3 * heads.count * context * FLOAT32  # the plain kernel keeps weights, mask and result
    if blocked:  # the probabilities of each block are kept, before dropout
        seen = (context + min(context, block_size(context))) / 2 if causal else context
        return kept + heads.count * seen * number_bytes
    if own and isinstance(stack.position, RelativeBias):
        return kept + heads.count * context * FLOAT32  # a learned bias keeps the fused kernel away
    return kept


def _bias(stack: Stack, context: int, number_bytes: int) -> float:
    """Bytes of a mask or bias of all pairs of tokens, for each token of one row."""
    if isinstance(stack.position, RelativeBias | Alibi):
        return stack.heads.count * context * number_bytes
    return 0.0


def _ffn(ffn: Mlp | Gated, number_bytes: int) -> int:
    if isinstance(ffn, Gated):
        tensors = 4
    else:
        tensors = 1 if ffn.activation == "relu" else 2
    return (tensors + _mask(ffn.dropout, number_bytes)) * ffn.intermediate_size


def _recurrent(side: Recurrent, hidden: int, number_bytes: int) -> int:
    """Bytes for each token: the cells' own, and the outputs."""
    if side.cell == "lstm":
        kept = LSTM_BYTES[number_bytes, side.bidirectional]
    else:
        kept = CELL_NUMBERS[side.cell] * number_bytes
    outputs = 1 + side.bidirectional + _mask(side.output_dropout, number_bytes) + (4 if side.cross else 0)
    between = (side.num_layers - 1) * _mask(side.dropout, number_bytes)
    return hidden * (side.num_layers * kept + between * number_bytes) + (hidden * outputs * number_bytes)


def _feed_forward(side: FeedForward, inner: int, hidden: int, number_bytes: int) -> int:
    """Numbers for each token: the vectors side by side, and the layer."""
    layer = side.layer_size(inner, hidden)
    return (side.order - 1) * inner + layer + hidden * _mask(side.dropout, number_bytes)


def _loss(network: Network, tokens: int, number_bytes: int) -> int:
    """Hidden states with their gradient, that of the output table, and the scores of one chunk."""
    if not isinstance(network.head, WORDS):
        return 0
    table = network.vocab_size * network.embedding_size
    chunk = min(tokens, chunk_tokens(network.vocab_size, network.embedding_size)) * network.vocab_size
    passing = chunk * (FLOAT32 + 2 * number_bytes)  # scores as they are, exact, and their gradient
    return 2 * tokens * network.embedding_size * number_bytes + table * FLOAT32 + passing
