"""Published starting points for the weights, drawn from a seed of their own: the global random state is not touched.

Matrices and embeddings are normal with a small deviation; the projections that write into the residual stream are
divided by the root of how many there are (GPT-2), queries of an attention without a scale are that much smaller (T5); recurrent cells are uniform in +-1/sqrt(D) with an open forget gate
(Jozefowicz 2015); norms are one, biases zero.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from pydantic import Field
from torch import Tensor, nn

from yuyan.config import Config
from yuyan.nn.attention import Attention
from yuyan.nn.ffn import GatedModule, MlpModule
from yuyan.nn.stack import StackModule


class Initialisation(Config):
    """How weights start."""

    std: float = Field(default=0.02, gt=0)
    """Standard deviation of matrices and embeddings."""
    embedding_std: float | None = Field(default=None, gt=0)
    """That of the embeddings, where it is another."""
    residual_scaling: bool = True
    """Whether projections into the residual stream are divided by the root of their number (Radford 2019)."""
    zero_output: bool = False
    """Whether those projections start at zero instead, so that every block starts as the identity."""
    recurrent_range: float | None = Field(default=None, gt=0)
    """Recurrent weights are uniform between minus and plus this; null is 1 / sqrt(hidden size)."""
    forget_bias: float = 1.0
    """Bias of an LSTM's forget gate."""


def initialise(model: nn.Module, config: Initialisation, seed: int) -> None:
    """Set every parameter of `model` in place; the same on every device."""
    generator = torch.Generator().manual_seed(seed)
    factors = dict(_factors(model, config))
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.RNNBase):
                _recurrent(module, config, generator)
            elif isinstance(module, nn.LayerNorm | nn.RMSNorm):
                module.reset_parameters()
            else:
                std = config.std * factors.get(module, 1.0)
                if isinstance(module, nn.Embedding) and config.embedding_std is not None:
                    std = config.embedding_std
                for parameter in module.parameters(recurse=False):
                    _plain(parameter, std, generator)


def _factors(model: nn.Module, config: Initialisation) -> Iterator[tuple[nn.Module, float]]:
    """The matrices whose deviation is another one, with what it is multiplied by."""
    for stack in model.modules():
        if not isinstance(stack, StackModule):
            continue
        count = stack.config.num_layers * (3 if stack.config.cross else 2)
        into_stream = 0.0 if config.zero_output else count**-0.5 if config.residual_scaling else 1.0
        for part in stack.modules():
            if isinstance(part, MlpModule | GatedModule):
                yield part.down_proj, into_stream
            if isinstance(part, Attention):
                yield part.o_proj, into_stream
                if part.config.scale is not None:  # scores are to start as small as with a scale of 1 / sqrt(K)
                    yield part.q_proj, part.head_size**-0.5 / part.config.scale


def _plain(parameter: Tensor, std: float, generator: torch.Generator) -> None:
    if parameter.ndim < 2 or std == 0.0:
        parameter.zero_()
    else:
        parameter.copy_(torch.randn(parameter.shape, generator=generator) * std)


def _recurrent(cell: nn.RNNBase, config: Initialisation, generator: torch.Generator) -> None:
    bound = config.recurrent_range or 1 / math.sqrt(cell.hidden_size)
    for name, parameter in cell.named_parameters():
        if parameter.ndim < 2:
            parameter.zero_()
        else:
            parameter.copy_((torch.rand(parameter.shape, generator=generator) * 2 - 1) * bound)
        if isinstance(cell, nn.LSTM) and name.startswith("bias_ih"):
            parameter[cell.hidden_size : 2 * cell.hidden_size] = config.forget_bias
