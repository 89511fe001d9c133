"""Peaks of probability curves. They are found once; thresholds are applied to them afterwards."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from xiaonet.constants import PHASES, PICKED_PHASES, SAMPLING_RATE
from xiaonet.picking.picks import SIGMAS, find_picks, onsets, widths

LOWEST_PEAK = 0.01  # probability; lower peaks are dropped, so thresholds start here


@dataclass(frozen=True)
class Peaks:
    """Peaks of one phase in many windows, sorted by window and then from the highest to the lowest.

    Attributes:
        window: `(peaks,)` number of the window.
        sample: `(peaks,)` onset from the window's start, read between samples.
        height: `(peaks,)` probability.
        sigma: `(peaks,)` uncertainty in s, as the picker estimates it.
    """

    window: NDArray[np.int64]
    sample: NDArray[np.float64]
    height: NDArray[np.float64]
    sigma: NDArray[np.float64]

    def keep(self, chosen: NDArray[np.bool_]) -> "Peaks":
        """The peaks where `chosen` is true."""
        return Peaks(self.window[chosen], self.sample[chosen], self.height[chosen], self.sigma[chosen])

    def above(self, threshold: float) -> "Peaks":
        """The picks at a threshold.

        Of two peaks that are too close, the picker drops the lower one. So these are the picks that it
        would have found with this threshold from the start.
        """
        return self.keep(self.height >= threshold)

    def by_rank(self) -> Iterator[NDArray[np.int64]]:
        """Indexes of the highest peak of each window, then of the second highest, and so on."""
        starts = np.flatnonzero(np.diff(self.window, prepend=-1))
        rank = np.arange(len(self.window)) - np.repeat(starts, np.diff(starts, append=len(self.window)))
        order = np.argsort(rank, kind="stable")
        yield from np.split(order, np.flatnonzero(np.diff(rank[order])) + 1) if len(order) else ()

    def padded(self, windows: int) -> NDArray[np.float64]:
        """Samples as `(windows, peaks)`, filled up with NaN, as labels are stored."""
        ranks = list(self.by_rank())
        samples = np.full((windows, len(ranks)), np.nan)
        for column, chosen in enumerate(ranks):
            samples[self.window[chosen], column] = self.sample[chosen]
        return samples


def find_peaks(batches: Iterable[NDArray[np.floating]], distance: int) -> dict[str, Peaks]:
    """Peaks of P and S, found by the same rule as in the picker.

    Args:
        batches: probabilities `(batch, 3, samples)` of P, S and noise.
        distance: least number of samples between two peaks of a phase.
    """
    rows: dict[str, list[NDArray[np.float64]]] = {phase: [np.empty((0, 4))] for phase in PICKED_PHASES}
    windows = (window for batch in batches for window in batch)
    for number, window in enumerate(windows):
        for phase in PICKED_PHASES:
            curve = window[PHASES.index(phase)]
            samples, heights = find_picks(curve, LOWEST_PEAK, distance)
            order = np.lexsort((samples, -heights))
            samples, heights = samples[order], heights[order]
            sigmas = widths(curve, samples) / SIGMAS / SAMPLING_RATE
            rows[phase].append(np.stack([np.full(len(samples), number), onsets(curve, samples), heights, sigmas], axis=1))
    return {phase: _as_peaks(np.concatenate(own)) for phase, own in rows.items()}


def _as_peaks(table: NDArray[np.float64]) -> Peaks:
    return Peaks(table[:, 0].astype(np.int64), table[:, 1], table[:, 2], table[:, 3])
