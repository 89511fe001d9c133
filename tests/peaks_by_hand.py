"""Peaks written down by hand."""

import numpy as np

from xiaonet.scoring.peaks import Peaks


def peaks(*rows: tuple[int, int, float]) -> Peaks:
    """Peaks from (window, sample, height), ordered as `find_peaks` orders them, with an uncertainty of 0.1 s."""
    rows = tuple(sorted(rows, key=lambda row: (row[0], -row[2])))
    window, sample, height = (np.array([row[column] for row in rows]) for column in range(3))
    return Peaks(window.astype(int), sample.astype(int), height.astype(float), np.full(len(rows), 0.1))
