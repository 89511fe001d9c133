"""Peaks written down by hand, and onsets read by a loop."""

import math
from collections.abc import Sequence

import numpy as np

from xiaonet.scoring.peaks import Peaks


def peaks(*rows: tuple[int, int, float]) -> Peaks:
    """Peaks from (window, sample, height), ordered as `find_peaks` orders them, with an uncertainty of 0.1 s."""
    rows = tuple(sorted(rows, key=lambda row: (row[0], -row[2])))
    window, sample, height = (np.array([row[column] for row in rows]) for column in range(3))
    return Peaks(window.astype(int), sample.astype(int), height.astype(float), np.full(len(rows), 0.1))


def onset_by_hand(curve: Sequence[float], peak: int) -> float:
    """The mean place of the samples within 48 of a peak, weighted by curve and normal curve; four times."""
    near = [sample for sample in range(max(peak - 48, 0), min(peak + 49, len(curve))) if not math.isnan(curve[sample])]
    at = float(peak)
    for _ in range(4):
        weights = [float(curve[sample]) * math.exp(-0.5 * ((sample - at) / 16) ** 2) for sample in near]
        at = sum(weight * sample for weight, sample in zip(weights, near, strict=True)) / sum(weights)
    return round(at, 1)
