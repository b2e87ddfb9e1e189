"""From a network, an objective and batches to a trained network: one loop, one step, one state."""

from yuyan.train.average import Average, Averaging, Ema, Polynomial
from yuyan.train.learner import Learner
from yuyan.train.loop import train
from yuyan.train.optimizer import Adafactor, AdamW, Muon, OptimizerConfig, Sgd, parameter_kinds
from yuyan.train.penalty import Penalty
from yuyan.train.precision import MasterWeights, Precision, resolve
from yuyan.train.schedule import Constant, Cosine, Linear, Schedule, WarmupStableDecay
from yuyan.train.state import State
from yuyan.train.step import CLOCKS, Clock, Diverged, NonFinite, PlainStep, Plan, Update

__all__ = [
    "CLOCKS",
    "Adafactor",
    "AdamW",
    "Average",
    "Averaging",
    "Clock",
    "Constant",
    "Cosine",
    "Diverged",
    "Ema",
    "Learner",
    "Linear",
    "MasterWeights",
    "Muon",
    "NonFinite",
    "OptimizerConfig",
    "Penalty",
    "PlainStep",
    "Plan",
    "Polynomial",
    "Precision",
    "Schedule",
    "Sgd",
    "State",
    "Update",
    "WarmupStableDecay",
    "parameter_kinds",
    "resolve",
    "train",
]
