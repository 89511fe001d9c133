"""Keep freed memory for the next batch, which makes training on a CPU faster."""

import ctypes
import sys

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h
NEVER = 2**31 - 1


def keep_freed_memory() -> bool:
    """Let glibc reuse the pages of freed tensors; true where that is possible.

    By default glibc asks the kernel for new pages for every large tensor and returns them when it is
    freed, many times a step. The page "Training speed" of the documentation has the measurements.
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # musl has none
    return mallopt is not None and bool(mallopt(M_MMAP_THRESHOLD, 2**30) and mallopt(M_TRIM_THRESHOLD, NEVER))
