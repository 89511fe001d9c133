"""Probability curves of a record of any length, the same however it was cut.

Windows start at fixed samples counted from 1970-01-01. A window holds only components that are there
from its first sample to its last, so that no gap is ever seen as a step. Where windows overlap, they
are averaged with weights that fall off towards their ends, where the network lacks context.
"""

from collections.abc import Callable, Iterator
from itertools import combinations, pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from xiaonet.constants import COMPONENTS, PHASES, WINDOW_SAMPLES
from xiaonet.picking.cleaning import Samples
from xiaonet.picking.segments import Instrument, Segment
from xiaonet.picking.spans import true_spans
from xiaonet.picking.stacking import Stack
from xiaonet.picking.windows import normalize

WINDOW_STEP = 2000  # samples between two windows; a multiple of the network's stride
CHUNK = 180 * WINDOW_STEP  # samples worked on at once: an hour
BATCH = 8  # windows given to the network at once: more leave the cache
GUARD = 50  # samples beside a gap or an end of data where nothing is picked
MARGIN = 1000  # samples beside a chunk that its picks may look at

Network = Callable[[NDArray[np.float32]], NDArray[np.float32]]


class Annotation(NamedTuple):
    """What the network says of samples `first` to `end` of a segment, and what it saw.

    Attributes:
        first: first sample of the chunk, counted on the segment's grid.
        end: the one after the last.
        start: first sample of the arrays below, which reach beyond the chunk on both sides.
        probabilities: `(3, samples)` of P, S and noise; NaN where there is no data.
        waveform: `(3, samples)` in E, N, Z order, in the unit of the record; NaN where there is none.
        trusted: `(samples,)`: far enough from gaps and ends of data to pick.
    """

    first: int
    end: int
    start: int
    probabilities: NDArray[np.float64]
    waveform: Samples
    trusted: NDArray[np.bool_]


class _Stretch(NamedTuple):
    """Samples `first` to `end` that are seen by windows on `rows` within `low` to `high`."""

    first: int
    end: int
    low: int
    high: int
    rows: tuple[int, ...]


def chunks(segment: Segment) -> Iterator[tuple[int, int]]:
    """Sample ranges of about an hour that make up a segment, cut at fixed samples from 1970-01-01."""
    bounds = [segment.first, *range((segment.first // CHUNK + 1) * CHUNK, segment.end, CHUNK), segment.end]
    return pairwise(bounds) if segment.first < segment.end else iter(())


def annotate_chunk(instrument: Instrument, segment: Segment, first: int, end: int, network: Network) -> Annotation:
    """Probabilities of samples `first` to `end` of a segment and of a margin around them."""
    start, stop = first - MARGIN, end + MARGIN
    reach = WINDOW_SAMPLES + GUARD
    waveform, bridged = instrument.waveform(segment, start - reach, stop + reach)
    there = ~np.isnan(waveform)
    windows = [(stretch, at) for stretch in _stretches(there, reach, reach + stop - start) for at in _starts(stretch, start - reach)]
    stack = Stack(len(PHASES), waveform.shape[1])
    for group in range(0, len(windows), BATCH):
        batch = windows[group : group + BATCH]
        probabilities = network(normalize(np.stack([_window(waveform, stretch, at) for stretch, at in batch])))
        for (stretch, at), curve in zip(batch, probabilities, strict=True):
            stack.add(curve, at, max(at, stretch.first), min(at + WINDOW_SAMPLES, stretch.end))
    inside = slice(reach, -reach)
    return Annotation(
        first=first,
        end=end,
        start=start,
        probabilities=stack.mean()[:, inside],
        waveform=waveform[:, inside],
        trusted=_trusted(there, bridged)[inside],
    )


def _stretches(there: NDArray[np.bool_], first: int, end: int) -> list[_Stretch]:
    """Cut samples `first` to `end` where what can be looked at changes."""
    cuts = _changes(there)
    spans = [true_spans(row) for row in there]
    bounds = [first, *cuts[(cuts > first) & (cuts < end)].tolist(), end]
    stretches: list[_Stretch] = []
    for low, high in pairwise(bounds):
        if not there[:, low].any():
            continue
        cover = _cover(spans, np.flatnonzero(there[:, low]).tolist(), low)
        if stretches and stretches[-1][2:] == cover:
            stretches[-1] = stretches[-1]._replace(end=high)
        else:
            stretches.append(_Stretch(low, high, *cover))
    return stretches


def _cover(spans: list[NDArray[np.int64]], rows: list[int], sample: int) -> tuple[int, int, tuple[int, ...]]:
    """The components to look at around a sample, and the range in which all of them are there.

    As many as fill a window; where none does, those with the longest common range.
    """
    own = {row: spans[row][np.searchsorted(spans[row][:, 0], sample, side="right") - 1] for row in rows}
    choices = []
    for number in range(len(rows), 0, -1):
        for subset in combinations(rows[::-1], number):  # the vertical first
            low, high = max(own[row][0] for row in subset), min(own[row][1] for row in subset)
            choices.append((min(high - low, WINDOW_SAMPLES), int(low), int(high), subset))
            if high - low >= WINDOW_SAMPLES:
                return choices[-1][1:]
    return max(choices, key=lambda choice: choice[0])[1:]


def _starts(stretch: _Stretch, offset: int) -> Iterator[int]:
    """First samples of the windows that a stretch is seen by; `offset` is where the array starts on the grid."""
    latest = stretch.high - WINDOW_SAMPLES
    if latest <= stretch.low:  # shorter than a window
        yield stretch.low
        return
    grid = -(-(max(stretch.low, stretch.first - WINDOW_SAMPLES + 1) + offset) // WINDOW_STEP) * WINDOW_STEP - offset
    regular = list(range(grid, min(latest, stretch.end - 1) + 1, WINDOW_STEP))
    if stretch.low + WINDOW_SAMPLES > stretch.first and stretch.low not in regular:
        yield stretch.low
    yield from regular
    if latest < stretch.end and latest not in regular:
        yield latest


def _window(waveform: Samples, stretch: _Stretch, at: int) -> Samples:
    """`(3, 3001)` samples; the mean where a short stretch ends, zeros for components that are not there."""
    window = np.zeros((len(COMPONENTS), WINDOW_SAMPLES))
    end = min(at + WINDOW_SAMPLES, stretch.high)
    for row in stretch.rows:
        window[row, : end - at] = waveform[row, at:end]
        window[row, end - at :] = window[row, : end - at].mean() if end - at < WINDOW_SAMPLES else 0
    return window


def _trusted(there: NDArray[np.bool_], bridged: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Samples farther than the guard from where a component comes, goes or was made up."""
    trusted = np.asarray(there.any(axis=0) & ~bridged.any(axis=0))
    for change in _changes(there & ~bridged):
        trusted[max(change - GUARD, 0) : change + GUARD] = False
    return trusted


def _changes(rows: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Samples at which any of the rows differs from the sample before."""
    return np.flatnonzero((rows[:, 1:] != rows[:, :-1]).any(axis=0)) + 1
