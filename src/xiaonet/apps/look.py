"""A page for the browser that shows a day of each instrument with its picks.

The page is one file: `look.html` with the data in place of a mark. The data of an instrument are parts. A part is an
hour of the envelope, with the lowest and the highest sample of each half second, or all samples around some picks.

Parts are kept in a byte a value. In each block of 256 values, a value is stored as the signed square root of its share
of the largest one. So the noise before an onset keeps its shape beside a large amplitude.
"""

import base64
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from importlib.resources import files
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from xiaonet import __version__
from xiaonet.constants import COMPONENTS, SAMPLE_NS, SAMPLING_RATE, SECOND_NS
from xiaonet.errors import ConfigError, WaveformError
from xiaonet.files import write_atomically
from xiaonet.io.archive import Archive, OnFiles
from xiaonet.picking.annotation import chunks
from xiaonet.picking.channels import NO_COMPONENTS, instrument_name
from xiaonet.picking.picks import Pick
from xiaonet.picking.segments import Instrument, Segment
from xiaonet.picking.spans import true_spans

SHOWN = "ZNE"  # components from top to bottom
STEP = 50  # samples for each value of the envelope
AROUND = 1200  # samples shown in full on either side of a pick
BLOCK = 256  # values on one scale
LEVELS = 127
NO_DATA = -128
CORNER = 1.0  # Hz, of the high-pass filter
LEAD = 1000  # samples in which the filter settles
DATA_MARK = "/*data*/"

OnDone = Callable[[float], object]


class DayView(NamedTuple):
    """A day of an instrument: the parts of its segments on that day, and its picks in order."""

    instrument: Instrument
    segments: list[Segment]
    picks: list[Pick]


@dataclass(frozen=True)
class Look:
    """What a page shows.

    Attributes:
        day: UTC.
        archive: the records.
        views: of the instruments that have data or picks on that day.
        without_record: number of picks of the day without a record, by instrument.
    """

    day: date
    archive: Archive
    views: list[DayView]
    without_record: dict[str, int]

    @property
    def seconds(self) -> float:
        """Length of all records."""
        return sum(segment.end - segment.first for view in self.views for segment in view.segments) / SAMPLING_RATE


class DayPart(NamedTuple):
    """Values of an instrument at equal steps.

    Attributes:
        start_s: time of the first value, in seconds of the day.
        step_s: between two values.
        values: `(rows, values)`; a row for each component, or the lowest and the highest sample of each.
    """

    start_s: float
    step_s: float
    values: NDArray[np.float64]


def choose_day(picks: Iterable[Pick]) -> date:
    """The day with most picks.

    Raises:
        ConfigError: there are no picks.
    """
    numbers = Counter(_date_of(pick) for pick in picks)
    if not numbers:
        raise ConfigError("there are no picks to look at, of the chosen stations; choose others, or a day with --day")
    return max(sorted(numbers), key=numbers.__getitem__)


def find_views(
    picks: Sequence[Pick],
    paths: Sequence[str | Path],
    day: date,
    stations: Sequence[str] = (),
    components: Mapping[str, str] = NO_COMPONENTS,
    prefer: str | Sequence[str] = (),
    on_progress: OnFiles = lambda done, total: None,
) -> Look:
    """Find the records of a day and sort its picks to them.

    Args:
        picks: of any day.
        paths: of the records, as in `Archive`.
        day: UTC.
        stations: to show, as in `Archive`.
        components: as in `Archive`.
        prefer: as in `Archive`.
        on_progress: as in `Archive`.

    Raises:
        WaveformError: there are no records of that day.
    """
    start_ns = _midnight_ns(day)
    archive = Archive(paths, start_ns, start_ns + 86400 * SECOND_NS, stations, components, prefer, on_progress)
    views = []
    left = [pick for pick in picks if _date_of(pick) == day]
    for instrument in archive.instruments:
        segments = [part for part in map(archive.within, instrument.segments) if part.end > part.first]
        own = {pick for pick in left if _is_of(pick, instrument, segments)}
        left = [pick for pick in left if pick not in own]
        if segments:
            views.append(DayView(instrument, segments, sorted(own)))
    if not views:
        reasons = "".join(f"; {problem}" for problem in list(archive.problems)[:3])
        raise WaveformError(
            f"there is no record of {day} in {', '.join(map(str, paths))}{reasons}; choose another folder, --day or --stations"
        )
    return Look(day, archive, views, dict(Counter(instrument_name(pick.seed_id, components) for pick in left)))


def write_page(look: Look, out: Path, source: str, on_progress: OnDone = lambda seconds: None) -> None:
    """Write the page.

    Args:
        look: what it shows.
        out: replaced when the page is complete.
        source: where the picks are from, for the heading.
        on_progress: called when seconds of data are done.

    Raises:
        OutputError: the page cannot be written.
    """
    before, after = files("xiaonet.apps").joinpath("look.html").read_text(encoding="utf-8").split(DATA_MARK)
    heading = {
        "day": look.day.isoformat(),
        "start_s": _midnight_ns(look.day) // SECOND_NS,
        "source": source,
        "xiaonet": __version__,
        "corner_hz": CORNER,
        "block": BLOCK,
        "levels": LEVELS,
        "no_data": NO_DATA,
    }

    def write(file: Any) -> None:
        file.write(f'{before}{_to_json(heading)[:-1]}, "instruments": ['.encode())
        for number, view in enumerate(look.views):
            content = _to_json(_content(view, look.day, on_progress))
            file.write(f"{',' * (number > 0)}\n{content}".encode())
        file.write(f"]}}{after}".encode())

    write_atomically(out, write)


