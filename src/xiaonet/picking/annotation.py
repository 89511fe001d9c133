"""Compute probabilities of P, S and noise for a continuous record of any length.

A record is annotated in chunks of about an hour. In each chunk:

1. Windows of 3001 samples (30 s) start every 2000 samples (20 s), on a grid counted from 1970-01-01. So the
   result does not depend on where the record begins or how it was cut. Two more windows start at the first
   and end at the last sample of the data.
2. A window has only components that are recorded over its whole length, so no gap looks like a step. The
   others are zeros. Where no component fills a window, the data are extended with their mean.
3. The network computes probabilities for each window.
4. Overlapping windows are stacked with a taper, because the network lacks context near their ends.
5. Samples within half a second of a gap, an end of data or a marked bridge are not trusted: nothing is
   picked there.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import combinations, pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from xiaonet.constants import COMPONENTS, PHASES, WINDOW_SAMPLES
from xiaonet.picking.blending import REACH, RecordNetwork, blend, run_over, whole_tiles
from xiaonet.picking.cleaning import Samples
from xiaonet.picking.segments import Condition, Instrument, Segment
from xiaonet.picking.spans import true_spans
from xiaonet.picking.stacking import Stack
from xiaonet.picking.windows import normalize

WINDOW_STEP = 2000  # samples between the starts of two windows; a multiple of the network's stride
CHUNK = 180 * WINDOW_STEP  # samples in memory at once: an hour
WINDOW_BATCH = 8  # windows given to the network at once; more do not fit into the processor's cache
GUARD = 50  # samples beside a gap or an end of data where nothing is picked
MARGIN = 1000  # samples on either side of a chunk that its picks may look at
AROUND = WINDOW_SAMPLES + GUARD  # samples on either side of the probabilities that are kept, too, for windows around picks
NO_CONDITIONS: Mapping[str, Condition] = {}
NO_SAMPLES: Samples = np.empty((len(COMPONENTS), 0))

Network = Callable[[NDArray[np.float32]], NDArray[np.float32]]


class Annotation(NamedTuple):
    """Probabilities of samples `first` up to `end` of a segment, with the waveform and a margin around them.

    Attributes:
        first: first sample of the chunk, counted on the segment's grid.
        end: the sample after the last.
        start: first sample of the arrays below, which extend beyond the chunk on both sides.
        probabilities: `(3, samples)` of P, S and noise; NaN where there is no data.
        waveform: `(3, samples)` in E, N, Z order, in the unit of the record; NaN where there is no data.
        trusted: `(samples,)`: true where a pick may be made, far enough from gaps and ends of data.
        conditions: of the samples of each channel.
        surroundings: the waveform with `AROUND` more samples on both sides.
    """

    first: int
    end: int
    start: int
    probabilities: NDArray[np.floating]
    waveform: Samples
    trusted: NDArray[np.bool_]
    conditions: Mapping[str, Condition] = NO_CONDITIONS
    surroundings: Samples = NO_SAMPLES


class Stretch(NamedTuple):
    """Samples `first` up to `end`, covered by windows of the components `rows` between samples `low` and `high`."""

    first: int
    end: int
    low: int
    high: int
    rows: tuple[int, ...]


def chunks(segment: Segment) -> Iterator[tuple[int, int]]:
    """Sample ranges of about an hour that make up a segment, cut at fixed samples from 1970-01-01."""
    bounds = [segment.first, *range((segment.first // CHUNK + 1) * CHUNK, segment.end, CHUNK), segment.end]
    return pairwise(bounds) if segment.first < segment.end else iter(())


def annotate_chunk(
    instrument: Instrument, segment: Segment, first: int, end: int, network: Network, on_record: RecordNetwork | None = None
) -> Annotation:
    """Compute probabilities of samples `first` up to `end` of a segment and of a margin around them.

    Args:
        instrument: which instrument.
        segment: one of its segments.
        first: first sample, counted on the segment's grid.
        end: the sample after the last.
        network: gives probabilities `(batch, 3, 3001)` of P, S and noise for normalized windows `(batch, 3, 3001)`.
        on_record: gives the probabilities of a normalized record. Waveforms are then averaged where windows overlap, and
            `network` is not called.
    """
    start, stop = first - MARGIN, end + MARGIN
    low, high = (start, stop) if on_record is None else whole_tiles(start, stop)
    reach = AROUND if on_record is None else REACH
    waveform, unsafe, conditions = instrument.read(segment, low - reach, high + reach)
    has_data, offset, wanted = ~np.isnan(waveform), low - reach, slice(reach, reach + high - low)
    probabilities: NDArray[np.floating]
    if on_record is None:
        probabilities = _stacked(waveform, has_data, offset, reach, network)[:, wanted]
    else:
        record = blend(waveform, offset, wanted.start, wanted.stop)
        probabilities = run_over(record, np.asarray(has_data[:, wanted].any(axis=0)), on_record)[:, start - low : stop - low]
    inside = slice(start - offset, stop - offset)
    conditions = {seed_id: condition._replace(marks=condition.marks[inside]) for seed_id, condition in conditions.items()}
    trusted = _trusted(has_data, unsafe)[inside]
    surroundings = waveform[:, start - AROUND - offset : stop + AROUND - offset]
    return Annotation(first, end, start, probabilities, waveform[:, inside], trusted, conditions, surroundings)


def _stacked(waveform: Samples, has_data: NDArray[np.bool_], offset: int, reach: int, network: Network) -> NDArray[np.float64]:
    """Probabilities of windows, averaged where they overlap; of all samples but `reach` at both ends of the waveform."""
    stretches = find_stretches(has_data, reach, waveform.shape[1] - reach)
    windows = [(stretch, at) for stretch in stretches for at in _window_starts(stretch, offset)]
    stack = Stack(len(PHASES), waveform.shape[1])
    for group in range(0, len(windows), WINDOW_BATCH):
        batch = windows[group : group + WINDOW_BATCH]
        probabilities = network(normalize(cut_windows(waveform, batch)))
        stack.add_all(probabilities, [(at, max(at, stretch.first), min(at + WINDOW_SAMPLES, stretch.end)) for stretch, at in batch])
    return stack.mean()


def find_stretches(has_data: NDArray[np.bool_], first: int, end: int) -> list[Stretch]:
    """Cut samples `first` up to `end` where the components or their range change."""
    changes = _changes(has_data)
    spans = [true_spans(row) for row in has_data]
    bounds = [first, *changes[(changes > first) & (changes < end)].tolist(), end]
    stretches: list[Stretch] = []
    for low, high in pairwise(bounds):
        if not has_data[:, low].any():
            continue
        cover = _cover(spans, np.flatnonzero(has_data[:, low]).tolist(), low)
        if stretches and stretches[-1][2:] == cover:
            stretches[-1] = stretches[-1]._replace(end=high)
        else:
            stretches.append(Stretch(low, high, *cover))
    return stretches


def _cover(spans: list[NDArray[np.int64]], rows: list[int], sample: int) -> tuple[int, int, tuple[int, ...]]:
    """The components to use around a sample, and the range in which all of them have data.

    As many components as fill a window; if none does, those with the longest common range.
    """
    around = {row: spans[row][np.searchsorted(spans[row][:, 0], sample, side="right") - 1] for row in rows}
    choices = []
    for number in range(len(rows), 0, -1):
        for subset in combinations(rows[::-1], number):  # the vertical first
            low, high = max(around[row][0] for row in subset), min(around[row][1] for row in subset)
            choices.append((min(high - low, WINDOW_SAMPLES), int(low), int(high), subset))
            if high - low >= WINDOW_SAMPLES:
                return choices[-1][1:]
    return max(choices, key=lambda choice: choice[0])[1:]


def _window_starts(stretch: Stretch, offset: int) -> Iterator[int]:
    """First samples of the windows that cover a stretch; `offset` is the array's first sample on the grid."""
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


