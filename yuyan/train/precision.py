"""In which number format a model computes, and where the exact weights are kept.

bfloat16 has float32's range and 8 bits of precision; it is several times faster where the processor has instructions for
it. Small updates vanish in 8 bits, so the optimizer always works on float32 master weights (Micikevicius et al. 2018,
section 3.1), and softmax, loss and norms are float32 inside their kernels.
"""

from __future__ import annotations

import math
import platform
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, TypeVar

import torch
from torch import Tensor, nn

from yuyan.nn.words import has_words, share, words
from yuyan.train.parts import own, whole

T = TypeVar("T")
Precision = Literal["auto", "float32", "bfloat16"]


def resolve(precision: Precision, device: torch.device) -> torch.dtype:
    """The format to compute in: `auto` is bfloat16 where the device has instructions for it, else float32."""
    if precision == "float32":
        return torch.float32
    if precision == "bfloat16" or has_fast_bfloat16(device):
        return torch.bfloat16
    return torch.float32


def has_fast_bfloat16(device: torch.device) -> bool:
    """Whether bfloat16 products run in hardware; without it they are emulated, and slower than float32."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    cpuinfo = Path("/proc/cpuinfo")
    if device.type != "cpu" or platform.system() != "Linux" or not cpuinfo.exists():
        return False
    flags = cpuinfo.read_text(errors="ignore")
    return any(name in flags for name in ("avx512_bf16", "amx_bf16", " bf16"))


class MasterWeights:
    """The float32 weights an optimizer steps, and the model that computes in `dtype`.

    For float32 the two are the same tensors and every method is free. `sharded`: whether each process has a part only.
    """

    sharded = False

    def __init__(self, module: nn.Module, dtype: torch.dtype):
        self.module = module
        named = {name: p for name, p in module.named_parameters() if p.requires_grad}
        if dtype == torch.float32:
            self.masters: dict[str, nn.Parameter] = named
        else:
            self.masters = {name: nn.Parameter(p.detach().clone().float()) for name, p in named.items()}
            for master in self.masters.values():
                master.grad_dtype = None  # that of the working weights is taken as it is
            for parameter in module.parameters():  # in place: modules keep their Parameter objects, ties stay tied
                parameter.data = parameter.data.to(dtype)
        self._masters: list[Tensor] = list(self.masters.values())
        self._working: list[Tensor] = list(named.values())
        self.separate = dtype != torch.float32
        self.copies: dict[nn.Parameter, Tensor] = {}
        """The working weight of each master, where they are two."""
        if self.separate:
            self.copies = dict(zip(self.masters.values(), self._working, strict=True))

    def take_gradients(self) -> None:
        """Add the gradients of the working weights to the masters', and forget them. The first are taken as they are, in
        `dtype`; sums are float32."""
        if not self.separate:
            return
        for master, working in zip(self._masters, self._working, strict=True):
            if working.grad is None:
                continue
            if master.grad is None:
                master.grad = working.grad
            else:
                master.grad = master.grad.float()
                master.grad += working.grad
            working.grad = None

    def gradient_norm(self) -> float:
        """Of all gradients together, over all parts of them."""
        gradients = [master.grad for master in self.masters.values() if master.grad is not None]
        others = [gradient for gradient in gradients if not has_words(gradient)]
        exact = [gradient for gradient in others if gradient.dtype == torch.float32]
        norm = float(whole(nn.utils.get_total_norm(exact))) if exact else 0.0
        if rounded := [gradient for gradient in others if gradient.dtype != torch.float32]:
            norms = torch.stack(torch._foreach_norm(rounded, 2, torch.float32))
            norm = math.hypot(norm, float(torch.linalg.vector_norm(norms)))
        return math.hypot(norm, math.sqrt(sum(_squares(gradient) for gradient in gradients if has_words(gradient))))

    def scale_gradients(self, factor: float) -> None:
        """Make the masters' gradients float32, times `factor`."""
        with torch.no_grad():
            gradients = list[Tensor]()
            for master in self.masters.values():
                if master.grad is not None:
                    master.grad = master.grad.to(master.dtype)  # itself, if it is that already
                    gradients.append(master.grad)
            if gradients:
                torch._foreach_mul_(gradients, factor)

    def publish(self) -> None:
        """Copy the masters, rounded, into the working weights."""
        if self.separate:
            with torch.no_grad():
                torch._foreach_copy_(self._working, self._masters)

    @contextmanager
    def replaced(self, weights: Mapping[str, Tensor]) -> Iterator[None]:
        """Within, the model computes with `weights` (rounded); afterwards with the masters again, bit for bit."""
        working, masters = [own(p) for p in self._working], [own(p) for p in self._masters]
        kept = None if self.separate else [master.detach().clone() for master in masters]
        with torch.no_grad():
            torch._foreach_copy_(working, [own(weights[name]) for name in self.masters])
            try:
                yield
            finally:
                torch._foreach_copy_(working, masters if kept is None else kept)

    def sum_gradients(self) -> None:
        """Make the masters' gradients those of the batches of all processes; of one they are already."""

    def whole(self, tensor: Tensor) -> Tensor:
        """A tensor that is held as the masters are, in one piece."""
        return tensor.detach()

    def inside(self, work: Callable[[], T]) -> T:
        """Do `work` with the model outside of a training step, such as measuring it."""
        return work()

    def zero_gradients(self) -> None:
        """Forget all gradients."""
        for parameter in (*self.masters.values(), *self._working):
            parameter.grad = None


def _squares(gradient: Tensor) -> float:
    """The sum of the squares of a gradient that has words."""
    from yuyan.train import kernels

    given = words(gradient.contiguous()).reshape(-1, gradient.shape[-1])
    return float(sum(share(len(given), gradient.numel(), lambda first, last: kernels.squares(first, last, given))))
