"""Keep what the allocator has, instead of giving it back after every batch."""

import ctypes
import sys

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h
NEVER = 2**31 - 1


def keep_freed_memory() -> bool:
    """Let glibc reuse the pages of freed tensors; true where that is possible.

    By default every large tensor is mapped anew from the kernel, zeroed page by page and given
    back when freed, many times a step. See docs/decisions/training-speed.md for what it costs.
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # musl has none
    return mallopt is not None and bool(mallopt(M_MMAP_THRESHOLD, 2**30) and mallopt(M_TRIM_THRESHOLD, NEVER))
