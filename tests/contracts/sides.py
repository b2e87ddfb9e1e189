"""One network for each member of each union: a new member must be added here, and is then tested like the others."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from yuyan.models.network import Network, NetworkModule
from yuyan.nn.attention import Heads
from yuyan.nn.embed import Embedding
from yuyan.nn.feed_forward import FeedForward
from yuyan.nn.ffn import Ffn, Gated, Mlp
from yuyan.nn.head import AdaptiveHead, LabelHead, LanguageModelHead, MaskedHead, PoolerHead, ReplacedHead
from yuyan.nn.mask import Full, TwoSidedWindow, Window
from yuyan.nn.norm import LayerNorm, RMSNorm
from yuyan.nn.position import Alibi, Learned, NoPosition, RelativeBias, Rotary, Sinusoidal
from yuyan.nn.recurrent import Additive, FirstState, Multiplicative, Recurrent
from yuyan.nn.rotary import LinearScaling, Llama3Scaling, YarnScaling
from yuyan.nn.stack import Local, Stack

VOCABULARY, WIDTH = 41, 24
HEADS = Heads(count=4)


def stack(**seams: Any) -> Stack:
    ffn: Ffn = Gated(intermediate_size=32)
    return Stack(**{"num_layers": 2, "heads": HEADS, "ffn": ffn} | seams)


def reader(**seams: Any) -> Stack:
    return stack(**{"mask": Full()} | seams)


def network(**parts: Any) -> Network:
    return Network(vocab_size=VOCABULARY, hidden_size=WIDTH, **parts)


def decoder(**seams: Any) -> Network:
    return network(decoder=stack(**seams))


def encoder(**seams: Any) -> Network:
    return network(encoder=reader(**seams))


def recurrent(**settings: Any) -> Recurrent:
    return Recurrent(**{"num_layers": 2} | settings)


BIAS = RelativeBias(num_buckets=8, max_distance=12, bidirectional=False)
BOTH = RelativeBias(num_buckets=8, max_distance=12)
DECODERS: dict[str, Network] = {
    "llama": decoder(),
    "grouped": decoder(heads=Heads(count=4, key_value_heads=2, qk_norm=RMSNorm(), bias=True, output_bias=False)),
    "gpt2": decoder(
        norm=LayerNorm(),
        position=Learned(max_position_embeddings=40),
        ffn=Mlp(intermediate_size=32),
        heads=Heads(count=4, bias=True),
    ),
    "no position": decoder(position=NoPosition(), heads=Heads(count=2, head_size=6)),
    "sinusoidal, post": network(
        decoder=stack(position=Sinusoidal(), residual="post", norm=LayerNorm(bias=False)),
        embedding=Embedding(scaled=True),
    ),
    "relative bias": decoder(position=BIAS, heads=Heads(count=4, scale=1.0)),
    "alibi": decoder(position=Alibi(), heads=Heads(count=3, head_size=8)),
    "linear": decoder(position=Rotary(theta=500.0, scaling=LinearScaling(factor=2.0))),
    "yarn": decoder(position=Rotary(scaling=YarnScaling(factor=4.0, original_max_position_embeddings=8))),
    "llama3": decoder(
        position=Rotary(
            scaling=Llama3Scaling(
                factor=4.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=8
            )
        )
    ),
    "window": decoder(mask=Window(size=3)),
    "some windows": decoder(local=Local(layers=(0,), mask=Window(size=2), position=Rotary(theta=100.0))),
    "alibi window": decoder(position=Alibi(), mask=Window(size=4)),
    "narrow embedding": network(
        decoder=stack(), embedding=Embedding(size=10, norm=LayerNorm()), head=LanguageModelHead(bias=True)
    ),
    "untied, scaled": network(
        decoder=stack(first_norm=False), head=LanguageModelHead(tied=False, scaled=True, bias=True)
    ),
    "rnn": network(decoder=recurrent(cell="rnn")),
    "gru": network(decoder=recurrent(cell="gru", num_layers=1), head=LanguageModelHead(tied=False)),
    "lstm": network(decoder=recurrent(cell="lstm"), embedding=Embedding(size=10)),
    "gru, one mask a text": network(
        decoder=recurrent(cell="gru", dropout_masks="text"), embedding=Embedding(size=10, dropout_masks="text")
    ),
    "lstm, classes": network(decoder=recurrent(), head=AdaptiveHead(cutoffs=(6, 14), reduction=2)),
    "bengio": network(decoder=FeedForward(order=4), head=LanguageModelHead(tied=False, bias=True)),
    "bengio, direct": network(
        decoder=FeedForward(order=3, direct=True),
        embedding=Embedding(size=5),
        head=LanguageModelHead(tied=False, bias=True),
    ),
    "neural bigram": network(decoder=FeedForward(order=2)),
}
ENCODERS: dict[str, Network] = {
    "bert": network(
        encoder=reader(
            residual="post", norm=LayerNorm(), position=Learned(max_position_embeddings=40, offset=2),
            ffn=Mlp(intermediate_size=32, activation="relu2"),
        ),
        embedding=Embedding(type_vocab_size=2, norm=LayerNorm()),
        head=MaskedHead(),
    ),
    "electra": network(
        encoder=reader(), embedding=Embedding(size=10), head=MaskedHead(tied=False, dense_bias=False, norm=RMSNorm())
    ),
    "modernbert": network(
        encoder=reader(first_norm=False, local=Local(layers=(1,), mask=TwoSidedWindow(reach=2))), head=ReplacedHead()
    ),
    "t5 encoder": network(encoder=reader(position=BOTH), head=None),
    "pooler": network(encoder=reader(position=Alibi()), head=PoolerHead()),
    "labels": network(
        encoder=reader(), head=LabelHead(labels=("a", "b", "c"), pool="mean", activation="tanh", norm=LayerNorm(), bias=False)
    ),
    "bilstm": network(encoder=recurrent(bidirectional=True), head=LabelHead(labels=("a", "b"), pool="none")),
    "bigru": network(encoder=recurrent(bidirectional=True, cell="gru", num_layers=1), head=LabelHead(labels=("a",))),
}  # fmt: skip
PAIRS: dict[str, Network] = {
    "t5": network(
        encoder=reader(position=BOTH), decoder=stack(position=BIAS, cross=True), head=LanguageModelHead(scaled=True)
    ),
    "transformer": network(
        encoder=reader(position=Sinusoidal(), residual="post", norm=LayerNorm()),
        decoder=stack(position=Sinusoidal(), residual="post", norm=LayerNorm(), cross=True),
    ),
    "sutskever": network(encoder=recurrent(), decoder=recurrent(cross=FirstState())),
    "bahdanau": network(
        encoder=recurrent(bidirectional=True, cell="gru"), decoder=recurrent(cross=Additive(size=9), cell="gru")
    ),
    "luong": network(encoder=recurrent(bidirectional=True), decoder=recurrent(cross=Multiplicative())),
    "luong over attention": network(encoder=reader(), decoder=recurrent(cross=Multiplicative(), cell="rnn")),
    "attention over recurrent": network(encoder=recurrent(cell="gru"), decoder=stack(cross=True)),
}
TWICE: dict[str, Network] = {  # both sides read the text
    name: network(
        encoder=reader(position=BOTH), decoder=stack(position=BIAS, cross=True),
        head=LabelHead(labels=("a", "b"), pool=pool, activation=activation, start=3),
    )
    for name, pool, activation in (("t5 labels", "last", "tanh"), ("t5 answer", "none", None))
}  # fmt: skip
ALL = DECODERS | ENCODERS | PAIRS | TWICE
WRITERS = DECODERS | PAIRS


def strong(config: Network, seed: int = 3) -> NetworkModule:
    """The built network with weights large enough that nothing is hidden, in evaluation mode."""
    model = config.build().eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.3)
    return model


def texts(rows: int = 3, length: int = 13, seed: int = 5) -> Tensor:
    return torch.randint(0, VOCABULARY, (rows, length), generator=torch.Generator().manual_seed(seed))


def memory_of(model: NetworkModule, rows: int = 3) -> dict[str, Tensor]:
    """What the decoder of a pair reads: an encoded batch of texts of several lengths."""
    if model.encoder is None or model.decoder is None:
        return {}
    source, mask = texts(rows, 7, seed=6), torch.ones(rows, 7, dtype=torch.long)
    mask[1, 4:] = 0
    return {"memory": model.encode(source, mask), "memory_mask": mask}


def hidden_of(model: NetworkModule, ids: Tensor, mask: Tensor | None = None) -> Tensor:
    """Hidden states of the side that reads `ids`: the decoder where there is one."""
    if model.decoder is None:
        return model.encode(ids, mask)
    return model.decode(ids, mask, **memory_of(model, ids.shape[0]))


def same(a: NetworkModule, b: NetworkModule) -> bool:
    pairs = zip(a.state_dict().items(), b.state_dict().items(), strict=True)
    return a.config == b.config and all(x == y and torch.equal(s, t) for (x, s), (y, t) in pairs)
