"""What models are used for, one file a task."""

from typing import Annotated

from pydantic import Field

from yuyan.tasks.classify import Classify, ClassifyTask
from yuyan.tasks.tag import Tag, TagTask

TaskConfig = Annotated[Classify | Tag, Field(discriminator="kind")]
"""The config of a task, chosen by its `kind`."""
BuiltTask = ClassifyTask | TagTask
"""What it builds."""
KINDS: dict[str, type[Classify] | type[Tag]] = {"classify": Classify, "tag": Tag}

__all__ = ["KINDS", "BuiltTask", "Classify", "ClassifyTask", "Tag", "TagTask", "TaskConfig"]
