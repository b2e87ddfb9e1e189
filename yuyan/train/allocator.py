"""Keep freed memory instead of giving it back to the system after every tensor.

With glibc's defaults each large tensor is mapped and its pages faulted in anew; a training step loses about a fifth of its
time there. Raising three thresholds costs nothing but memory that the next step would ask for again. Where batches differ in
length the freed pieces do not fit the next tensors, and more and more is held: then free pages are given back now and then.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Callable

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD = -1, -2, -3  # malloc.h of glibc


def _of_libc(name: str) -> Callable[..., int] | None:
    """A function of glibc; None where the C library is another one."""
    if sys.platform != "linux":
        return None
    try:
        found: Callable[..., int] = getattr(ctypes.CDLL("libc.so.6"), name)
    except (OSError, AttributeError):
        return None
    return found


def give_back_pages() -> bool:
    """Give the system the pages in which nothing is held any more; False where the C library is another one."""
    trim = _of_libc("malloc_trim")
    return trim is not None and bool(trim(0))


def keep_freed_memory() -> bool:
    """Set the thresholds for this process; False where the C library is another one, or the user has set them."""
    mallopt = _of_libc("mallopt")
    if mallopt is None or any(name in os.environ for name in ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_")):
        return False
    largest = 1 << 30
    return all(mallopt(option, value) for option, value in
               ((_MMAP_THRESHOLD, largest), (_TRIM_THRESHOLD, largest), (_TOP_PAD, 1 << 26)))  # fmt: skip
