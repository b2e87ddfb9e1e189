"""What models are asked to do, one file each; the union below is what a config may choose from."""

from typing import Annotated

from pydantic import Field

from yuyan.objectives.base import Batch, Loss, Objective, collate, token_loss
from yuyan.objectives.contrastive import Contrastive
from yuyan.objectives.ctc import Ctc
from yuyan.objectives.distil import Distil
from yuyan.objectives.masked import MaskedToken
from yuyan.objectives.next_token import NextToken
from yuyan.objectives.preference import Preference
from yuyan.objectives.prefix_lm import PrefixLM
from yuyan.objectives.replaced import ReplacedToken
from yuyan.objectives.span import SpanCorruption

ObjectiveConfig = Annotated[
    NextToken | PrefixLM | MaskedToken | SpanCorruption | ReplacedToken | Contrastive | Ctc | Distil | Preference,
    Field(discriminator="kind"),
]

__all__ = [
    "Batch",
    "Contrastive",
    "Ctc",
    "Distil",
    "Loss",
    "MaskedToken",
    "NextToken",
    "Objective",
    "ObjectiveConfig",
    "Preference",
    "PrefixLM",
    "ReplacedToken",
    "SpanCorruption",
    "collate",
    "token_loss",
]
