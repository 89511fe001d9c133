"""Stack overlapping windows into one curve.

A network sees less of the record around the samples near the ends of a window. So each window is
multiplied by a taper before it is added, and the sum is divided by the sum of the tapers.
"""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from xiaonet.constants import WINDOW_SAMPLES

TAPER_SAMPLES = 500  # at either end of a window: half of what the network sees around a sample


@lru_cache(maxsize=8)
def taper(samples: int) -> NDArray[np.float64]:
    """Return the weights of a window of that many samples: 1 in the middle, linear towards both ends."""
    to_end = np.minimum(np.arange(samples), np.arange(samples)[::-1])
    return np.asarray(np.minimum((to_end + 1) / TAPER_SAMPLES, 1.0))


class Stack:
    """The weighted mean of windows `(rows, window_samples)` at any position of a record.

    Args:
        rows: number of rows, such as phases.
        samples: length of the record.
        window_samples: length of a window.
    """

    def __init__(self, rows: int, samples: int, window_samples: int = WINDOW_SAMPLES) -> None:
        self._taper = taper(window_samples)
        self._total = np.zeros((rows, samples))
        self._weight = np.zeros(samples)

    def add(self, window: NDArray[np.floating], start: int, first: int | None = None, end: int | None = None) -> None:
        """Add a window that begins at sample `start`, or only its part from sample `first` up to `end` of the record."""
        self.add_all(window[None], [(start, start if first is None else first, start + len(self._taper) if end is None else end)])

    def add_all(self, windows: NDArray[np.floating], places: Sequence[tuple[int, int, int]]) -> None:
        """Add windows `(windows, rows, window_samples)`, each at a place `(start, first, end)` as in `add`."""
        weighted = windows.astype(np.float64)
        weighted *= self._taper
        for window, (start, first, end) in zip(weighted, places, strict=True):
            self._total[:, first:end] += window[:, first - start : end - start]
            self._weight[first:end] += self._taper[first - start : end - start]

    def mean(self) -> NDArray[np.float64]:
        """`(rows, samples)`; NaN where there is no window. Nothing can be added after it."""
        with np.errstate(invalid="ignore"):  # 0 / 0
            self._total /= self._weight
        return self._total
