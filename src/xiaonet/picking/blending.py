"""Average the normalized windows of a continuous record into one normalized record, which the network then sees once.

1. Windows of 3001 samples (30 s) start every 750 samples, on a grid counted from 1970-01-01, and at both ends of the data
   of a component. Each is normalized on its own: a line is subtracted, and the rest is multiplied by a scale.
2. The windows are averaged. The weight of a window falls linearly from its middle to both ends, so four of them share
   a sample. The scale of the average has no jumps, and hardly depends on where the windows lie.
3. The network works on tiles of 512 samples, on a grid counted from 1970-01-01 too. It sees a tile more on either side,
   and that is more than it can see. So nothing depends on where a record is cut.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from xiaonet.constants import TILE_SAMPLES, WINDOW_SAMPLES
from xiaonet.picking.averaging import MIDDLE, average, find_lines
from xiaonet.picking.cleaning import Samples
from xiaonet.picking.spans import true_spans
from xiaonet.picking.windows import normalize

STEP = 750  # samples between the starts of two windows: half of what lies between a middle and an end
REACH = WINDOW_SAMPLES + 2 * STEP  # samples on either side of a range that `blend` needs

Curve = NDArray[np.float32]
RecordNetwork = Callable[[Curve, NDArray[np.bool_]], Curve]  # as `curves` of xiaonet.runtime.predictor.Predictor


def whole_tiles(first: int, end: int) -> tuple[int, int]:
    """Samples `first` up to `end` of the grid, extended to whole tiles and by one more on either side."""
    return (first // TILE_SAMPLES - 1) * TILE_SAMPLES, (-(-end // TILE_SAMPLES) + 1) * TILE_SAMPLES


def blend(waveform: Samples, offset: int, first: int, end: int) -> Curve:
    """Normalize the windows of each component and average them.

    Data that are shorter than a window are normalized on their own. They are used only where no component has longer ones.

    Args:
        waveform: `(3, samples)`, NaN where there is no data.
        offset: its first sample on the grid.
        first: first sample that is asked for, from the start of `waveform`. The waveform may be cut off `REACH` samples
            before it.
        end: the sample after the last. The waveform may be cut off `REACH` samples after it.

    Returns:
        `(3, end - first)`, zeros where there is no data.
    """
    blended = np.zeros(waveform.shape, dtype=np.float32)
    spans = [true_spans(~np.isnan(samples)).tolist() for samples in waveform]
    covered = np.zeros(waveform.shape[1], dtype=bool)
    for samples, out, own in zip(waveform, blended, spans, strict=True):
        for low, high in own:
            starts = [at for at in _window_starts(low, high, offset) if first - 4 * STEP <= at + MIDDLE <= end + 4 * STEP]
            if starts:
                _average(samples, low, high, np.array(starts), out)
                covered[low:high] = True
    for samples, out, own in zip(waveform, blended, spans, strict=True):
        for low, high in own:
            if high - low < WINDOW_SAMPLES:
                out[low:high] = np.where(covered[low:high], 0, normalize(samples[low:high]))
    return blended[:, first:end]


def _window_starts(low: int, high: int, offset: int) -> list[int]:
    """First samples of the windows that cover data from `low` up to `high`, in order; none if the data are shorter."""
    last = high - WINDOW_SAMPLES
    return sorted({low, *range(-(-(low + offset) // STEP) * STEP - offset, last + 1, STEP), last}) if last >= low else []


def _average(samples: Samples, low: int, high: int, starts: NDArray[np.int64], out: Curve) -> None:
    """Average windows of data from `low` up to `high`. Outside their middles, the first and the last count alone.

    Each normalized window is `scale * x - line - slope * (t - place)` with its middle as place. Triangular weights over
    two steps give the same as two weights over one step each, after the values of neighbours are averaged by 1, 2 and 1.
    """
    mean, slope, scale = find_lines(samples, starts)
    place, line, slope = starts + MIDDLE, mean * scale, slope * scale
    to_next = np.diff(place)
    line = _smooth(line) + (np.append(0, to_next) * _before(slope) - np.append(to_next, 0) * _after(slope)) / 4
    slope, scale = _smooth(slope), _smooth(scale)
    ends = [line[0] - slope[0] * (place[0] - low)], [line[-1] + slope[-1] * (high - place[-1])]
    place, line = np.concatenate([[low], place, [high]]), np.concatenate([ends[0], line, ends[1]])
    slope, scale = np.pad(slope, 1, mode="edge"), np.pad(scale, 1, mode="edge")
    to_next = np.diff(place)
    rise, fall = slope[:-1] * to_next, slope[1:] * to_next
    lines = np.stack([line[:-1], rise - line[:-1] + line[1:] - fall, fall - rise], axis=1)
    average(samples, place, np.stack([scale[:-1], np.diff(scale)], axis=1), lines, out)


def _before(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """The values of the neighbours before; the first has itself."""
    return np.concatenate([values[:1], values[:-1]])


def _after(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """The values of the neighbours after; the last has itself."""
    return np.concatenate([values[1:], values[-1:]])


def _smooth(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """A quarter of both neighbours and a half of each value."""
    return (_before(values) + 2 * values + _after(values)) / 4


def run_over(record: Curve, has_data: NDArray[np.bool_], network: RecordNetwork) -> Curve:
    """Compute probabilities of a normalized record.

    Args:
        record: `(3, samples)`, a whole number of tiles. The first and the last are only seen.
        has_data: `(samples,)`: where there is any data.
        network: computes probabilities.

    Returns:
        `(3, samples)`: NaN where there is no data, and in the first and the last tile.
    """
    there = has_data.copy()
    there[:TILE_SAMPLES] = there[-TILE_SAMPLES:] = False
    wanted = np.asarray(there.reshape(-1, TILE_SAMPLES).any(axis=1))
    probabilities = network(record, wanted)
    probabilities[:, ~there] = np.nan
    return probabilities