def cut_windows(waveform: Samples, places: Sequence[tuple[Stretch, int]]) -> Samples:
    """Cut windows `(windows, 3, 3001)` that start at samples of stretches.

    A short stretch is extended with its mean, and components that are not used are zeros.
    """
    windows = np.empty((len(places), len(COMPONENTS), WINDOW_SAMPLES))
    for window, (stretch, at) in zip(windows, places, strict=True):
        samples = min(stretch.high - at, WINDOW_SAMPLES)
        if samples == WINDOW_SAMPLES and len(stretch.rows) == len(COMPONENTS):
            window[:] = waveform[:, at : at + WINDOW_SAMPLES]
            continue
        window[:] = 0
        for row in stretch.rows:
            window[row, :samples] = waveform[row, at : at + samples]
            window[row, samples:] = window[row, :samples].mean()
    return windows


def _trusted(has_data: NDArray[np.bool_], unsafe: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Samples beyond the guard around every change from data to no data, or to an unsafe place, on any component."""
    trusted = np.asarray(has_data.any(axis=0) & ~unsafe.any(axis=0))
    for change in _changes(has_data & ~unsafe):
        trusted[max(change - GUARD, 0) : change + GUARD] = False
    return trusted


def _changes(rows: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Samples at which any of the rows differs from the sample before."""
    return np.flatnonzero((rows[:, 1:] != rows[:, :-1]).any(axis=0)) + 1