def _content(view: DayView, day: date, on_progress: OnDone) -> dict[str, Any]:
    """A day of an instrument for the page."""
    instrument, start_ns = view.instrument, _midnight_ns(day)
    parts, scales, levels = [], [], []
    for part in _parts(view, start_ns, on_progress):
        scale, level = encode(part.values)
        parts.append([part.start_s, part.step_s, part.values.shape[1]])
        scales.append(scale.ravel())
        levels.append(level.ravel())
    return {
        "name": instrument.name,
        "rate": float(instrument.rate),
        "channels": [instrument.channels[component] for component in _recorded(instrument)],
        "picks": [_pick_values(pick, start_ns) for pick in view.picks],
        "parts": parts,
        "scales": _packed(np.concatenate(scales).astype("<f4").tobytes()),
        "levels": _packed(np.concatenate(levels).tobytes()),
    }


def _parts(view: DayView, start_ns: int, on_progress: OnDone) -> Iterator[DayPart]:
    """The envelope of each hour, then all samples around the picks."""
    for segment in view.segments:
        for first, end in chunks(segment):
            values = _envelope(_read(view.instrument, segment, first, end))
            yield DayPart((segment.time_ns(first) - start_ns) / SECOND_NS, STEP / SAMPLING_RATE, values)
            on_progress((end - first) / SAMPLING_RATE)
    for segment in view.segments:
        for first, end in _near(view.picks, segment):
            samples = _read(view.instrument, segment, first, end)
            yield DayPart((segment.time_ns(first) - start_ns) / SECOND_NS, 1 / SAMPLING_RATE, samples)


def _near(picks: Sequence[Pick], segment: Segment) -> Iterator[tuple[int, int]]:
    """Ranges of samples of a segment that are near a pick."""
    near = np.zeros(segment.end - segment.first, dtype=bool)
    for pick in picks:
        at = (pick.time_ns - segment.grid.phase_ns) // SAMPLE_NS - segment.first
        near[max(at - AROUND, 0) : max(at + AROUND, 0)] = True
    for first, end in true_spans(near) + segment.first:
        yield int(first), int(end)


def _read(instrument: Instrument, segment: Segment, first: int, end: int) -> NDArray[np.float64]:
    """Recorded components above the corner frequency: `(components, samples)`, in the order of `SHOWN`, NaN for no data."""
    from scipy.signal import butter, sosfilt  # slow to import

    waveform, _ = instrument.waveform(segment, first - LEAD, end)
    rows = waveform[[COMPONENTS.index(component) for component in _recorded(instrument)]]
    filter_ = butter(2, CORNER, "highpass", fs=SAMPLING_RATE, output="sos")
    for row in rows:
        for low, high in true_spans(~np.isnan(row)):
            row[low:high] = sosfilt(filter_, row[low:high] - row[low])  # in one direction, so that onsets stay in place
    return rows[:, LEAD:]


def _recorded(instrument: Instrument) -> list[str]:
    return [component for component in SHOWN if component in instrument.channels]


def _envelope(samples: NDArray[np.float64]) -> NDArray[np.float64]:
    """The lowest and the highest sample of each half second, for each component: `(2 components, half seconds)`, NaN for no data."""
    starts = np.arange(0, samples.shape[1], STEP)
    low, high = (extreme.reduceat(samples, starts, axis=1) for extreme in (np.fmin, np.fmax))
    return np.stack([low, high], axis=1).reshape(-1, len(starts))


def encode(values: NDArray[np.float64]) -> tuple[NDArray[np.float32], NDArray[np.int8]]:
    """Store values in a byte each.

    Args:
        values: `(rows, values)`, NaN for no data.

    Returns:
        The largest absolute value of each block, `(rows, blocks)`; and for each value, 127 times the square root of its share of
        that, with its sign: `(rows, values)`, -128 for no data.
    """
    rows, number = values.shape
    blocks = -(-number // BLOCK)
    padded = np.full((rows, blocks * BLOCK), np.nan)
    padded[:, :number] = values
    padded = padded.reshape(rows, blocks, BLOCK)
    scales = np.fmax.reduce(np.abs(padded), axis=-1, initial=0.0).astype(np.float32)
    share = padded / np.where(scales > 0, scales, 1)[:, :, None]
    levels = np.sign(share) * np.rint(LEVELS * np.sqrt(np.minimum(np.abs(share), 1)))
    return scales, np.where(np.isnan(levels), NO_DATA, levels).astype(np.int8).reshape(rows, -1)[:, :number]


def _pick_values(pick: Pick, start_ns: int) -> list[Any]:
    """Seconds of the day, phase, channel, probability, uncertainty, amplitude and signal-to-noise ratio; None for unknown ones."""
    numbers = (pick.probability, pick.uncertainty, pick.amplitude, pick.snr)
    known = [float(f"{number:.5g}") if np.isfinite(number) else None for number in numbers]
    return [(pick.time_ns - start_ns) / SECOND_NS, pick.phase, pick.seed_id, *known]


def _is_of(pick: Pick, instrument: Instrument, segments: Sequence[Segment]) -> bool:
    """Whether a pick is on a channel of an instrument and within its record."""
    return pick.seed_id in instrument.channels.values() and any(
        segment.time_ns(segment.first) <= pick.time_ns < segment.time_ns(segment.end) for segment in segments
    )


def _packed(content: bytes) -> str:
    return base64.b64encode(content).decode()


def _to_json(content: dict[str, Any]) -> str:
    """JSON that may stand within a script of a page."""
    return json.dumps(content, allow_nan=False).replace("<", "\\u003c")


def _date_of(pick: Pick) -> date:
    return (datetime(1970, 1, 1) + timedelta(seconds=pick.time_ns // SECOND_NS)).date()


def _midnight_ns(day: date) -> int:
    return int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp()) * SECOND_NS
