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
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from xiaonet.constants import COMPONENTS, SAMPLE_NS, SAMPLING_RATE, SECOND_NS
from xiaonet.errors import WaveformError
from xiaonet.picking.cleaning import Samples, clean, cleaning_reach, to_float
from xiaonet.picking.time_index import TimeIndex

if TYPE_CHECKING:
    from obspy import Stream, Trace

CODES: Mapping[str, str] = {"E": "E2", "N": "N1", "Z": "Z3"}  # last letters of the channels of a component, preferred ones first
LOWEST_RATE = 20.0  # Hz: below, too little of a local earthquake is left
HIGHEST_RATE = 1e6  # Hz: above, the header is wrong
LONGEST_GAP_NS = 30 * SECOND_NS  # within a segment
SLIP = 0.1  # samples that a clock may drift within a piece
MIDWAY = 487  # thousandths of a sample; not 500, or a microsecond would decide for records sampled midway

Channel = tuple[str, Fraction]  # NET.STA.LOC.CHA and nominal rate in Hz


class Piece(NamedTuple):
    """Samples of one channel without a gap.

    `load` returns them as a one-dimensional array, masked or not. It may be called more than once.
    """

    seed_id: str
    start_ns: int
    samples: int
    rate: float
    load: Callable[[], NDArray[Any]]

    @property
    def end_ns(self) -> int:
        """Time of the sample that would follow."""
        return self.start_ns + round(self.samples * SECOND_NS / self.rate)


class Extent(NamedTuple):
    """Time range of a channel's data in one trace or file, which may have gaps."""

    start_ns: int
    end_ns: int


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


class Segment(NamedTuple):
    """A time range that shares one grid. `first` and `end` count samples at 100 Hz."""

    grid: Grid
    first: int
    end: int

    def time_ns(self, sample: int) -> int:
        """The time of a sample at 100 Hz."""
        return self.grid.phase_ns + sample * SAMPLE_NS


