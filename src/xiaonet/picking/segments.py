"""From whatever is in a stream or an archive to three components on one time grid at 100 Hz.

Samples lie on a grid that is counted from 1970-01-01, shifted by the fraction of a sample at which
the record itself was taken. How a record is cut into traces, files or packets cannot be seen here.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cached_property, lru_cache, partial
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from xiaonet.constants import COMPONENTS, SAMPLE_NS, SAMPLING_RATE, SECOND_NS
from xiaonet.picking.spans import true_spans
from xiaonet.picking.time_index import TimeIndex

if TYPE_CHECKING:
    from obspy import Stream

CODES: Mapping[str, str] = {"E": "E2", "N": "N1", "Z": "Z3"}  # last letters of a channel for a component, the better first
LOWEST_RATE = 20.0  # Hz: below it there is too little of a local earthquake left
BRIDGE = 10.0  # s: a shorter gap is crossed by a straight line
SMOOTH = 0.05  # s: the slip of a clock; a bridge as short as this cannot look like an onset
FLAT = 2.0  # s: a component that stands still for longer holds no data
BESIDE = 0.5  # s on either side of zeros that tell whether they belong there
JUMP = 5.0  # times the mean step beside them: zeros that far off were written into a gap
JOIN = 30 * SECOND_NS  # ns: pieces that are nearer to each other share one time grid
SLIP = 0.1  # samples that a clock may drift within a piece
MIDWAY = 487  # thousandths of a sample: not 500, or a microsecond would decide for records that are sampled midway

Samples = NDArray[np.float64]


class Piece(NamedTuple):
    """Samples of one channel without a gap.

    `load` gives them as a one-dimensional array, masked or not; it may be called more than once.
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
    """First sample and end of a channel's data in one trace or file; there may be gaps within."""

    start_ns: int
    end_ns: int


@dataclass(frozen=True)
class Grid:
    """The times of samples: sample 0 is `phase_ns` after 1970-01-01."""

    rate: Fraction
    phase_ns: int

    @classmethod
    def of(cls, start_ns: int, rate: Fraction) -> Self:
        """The grid that the sample taken at `start_ns` lies on."""
        grid = cls(rate, 0)
        return cls(rate, start_ns - grid.time_ns(grid.index(start_ns)))

    def index(self, time_ns: int) -> int:
        """The sample nearest to a time; midway, give or take what a header rounds off, the one before."""
        numerator, denominator = (time_ns - self.phase_ns) * self.rate.numerator, SECOND_NS * self.rate.denominator
        return (1000 * numerator + MIDWAY * denominator) // (1000 * denominator)

    def time_ns(self, index: int) -> int:
        """The time of a sample."""
        return self.phase_ns + round(index * SECOND_NS / self.rate)


class Segment(NamedTuple):
    """A time range that shares one grid; `first` and `end` count samples at 100 Hz."""

    grid: Grid
    first: int
    end: int

    def time_ns(self, sample: int) -> int:
        """The time of a sample at 100 Hz."""
        return self.grid.phase_ns + sample * SAMPLE_NS


