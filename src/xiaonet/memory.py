"""Keep freed memory for the next large arrays."""

import ctypes
import sys

TRIM_THRESHOLD, MMAP_THRESHOLD, ARENA_MAX = -1, -3, -8  # parameters of mallopt, from glibc's malloc.h
NEVER = 2**31 - 1


def keep_freed_memory(kept: int = NEVER, largest: int = 2**30, arenas: int = 0) -> bool:
    """Let glibc reuse the pages of freed arrays and tensors; true where that is possible.

    By default glibc asks the kernel for new pages for every large array and returns them when it is
    freed, many times a training step. Dask has its workers return all memory at once. The pages of each array are cleared anew
    then, which can double the processor time. The page "Training speed" of the documentation has measurements.

    Args:
        kept: bytes of freed memory that are kept.
        largest: arrays of more bytes are not kept.
        arenas: number of pools of memory that threads share; 0 as the C library chooses.
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # musl has none
    wanted = {MMAP_THRESHOLD: largest, TRIM_THRESHOLD: kept, **({ARENA_MAX: arenas} if arenas else {})}
    return mallopt is not None and all(mallopt(parameter, value) for parameter, value in wanted.items())