@dataclass
class Instrument:
    """The components of one sensor at one place, which get one set of picks.

    Attributes:
        name: NET.STA.LOC and the band and instrument codes, such as `CX.PB01..HH`.
        rate: Hz, as a ratio of small integers.
        find: `(channel, first_ns, end_ns)` to the pieces that touch that time range.
        extents: of each channel, by its last letter.
    """

    name: str
    rate: Fraction
    find: Callable[[Channel, int, int], Iterable[Piece]]
    extents: dict[str, list[Extent]] = field(default_factory=dict)

    @cached_property
    def channels(self) -> dict[str, str]:
        """The channel that is used for each component: `{"E": "CX.PB01..HH2", …}`."""
        chosen = {component: next((code for code in CODES[component] if code in self.extents), "") for component in COMPONENTS}
        return {component: self.name + code for component, code in chosen.items() if code}

    @cached_property
    def segments(self) -> list[Segment]:
        """Time ranges without a long gap, in order. The vertical sets the grid, or else N, or else E."""
        spans = sorted(
            (extent.start_ns, extent.end_ns, order, extent.start_ns)
            for order, component in enumerate(reversed(COMPONENTS))
            if component in self.channels
            for extent in self.extents[self.channels[component][-1]]
        )
        groups: list[list[tuple[int, int, int, int]]] = []
        latest = 0
        for span in spans:
            if not groups or span[0] > latest + LONGEST_GAP_NS:
                groups.append([])
            latest = max(latest, span[1]) if groups[-1] else span[1]
            groups[-1].append(span)
        return [self._segment(group) for group in groups]

    def _segment(self, spans: list[tuple[int, int, int, int]]) -> Segment:
        _, reference = min((order, start) for _, _, order, start in spans)
        grid = Grid.of(reference, self.rate)
        first, end = min(start for start, *_ in spans), max(end for _, end, *_ in spans)
        return Segment(grid, (first - grid.phase_ns) // SAMPLE_NS, -((grid.phase_ns - end) // SAMPLE_NS))

    def waveform(self, segment: Segment, first: int, end: int) -> tuple[Samples, NDArray[np.bool_]]:
        """Read the three components of a segment from sample `first` up to `end`, at 100 Hz.

        Returns:
            `(3, end - first)` samples in E, N, Z order, in the unit of the record, NaN where there is no
            data; and of the same shape, true where a gap was bridged.
        """
        shape = (len(COMPONENTS), end - first)
        waveform, bridged = np.full(shape, np.nan), np.zeros(shape, dtype=bool)
        for row, component in enumerate(COMPONENTS):
            if component in self.channels:
                waveform[row], bridged[row] = self._component(self.channels[component], segment.grid, first, end)
        return waveform, bridged

    def _component(self, seed_id: str, grid: Grid, first: int, end: int) -> tuple[Samples, NDArray[np.bool_]]:
        """One channel at 100 Hz."""
        ratio = self.rate / Fraction(int(SAMPLING_RATE))  # recorded samples per sample at 100 Hz
        if ratio == 1:
            return self._cleaned(seed_id, grid, first, end)
        from xiaonet.picking.resampling import REACH, resample

        margin = REACH * max(Fraction(1), ratio) + 1  # recorded samples
        low = int((first - margin / ratio) // ratio.denominator) * ratio.denominator  # where both grids meet
        samples, bridged = self._cleaned(seed_id, grid, int(low * ratio), int(end * ratio + margin) + 1)
        return resample(samples, bridged, ratio, first - low, end - low)

    def _cleaned(self, seed_id: str, grid: Grid, first: int, end: int) -> tuple[Samples, NDArray[np.bool_]]:
        """One channel at its own rate, cleaned; and where a gap was bridged."""
        margin = cleaning_reach(float(self.rate))
        samples = self._recorded(seed_id, grid, first - margin, end + margin)
        bridged = clean(samples, float(self.rate))
        inside = slice(margin, len(samples) - margin)
        return samples[inside], bridged[inside]

    def _recorded(self, seed_id: str, grid: Grid, first: int, end: int) -> Samples:
        """One channel as it was recorded; NaN in gaps and where two pieces disagree."""
        samples = np.full(end - first, np.nan)
        clash = np.zeros(0, dtype=np.int64)
        filled = 0
        pieces = self.find((seed_id, self.rate), grid.time_ns(first), grid.time_ns(end))
        for piece in sorted(pieces, key=lambda piece: (piece.start_ns, piece.samples)):
            at = grid.index(piece.start_ns) - first
            low, high = max(at, 0), min(at + piece.samples, len(samples))
            if low >= high:
                continue
            data = to_float(piece.load()[low - at : high - at])
            target = samples[low:high]
            if low >= filled:
                target[:] = data
            else:
                clash = np.concatenate([clash, low + np.flatnonzero((target != data) & ~np.isnan(target) & ~np.isnan(data))])
                np.copyto(target, data, where=np.isnan(target))
            filled = max(filled, high)
        samples[clash] = np.nan
        return samples


def sort_stream(stream: "Stream | Trace") -> tuple[list[Instrument], list[str]]:
    """Sort the traces of a stream into instruments.

    Returns:
        The instruments by name; and for each trace that cannot be used, its name and the reason.

    Raises:
        WaveformError: this is neither a stream nor a trace nor a list of traces.
    """
    from obspy import Trace

    traces = list(stream) if isinstance(stream, Iterable) and not isinstance(stream, Trace) else [stream]
    if wrong := [type(trace).__name__ for trace in traces if not isinstance(trace, Trace)]:
        kind = f"{type(stream).__name__} of {wrong[0]}" if isinstance(stream, Iterable) else wrong[0]
        raise WaveformError(f"the type of stream is {kind}; wanted an obspy.Stream or an obspy.Trace, e.g. obspy.read('file.mseed')")
    channels: dict[Channel, list[Piece]] = {}
    skipped = []
    for trace in traces:
        stats = trace.stats
        reason = why_unusable(trace.id, stats.sampling_rate) if len(trace.data) else "no samples"  # as with `headonly=True`
        if trace.data.dtype.kind not in "biuf":
            reason = f"samples are {trace.data.dtype}; wanted real numbers"
        if reason:
            skipped.append(f"{trace.id}: {reason}")
            continue
        piece = Piece(trace.id, stats.starttime.ns, len(trace.data), stats.sampling_rate, partial(np.asanyarray, trace.data))
        channels.setdefault((trace.id, nominal_rate(stats.sampling_rate)), []).extend(split_drifting(piece))
    indexes = {channel: TimeIndex(pieces) for channel, pieces in channels.items()}
    return build_instruments(indexes, lambda channel, first_ns, end_ns: indexes[channel].find(first_ns, end_ns)), skipped


def build_instruments(indexes: Mapping[Channel, TimeIndex[Any]], find: Callable[[Channel, int, int], Iterable[Piece]]) -> list[Instrument]:
    """Group channels into instruments, by name.

    Args:
        indexes: the time ranges of each channel.
        find: gives each instrument its pieces.
    """
    instruments: dict[Channel, Instrument] = {}
    for seed_id, rate in sorted(indexes):
        name = seed_id[:-1]
        instrument = instruments.setdefault((name, rate), Instrument(name, rate, find))
        instrument.extents[seed_id[-1]] = [Extent(piece.start_ns, piece.end_ns) for piece in indexes[seed_id, rate].pieces]
    return list(instruments.values())


def why_unusable(seed_id: str, rate: float) -> str:
    """Why a channel cannot be picked; empty if it can."""
    if seed_id.count(".") != 3:
        return "wanted a name NET.STA.LOC.CHA with three dots"
    code, letters = seed_id.rpartition(".")[2], "".join(CODES.values())
    if not code or code[-1] not in letters:
        return f"channel code {code!r} has no component; wanted a code that ends in {', '.join(letters)}"
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