@dataclass
class Instrument:
    """The components of one sensor at one place: what gets one set of picks.

    Attributes:
        name: NET.STA.LOC and the band and instrument codes, such as `CX.PB01..HH`.
        rate: Hz, as a ratio of small integers.
        find: `(seed_id, first_ns, end_ns)` to the pieces that touch that time range.
        extents: of each channel, by its last letter.
    """

    name: str
    rate: Fraction
    find: Callable[[str, int, int], Iterable[Piece]]
    extents: dict[str, list[Extent]] = field(default_factory=dict)

    @cached_property
    def channels(self) -> dict[str, str]:
        """The channel that serves as each component: `{"E": "CX.PB01..HH2", …}`."""
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
            if not groups or span[0] > latest + JOIN:
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
        """The three components from sample `first` to `end` of a segment, at 100 Hz.

        Returns:
            `(3, end - first)` samples in E, N, Z order, NaN where there are none, and of the same
            shape, what was made up to cross a short gap.
        """
        shape = (len(COMPONENTS), end - first)
        waveform, bridged = np.full(shape, np.nan), np.zeros(shape, dtype=bool)
        for row, component in enumerate(COMPONENTS):
            if component in self.channels:
                waveform[row], bridged[row] = self._component(self.channels[component], segment, first, end)
        return waveform, bridged

    def _component(self, seed_id: str, segment: Segment, first: int, end: int) -> tuple[Samples, NDArray[np.bool_]]:
        ratio = self.rate / Fraction(int(SAMPLING_RATE))  # samples of the record in a sample at 100 Hz
        if ratio == 1:
            return self._recorded(seed_id, segment.grid, first, end)
        from xiaonet.picking.resampling import REACH, resample

        margin = REACH * max(Fraction(1), ratio) + 1  # samples of the record
        low = int((first - margin / ratio) // ratio.denominator) * ratio.denominator  # where both grids meet
        samples, bridged = self._recorded(seed_id, segment.grid, int(low * ratio), int(end * ratio + margin) + 1)
        return resample(samples, bridged, ratio, first - low, end - low)

    def _recorded(self, seed_id: str, grid: Grid, first: int, end: int) -> tuple[Samples, NDArray[np.bool_]]:
        """One channel as it was recorded, on its own grid; cleaned of what is no data."""
        rate = float(self.rate)
        longest, flat, beside = int(BRIDGE * rate), int(FLAT * rate) + 1, int(BESIDE * rate)
        margin = longest + flat + beside + 1  # so that a gap, the flat stretch beside it and what is beside that are seen
        samples = np.full(end - first + 2 * margin, np.nan)
        clash = np.zeros(0, dtype=np.int64)
        filled = 0
        pieces = self.find(seed_id, grid.time_ns(first - margin), grid.time_ns(end + margin))
        for piece in sorted(pieces, key=lambda piece: (piece.start_ns, piece.samples)):
            at = grid.index(piece.start_ns) - (first - margin)
            low, high = max(at, 0), min(at + piece.samples, len(samples))
            if low >= high:
                continue
            data = _finite(piece.load()[low - at : high - at])
            target = samples[low:high]
            if low >= filled:
                target[:] = data
            else:
                clash = np.concatenate([clash, low + np.flatnonzero((target != data) & ~np.isnan(target) & ~np.isnan(data))])
                np.copyto(target, data, where=np.isnan(target))
            filled = max(filled, high)
        samples[clash] = np.nan  # where two pieces disagree, neither is believed
        samples[_flat(samples, flat) | _written(samples, beside)] = np.nan
        bridged = _bridge(samples, longest, int(SMOOTH * rate))
        inside = slice(margin, len(samples) - margin)
        return samples[inside], bridged[inside]


def sort_stream(stream: "Stream") -> tuple[list[Instrument], list[str]]:
    """The instruments of a stream by name, and what of it cannot be used, with the reason."""
    channels: dict[tuple[str, Fraction], list[Piece]] = {}
    skipped = []
    for trace in stream:
        stats = trace.stats
        reason = unusable(trace.id, stats.sampling_rate) if len(trace.data) else "no samples"  # as with `headonly=True`
        if trace.data.dtype.kind not in "biuf":
            reason = f"samples are {trace.data.dtype}; wanted real numbers"
        if reason:
            skipped.append(f"{trace.id}: {reason}")
            continue
        piece = Piece(trace.id, stats.starttime.ns, len(trace.data), stats.sampling_rate, partial(np.asanyarray, trace.data))
        channels.setdefault((trace.id, nominal_rate(stats.sampling_rate)), []).extend(steady(piece))
    indexes = {channel: TimeIndex(pieces) for channel, pieces in channels.items()}
    instruments: dict[tuple[str, Fraction], Instrument] = {}
    for seed_id, rate in sorted(channels):

        def find(seed_id: str, first_ns: int, end_ns: int, rate: Fraction = rate) -> list[Piece]:
            return indexes[seed_id, rate].find(first_ns, end_ns)

        instrument = instruments.setdefault((seed_id[:-1], rate), Instrument(seed_id[:-1], rate, find))
        instrument.extents[seed_id[-1]] = [Extent(piece.start_ns, piece.end_ns) for piece in channels[seed_id, rate]]
    return list(instruments.values()), skipped


def unusable(seed_id: str, rate: float) -> str:
    """Why a channel cannot be picked; empty if it can."""
    if seed_id.count(".") != 3:
        return "wanted a name of four codes, NET.STA.LOC.CHA, without further dots"
    code = seed_id.rpartition(".")[2]
    if not code or code[-1] not in "".join(CODES.values()):
        return f"channel code {code!r} names no component; wanted one that ends in {', '.join(''.join(CODES.values()))}"
    if not np.isfinite(rate) or nominal_rate(rate) < LOWEST_RATE:
        return f"sampled at {rate:g} Hz; wanted at least {LOWEST_RATE:g} Hz"
    return ""


@lru_cache(maxsize=256)
def nominal_rate(rate: float) -> Fraction:
    """The ratio of small integers that a rate in a header stands for: 99.9998 Hz is a drifting 100 Hz."""
    return Fraction(rate).limit_denominator(12)


def steady(piece: Piece) -> list[Piece]:
    """Cut a piece whose clock drifts against its nominal rate, so that each part starts on time."""
    drift = abs(piece.rate / float(nominal_rate(piece.rate)) - 1)
    if drift * piece.samples < SLIP:
        return [piece]
    length = max(1, int(SLIP / drift))

    def part(first: int) -> Piece:
        last = min(first + length, piece.samples)
        return Piece(
            piece.seed_id,
            piece.start_ns + round(first * SECOND_NS / piece.rate),
            last - first,
            piece.rate,
            lambda: piece.load()[first:last],
        )

    return [part(first) for first in range(0, piece.samples, length)]


def _finite(data: NDArray[Any]) -> Samples:
    """Real samples, NaN where they are masked or not finite."""
    values = np.ma.filled(data.astype(np.float64), np.nan) if np.ma.isMaskedArray(data) else data.astype(np.float64)
    if data.dtype.kind == "f":
        values[~np.isfinite(values)] = np.nan
    return values


def _flat(samples: Samples, length: int) -> NDArray[np.bool_]:
    """Samples within a stretch of more than `length` equal ones."""
    flat = np.zeros(len(samples), dtype=bool)
    few = samples[:: max(length // 8, 1)]
    steps = min(length, 7)  # of these lie in such a stretch at least, which is seldom so by chance
    if len(few) <= steps or np.convolve(few[1:] == few[:-1], np.ones(steps), "valid").max() < steps:
        return flat
    spans = true_spans(samples[1:] == samples[:-1])
    for low, high in spans[spans[:, 1] - spans[:, 0] >= length]:
        flat[low : high + 1] = True
    return flat


def _written(samples: Samples, beside: int) -> NDArray[np.bool_]:
    """Zeros that begin and end with a jump, far larger than the steps of `beside` samples on either side."""

    def steps(at: NDArray[np.int64]) -> Samples:
        return np.abs(samples[at + 1] - samples[at])

    low, high = true_spans(samples == 0).T
    near = np.arange(1, beside + 1)
    inside = (low > beside) & (high < len(samples) - beside)
    low, high = low[inside], high[inside]
    jump = np.minimum(steps(low - 1), steps(high - 1))
    for next_to in near[:3]:  # spares most crossings of zero what follows
        larger = ~(jump <= steps(low - 1 - next_to)) & ~(jump <= steps(high - 1 + next_to))
        low, high, jump = low[larger], high[larger], jump[larger]
    around = steps(np.concatenate([low - 1 - near[:, None], high - 1 + near[:, None]]))
    moves = (around > 0).sum(axis=0)
    apart = (moves > beside) & (jump * moves > JUMP * np.nansum(around, axis=0))
    written = np.zeros(len(samples), dtype=bool)
    for first, end in zip(low[apart], high[apart], strict=True):
        written[first:end] = True
    return written


def _bridge(samples: Samples, longest: int, smooth: int) -> NDArray[np.bool_]:
    """Cross gaps of up to `longest` samples by straight lines, in place; tell where, if over `smooth`."""
    bridged = np.zeros(len(samples), dtype=bool)
    data = true_spans(~np.isnan(samples))
    for low, high in zip(data[:-1, 1], data[1:, 0], strict=True):  # gaps lie between data
        if high - low <= longest:
            bridged[low:high] = high - low > smooth
            samples[low:high] = np.interp(np.arange(low, high), (low - 1, high), (samples[low - 1], samples[high]))
    return bridged
