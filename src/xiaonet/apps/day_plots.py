"""Plots of an archive while it is picked: a figure for each day of each instrument."""

import gc
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from xiaonet.apps.pick_archive import DAY_SAMPLES, Task
from xiaonet.constants import COMPONENTS, SAMPLE_NS, SECOND_NS, WINDOW_SAMPLES
from xiaonet.errors import OutputError
from xiaonet.files import write_atomically
from xiaonet.picking.annotation import Annotation
from xiaonet.picking.picks import Pick
from xiaonet.picking.segments import Segment
from xiaonet.plots.day import Day, draw_day
from xiaonet.plots.record import Strip, View, draw_views, find_thinning
from xiaonet.plots.style import count_picks, date_of, name_instrument, to_png

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SHORT = 600 * SECOND_NS  # ns; a record up to this length is drawn as a whole
SLIVER = 15 * SECOND_NS  # ns; a shorter record without picks is the overlap of a file with the next day
PART = 60  # samples for each point in the figure of a day
FEW_HOURS = 4 * 3600 * SECOND_NS  # ns; up to this length a row of the figure is ten minutes, otherwise an hour
EVENTS = 3  # largest number of events in the figure of a day
LEAD = 600  # samples shown before an event
DRAWING = Lock()  # matplotlib is not safe for threads
PAIR = 18 * SECOND_NS  # ns; an S within this time after a P belongs to the same event


class DayPlots:
    """Draws a figure of each day. Use it as `on_chunk` of `xiaonet.apps.pick_archive.pick_archive`.

    A figure is drawn after the last chunk of its day. Until then, the day takes 2 MB of memory. Several threads may call
    this at once.

    Args:
        folder: for the figures, such as `CX.PB01..HH_100Hz_2014-05-01.png`; made if it is missing.
        thresholds: minimum probability of a pick, by phase.

    Raises:
        OutputError: the folder or a figure cannot be written.
        ModuleNotFoundError: matplotlib is missing.
    """

    def __init__(self, folder: Path, thresholds: Mapping[str, float]) -> None:
        import matplotlib  # noqa: F401  # fails now, not after an hour

        self.folder, self.thresholds = folder, thresholds
        try:
            folder.mkdir(exist_ok=True)
        except OSError as error:
            raise OutputError(
                f"{folder} cannot be made: {error.strerror}; choose another place for the picks, or leave --plot out"
            ) from error
        self._days: dict[str, _Day] = {}

    def __call__(self, task: Task, seen: Annotation, picks: Sequence[Pick]) -> None:
        """Add a chunk of a task. The last chunk draws the figure."""
        if task.key not in self._days:
            self._days[task.key] = _Day(task)
        day = self._days[task.key]
        day.add(seen, picks)
        if (seen.first, seen.end) != task.ranges[-1][1:]:
            return
        del self._days[task.key]
        if day.length_ns < SLIVER and not day.picks:
            return
        with DRAWING:
            picture = to_png(day.draw(self.thresholds))
            gc.collect()  # figures hold reference cycles: 13 MB a day
        write_atomically(self.folder / day.file_name, lambda file: file.write(picture))


class _Event(NamedTuple):
    """A window of 30 s around a pick. The score is the sum of the probabilities of its P and S."""

    score: float
    time_ns: int
    strip: Strip


