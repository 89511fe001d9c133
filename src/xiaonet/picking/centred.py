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
BEFORE = range(TILE // 2, TILE // 2 + STRIDE)  # samples of a tile before the candidate, at each place
TOGETHER = 2  # candidates at once: 16 tiles fill the lanes of a processor


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
    for first in range(0, len(candidates), TOGETHER):
        group = candidates[first : first + TOGETHER]
        places = [_window_around(int(sample), stretches) for sample in group]
        windows = normalize(cut_windows(waveform, places))
        windows *= np.where(np.einsum("wcs,wcs,wcs->w", windows, windows, windows) < 0, np.float32(-1), np.float32(1))[:, None, None]
        samples = [int(sample) - start for sample, (_, start) in zip(group, places, strict=True)]
        curves[first : first + len(group)] = _mean_of_places(windows, samples, network)
    return curves


def _window_around(sample: int, stretches: Sequence[Stretch]) -> tuple[Stretch, int]:
    """The stretch that a sample is in, and the start of the window in it whose middle is nearest to the sample."""
    stretch = next(stretch for stretch in stretches if stretch.first <= sample < stretch.end)
    return stretch, max(min(sample - WINDOW_SAMPLES // 2, stretch.high - WINDOW_SAMPLES), stretch.low)


def _mean_of_places(windows: NDArray[np.float32], samples: Sequence[int], network: Network) -> NDArray[np.float32]:
    """The mean curve around a sample of each window, over tiles that start at each place of the network's stride."""
    padded = np.pad(windows, ((0, 0), (0, 0), (TILE, TILE)))
    tiles = [
        window[:, TILE + sample - before : 2 * TILE + sample - before]
        for window, sample in zip(padded, samples, strict=True)
        for before in BEFORE
    ]
    curves = network(np.stack(tiles)).reshape(len(windows), STRIDE, -1, TILE)
    around = [curves[:, place, :, before - SIDE : before + SIDE + 1] for place, before in enumerate(BEFORE)]
    mean: NDArray[np.float32] = np.mean(around, axis=0, dtype=np.float32)
    return mean
