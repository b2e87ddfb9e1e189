"""What models are used for, one file a task."""

from typing import Annotated

from pydantic import Field

from yuyan.tasks.answer import FindAnswer, FindAnswerTask
from yuyan.tasks.classify import Classify, ClassifyTask
from yuyan.tasks.pairs import PairConfig, PairTask
from yuyan.tasks.rewrite import Rewrite
from yuyan.tasks.tag import Tag, TagTask

TaskConfig = Annotated[Classify | Tag | FindAnswer | Rewrite, Field(discriminator="kind")]
"""The config of a task, chosen by its `kind`."""
AnyTask = Classify | Tag | FindAnswer | PairConfig
"""The same, as those who only hold one know it."""
BuiltTask = ClassifyTask | TagTask | FindAnswerTask | PairTask
"""What it builds."""
KINDS: dict[str, type[AnyTask]] = {"classify": Classify, "tag": Tag, "answer": FindAnswer, "rewrite": Rewrite}

__all__ = [
    "KINDS", "AnyTask", "BuiltTask", "Classify", "ClassifyTask", "FindAnswer", "FindAnswerTask", "PairConfig", "PairTask",
    "Rewrite", "Tag", "TagTask", "TaskConfig",
]  # fmt: skip
