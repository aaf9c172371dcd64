"""Memory from the system: the C allocator keeps what training frees, and tables that fill up slowly begin as no memory at all.

glibc hands every large block straight back to the kernel and faults it in again at the next step: on a CPU half of a
small model's training time goes into page faults (`benchmarks/allocator.py` shows the difference). Ends at zeros that nobody
has touched.
"""

from __future__ import annotations

import contextlib
import ctypes
import math
import mmap
import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

# Numbers from glibc's malloc.h.
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -2, -3, -8
_KEEP = 2**31 - 1


def keep_freed_memory() -> bool:
    """Stop glibc from returning memory to the kernel; say whether it was told.

    Does nothing (and says False) off Linux, on a C library without `mallopt`, when another allocator is preloaded, or
    when ACCRETE_ALLOCATOR=default asks for the untouched behaviour.
    """
    if not sys.platform.startswith("linux") or os.environ.get("ACCRETE_ALLOCATOR") == "default":
        return False
    if "malloc" in os.environ.get("LD_PRELOAD", ""):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    settings = ((_M_ARENA_MAX, 1), (_M_MMAP_THRESHOLD, _KEEP), (_M_TRIM_THRESHOLD, _KEEP), (_M_TOP_PAD, 64 * 2**20))
    return all([mallopt(name, value) == 1 for name, value in settings])


def untouched(*shape: int, device: torch.device, anywhere: bool = False) -> torch.Tensor:
    """Zeros in float32; on the CPU they take memory once they are written.

    With `anywhere`, rows are not written from the first one on: then by the page of 4 kB even where the system gives larger.
    """
    import torch

    if device.type != "cpu" or not math.prod(shape):
        return torch.zeros(shape, device=device)
    private = {"flags": mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS} if hasattr(mmap, "MAP_PRIVATE") else {}
    pages = mmap.mmap(-1, math.prod(shape) * torch.float32.itemsize, **private)
    if anywhere and hasattr(mmap, "MADV_NOHUGEPAGE"):
        with contextlib.suppress(OSError):
            pages.madvise(mmap.MADV_NOHUGEPAGE)
    return torch.frombuffer(pages, dtype=torch.float32).view(shape)
