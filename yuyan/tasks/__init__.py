"""What models are used for, one file a task."""

from typing import Annotated

from pydantic import Field

from yuyan.tasks.answer import FindAnswer, FindAnswerTask
from yuyan.tasks.classify import Classify, ClassifyTask
from yuyan.tasks.converse import Converse, ConverseTask
from yuyan.tasks.pairs import PairConfig, PairTask
from yuyan.tasks.rewrite import Rewrite
from yuyan.tasks.summarise import Summarise
from yuyan.tasks.tag import Tag, TagTask
from yuyan.tasks.translate import Translate

TaskConfig = Annotated[
    Classify | Tag | FindAnswer | Rewrite | Summarise | Translate | Converse, Field(discriminator="kind")
]
"""The config of a task, chosen by its `kind`."""
AnyTask = Classify | Tag | FindAnswer | PairConfig | Converse
"""The same, as those who only hold one know it."""
BuiltTask = ClassifyTask | TagTask | FindAnswerTask | PairTask | ConverseTask
"""What it builds."""
KINDS: dict[str, type[AnyTask]] = {
    "classify": Classify,
    "tag": Tag,
    "answer": FindAnswer,
    "rewrite": Rewrite,
    "summarise": Summarise,
    "translate": Translate,
    "converse": Converse,
}

__all__ = [
    "KINDS", "AnyTask", "BuiltTask", "Classify", "ClassifyTask", "Converse", "ConverseTask", "FindAnswer", "FindAnswerTask",
    "PairConfig", "PairTask", "Rewrite", "Summarise", "Tag", "TagTask", "TaskConfig", "Translate",
]  # fmt: skip
