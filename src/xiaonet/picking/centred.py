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

from xiaonet.constants import STRIDE, WINDOW_SAMPLES
from xiaonet.picking.annotation import Network, Stretch, cut_windows, find_stretches
from xiaonet.picking.cleaning import Samples
from xiaonet.picking.windows import normalize

SIDE = 100  # samples on either side of a candidate that are computed: as far as it may move, and what its onset depends on
TILE = 1232  # samples that the network sees: 504 around each of these, at every place; a multiple of its stride
GROUP = 64  # candidates in memory at once


def centred_curves(waveform: Samples, candidates: NDArray[np.int64], network: Network) -> NDArray[np.float32]:
    """Compute probabilities around candidates.

    Args:
        waveform: `(3, samples)` in E, N, Z order; NaN where there is no data.
        candidates: samples with data, in rising order, each at least a window from both ends of `waveform`.
        network: gives probabilities of P, S and noise for normalized windows of any length.

    Returns:
        `(candidates, 3, 201)`, the candidate in the middle.
    """
    curves = np.empty((len(candidates), 3, 2 * SIDE + 1), np.float32)
    if not len(candidates):
        return curves
    stretches = find_stretches(~np.isnan(waveform), int(candidates[0]), int(candidates[-1]) + 1)
    for group in range(0, len(candidates), GROUP):
        places = [_window_around(int(sample), stretches) for sample in candidates[group : group + GROUP]]
        windows = normalize(cut_windows(waveform, places))
        windows *= np.where((windows**3).sum(axis=(1, 2), keepdims=True) < 0, np.float32(-1), np.float32(1))
        for row, (window, (_, start)) in enumerate(zip(windows, places, strict=True), group):
            curves[row] = _mean_of_places(window, int(candidates[row]) - start, network)
    return curves


def _window_around(sample: int, stretches: Sequence[Stretch]) -> tuple[Stretch, int]:
    """The stretch that a sample is in, and the start of the window in it whose middle is nearest to the sample."""
    stretch = next(stretch for stretch in stretches if stretch.first <= sample < stretch.end)
    return stretch, max(min(sample - WINDOW_SAMPLES // 2, stretch.high - WINDOW_SAMPLES), stretch.low)


def _mean_of_places(window: NDArray[np.float32], sample: int, network: Network) -> NDArray[np.float32]:
    """The mean curve around a sample of a window, over tiles that start at each place of the network's stride."""
    padded = np.pad(window, ((0, 0), (TILE, TILE)))
    starts = [sample - TILE // 2 - place for place in range(STRIDE)]
    curves = network(np.stack([padded[:, TILE + start : 2 * TILE + start] for start in starts]))
    middles = [sample - start for start in starts]
    around = [curve[:, middle - SIDE : middle + SIDE + 1] for curve, middle in zip(curves, middles, strict=True)]
    mean: NDArray[np.float32] = np.mean(around, axis=0, dtype=np.float32)
    return mean
