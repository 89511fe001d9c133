"""Figures of records: components, probabilities and picks."""

from collections.abc import Mapping, Sequence
from datetime import UTC
from typing import TYPE_CHECKING, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from xiaonet.constants import COMPONENTS, NOISE, PICKED_PHASES, SAMPLE_NS, SAMPLING_RATE, SECOND_NS
from xiaonet.picking.annotation import Annotation
from xiaonet.picking.picks import Pick
from xiaonet.picking.segments import Instrument, Segment
from xiaonet.plots.style import (
    COLOURS,
    DAY_SECONDS,
    GREY,
    INK,
    LARGE,
    LETTER,
    MEDIUM,
    PALE,
    SMALL,
    clock,
    count_picks,
    date_of,
    format_amplitude,
    name_instrument,
    new_figure,
    plain_text,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BLOCKS = 6  # largest number of instruments in a figure
APART = 4  # views share an axis if together they are at most this many times as long as the longest
BINS = 4000  # number of bins of a long record, more than a figure has pixels
OVERVIEW = 120 * SECOND_NS  # ns; a longer record is drawn as an overview, because it has many picks and small events
NOISES = 60  # in an overview, larger multiples of the median amplitude are clipped
LANES = {"Z": 1.65, "N": 2.65, "E": 3.65}  # y of each component; the probabilities lie between 0 and 1
REACH = 0.45  # largest height of a trace above and below its y
FLOOR, CEILING = -0.05, 4.15
HEIGHTS = {"P": (1.15, 2.15), "S": (2.15, CEILING)}  # ends of the lines of picks in an overview: P on the vertical, S on the horizontals
TIME_FORMATS = (  # of the axis, each up to a length in seconds
    (5, "%H:%M:%S.%f"),
    (900, "%H:%M:%S"),
    (2 * DAY_SECONDS, "%H:%M"),
    (30 * DAY_SECONDS, "%m-%d %H:%M"),
    (np.inf, "%Y-%m-%d"),
)
LEVELS = {"P": 14, "S": 3}  # distance in points between a block and the labels of its picks

Picks = Mapping[str, tuple[NDArray[np.int64], NDArray[np.float64]]]


class Mark(NamedTuple):
    """A pick as it is drawn."""

    phase: str
    x: float
    probability: float
    uncertainty: float  # in the unit of x
    text: str


class Strip(NamedTuple):
    """A piece of a record with its probabilities.

    Attributes:
        times_ns: `(points,)` since 1970-01-01.
        rows: `(5, points)`: E, N, Z in the unit of the record, then the probabilities of P and S. NaN where there is
            no data; probabilities are also NaN where no picks are read.
    """

    times_ns: NDArray[np.int64]
    rows: NDArray[np.float64]

    @classmethod
    def cut(cls, seen: Annotation, segment: Segment, first: int, end: int, thinning: int = 1) -> Self:
        """Samples `first` to `end` of a segment. Of each `thinning` samples, only the lowest and the highest are kept."""
        inside = slice(first - seen.start, end - seen.start)
        probabilities = np.where(seen.trusted[inside], seen.probabilities[:NOISE, inside], np.nan)
        rows = np.concatenate([seen.waveform[:, inside], probabilities])
        if thinning == 1:
            return cls(segment.time_ns(first) + np.arange(end - first) * SAMPLE_NS, rows)
        starts = np.arange(0, end - first, thinning)
        pairs = np.stack([np.fmin.reduceat(rows, starts, axis=1), np.fmax.reduceat(rows, starts, axis=1)], axis=-1)
        samples = np.stack([starts, np.minimum(starts + thinning, end - first) - 1], axis=-1)
        return cls(segment.time_ns(first) + samples.reshape(-1) * SAMPLE_NS, pairs.reshape(len(rows), -1))

    @classmethod
    def join(cls, strips: Sequence["Strip"]) -> Self:
        """Join strips in order of time. No line is drawn across a gap between two."""
        times_ns = np.concatenate([strip.times_ns for strip in strips])
        rows = np.concatenate([strip.rows for strip in strips], axis=1)
        starts = np.cumsum([len(strip.times_ns) for strip in strips])[:-1]
        breaks = starts[times_ns[starts] - times_ns[starts - 1] > 2 * SAMPLE_NS]
        return cls(np.insert(times_ns, breaks, times_ns[breaks]), np.insert(rows, breaks, np.nan, axis=1))


class View(NamedTuple):
    """The content of one block of a figure.

    Attributes:
        title: of the block.
        labels: channels of the recorded components, such as `{"E": "HHE", …}`.
        x: `(points,)`, seconds or matplotlib's dates.
        rows: `(5, points)` as in `Strip`.
        marks: picks.
        overview: for long records: large events are clipped, P is drawn only through the vertical and S only through the
            horizontals.
    """

    title: str
    labels: Mapping[str, str]
    x: NDArray[np.float64]
    rows: NDArray[np.float64]
    marks: Sequence[Mark]
    overview: bool = False

    @classmethod
    def of(cls, instrument: Instrument, strip: Strip, picks: Sequence[Pick], title: str | None = None) -> Self:
        """A strip on a UTC axis with the picks inside it. The default title has the instrument, the date and the numbers of picks."""
        first_ns, last_ns = (int(time_ns) for time_ns in strip.times_ns[[0, -1]])
        within = [pick for pick in picks if first_ns <= pick.time_ns <= last_ns]
        days = dict.fromkeys((date_of(first_ns + SAMPLE_NS), date_of(last_ns)))  # a day may begin some ms before midnight
        return cls(
            title=f"{name_instrument(instrument)}    {' to '.join(days)}    {count_picks(within)}" if title is None else title,
            labels={component: channel.rpartition(".")[2] for component, channel in instrument.channels.items()},
            x=_to_dates(strip.times_ns),
            rows=strip.rows,
            marks=[
                Mark(
                    phase=pick.phase,
                    x=x,
                    probability=pick.probability,
                    uncertainty=pick.uncertainty / DAY_SECONDS,
                    text=f"{pick.phase} {clock(pick.time_ns)}  {pick.probability:.2f}",
                )
                for pick, x in zip(within, _to_dates([pick.time_ns for pick in within]), strict=True)
            ],
            overview=last_ns - first_ns > OVERVIEW,
        )


def find_thinning(samples: int) -> int:
    """The `thinning` of `Strip.cut` with which a record of this number of samples fits into a figure; 1 for a short one."""
    return 1 if samples <= 4 * BINS else -(-samples // BINS)


def draw_picks(waveform: NDArray[np.floating], probabilities: NDArray[np.floating], picks: Picks, title: str) -> "Figure":
    """Draw three components, the probabilities below them, and picks, on an axis of seconds.

    Args:
        waveform: `(3, samples)` in E, N, Z order at 100 Hz, any unit.
        probabilities: `(3, samples)` in P, S, noise order.
        picks: sample indexes and probabilities by phase, from `find_picks`.
        title: of the figure.
    """
    x = np.arange(waveform.shape[-1]) / SAMPLING_RATE
    marks = [
        Mark(phase, x[sample], height, 0.0, f"{phase} {x[sample]:.2f} s  {height:.2f}")
        for phase in PICKED_PHASES
        for sample, height in zip(*picks[phase], strict=True)
    ]
    rows = np.concatenate([waveform, probabilities[:NOISE]])
    figure = new_figure(10, 5)
    axes = figure.add_axes((0.08, 0.1, 0.84, 0.77))
    draw_block(axes, View(title, dict(zip(COMPONENTS, COMPONENTS, strict=True)), x, rows, marks), {})
    axes.set(xlabel="time (s)", xlim=(x[0], x[-1]))
    write_marks(axes, marks)
    return figure


def draw_views(views: Sequence[View], thresholds: Mapping[str, float], note: str = "") -> "Figure":
    """Draw a block for each view, one below the other. They share a UTC axis unless they are far apart in time.

    Args:
        views: at least one, with dates on their axis.
        thresholds: minimum probability of a pick, by phase.
        note: below the blocks.
    """
    bottom, pitch = 0.75, 4.6  # inches
    height = bottom + pitch * len(views) - 0.2  # no block above the first
    figure = new_figure(12, height)
    figure.text(0.01, 0.08 / height, plain_text(note), fontsize=MEDIUM, color=GREY)
    ends = [(view.x[0], view.x[-1]) for view in views]
    common = min(low for low, _ in ends), max(high for _, high in ends)
    near = common[1] - common[0] <= APART * max(high - low for low, high in ends)
    for number, (view, own) in enumerate(zip(views, ends, strict=True), start=1):
        axes = figure.add_axes((0.065, (bottom + pitch * (len(views) - number)) / height, 0.865, 3.65 / height))
        draw_block(axes, view, thresholds)
        show_utc(axes, *(common if near else own))
        write_marks(axes, view.marks)
    axes.set_xlabel("UTC")
    return figure


def draw_block(axes: "Axes", view: View, thresholds: Mapping[str, float]) -> None:
    """Draw a lane for each component, one for the probabilities, and the picks."""
    for component, trace in zip(COMPONENTS, view.rows, strict=False):
        _draw_lane(axes, view.x, trace, component, view.overview)
    for phase, curve in zip(PICKED_PHASES, view.rows[len(COMPONENTS) :], strict=True):
        axes.plot(view.x, curve, color=COLOURS[phase], linewidth=1, label=phase)
        own = [mark for mark in view.marks if mark.phase == phase]
        low, high = HEIGHTS[phase] if view.overview else (FLOOR, CEILING)
        axes.vlines([mark.x for mark in own], low, high, color=COLOURS[phase], linewidth=0.6 if view.overview else 1)
        bands = [(mark.x - mark.uncertainty, 2 * mark.uncertainty) for mark in own]
        axes.broken_barh(bands, (low, high - low), color=COLOURS[phase], alpha=0.2, linewidth=0)
        if phase in thresholds:
            axes.axhline(thresholds[phase], color=COLOURS[phase], linewidth=0.8, dashes=(4, 3))
            highest = max(thresholds, key=lambda phase: thresholds[phase])
            _write_beside(axes, 0.75 if phase == highest else 0.4, f"{phase} ≥ {thresholds[phase]:g}", COLOURS[phase])
    axes.axhline(HEIGHTS["P"][0] - 0.05, color=PALE, linewidth=0.8)
    labels = [view.labels.get(component, f"no {component}") for component in LANES]
    axes.set_yticks([0, 0.5, 1, *LANES.values()], ["0", "0.5", "1", *(plain_text(label) for label in labels)], fontsize=SMALL)
    axes.annotate(
        "probability", (0, 0.5), (-28, 0), axes.get_yaxis_transform(), "offset points", fontsize=SMALL, rotation=90, ha="right", va="center"
    )
    axes.set_ylim(FLOOR, CEILING)
    axes.set_title(plain_text(view.title), loc="left", fontsize=LARGE, pad=LEVELS["P"] + 14)


def _draw_lane(axes: "Axes", x: NDArray[np.float64], trace: NDArray[np.float64], component: str, overview: bool) -> None:
    """Draw a component, scaled to its peak. In an overview, large peaks are clipped."""
    known = trace[~np.isnan(trace)]
    if not len(known):
        axes.text(
            0.5, LANES[component], "no data", transform=axes.get_yaxis_transform(), fontsize=MEDIUM, color=GREY, ha="center", va="center"
        )
        return
    rest = trace - known.mean()
    size = np.abs(known - known.mean())
    peak = float(size.max())
    full = min(peak, NOISES * float(np.median(size))) if overview else peak
    axes.plot(x, LANES[component] + REACH * np.clip(rest / (full or 1.0), -1, 1), color=INK, linewidth=0.6, label=component)
    _write_beside(axes, LANES[component], f"±{format_amplitude(full)}" + ("\nclipped" if full < peak else ""), GREY)


def _write_beside(axes: "Axes", y: float, text: str, colour: str) -> None:
    axes.annotate(text, (1, y), (4, 0), axes.get_yaxis_transform(), "offset points", fontsize=SMALL, color=colour, va="center")


def write_marks(axes: "Axes", marks: Sequence[Mark]) -> None:
    """Label the picks above a block, the most probable first, where there is room."""
    low, high = axes.get_xlim()
    inch = (high - low) / axes.bbox.width * axes.figure.dpi
    taken: dict[str, list[tuple[float, float]]] = {phase: [] for phase in LEVELS}
    for mark in sorted(marks, key=lambda mark: -mark.probability):
        width = len(mark.text) * LETTER * SMALL / 72 * inch
        left = max(low, min(mark.x - width / 2, high - width))
        if all(left + width <= other_left or left >= other_right for other_left, other_right in taken[mark.phase]):
            taken[mark.phase].append((left, left + width))
            axes.annotate(
                mark.text,
                (left + width / 2, 1),
                (0, LEVELS[mark.phase]),
                axes.get_xaxis_transform(),
                "offset points",
                fontsize=SMALL,
                color=COLOURS[mark.phase],
                ha="center",
            )


def show_utc(axes: "Axes", low: float, high: float) -> None:
    """Label an axis of matplotlib's dates in UTC. It is at least a second wide."""
    from matplotlib.dates import AutoDateLocator, num2date

    missing = max(1 / DAY_SECONDS - (high - low), 0)
    low, high = low - missing / 2, high + missing / 2
    words = next(words for longest, words in TIME_FORMATS if (high - low) * DAY_SECONDS <= longest)
    axes.set_xlim(low, high)
    locator = AutoDateLocator(tz=UTC, minticks=4, maxticks=int(axes.bbox.width / axes.figure.dpi / 0.75))  # type: ignore[no-untyped-call]
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(lambda x, _: num2date(x, tz=UTC).strftime(words).removesuffix("00000"))  # type: ignore[no-untyped-call]
    axes.tick_params(axis="x", labelsize=SMALL)


def _to_dates(times_ns: Sequence[int] | NDArray[np.int64]) -> NDArray[np.float64]:
    from matplotlib.dates import date2num

    dates: NDArray[np.float64] = date2num(np.asarray(times_ns, dtype=np.int64).astype("datetime64[ns]"))  # type: ignore[no-untyped-call]
    return dates
