"""A second device for tests, on a machine that has none: `away`, whose tensors the processor computes out of sight.

What is away can be computed with only what is away, as on a GPU; a tensor of the processor that gets among them is an
AssertionError that names the operation. Only copies pass the border, and numbers: those of no axes, and what is asked for.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

NAME = "away"


class _Module:
    """What PyTorch asks of a device by its name: it draws from the processor's numbers, and has a gigabyte."""

    synchronised = 0

    def is_available(self) -> bool:
        return True

    def is_initialized(self) -> bool:
        return True

    def _is_in_bad_fork(self) -> bool:
        return False

    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        return [torch.bfloat16]

    def manual_seed_all(self, seed: int) -> None:
        pass

    def current_device(self) -> int:
        return 0

    def device_count(self) -> int:
        return 1

    def synchronize(self) -> None:
        self.synchronised += 1

    def get_rng_state(self, device: Any = None) -> Tensor:
        return torch.get_rng_state()

    def set_rng_state(self, state: Tensor, device: Any = None) -> None:
        torch.set_rng_state(state)

    def mem_get_info(self, device: Any = None) -> tuple[int, int]:
        return 10**9, 10**9

    def memory_reserved(self, device: Any = None) -> int:
        return 12_345_678


class Away(Tensor):
    """A tensor on the device; `here` is what it holds."""

    here: Tensor

    @staticmethod
    def __new__(cls, here: Tensor) -> Away:
        made: Away = torch.Tensor._make_wrapper_subclass(  # type: ignore[attr-defined]
            cls, here.shape, strides=here.stride(), storage_offset=here.storage_offset(), dtype=here.dtype,
            device=torch.device(NAME, 0),
        )  # fmt: skip
        made.here = here
        return made

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _computed(func, args, kwargs or {})


class _Makes(TorchDispatchMode):
    """Within, tensors can be made on the device."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _computed(func, args, kwargs or {})


_aten = torch.ops.aten
_COPIES = {_aten._to_copy.default, _aten.copy_.default, _aten._foreach_copy_.default}


def _computed(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    given = tree_leaves((args, kwargs))
    away = [each for each in given if isinstance(each, Away)]
    where = kwargs.get("device")
    to = None if where is None else torch.device(where).type
    if not away and to != NAME:
        return func(*args, **kwargs)
    if away and func not in _COPIES:
        for each in given:
            if isinstance(each, Tensor) and not isinstance(each, Away) and each.ndim:
                raise AssertionError(f"{func}: a tensor of the processor, {tuple(each.shape)}, among those away")
    if to == NAME:
        kwargs = kwargs | {"device": "cpu"}
    own_args, own_kwargs = tree_map_only(Away, lambda each: each.here, (args, kwargs))
    found = func(*own_args, **own_kwargs)
    if to == "cpu" or func is _aten._local_scalar_dense.default:
        return found
    if func is _aten.copy_.default and not isinstance(args[0], Away):
        return args[0]
    owners = {id(each.here): each for each in away}  # what was changed in place is still the same tensor
    return tree_map_only(Tensor, lambda each: owners[id(each)] if id(each) in owners else Away(each), found)


if torch._C._get_privateuse1_backend_name() != NAME:  # at once: PyTorch counts devices at the first gradient
    _setup_privateuseone_for_python_backend(NAME, backend_module=_Module())
DEVICE = torch.device(NAME, 0)


@contextmanager
def there() -> Iterator[torch.device]:
    """Within, the device can be computed with."""
    move = nn.Module.to

    def to(module: nn.Module, *places: Any, **more: Any) -> nn.Module:
        torch.__future__.set_swap_module_params_on_conversion(True)  # weights that are tied move as one, as to a GPU
        try:
            return move(module, *places, **more)
        finally:
            torch.__future__.set_swap_module_params_on_conversion(False)

    with pytest.MonkeyPatch.context() as patch, _Makes():
        patch.setattr(nn.Module, "to", to)
        yield DEVICE


def times_waited() -> int:
    """How often somebody waited for the device."""
    module: Any = torch.get_device_module(DEVICE)
    return int(module.synchronised)
