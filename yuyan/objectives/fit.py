"""Which networks and tokenizers an objective can be given: asked before any work is done, so that a misfit is one line."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from yuyan.errors import ConfigError
from yuyan.models.network import Network
from yuyan.nn.head import WORDS, AdaptiveHead, ReplacedHead
from yuyan.nn.sampled_softmax import SampledSoftmax
from yuyan.objectives.contrastive import Contrastive
from yuyan.objectives.ctc import Ctc
from yuyan.objectives.distil import Distil
from yuyan.objectives.masked import MaskedToken
from yuyan.objectives.next_token import NextToken
from yuyan.objectives.preference import Preference
from yuyan.objectives.prefix_lm import PrefixLM
from yuyan.objectives.replaced import ReplacedToken
from yuyan.objectives.span import SpanCorruption
from yuyan.tokens.train import TokenizerConfig

if TYPE_CHECKING:
    from yuyan.objectives import ObjectiveConfig


class _Needs(NamedTuple):
    """Sides (encoder, decoder), a kind of head (None: any), in words, and a preset that is such a network."""

    sides: tuple[tuple[bool, bool], ...]
    heads: tuple[type, ...] | None
    said: str
    preset: str


_ENCODER, _DECODER, _BOTH = (True, False), (False, True), (True, True)
_DECODES = _Needs((_DECODER,), WORDS, "a decoder without an encoder, which scores tokens", "gpt or lstm")
_FILLS = _Needs((_ENCODER,), WORDS, "an encoder without a decoder, which scores tokens", "bert")
_NEEDS: dict[type, _Needs] = {
    NextToken: _DECODES,
    PrefixLM: _DECODES,
    Preference: _DECODES,
    MaskedToken: _FILLS,
    Ctc: _FILLS,
    SpanCorruption: _Needs((_BOTH,), WORDS, "an encoder and a decoder", "t5 or seq2seq"),
    ReplacedToken: _Needs((_ENCODER,), (ReplacedHead,), "an encoder with a head of kind replaced", "electra"),
    Contrastive: _Needs((_ENCODER, _DECODER), None, "one side, an encoder or a decoder", "bert"),
}


def check_network(objective: ObjectiveConfig, network: Network) -> None:
    """Raises ConfigError if the objective cannot train such a network, naming what can be."""
    asked = objective.base if isinstance(objective, Distil) else objective
    needs = _NEEDS[type(asked)]
    sides = (network.encoder is not None, network.decoder is not None)
    if sides not in needs.sides or (needs.heads is not None and not isinstance(network.head, needs.heads)):
        have = {_ENCODER: "an encoder", _DECODER: "a decoder", _BOTH: "an encoder and a decoder"}[sides]
        head = "no head" if network.head is None else f"a head of kind {network.head.kind}"
        raise ConfigError(
            f"objective.kind {objective.kind} needs {needs.said} (model.kind {needs.preset}); this model is {have} with "
            f"{head}"
        )
    if isinstance(network.head, AdaptiveHead):
        _check_classes(objective)


def _check_classes(objective: ObjectiveConfig) -> None:
    """Raises ConfigError for what needs the one product over all tokens that an adaptive head does not have."""
    sampled = isinstance(objective, NextToken) and isinstance(objective.softmax, SampledSoftmax)
    smoothed = getattr(objective, "cross_entropy", None) is not None
    if sampled or smoothed or isinstance(objective, Distil):
        key = "softmax" if sampled else "cross_entropy" if smoothed else "kind"
        raise ConfigError(f"objective.{key}: not with a head of classes (adaptive softmax); leave one of the two away")


def check_documents(objective: ObjectiveConfig, *, records: bool) -> None:
    """Raises ConfigError if the objective cannot keep the documents of a row apart, or if the rows are records."""
    if records:
        raise ConfigError("train.documents apart: for texts; records never share a row")
    if not isinstance(objective, NextToken | MaskedToken):
        raise ConfigError(
            f"train.documents apart: with objective.kind next_token and masked_token, not {objective.kind}"
        )


def check_tokenizer(objective: ObjectiveConfig, tokenizer: TokenizerConfig) -> None:
    """Raises ConfigError if a tokenizer that is still to be trained will lack a control token that is needed."""
    asked = objective.base if isinstance(objective, Distil) else objective
    if isinstance(asked, MaskedToken | ReplacedToken) and not tokenizer.mask:
        raise ConfigError(f"objective.kind {objective.kind} needs a mask token: add tokenizer.mask=true")
    if isinstance(asked, SpanCorruption) and not tokenizer.sentinels:
        raise ConfigError("objective.kind span_corruption needs sentinels: add tokenizer.sentinels=100")
