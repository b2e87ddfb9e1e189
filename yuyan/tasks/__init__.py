"""What models are used for, one file a task."""

from yuyan.tasks.classify import Classify, ClassifyTask

TaskConfig = Classify
"""The config of a task, chosen by its `kind`."""
BuiltTask = ClassifyTask
"""What it builds."""
KINDS: dict[str, type[TaskConfig]] = {"classify": Classify}

__all__ = ["KINDS", "BuiltTask", "Classify", "ClassifyTask", "TaskConfig"]
