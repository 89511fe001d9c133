"""Turn a stream or an archive into three components on one time grid at 100 Hz.

An `Instrument` is what gets one set of picks: the components of one sensor at one place. Its data are
split into `Segment`s at gaps of more than 30 s. All components of a segment share one time grid. The grid
is counted from 1970-01-01 and shifted by the fraction of a sample at which the record was taken. So the
result does not depend on how the record was cut into traces, files or packets.

A segment is read in parts of any length with `Instrument.waveform`. It collects the pieces of each
channel, cleans them (see `cleaning`) and resamples them (see `resampling`).
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cached_property, lru_cache, partial
from itertools import groupby
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from xiaonet.constants import COMPONENTS, SAMPLE_NS, SAMPLING_RATE, SECOND_NS
from xiaonet.errors import WaveformError
from xiaonet.extras import import_for
from xiaonet.picking.channels import NO_COMPONENTS, place, why_no_component
from xiaonet.picking.cleaning import DISPUTED, JOINED, SMOOTH, UNSAFE, Marks, Samples, clean, cleaning_reach, extremes, to_float
from xiaonet.picking.time_index import TimeIndex

if TYPE_CHECKING:
    from obspy import Stream, Trace

LOWEST_RATE = 20.0  # Hz: below, too little of a local earthquake is left
HIGHEST_RATE = 5000.0  # Hz: above, the header is wrong, and an hour would need gigabytes of memory
LONGEST_GAP_NS = 30 * SECOND_NS  # within a segment
SLIP = 0.1  # samples that a clock may drift within a piece
APART = 0.15  # samples between two copies of a record that show that their times differ; drift and rounding in headers stay below
MIDWAY = 487  # thousandths of a sample; not 500, or a microsecond would decide for records sampled midway

Channel = tuple[str, Fraction]  # NET.STA.LOC.CHA and nominal rate in Hz


class Piece(NamedTuple):
    """Samples of one channel without a gap.

    `load` returns them as a one-dimensional array, masked or not. It may be called more than once. Where two pieces disagree, the
    one with the lower `rank` is used: the length of the record without a gap that it is part of, negative, and its place in
    the order of reading. So the longer record wins, and of two as long the one that was read first.
    """

    seed_id: str
    start_ns: int
    samples: int
    rate: float
    load: Callable[[], NDArray[Any]]
    rank: tuple[int, ...] = ()

    @property
    def end_ns(self) -> int:
        """Time of the sample that would follow."""
        return self.start_ns + round(self.samples * SECOND_NS / self.rate)


@dataclass(frozen=True)
class Grid:
    """The times of samples. Sample 0 is `phase_ns` after 1970-01-01."""

    rate: Fraction
    phase_ns: int

    @classmethod
    def of(cls, start_ns: int, rate: Fraction) -> Self:
        """The grid that includes a sample at `start_ns`."""
        grid = cls(rate, 0)
        return cls(rate, start_ns - grid.time_ns(grid.index(start_ns)))

    def index(self, time_ns: int) -> int:
        """The sample nearest to a time; the earlier one if the time is midway, allowing for rounding in headers."""
        numerator, denominator = (time_ns - self.phase_ns) * self.rate.numerator, SECOND_NS * self.rate.denominator
        return (1000 * numerator + MIDWAY * denominator) // (1000 * denominator)

    def time_ns(self, index: int) -> int:
        """The time of a sample."""
        return self.phase_ns + round(index * SECOND_NS / self.rate)

    def lateness(self, time_ns: int) -> float:
        """Samples by which a time is later than the sample nearest to it."""
        return (time_ns - self.time_ns(self.index(time_ns))) * float(self.rate) / SECOND_NS


class Segment(NamedTuple):
    """A time range that shares one grid. `first` and `end` count samples at 100 Hz."""

    grid: Grid
    first: int
    end: int

    def time_ns(self, sample: int) -> int:
        """The time of a sample at 100 Hz."""
        return self.grid.phase_ns + sample * SAMPLE_NS


class Condition(NamedTuple):
    """What was done to the samples of a channel.

    Attributes:
        marks: `(samples,)` at 100 Hz, as in `cleaning`.
        low: lowest sample as it was recorded; infinite if there is none.
        high: highest sample.
    """

    marks: Marks
    low: float
    high: float


class Reading(NamedTuple):
    """A part of a record at 100 Hz.

    Attributes:
        waveform: `(3, samples)` in E, N, Z order, in the unit of the record; NaN where there is no data.
        unsafe: `(3, samples)`, true where a gap was bridged or two pieces were joined that disagree.
        conditions: of each channel.
    """

    waveform: Samples
    unsafe: NDArray[np.bool_]
    conditions: dict[str, Condition]


@dataclass
class Instrument:
    """The components of one sensor at one place, which get one set of picks.

    Attributes:
        name: NET.STA.LOC and the band and instrument codes, such as `CX.PB01..HH`.
        rate: Hz, as a ratio of small integers. Some components may have another rate.
        find: `(channel, first_ns, end_ns)` to the pieces that touch that time range.
        recorded: the channels of each component, preferred ones first, and the time ranges of their data.
    """

    name: str
    rate: Fraction
    find: Callable[[Channel, int, int], Iterable[Piece]]
    recorded: dict[str, dict[Channel, TimeIndex[Any]]] = field(default_factory=dict)

    @cached_property
    def channels(self) -> dict[str, str]:
        """The preferred channel of each component: `{"E": "CX.PB01..HH2", …}`."""
        return {component: next(iter(self.recorded[component]))[0] for component in COMPONENTS if component in self.recorded}

    @cached_property
    def segments(self) -> list[Segment]:
        """Time ranges without a long gap, in order. The vertical sets the grid, or else N, or else E."""
        spans = sorted(
            (extent.start_ns, extent.end_ns, order, rate)
            for order, component in enumerate(reversed(COMPONENTS))
            for (_, rate), index in self.recorded.get(component, {}).items()
            for extent in index.pieces
        )
        groups: list[list[tuple[int, int, int, Fraction]]] = []
        latest = 0
        for span in spans:
            if not groups or span[0] > latest + LONGEST_GAP_NS:
                groups.append([])
            latest = max(latest, span[1]) if groups[-1] else span[1]
            groups[-1].append(span)
        return [_segment(group) for group in groups]

    def waveform(self, segment: Segment, first: int, end: int) -> tuple[Samples, NDArray[np.bool_]]:
        """The samples and the unsafe places of `read`."""
        reading = self.read(segment, first, end)
        return reading.waveform, reading.unsafe

    def read(self, segment: Segment, first: int, end: int) -> Reading:
        """Read the three components of a segment from sample `first` up to `end`, at 100 Hz.

        Where the preferred channel of a component has no data, another one takes its place, after a gap of a sample.
        """
        shape = (len(COMPONENTS), end - first)
        waveform, unsafe = np.empty(shape), np.zeros(shape, dtype=bool)
        conditions = {}
        for row, component in enumerate(COMPONENTS):
            waiting = True
            for channel, index in self.recorded.get(component, {}).items():
                start_ns = first_time(index, segment)
                if start_ns is None:
                    continue
                samples, condition = self._component(channel, segment, start_ns, first, end)
                conditions[channel[0]] = condition
                uncertain = condition.marks & UNSAFE > 0
                if waiting or (empty := np.isnan(waveform[row])).all():
                    waveform[row], unsafe[row], waiting = samples, uncertain, False
                else:
                    waveform[row, empty], unsafe[row, empty] = samples[empty], uncertain[empty]
                    waveform[row, 1:][empty[1:] != empty[:-1]] = np.nan
            if waiting:
                waveform[row] = np.nan
        if unsafe.any():
            unsafe &= ~np.isnan(waveform)
        return Reading(waveform, unsafe, conditions)

    def _component(self, channel: Channel, segment: Segment, start_ns: int, first: int, end: int) -> tuple[Samples, Condition]:
        """One channel at 100 Hz. A sample of it, at `start_ns`, is moved to the nearest sample of the segment."""
        _, rate = channel
        ratio = rate / Fraction(int(SAMPLING_RATE))  # recorded samples per sample at 100 Hz
        if ratio == 1:
            return self._cleaned(channel, Grid(rate, segment.grid.phase_ns), first, end)
        from xiaonet.picking.resampling import REACH, nearest, resample

        shift = Grid(Fraction(int(SAMPLING_RATE)), segment.grid.phase_ns).index(Grid.of(start_ns, rate).phase_ns)
        grid, first, end = Grid(rate, segment.time_ns(shift)), first - shift, end - shift
        margin = REACH * max(Fraction(1), ratio) + 1  # recorded samples
        low = int((first - margin / ratio) // ratio.denominator) * ratio.denominator  # where both grids meet
        samples, condition = self._cleaned(channel, grid, int(low * ratio), int(end * ratio + margin) + 1)
        output, _ = resample(samples, condition.marks & UNSAFE > 0, ratio, first - low, end - low)
        return output, condition._replace(marks=nearest(condition.marks, ratio, first - low, end - low))

    def _cleaned(self, channel: Channel, grid: Grid, first: int, end: int) -> tuple[Samples, Condition]:
        """One channel at its own rate, cleaned."""
        rate = float(grid.rate)
        margin = cleaning_reach(rate)
        samples, marks = self._recorded(channel, grid, first - margin, end + margin)
        inside = slice(margin, len(samples) - margin)
        low, high = extremes(samples[inside])
        marks |= clean(samples, rate)
        return samples[inside], Condition(marks[inside], low, high)

    def _recorded(self, channel: Channel, grid: Grid, first: int, end: int) -> tuple[Samples, Marks]:
        """One channel as it was recorded, NaN in gaps; and where pieces disagree.

        Pieces that overlap by up to `SMOOTH` show that a clock was set. Where they disagree, neither is used. Pieces with the same
        samples disagree about the time if they are more than `APART` of a sample apart.
        """
        samples, marks = np.full(end - first, np.nan), np.zeros(end - first, dtype=np.uint8)
        placed: list[tuple[int, int, float]] = []  # pieces, and by how many samples each is later than the grid
        joins: list[int] = []
        slips: list[int] = []
        smooth, latest = int(SMOOTH * grid.rate), 0  # no sample from `latest` on is filled yet
        for piece in sorted(self.find(channel, grid.time_ns(first), grid.time_ns(end)), key=lambda piece: (piece.rank, piece.start_ns)):
            at = grid.index(piece.start_ns) - first
            low, high = max(at, 0), min(at + piece.samples, len(samples))
            if low >= high:
                continue
            data, target, late = piece.load()[low - at : high - at], samples[low:high], grid.lateness(piece.start_ns)
            placed.append((low, high, late))
            if low >= latest or (empty := np.isnan(target)).all():
                to_float(data, target)
                latest = max(latest, high)
                continue
            data, latest = to_float(data), max(latest, high)
            shared = ~empty & ~np.isnan(data)
            differs = shared & (target != data)
            target[empty] = data[empty]
            if shared.sum() <= smooth:
                slips += (low + np.flatnonzero(differs)).tolist()
            else:
                moved = shared & (np.abs(_lateness(placed, low, high) - late) > APART)
                marks[low:high] |= DISPUTED * (differs | moved).astype(np.uint8)
                joins += (low + 1 + np.flatnonzero((empty[1:] & differs[:-1]) | (differs[1:] & empty[:-1]))).tolist()
        for join in joins:
            marks[max(join - 1 - smooth, 0) : join + 1 + smooth] |= JOINED
        samples[slips] = np.nan
        return samples, marks


def _lateness(placed: list[tuple[int, int, float]], low: int, high: int) -> Samples:
    """The lateness of the first piece that was placed at each sample of a range."""
    found = np.zeros(high - low)
    for first, end, late in reversed(placed):
        found[max(first - low, 0) : max(end - low, 0)] = late
    return found


def _segment(spans: list[tuple[int, int, int, Fraction]]) -> Segment:
    """The segment of spans `(start_ns, end_ns, order, rate)`; the earliest span of the lowest order sets the grid."""
    _, reference_ns, rate = min((order, start_ns, rate) for start_ns, _, order, rate in spans)
    grid = Grid.of(reference_ns, rate)
    first, end = min(start for start, *_ in spans), max(end for _, end, *_ in spans)
    return Segment(grid, (first - grid.phase_ns) // SAMPLE_NS, -((grid.phase_ns - end) // SAMPLE_NS))


def first_time(index: TimeIndex[Any], segment: Segment) -> int | None:
    """The time of the first sample of a channel in a segment; None if it has none there."""
    first_ns, end_ns = segment.time_ns(segment.first), segment.time_ns(segment.end)
    return next((extent.start_ns for extent in index.find(first_ns, end_ns)), None)


def sort_stream(stream: "Stream | Trace", components: Mapping[str, str] = NO_COMPONENTS) -> tuple[list[Instrument], list[str]]:
    """Sort the traces of a stream into instruments.

    Args:
        stream: an ObsPy stream, or a trace.
        components: channel codes that the user gives for components.

    Returns:
        The instruments by name; and for each trace that cannot be used, its name and the reason.

    Raises:
        WaveformError: this is neither a stream nor a trace nor a list of traces.
    """
    Trace = import_for("picking a stream", "obspy").Trace  # noqa: N806
    traces = list(stream) if isinstance(stream, Iterable) and not isinstance(stream, Trace) else [stream]
    if wrong := [type(trace).__name__ for trace in traces if not isinstance(trace, Trace)]:
        kind = f"{type(stream).__name__} of {wrong[0]}" if isinstance(stream, Iterable) else wrong[0]
        raise WaveformError(f"the type of stream is {kind}; wanted an obspy.Stream or an obspy.Trace, e.g. obspy.read('file.mseed')")
    channels: dict[Channel, list[Piece]] = {}
    skipped = []
    for number, trace in enumerate(traces):
        if reason := why_unusable_trace(trace, components):
            skipped.append(f"{trace.id}: {reason}")
            continue
        stats = trace.stats
        load = partial(np.asanyarray, trace.data)
        piece = Piece(trace.id, stats.starttime.ns, len(trace.data), stats.sampling_rate, load, (-len(trace.data), number))
        channels.setdefault((trace.id, nominal_rate(stats.sampling_rate)), []).extend(split_drifting(piece))
    indexes = {channel: TimeIndex(pieces) for channel, pieces in channels.items()}
    instruments, spare = build_instruments(indexes, lambda channel, first_ns, end_ns: indexes[channel].find(first_ns, end_ns), components)
    return instruments, skipped + spare


def build_instruments(
    indexes: Mapping[Channel, TimeIndex[Any]], find: Callable[[Channel, int, int], Iterable[Piece]], components: Mapping[str, str]
) -> tuple[list[Instrument], list[str]]:
    """Group channels into instruments.

    Components at different rates make one instrument. A component at two rates makes two.

    Args:
        indexes: the time ranges of each channel.
        find: gives each instrument its pieces.
        components: channel codes that the user gives for components.

    Returns:
        The instruments by name; and each channel that only fills the gaps of another one, with the reason.
    """
    names = {seed_id for seed_id, _ in indexes}
    places = {channel: found for channel in indexes if (found := place(channel[0], components, names))}
    length = {channel: sum(piece.end_ns - piece.start_ns for piece in index.pieces) for channel, index in indexes.items()}
    instruments: list[Instrument] = []
    spare = []
    for name, group in groupby(sorted(places, key=places.__getitem__), key=lambda channel: places[channel].instrument):
        channels = list(group)
        longest = {rate: max(length[other] for other in channels if other[1] == rate) for _, rate in channels}
        fitting: list[Instrument] = []
        for channel in sorted(channels, key=lambda channel: (-longest[channel[1]], -channel[1])):
            component, (seed_id, rate) = places[channel].component, channel
            instrument = next((one for one in fitting if {other for _, other in one.recorded.get(component, {})} <= {rate}), None)
            if instrument is None:
                instrument = Instrument(name, rate, find)
                fitting.append(instrument)
            rivals = instrument.recorded.setdefault(component, {})
            if rivals:
                spare.append(f"{seed_id}: used only where {next(iter(rivals))[0]} has no data")
            rivals[channel] = indexes[channel]
        instruments += sorted(fitting, key=lambda instrument: instrument.rate)
    return instruments, spare


def why_unusable_trace(trace: "Trace", components: Mapping[str, str]) -> str:
    """Why a trace cannot be picked; empty if it can."""
    if trace.data.dtype.kind not in "biuf":
        return f"samples are {trace.data.dtype}; wanted real numbers"
    return why_unusable(trace.id, trace.stats.sampling_rate, components) if len(trace.data) else "no samples"  # as with `headonly=True`


def why_unusable(seed_id: str, rate: float, components: Mapping[str, str] = NO_COMPONENTS) -> str:
    """Why a channel cannot be picked; empty if it can."""
    if reason := why_no_component(seed_id, components):
        return reason
    if not np.isfinite(rate) or nominal_rate(rate) < LOWEST_RATE:
        return f"sampled at {rate:g} Hz; wanted at least {LOWEST_RATE:g} Hz"
    if rate > HIGHEST_RATE:
        return f"sampled at {rate:g} Hz; wanted at most {HIGHEST_RATE:g} Hz"
    return ""


@lru_cache(maxsize=256)
def nominal_rate(rate: float) -> Fraction:
    """The ratio of small integers that a rate in a header stands for: 99.9998 Hz is a drifting 100 Hz."""
    return Fraction(rate).limit_denominator(12)


def split_drifting(piece: Piece) -> list[Piece]:
    """Cut a piece whose clock drifts against its nominal rate, so that each part starts on time."""
    drift = abs(piece.rate / float(nominal_rate(piece.rate)) - 1)
    if drift * piece.samples < SLIP:
        return [piece]
    length = max(1, int(SLIP / drift))

    def part(first: int) -> Piece:
        last = min(first + length, piece.samples)
        start_ns = piece.start_ns + round(first * SECOND_NS / piece.rate)
        return piece._replace(start_ns=start_ns, samples=last - first, load=lambda: piece.load()[first:last])

    return [part(first) for first in range(0, piece.samples, length)]
