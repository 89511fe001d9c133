"""Peaks of probability curves, and which of them are the picks that were to be found."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from xiaonet.constants import PHASES, PICKED_PHASES, SAMPLING_RATE
from xiaonet.picking.picks import SIGMAS, find_picks, width

LEAST = 0.01  # height of a peak that is kept; thresholds start here
NOT_MATCHED = -1


@dataclass(frozen=True)
class Peaks:
    """Peaks of one phase in many windows, by window and then from the highest to the lowest.

    Attributes:
        window: `(peaks,)` number of the window.
        sample: `(peaks,)` from its start.
        height: `(peaks,)` probability.
        sigma: `(peaks,)` uncertainty in s that the picker would tell.
    """

    window: NDArray[np.int64]
    sample: NDArray[np.int64]
    height: NDArray[np.float64]
    sigma: NDArray[np.float64]

    def keep(self, chosen: NDArray[np.bool_]) -> "Peaks":
        """Some of them."""
        return Peaks(self.window[chosen], self.sample[chosen], self.height[chosen], self.sigma[chosen])

    def above(self, height: float) -> "Peaks":
        """The picks at a threshold: the lower of two peaks yields, so what is left does not depend on it."""
        return self.keep(self.height >= height)

    def ranks(self) -> Iterator[NDArray[np.int64]]:
        """Indexes of the highest peaks of all windows, then of the second highest, and so on."""
        starts = np.flatnonzero(np.diff(self.window, prepend=-1))
        rank = np.arange(len(self.window)) - np.repeat(starts, np.diff(starts, append=len(self.window)))
        order = np.argsort(rank, kind="stable")
        yield from np.split(order, np.flatnonzero(np.diff(rank[order])) + 1) if len(order) else ()

    def padded(self, windows: int) -> NDArray[np.float64]:
        """Samples as `(windows, peaks)`, NaN where there are fewer: the form of labels."""
        ranks = list(self.ranks())
        samples = np.full((windows, len(ranks)), np.nan)
        for column, chosen in enumerate(ranks):
            samples[self.window[chosen], column] = self.sample[chosen]
        return samples


def find_peaks(batches: Iterable[NDArray[np.floating]], distance: int) -> dict[str, Peaks]:
    """Peaks of P and S in batches of curves `(batch, 3, samples)`, by the picker's own rule."""
    found: dict[str, list[tuple[int, int, float, float]]] = {phase: [] for phase in PICKED_PHASES}
    number = 0
    for batch in batches:
        for curves in batch:
            for phase in PICKED_PHASES:
                curve = curves[PHASES.index(phase)]
                peaks = sorted(zip(*find_picks(curve, LEAST, distance), strict=True), key=lambda peak: (-peak[1], peak[0]))
                found[phase] += [
                    (number, int(sample), float(height), float(width(curve, sample) / SIGMAS / SAMPLING_RATE)) for sample, height in peaks
                ]
            number += 1
    return {phase: _as_peaks(rows) for phase, rows in found.items()}


def match(peaks: Peaks, labels: NDArray[np.float64], tolerance: float) -> NDArray[np.int64]:
    """For each peak the label of its window that it is the pick of, or -1.

    From the highest peak down, each takes the nearest label within the tolerance that no higher one
    has taken. So whether a peak is right does not depend on the threshold (Everingham et al. 2010, 4.2,
    for boxes in images).

    Args:
        peaks: of one phase.
        labels: `(windows, labels)` samples, NaN where there are fewer.
        tolerance: samples, itself included.
    """
    taken = np.isnan(labels)
    matched = np.full(len(peaks.window), NOT_MATCHED)
    if labels.shape[1] == 0:
        return matched
    for chosen in peaks.ranks():
        window = peaks.window[chosen]
        distance = np.where(taken[window], np.inf, np.abs(peaks.sample[chosen, None] - labels[window]))
        nearest = distance.argmin(axis=1)
        right = distance[np.arange(len(chosen)), nearest] <= tolerance
        matched[chosen[right]] = nearest[right]
        taken[window[right], nearest[right]] = True
    return matched


def residuals(peaks: Peaks, labels: NDArray[np.float64]) -> NDArray[np.float64]:
    """`(windows, labels)` samples from each label to the nearest peak, later is positive; NaN where there is none."""
    nearest = np.full(labels.shape, np.nan)
    for chosen in peaks.ranks():
        window = peaks.window[chosen]
        off = peaks.sample[chosen, None] - labels[window]
        nearest[window] = np.where(~(np.abs(off) >= np.abs(nearest[window])), off, nearest[window])
    return nearest


def _as_peaks(rows: list[tuple[int, int, float, float]]) -> Peaks:
    table = np.array(rows, dtype=np.float64).reshape(-1, 4)
    return Peaks(table[:, 0].astype(np.int64), table[:, 1].astype(np.int64), table[:, 2], table[:, 3])
