"""Compute probabilities around candidate picks again, in windows that are centred on them.

The windows of a record start at fixed times. If the clock of a record is set on by a second, the network sees an onset at
another place of another window, and the peak of its curve moves by some samples. Two things make it move. Each window is
divided by its own peak. And pooling keeps one sample in eight, so the network sees an onset in eight ways.

So each candidate is looked at once more. The window around it is normalized, the network computes it at eight places that
are one sample apart, and the mean of the eight curves counts. It does not depend on where the windows of the record
start. The sign of the window is chosen by the sum of the cubes of its samples, so reversed polarity makes no difference either.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from xiaonet.constants import AROUND_MIDDLE, AROUND_SAMPLES, COMPONENTS, PHASES, PICK_SIDE, WINDOW_SAMPLES
from xiaonet.picking.annotation import Network, Stretch, cut_windows, find_stretches
from xiaonet.picking.cleaning import Samples
from xiaonet.picking.windows import normalize

TOGETHER = 16  # candidates at once: they fill the lanes of a processor


def centred_curves(waveform: Samples, candidates: NDArray[np.int64], around: Network) -> NDArray[np.float32]:
    """Compute probabilities around candidates.

    Args:
        waveform: `(3, samples)` in E, N, Z order; NaN where there is no data.
        candidates: samples with data, in rising order, each at least a window from both ends of `waveform`.
        around: gives mean probabilities around the middle of what is cut from windows, as `around` of xiaonet.runtime.predictor.Predictor.

    Returns:
        `(candidates, 3, 201)`, the candidate in the middle.
    """
    curves = np.empty((len(candidates), len(PHASES), 2 * PICK_SIDE + 1), np.float32)
    if not len(candidates):
        return curves
    stretches = find_stretches(~np.isnan(waveform), int(candidates[0]), int(candidates[-1]) + 1)
    for first in range(0, len(candidates), TOGETHER):
        group = candidates[first : first + TOGETHER]
        places = [_window_around(int(sample), stretches) for sample in group]
        windows = normalize(cut_windows(waveform, places))
        samples = [int(sample) - start for sample, (_, start) in zip(group, places, strict=True)]
        curves[first : first + len(group)] = around(_cut_around(windows, samples))
    return curves


def _window_around(sample: int, stretches: Sequence[Stretch]) -> tuple[Stretch, int]:
    """The stretch that a sample is in, and the start of the window in it whose middle is nearest to the sample."""
    stretch = next(stretch for stretch in stretches if stretch.first <= sample < stretch.end)
    return stretch, max(min(sample - WINDOW_SAMPLES // 2, stretch.high - WINDOW_SAMPLES), stretch.low)


def _cut_around(windows: NDArray[np.float32], samples: Sequence[int]) -> NDArray[np.float32]:
    """What a network sees around samples of windows, turned so that the sum of the window's cubes is positive; zeros beyond its ends."""
    cuts = np.zeros((len(windows), len(COMPONENTS), AROUND_SAMPLES), np.float32)
    for cut, window, sample in zip(cuts, windows, samples, strict=True):
        start = sample - AROUND_MIDDLE
        inside = window[:, max(start, 0) : max(start + AROUND_SAMPLES, 0)]
        sign = np.float32(-1 if np.vdot(window * window, window) < 0 else 1)
        cut[:, max(-start, 0) : max(-start, 0) + inside.shape[1]] = sign * inside
    return cuts
