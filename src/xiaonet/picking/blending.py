"""Blend the normalized windows of a record into one normalized record, and let the network go over it once.

1. Windows of 3001 samples start every 1000 samples, on a grid counted from 1970-01-01, and at both ends of the data of a
   component. Normalization finds a line to subtract and a scale for each.
2. Between the middles of two neighbours, their normalized samples are averaged. The weights go linearly from one to the
   other. So the scale has no jumps, and each sample is computed once.
3. The network works on tiles of 512 samples, which lie at fixed samples from 1970-01-01 too. It sees a tile on either
   side, which is more than it can see. So the result does not depend on where a record is cut.
"""

from collections.abc import Callable, Iterator
from itertools import pairwise

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from xiaonet.constants import PHASES, WINDOW_SAMPLES
from xiaonet.picking.cleaning import Samples
from xiaonet.picking.spans import true_spans
from xiaonet.picking.windows import normalize, straighten

STEP = 750  # samples between the starts of two windows
MIDDLE = WINDOW_SAMPLES // 2  # sample of a window
BATCH = 8  # windows of a component at once; more do not fit into the processor's cache
TILE = 512  # samples; more than the network sees on either side of a sample, and a multiple of its stride
TILES = 32  # given to the network at once, besides the two that it only sees

Curve = NDArray[np.float32]


def whole_tiles(first: int, end: int) -> tuple[int, int]:
    """Samples `first` up to `end` of the grid, extended to whole tiles and by one more on either side."""
    return (first // TILE - 1) * TILE, (-(-end // TILE) + 1) * TILE


def blend(waveform: Samples, offset: int, first: int, end: int) -> Curve:
    """Normalize the windows of each component and blend them.

    A range of data that is shorter than a window is normalized on its own. It is used only where no component has a
    longer one.

    Args:
        waveform: `(3, samples)`, NaN where there is no data.
        offset: its first sample on the grid.
        first: first sample that is asked for, from the start of `waveform`; 3051 samples or more from it.
        end: the sample after the last, as far from the end of `waveform`.

    Returns:
        `(3, end - first)`, zeros where there is no data.
    """
    blended = np.zeros(waveform.shape, dtype=np.float32)
    short: list[tuple[int, int, int]] = []
    covered = np.zeros(waveform.shape[1], dtype=bool)
    for row, samples in enumerate(waveform):
        for low, high in true_spans(~np.isnan(samples)).tolist():
            if high - low < WINDOW_SAMPLES:
                short.append((row, low, high))
                continue
            covered[low:high] = True
            starts = [at for at in _window_starts(low, high, offset) if first - 2 * STEP <= at + MIDDLE <= end + 2 * STEP]
            if starts:
                _blend_windows(samples, low, high, np.array(starts), blended[row])
    for row, low, high in short:
        blended[row, low:high] = np.where(covered[low:high], 0, normalize(waveform[row, low:high]))
    return blended[:, first:end]


def _window_starts(low: int, high: int, offset: int) -> list[int]:
    """First samples of the windows that cover data from `low` up to `high`, in order."""
    last = high - WINDOW_SAMPLES
    return sorted({low, *range(-(-(low + offset) // STEP) * STEP - offset, last + 1, STEP), last})


def _blend_windows(samples: Samples, low: int, high: int, starts: NDArray[np.int64], out: Curve) -> None:
    """Blend windows of data from `low` up to `high`. Before the middle of the first one, it counts alone, as the last one at the end."""
    windows = sliding_window_view(samples, WINDOW_SAMPLES)
    parts = [straighten(windows[starts[group : group + BATCH]]) for group in range(0, len(starts), BATCH)]
    mean, slope, scale = (np.concatenate(values) for values in zip(*parts, strict=True))
    place, line, slope = starts + MIDDLE, mean * scale, slope * scale  # each window is `scale * x - line - slope * (t - place)`
    before, after = np.append(0, np.diff(place)), np.append(np.diff(place), 0)
    scale, slope, moved = _averaged(scale), _averaged(slope), (_shifted(slope, 1) * before - _shifted(slope, -1) * after) / 4
    line = _averaged(line) + moved
    ends = np.array([low, high]) - place[[0, -1]]
    place = np.concatenate([[low], place, [high]])
    line = np.concatenate([line[:1] + slope[:1] * ends[:1], line, line[-1:] + slope[-1:] * ends[1:]])
    scale, slope = (np.concatenate([values[:1], values, values[-1:]]) for values in (scale, slope))
    length = np.diff(place)
    rise = slope * np.append(length, 0), slope * np.append(0, length)  # of the lines, up to the next place and from the one before
    for first, last in _equal_runs(length):
        share = np.arange(length[first]) / max(length[first], 1)
        powers = np.stack([share**0, share, share**2])
        lines = [line[first:last], rise[0][first:last] - line[first:last] + line[first + 1 : last + 1] - rise[1][first + 1 : last + 1]]
        lines.append(rise[1][first + 1 : last + 1] - rise[0][first:last])
        scales = np.stack([scale[first:last], scale[first + 1 : last + 1] - scale[first:last]], axis=1)
        part = slice(place[first], place[last])
        blended = samples[part].reshape(last - first, -1) * (scales @ powers[:2])
        blended -= np.stack(lines, axis=1) @ powers
        out[part] = blended.ravel()


def _shifted(values: NDArray[np.float64], by: int) -> NDArray[np.float64]:
    """The values of the neighbours before (1) or after (-1); the first and the last have themselves."""
    return np.concatenate([values[:1], values[:-1]]) if by > 0 else np.concatenate([values[1:], values[-1:]])


def _averaged(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """A half of each value and a quarter of both neighbours."""
    return (_shifted(values, 1) + 2 * values + _shifted(values, -1)) / 4


def _equal_runs(values: NDArray[np.int64]) -> Iterator[tuple[int, int]]:
    """Ranges of equal values."""
    return pairwise([0, *(np.flatnonzero(np.diff(values)) + 1).tolist(), len(values)])


def run_over(record: Curve, has_data: NDArray[np.bool_], network: Callable[[Curve], Curve]) -> NDArray[np.float64]:
    """Compute probabilities of a normalized record.

    Args:
        record: `(3, samples)`, a whole number of tiles. The first and the last are only seen.
        has_data: `(samples,)`: where there is any data.
        network: computes probabilities `(1, 3, samples)` of records `(1, 3, samples)`.

    Returns:
        `(3, samples)`: NaN where there is no data, and in the first and the last tile.
    """
    probabilities = np.full((len(PHASES), record.shape[1]), np.nan)
    wanted = has_data.reshape(-1, TILE).any(axis=1)
    wanted[[0, -1]] = False
    for low, high in true_spans(wanted).tolist():
        for first in range(low, high, TILES):
            end = min(first + TILES, high)
            found = network(record[None, :, (first - 1) * TILE : (end + 1) * TILE])[0]
            probabilities[:, first * TILE : end * TILE] = found[:, TILE:-TILE]
    probabilities[:, ~has_data] = np.nan
    return probabilities
