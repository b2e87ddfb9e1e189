"""What turns gradients into steps, one file each; the union below is what a config may choose from.

A member is a config; `build(masters, kinds)` makes the optimizer over the float32 weights. Each keeps its memory by
parameter, in tensors, so that a saved run finds it by the parameter's name; its groups say which part of the network
they hold (`group["part"]`). Weight decay is decoupled everywhere: a share of the weight, times the learning rate.
"""

from typing import Annotated

from pydantic import Field

from yuyan.train.optimizer.adafactor import Adafactor
from yuyan.train.optimizer.adamw import AdamW
from yuyan.train.optimizer.groups import Kind, Rates, parameter_kinds
from yuyan.train.optimizer.muon import Muon
from yuyan.train.optimizer.sgd import Sgd

OptimizerConfig = Annotated[AdamW | Muon | Sgd | Adafactor, Field(discriminator="kind")]

__all__ = ["Adafactor", "AdamW", "Kind", "Muon", "OptimizerConfig", "Rates", "Sgd", "parameter_kinds"]