class _Day:
    """The data of a task, until it is drawn."""

    def __init__(self, task: Task) -> None:
        segment, first, _ = task.ranges[0]
        last_segment, _, end = task.ranges[-1]
        self.task = task
        self.start_ns = first // DAY_SAMPLES * DAY_SAMPLES * SAMPLE_NS
        self.length_ns = last_segment.time_ns(end) - segment.time_ns(first)
        self.picks: list[Pick] = []
        self.strips: list[Strip] = []
        self.half_range = np.full((len(COMPONENTS), DAY_SAMPLES // PART), np.nan, dtype=np.float32)
        self.events: list[_Event] = []

    @property
    def file_name(self) -> str:
        name = f"{self.task.instrument.name}_{float(self.task.instrument.rate):g}Hz_{date_of(self.start_ns)}.png"
        return re.sub(r"[^\w.-]", "-", name)

    def add(self, seen: Annotation, picks: Sequence[Pick]) -> None:
        segment = next(segment for segment, first, end in self.task.ranges if (first, end) == (seen.first, seen.end))
        self.picks += picks
        if self.length_ns <= SHORT:
            self.strips.append(Strip.cut(seen, segment, seen.first, seen.end, find_thinning(self.length_ns // SAMPLE_NS)))
            return
        part, half_range = _half_range(seen)
        self.half_range[:, part : part + half_range.shape[1]] = half_range
        self.events = _clearest(self.events, picks, seen, segment)

    def draw(self, thresholds: Mapping[str, float]) -> "Figure":
        instrument = self.task.instrument
        if self.strips:
            return draw_views([View.of(instrument, Strip.join(self.strips), self.picks)], thresholds)
        recorded = [component for component in "ZNE" if component in instrument.channels]
        traces = {component: self.half_range[COMPONENTS.index(component)] for component in recorded}
        shown = next((component for component in recorded if not np.isnan(traces[component]).all()), recorded[0])
        day = Day(
            title=f"{name_instrument(instrument)}    {date_of(self.start_ns)}    {count_picks(self.picks)}",
            channel=instrument.channels[shown].rpartition(".")[2],
            start_ns=self.start_ns,
            half_range=_in_rows(traces[shown], self.length_ns),
            picks=self.picks,
            events=[
                (event.time_ns, View.of(instrument, event.strip, self.picks, title=""))
                for event in sorted(self.events, key=lambda event: event.time_ns)
            ],
        )
        return draw_day(day, thresholds)


def _half_range(seen: Annotation) -> tuple[int, NDArray[np.float64]]:
    """Index of the first part of the day in a chunk, and half the range of the samples in each part: `(3, parts)`, NaN for no data."""
    first, end = seen.first % DAY_SAMPLES, seen.first % DAY_SAMPLES + seen.end - seen.first
    starts = np.arange(first // PART * PART, end, PART) - first
    waveform = seen.waveform[:, seen.first - seen.start : seen.end - seen.start]
    high, low = (extreme.reduceat(waveform, np.maximum(starts, 0), axis=1) for extreme in (np.fmax, np.fmin))
    return first // PART, (high - low) / 2


def _in_rows(half_range: NDArray[np.float32], length_ns: int) -> NDArray[np.float32]:
    """A day in rows of an hour, or of ten minutes if it has only a few hours of data."""
    if length_ns <= FEW_HOURS:
        return half_range.reshape(24 * 6, -1)
    rows: NDArray[np.float32] = np.fmax.reduce(half_range.reshape(24, -1, 4), axis=-1)  # 2.4 s is less than a pixel
    return rows


def _clearest(known: Sequence[_Event], picks: Sequence[Pick], seen: Annotation, segment: Segment) -> list[_Event]:
    """The best events of those found before and those of a chunk. They do not overlap."""
    fresh = [(_score(pick, picks), pick.time_ns, None) for pick in picks]
    chosen: list[_Event] = []
    for score, time_ns, strip in sorted([*known, *fresh], key=lambda event: -event[0]):
        if len(chosen) < EVENTS and all(abs(time_ns - other.time_ns) > WINDOW_SAMPLES * SAMPLE_NS for other in chosen):
            chosen.append(_Event(score, time_ns, strip or _cut(time_ns, seen, segment)))
    return chosen


def _score(pick: Pick, picks: Sequence[Pick]) -> float:
    """The probability of a pick. For a P, add the probability of the best S that follows it."""
    follow = (other for other in picks if pick.phase == "P" and other.phase == "S" and 0 < other.time_ns - pick.time_ns < PAIR)
    return pick.probability + max((other.probability for other in follow), default=0.0)


def _cut(time_ns: int, seen: Annotation, segment: Segment) -> Strip:
    """30 s around a pick, moved to where the chunk has samples."""
    wanted = (time_ns - segment.grid.phase_ns) // SAMPLE_NS - LEAD
    end = seen.start + seen.waveform.shape[1]
    first = max(seen.start, min(wanted, end - WINDOW_SAMPLES))
    return Strip.cut(seen, segment, first, min(first + WINDOW_SAMPLES, end))
