"""ModernBERT: pre-norm, rotary positions, gated layers, and windows in two layers of three (Warner 2024)."""

from __future__ import annotations

from typing import Any

from yuyan.hub.family import Family
from yuyan.hub.labels import SEQUENCE, label_keys, read_labels, suffix
from yuyan.hub.names import Row, Stacked
from yuyan.hub.published import PUBLISHED_ACTIVATIONS, Published
from yuyan.models.network import Network
from yuyan.nn.attention import Heads
from yuyan.nn.embed import Embedding
from yuyan.nn.ffn import Gated
from yuyan.nn.head import Head, LabelHead, MaskedHead
from yuyan.nn.mask import Full, TwoSidedWindow
from yuyan.nn.norm import LayerNorm
from yuyan.nn.position import Rotary
from yuyan.nn.stack import Local, Stack

FULL, SLIDING = "full_attention", "sliding_attention"
THETA = {FULL: 160_000.0, SLIDING: 10_000.0}
OLD_THETA = {FULL: "global_rope_theta", SLIDING: "local_rope_theta"}

THEIRS, OURS = "model.layers.{i}.", "encoder.layers.{i}."
ENCODER = (
    Row("model.embeddings.tok_embeddings.weight", "embedding.token.weight"),
    Row("model.embeddings.norm.{p}", "embedding.norm.{p}"),
    Row(THEIRS + "attn_norm.{p}", OURS + "attention.norm.{p}"),
    Row(THEIRS + "attn.Wqkv.{p}", tuple(f"{OURS}attention.inner.{a}_proj.{{p}}" for a in "qkv"), Stacked(3)),
    Row(THEIRS + "attn.Wo.{p}", OURS + "attention.inner.o_proj.{p}"),
    Row(THEIRS + "mlp_norm.{p}", OURS + "ffn.norm.{p}"),
    Row(THEIRS + "mlp.Wi.{p}", tuple(f"{OURS}ffn.inner.{m}_proj.{{p}}" for m in ("gate", "up")), Stacked(2)),
    Row(THEIRS + "mlp.Wo.{p}", OURS + "ffn.inner.down_proj.{p}"),
    Row("model.final_norm.{p}", "encoder.norm.{p}"),
    Row("head.dense.{p}", "head.dense.{p}"),
    Row("head.norm.{p}", "head.norm.{p}"),
)
MASKED = (
    Row("decoder.weight", "head.output.weight", tied="embedding.token.weight"),
    Row("decoder.bias", "head.bias"),
)


def table(network: Network) -> tuple[Row, ...]:
    """The names, with those of one kind of head."""
    if isinstance(network.head, LabelHead):
        return (*ENCODER, Row("classifier.{p}", "head.output.{p}"))
    return ENCODER + MASKED


