"""Tell the C allocator to keep what training frees. Ends at one call, made before torch allocates.

glibc hands every large block straight back to the kernel and faults it in again at the next step: on a CPU half of a
small model's training time goes into page faults (`benchmarks/allocator.py` shows the difference).
"""

from __future__ import annotations

import ctypes
import os
import sys

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
