"""From a network, an objective and batches to a trained network: one loop, one step, one state."""

from yuyan.train.learner import Learner
from yuyan.train.loop import train
from yuyan.train.optimizer import AdamW, OptimizerConfig, parameter_kinds
from yuyan.train.precision import MasterWeights, Precision, resolve
from yuyan.train.schedule import Constant, Cosine, Schedule, WarmupStableDecay
from yuyan.train.state import State
from yuyan.train.step import CLOCKS, Clock, Diverged, PlainStep, Plan, Update

__all__ = [
    "CLOCKS",
    "AdamW",
    "Clock",
    "Constant",
    "Cosine",
    "Diverged",
    "Learner",
    "MasterWeights",
    "OptimizerConfig",
    "PlainStep",
    "Plan",
    "Precision",
    "Schedule",
    "State",
    "Update",
    "WarmupStableDecay",
    "parameter_kinds",
    "resolve",
    "train",
]