def read(c: Published) -> Network:
    norm = LayerNorm(eps=c.take("norm_eps", float, 1e-5), bias=c.take("norm_bias", bool, False))
    c.only("position_embedding_type", "absolute")  # what published files say and no code reads
    c.ignore(
        "initializer_cutoff_factor", "deterministic_flash_attn", "sparse_prediction", "sparse_pred_ignore_index",
        "reference_compile", "repad_logits_with_grad", "layer_norm_eps", "max_position_embeddings",
    )  # fmt: skip
    depth = c.take("num_hidden_layers", int)
    near, positions = _layers(c, depth), _positions(c)
    window = TwoSidedWindow(reach=c.take("local_attention", int, 128) // 2)
    attention_bias, mlp_bias = c.take("attention_bias", bool, False), c.take("mlp_bias", bool, False)
    stack = Stack(
        num_layers=depth,
        heads=Heads(
            count=c.take("num_attention_heads", int),
            bias=attention_bias,
            dropout=c.take("attention_dropout", float, 0.0),
        ),
        ffn=Gated(
            intermediate_size=c.take("intermediate_size", int),
            activation=c.activation("hidden_activation", "gelu"),
            bias=mlp_bias,
            dropout=c.take("mlp_dropout", float, 0.0),
        ),
        norm=norm,
        first_norm=False,
        position=positions[FULL],
        mask=Full(),
        local=Local(layers=near, mask=window, position=positions[SLIDING]) if near else None,
    )
    return Network(
        vocab_size=c.take("vocab_size", int),
        hidden_size=c.take("hidden_size", int),
        embedding=Embedding(norm=norm, dropout=c.take("embedding_dropout", float, 0.0)),
        encoder=stack,
        head=_head(c, c.architecture("ModernBertForMaskedLM"), norm),
    )


def _layers(c: Published, depth: int) -> tuple[int, ...]:
    """Which layers look through the window."""
    every = c.take("global_attn_every_n_layers", int, 3)
    kinds = c.maybe("layer_types", list) or [SLIDING if i % every else FULL for i in range(depth)]
    if len(kinds) != depth or not set(kinds) <= {FULL, SLIDING}:
        raise c.wrong("layer_types", f"expected {depth} times {FULL} or {SLIDING}; got {kinds}")
    return tuple(i for i, kind in enumerate(kinds) if kind == SLIDING)


def _positions(c: Published) -> dict[str, Rotary]:
    """The two rotations, from the new spelling or the old."""
    new = c.maybe("rope_parameters", dict) or {}
    c.only("rope_scaling", None)
    found = {}
    for kind in (FULL, SLIDING):
        old = c.take(OLD_THETA[kind], float, THETA[kind])
        inner = Published(new.get(kind) or {}, f"{c.where}: rope_parameters: {kind}")
        inner.only("rope_type", "default")
        found[kind] = Rotary(theta=inner.take("rope_theta", float, old))
        inner.finish()
    return found


def _head(c: Published, name: str, norm: LayerNorm) -> Head | None:
    activation = c.activation("classifier_activation", "gelu")
    bias, how = c.take("classifier_bias", bool, False), c.take("classifier_pooling", str, "cls")
    tied = c.take("tie_word_embeddings", bool, True)
    c.only("decoder_bias", True)
    if how not in ("cls", "mean"):
        raise c.wrong("classifier_pooling", f"{how!r} is not supported; only 'cls' or 'mean'")
    if name == "ModernBertForMaskedLM":
        return MaskedHead(activation=activation, norm=norm, tied=tied, dense_bias=bias)
    if name == "ModernBertModel":
        return None
    pool = "first" if how == "cls" else "mean"
    dropout = c.take("classifier_dropout", float, 0.0)
    if head := read_labels(
        c, name, activation=activation, every=True, pool=pool, layer_bias=bias, norm=norm, dropout=dropout
    ):
        return head
    raise c.wrong("architectures", f"{name} is not supported")


def write(network: Network) -> dict[str, Any] | None:
    stack, head = network.encoder, network.head
    if not isinstance(stack, Stack) or not isinstance(stack.position, Rotary) or not isinstance(stack.ffn, Gated):
        return None
    if not isinstance(stack.norm, LayerNorm) or network.decoder is not None:
        return None
    local = stack.local
    near = frozenset(local.layers if local else ())
    theta = {FULL: stack.position.theta, SLIDING: THETA[SLIDING]}
    if local and isinstance(local.position, Rotary):
        theta[SLIDING] = local.position.theta
    reach = local.mask.reach if local and isinstance(local.mask, TwoSidedWindow) else 64
    return {
        "architectures": ["ModernBert" + _ending(head)],
        "vocab_size": network.vocab_size,
        "hidden_size": network.hidden_size,
        "intermediate_size": stack.ffn.intermediate_size,
        "num_hidden_layers": stack.num_layers,
        "num_attention_heads": stack.heads.count,
        "hidden_activation": PUBLISHED_ACTIVATIONS[stack.ffn.activation],
        "norm_eps": stack.norm.eps,
        "norm_bias": stack.norm.bias,
        "attention_bias": stack.heads.bias,
        "attention_dropout": stack.heads.dropout,
        "mlp_bias": stack.ffn.bias,
        "mlp_dropout": stack.ffn.dropout,
        "embedding_dropout": network.embedding.dropout,
        "local_attention": 2 * reach,
        "layer_types": [SLIDING if i in near else FULL for i in range(stack.num_layers)],
        "global_rope_theta": theta[FULL],
        "local_rope_theta": theta[SLIDING],
        "rope_parameters": {kind: {"rope_type": "default", "rope_theta": value} for kind, value in theta.items()},
        **_head_keys(head),
        **label_keys(head),
    }


def _ending(head: Head | None) -> str:
    return "ForMaskedLM" if isinstance(head, MaskedHead) else suffix(head) if isinstance(head, LabelHead) else "Model"


def _head_keys(head: Head | None) -> dict[str, Any]:
    if isinstance(head, MaskedHead):
        return {
            "classifier_activation": PUBLISHED_ACTIVATIONS[head.activation],
            "classifier_bias": head.dense_bias,
            "tie_word_embeddings": head.tied,
        }
    if isinstance(head, LabelHead) and head.activation:
        pooling = {"classifier_pooling": "mean" if head.pool == "mean" else "cls"} if suffix(head) == SEQUENCE else {}
        return {
            "classifier_activation": PUBLISHED_ACTIVATIONS[head.activation],
            "classifier_bias": head.layer_bias,
            "classifier_dropout": head.dropout,
            **pooling,
        }
    return {}


MODERNBERT = Family("modernbert", read, write, table, "model.")
