"""Which peaks are right: matching of peaks with labels."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from xiaonet.constants import WINDOW_SAMPLES
from xiaonet.scoring.peaks import Peaks
from xiaonet.scoring.thresholds import f1_by_threshold

NOT_MATCHED = -1

Counts = NDArray[np.int64]
Mask = NDArray[np.bool_]


class PickCounts(NamedTuple):
    """Right picks, false picks and labels of each window, `(windows,)`."""

    right: Counts
    false: Counts
    labels: Counts


@dataclass(frozen=True)
class MatchedPeaks:
    """Peaks of one phase that count as right or as false.

    Attributes:
        peaks: the peaks that count.
        right: `(peaks,)`.
        labels: `(windows,)` number of labels that should be found.
    """

    peaks: Peaks
    right: Mask
    labels: Counts

    @classmethod
    def of(cls, peaks: Peaks, labels: NDArray[np.float64], judged: Mask, tolerance: float, edge: int = 0) -> "MatchedPeaks":
        """Match peaks with labels.

        Args:
            peaks: of one phase.
            labels: `(windows, labels)` samples, filled up with NaN.
            judged: `(windows,)` false where it is unknown whether there is a label; these windows do not count.
            tolerance: largest distance of a right pick from its label, in samples.
            edge: number of samples at both ends of a window where no label and no pick without a label counts.
        """
        matched = match(peaks, labels, tolerance)
        right = matched != NOT_MATCHED
        wanted = inside(labels, edge) & judged[:, None]
        counts = judged[peaks.window] & inside(peaks.sample, edge)
        counts[right] = wanted[peaks.window[right], matched[right]]
        return cls(peaks.keep(counts), right[counts], wanted.sum(axis=1))

    def within(self, windows: Mask) -> "MatchedPeaks":
        """The same for some of the windows only."""
        chosen = windows[self.peaks.window]
        return MatchedPeaks(self.peaks.keep(chosen), self.right[chosen], np.where(windows, self.labels, 0))

    def counts(self, threshold: float) -> PickCounts:
        """Counts of each window at a threshold."""
        picked = self.peaks.height >= threshold
        right, false = (np.bincount(self.peaks.window[picked & kind], minlength=len(self.labels)) for kind in (self.right, ~self.right))
        return PickCounts(right, false, self.labels)

    def f1(self, thresholds: NDArray[np.float64]) -> NDArray[np.float64]:
        """F1 over all windows at each of `thresholds`."""
        return f1_by_threshold(thresholds, self.peaks.height, self.right, int(self.labels.sum()))


def match(peaks: Peaks, labels: NDArray[np.float64], tolerance: float) -> Counts:
    """For each peak the number of the label that it matches, or -1.

    From the highest peak down, each peak takes the nearest label within the tolerance that no higher peak
    has taken. So whether a peak is right does not depend on the threshold (Everingham et al. 2010, section
    4.2, for boxes in images).

    Args:
        peaks: of one phase.
        labels: `(windows, labels)` samples, filled up with NaN.
        tolerance: largest distance in samples.
    """
    taken = np.isnan(labels)
    matched = np.full(len(peaks.window), NOT_MATCHED)
    if labels.shape[1] == 0:
        return matched
    for chosen in peaks.by_rank():
        window = peaks.window[chosen]
        distance = np.where(taken[window], np.inf, np.abs(peaks.sample[chosen, None] - labels[window]))
        nearest = distance.argmin(axis=1)
        right = distance[np.arange(len(chosen)), nearest] <= tolerance
        matched[chosen[right]] = nearest[right]
        taken[window[right], nearest[right]] = True
    return matched


def residuals(peaks: Peaks, labels: NDArray[np.float64]) -> NDArray[np.float64]:
    """Samples from each label to the nearest peak, `(windows, labels)`.

    Positive means that the peak is later than the label. NaN where there is no label or no peak.
    """
    nearest = np.full(labels.shape, np.nan)
    for chosen in peaks.by_rank():
        window = peaks.window[chosen]
        off = peaks.sample[chosen, None] - labels[window]
        nearest[window] = np.where(~(np.abs(off) >= np.abs(nearest[window])), off, nearest[window])
    return nearest


def inside(samples: NDArray[np.floating] | NDArray[np.int64], edge: int) -> Mask:
    """Whether samples lie in a window, at least `edge` samples from its ends."""
    return np.asarray((samples >= edge) & (samples < WINDOW_SAMPLES - edge))
