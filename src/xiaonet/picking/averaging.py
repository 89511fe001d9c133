"""The two loops of `blending` over samples: the straight line and the peak of each window, and the average of windows.

They are in C (`averaging.c`), compiled when XiaoNet is installed if there is a C compiler, and in NumPy for where there is none.
Both do the same operations in the same order, so they give the same bits.
"""

import ctypes
from collections.abc import Iterator
from functools import cache
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from xiaonet.compiled import find_library, open_library
from xiaonet.constants import WINDOW_SAMPLES
from xiaonet.errors import ConfigError
from xiaonet.picking.windows import DEAD, Straightened

INTERFACE = 1  # the same number is in averaging.c
FOLDER = Path(__file__).parent
FOLDS = 5, 5, 5, 3, 2, 2, 2  # their product is a window without its last sample
BATCH = 32  # windows at once in NumPy; more do not fit into the processor's cache
MIDDLE = WINDOW_SAMPLES // 2  # sample of a window

Doubles = NDArray[np.float64]
Places = NDArray[np.int64]


def find_lines(samples: Doubles, starts: Places) -> Straightened:
    """The straight line and the scale of windows, as `straighten` of xiaonet.picking.windows finds them but for rounding.

    Args:
        samples: `(samples,)`, without NaN in the windows.
        starts: `(windows,)` first samples of windows of 3001 samples.
    """
    library = load_library()
    if library is None:
        return find_lines_in_numpy(samples, starts)
    found = Straightened(*np.empty((3, len(starts))))
    library.xa_lines(_at(samples), _at(starts), len(starts), *map(_at, found))
    return found


def average(samples: Doubles, places: Places, scales: Doubles, lines: Doubles, out: NDArray[np.float32]) -> None:
    """Multiply the samples between places by a scale that changes linearly there, and subtract a parabola.

    Args:
        samples: `(samples,)`.
        places: `(pieces + 1,)` in rising order.
        scales: `(pieces, 2)`, the scale at the start of a piece, and its change up to the next one.
        lines: `(pieces, 3)`, the same with the parabola: the coefficients of the powers 0, 1 and 2 of the share of a piece.
        out: `(samples,)`, changed between the first place and the last.
    """
    library = load_library()
    if library is None:
        average_in_numpy(samples, places, scales, lines, out)
    else:
        library.xa_average(_at(samples), _at(places), _at(scales), _at(lines), len(places) - 1, _at(out))


def find_lines_in_numpy(samples: Doubles, starts: Places) -> Straightened:
    """`find_lines` without the library."""
    windows = sliding_window_view(samples, WINDOW_SAMPLES)
    parts = [_lines(windows[starts[group : group + BATCH]]) for group in range(0, len(starts), BATCH)]
    return Straightened(*(np.concatenate(values) for values in zip(*parts, strict=True)))


def _lines(windows: Doubles) -> Straightened:
    """The lines and scales of some windows `(windows, 3001)`."""
    time = np.arange(-MIDDLE, MIDDLE + 1, dtype=np.float64)
    mean = _folded(windows) / WINDOW_SAMPLES
    flat = windows - mean[:, None]
    slope = _folded(flat * time) / float(time @ time)
    flat -= slope[:, None] * time
    peak = _peak(flat)
    dead = peak <= DEAD * (np.abs(mean) + np.abs(slope) * MIDDLE + peak)  # no sample was larger
    if dead.any():
        dead &= peak <= DEAD * _peak(windows)
    return Straightened(mean, slope, np.divide(1.0, peak, out=np.zeros_like(peak), where=~dead))


def _folded(windows: Doubles) -> Doubles:
    """The sums of windows, in an order that vector units like. NumPy's own order is its own affair."""
    total = windows[:, :-1]
    for parts in FOLDS:
        rows = total.reshape(len(windows), parts, -1)
        total = rows[:, 0] + rows[:, 1]
        for row in range(2, parts):
            total += rows[:, row]
    return np.asarray(total[:, 0] + windows[:, -1])


def _peak(x: Doubles) -> Doubles:
    return np.asarray(np.maximum(x.max(axis=-1, initial=0.0), -x.min(axis=-1, initial=0.0)))


def average_in_numpy(samples: Doubles, places: Places, scales: Doubles, lines: Doubles, out: NDArray[np.float32]) -> None:
    """`average` without the library."""
    lengths = np.diff(places)
    for first, last in _equal_runs(lengths):
        share = np.arange(lengths[first]) / lengths[first]
        part = slice(places[first], places[last])
        (s0, s1), (l0, l1, l2) = (values[first:last].T[..., None] for values in (scales, lines))
        scale, line = s1 * share, l2 * share
        scale += s0
        line += l1
        line *= share
        line += l0
        scale *= samples[part].reshape(last - first, -1)
        scale -= line
        out[part] = scale.ravel()


def _equal_runs(values: Places) -> Iterator[tuple[int, int]]:
    """Ranges of equal values above 0, of up to a batch."""
    for low, high in pairwise([0, *(np.flatnonzero(np.diff(values)) + 1).tolist(), len(values)]):
        if values[low]:
            yield from pairwise([*range(low, high, BATCH), high])


def load_library() -> ctypes.CDLL | None:
    """The compiled `averaging.c` from `FOLDER`; None if it was not built, or if it cannot be used."""
    path = find_library(FOLDER, "_averaging")
    return None if path is None else _opened(path)[0]


def problem() -> str:
    """Why the library that was built cannot be used; empty if it can, and if none was built."""
    path = find_library(FOLDER, "_averaging")
    return "" if path is None else _opened(path)[1]


@cache
def _opened(path: Path) -> tuple[ctypes.CDLL | None, str]:
    try:
        library = open_library(path, "the averaging in C", ("xa_interface", INTERFACE))
    except ConfigError as error:
        return None, f"{error}"
    array, many = ctypes.c_void_p, ctypes.c_int64
    library.xa_lines.argtypes, library.xa_lines.restype = [array, array, many, array, array, array], None
    library.xa_average.argtypes, library.xa_average.restype = [array, array, array, array, many, array], None
    return library, ""


def _at(array: NDArray[np.generic]) -> int:
    assert array.flags.c_contiguous
    return array.ctypes.data
