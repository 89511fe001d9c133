"""Pictures: how a training went, what was picked in a record, and a day at a glance. Needs matplotlib."""

import io
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC
from typing import TYPE_CHECKING, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from xiaonet.constants import COMPONENTS, NOISE, PICKED_PHASES, SAMPLE_NS, SAMPLING_RATE, SECOND_NS
from xiaonet.picking.annotation import Annotation
from xiaonet.picking.picks import Pick
from xiaonet.picking.segments import Instrument, Segment

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = {"P": "#0072b2", "S": "#d55e00", "N": "#999999"}  # told apart by colour-blind eyes too
INK, GREY, PALE = "#333333", "#707070", "#dddddd"
SMALL, MEDIUM, LARGE = 8, 9, 11  # points of letters
LETTER = 0.6  # width of a letter against its height
DPI = 130

BLOCKS = 6  # instruments in one picture
APART = 4  # lengths of a block: views that reach over more have an axis each
BINS = 4000  # that a long record is drawn in: more than a picture has pixels
OVERVIEW = 120 * SECOND_NS  # ns: in a longer record, small events are wanted beside large ones, and picks are many
NOISES = 60  # times the usual size of a trace: what is larger is clipped in an overview
LANES = {"Z": 1.65, "N": 2.65, "E": 3.65}  # middle of each component's lane; probabilities lie between 0 and 1
REACH = 0.45  # height of a trace on both sides of that middle
FLOOR, CEILING = -0.05, 4.15
HEIGHTS = {"P": (1.15, 2.15), "S": (2.15, CEILING)}  # of the lines of picks in an overview: where the phase is read
LEVELS = {"P": 14, "S": 3}  # points between a block and the words on its picks

DAY = 86400  # s
LOUD = 99.5  # percent of a day's traces that are no larger than half the distance of two rows
OVERLAP = 0.9  # rows that a larger event may reach up and down

Picks = Mapping[str, tuple[NDArray[np.int64], NDArray[np.float64]]]


class Mark(NamedTuple):
    """A pick as it is drawn: where, how certain, and in words."""

    phase: str
    x: float
    probability: float
    uncertainty: float  # in the unit of x
    text: str


class Strip(NamedTuple):
    """A piece of a record with its probabilities.

    Attributes:
        times_ns: `(points,)` since 1970-01-01.
        rows: `(5, points)`: E, N, Z in the unit of the record, then the probabilities of P and S; NaN
            where there is no data, and no probability where nothing is picked.
    """

    times_ns: NDArray[np.int64]
    rows: NDArray[np.float64]

    @classmethod
    def cut(cls, seen: Annotation, segment: Segment, first: int, end: int, thinning: int = 1) -> Self:
        """Samples `first` to `end` of a segment; of each `thinning` samples only the lowest and the highest."""
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
        """Strips in order of time as one; nothing is drawn between two that do not touch."""
        times_ns = np.concatenate([strip.times_ns for strip in strips])
        rows = np.concatenate([strip.rows for strip in strips], axis=1)
        starts = np.cumsum([len(strip.times_ns) for strip in strips])[:-1]
        breaks = starts[times_ns[starts] - times_ns[starts - 1] > 2 * SAMPLE_NS]
        return cls(np.insert(times_ns, breaks, times_ns[breaks]), np.insert(rows, breaks, np.nan, axis=1))


class View(NamedTuple):
    """What one block of a picture shows.

    Attributes:
        title: above it.
        labels: names of the components, such as `{"E": "HHE", …}`; those that were not recorded are left out.
        x: `(points,)`, seconds or matplotlib's dates.
        rows: `(5, points)` as in `Strip`.
        marks: its picks.
        overview: long; large events are clipped, and each pick is drawn only through the
            components on which its phase is read.
    """

    title: str
    labels: Mapping[str, str]
    x: NDArray[np.float64]
    rows: NDArray[np.float64]
    marks: Sequence[Mark]
    overview: bool = False

    @classmethod
    def of(cls, instrument: Instrument, strip: Strip, picks: Sequence[Pick], title: str | None = None) -> Self:
        """A strip on an axis of UTC, with those of the picks that lie in it; by default the title tells what and when."""
        first_ns, last_ns = (int(time_ns) for time_ns in strip.times_ns[[0, -1]])
        within = [pick for pick in picks if first_ns <= pick.time_ns <= last_ns]
        days = dict.fromkeys((date_of(first_ns + SAMPLE_NS), date_of(last_ns)))  # a day may begin some ms early
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
                    uncertainty=pick.uncertainty / DAY,
                    text=f"{pick.phase} {_clock(pick.time_ns)}  {pick.probability:.2f}",
                )
                for pick, x in zip(within, _to_dates([pick.time_ns for pick in within]), strict=True)
            ],
            overview=last_ns - first_ns > OVERVIEW,
        )


class Day(NamedTuple):
    """What the picture of a day shows.

    Attributes:
        title: above it.
        channel: that the rows are of.
        start_ns: midnight, since 1970-01-01.
        half_range: `(rows, columns)`: the day in parts, a row under the other, and half the range of
            the samples in each; NaN where there is no data.
        picks: of the day.
        events: up to three parts of it, to be seen closely, and when the event begins, since 1970-01-01.
    """

    title: str
    channel: str
    start_ns: int
    half_range: NDArray[np.floating]
    picks: Sequence[Pick]
    events: Sequence[tuple[int, View]]

    @property
    def row_ns(self) -> int:
        """Length of a row."""
        return DAY * SECOND_NS // len(self.half_range)

    @property
    def minutes(self) -> float:
        """Length of a row."""
        return self.row_ns / SECOND_NS / 60

    def place(self, times_ns: Sequence[int]) -> NDArray[np.float64]:
        """`(2, times)`: the row that each time is in, and its minute there."""
        passed = np.maximum(np.array(times_ns, dtype=np.int64) - self.start_ns, 0)  # the first sample may be 5 ms early
        return np.stack([passed // self.row_ns, passed % self.row_ns / SECOND_NS / 60])


def find_thinning(samples: int) -> int:
    """The factor for `Strip.cut` by which a record of so many samples fits into a picture; 1 for a short one."""
    return 1 if samples <= 4 * BINS else -(-samples // BINS)


def name_instrument(instrument: Instrument) -> str:
    """Name and rate, which together are one of a kind."""
    return f"{instrument.name}, {float(instrument.rate):g} Hz"


def date_of(time_ns: int) -> str:
    """The UTC date of a time since 1970-01-01, such as 2014-05-01."""
    return str(np.datetime64(time_ns, "ns"))[:10]


def count_picks(picks: Iterable[Pick]) -> str:
    """Numbers by phase, in words."""
    found = [pick.phase for pick in picks]
    return ", ".join(f"{found.count(phase)} {phase}" for phase in PICKED_PHASES)


def draw_history(columns: Mapping[str, Sequence[float]], title: str) -> "Figure":
    """Losses and learning rate against epochs; the best dev loss is marked.

    Args:
        columns: `epoch`, `train_loss`, `train_task_loss`, `dev_loss` and `learning_rate`.
        title: above the picture.
    """
    figure = _figure(8, 5)
    figure.set_layout_engine("constrained")
    losses, rates = figure.subplots(2, 1, sharex=True, height_ratios=(4, 1))
    epochs = columns["epoch"]
    marker = "o" if len(epochs) < 30 else None
    for name, label, colour in (
        ("train_loss", "train, combined", "#999999"),
        ("train_task_loss", "train, task", "#56b4e9"),
        ("dev_loss", "dev, task", "#d55e00"),
    ):
        if name == "train_loss" and list(columns[name]) == list(columns["train_task_loss"]):
            continue  # without a teacher the two are one
        losses.plot(epochs, columns[name], label=label, color=colour, marker=marker, markersize=3)
    best = int(np.argmin(np.nan_to_num(columns["dev_loss"], nan=np.inf)))
    losses.plot(
        epochs[best],
        columns["dev_loss"][best],
        "k*",
        markersize=11,
        label=f"best dev {columns['dev_loss'][best]:.4f}, epoch {epochs[best]:g}",
    )
    losses.set(ylabel="loss", yscale="log", title=title)
    losses.legend(frameon=False)
    rates.step(epochs, columns["learning_rate"], where="mid", color="#009e73")
    rates.set(xlabel="epoch", ylabel="learning rate", yscale="log")
    for axis, steps in ((losses.yaxis, (2, 5)), (rates.yaxis, ())):  # 0.1, 0.2, 0.5, not 10 to a power
        axis.get_minor_locator().set_params(subs=steps)
        axis.set_major_formatter("{x:g}")
        axis.set_minor_formatter("{x:g}")
    rates.xaxis.get_major_locator().set_params(integer=True)
    for axes in (losses, rates):
        axes.grid(alpha=0.25)
    return figure


def draw_picks(waveform: NDArray[np.floating], probabilities: NDArray[np.floating], picks: Picks, title: str) -> "Figure":
    """Three components, the probabilities below them, and the picks through all, on an axis of seconds.

    Args:
        waveform: `(3, samples)` in E, N, Z order at 100 Hz, any unit.
        probabilities: `(3, samples)` in P, S, noise order.
        picks: sample indexes and probabilities by phase, as `find_picks` gives them.
        title: above the picture.
    """
    x = np.arange(waveform.shape[-1]) / SAMPLING_RATE
    marks = [
        Mark(phase, x[sample], height, 0.0, f"{phase} {x[sample]:.2f} s  {height:.2f}")
        for phase in PICKED_PHASES
        for sample, height in zip(*picks[phase], strict=True)
    ]
    rows = np.concatenate([waveform, probabilities[:NOISE]])
    figure = _figure(10, 5)
    axes = figure.add_axes((0.08, 0.1, 0.84, 0.77))
    _draw_block(axes, View(title, dict(zip(COMPONENTS, COMPONENTS, strict=True)), x, rows, marks), {})
    axes.set(xlabel="time (s)", xlim=(x[0], x[-1]))
    _write_marks(axes, marks)
    return figure


def draw_views(views: Sequence[View], thresholds: Mapping[str, float], note: str = "") -> "Figure":
    """A block for each view, one below the other; on a common UTC axis, unless they lie far apart.

    Args:
        views: at least one, all with dates on their axis.
        thresholds: least probability of a pick, by phase.
        note: below all.
    """
    bottom, pitch = 0.75, 4.6  # inches
    height = bottom + pitch * len(views) - 0.2  # no block above the first
    figure = _figure(12, height)
    figure.text(0.01, 0.08 / height, _plain(note), fontsize=MEDIUM, color=GREY)
    ends = [(view.x[0], view.x[-1]) for view in views]
    common = min(low for low, _ in ends), max(high for _, high in ends)
    near = common[1] - common[0] <= APART * max(high - low for low, high in ends)
    for number, (view, own) in enumerate(zip(views, ends, strict=True), start=1):
        axes = figure.add_axes((0.065, (bottom + pitch * (len(views) - number)) / height, 0.865, 3.65 / height))
        _draw_block(axes, view, thresholds)
        _show_utc(axes, *(common if near else own))
        _write_marks(axes, view.marks)
    axes.set_xlabel("UTC")
    return figure


def draw_day(day: Day, thresholds: Mapping[str, float]) -> "Figure":
    """A day in rows with its picks as ticks, P up and S down, and beside it some of its events.

    Args:
        day: what to draw.
        thresholds: least probability of a pick, by phase.
    """
    places = day.place([pick.time_ns for pick in day.picks])
    alive = np.flatnonzero((day.half_range > 0).any(axis=1))  # a lone sample has no range
    there = np.union1d(alive, places[0]).astype(np.int64).tolist() or [0]
    rows = range(there[0], there[-1] + 1)
    figure = _figure(15, 8.4)
    height = min(0.87, 0.1 * (len(rows) + 0.2))
    axes = figure.add_axes((0.045, 0.94 - height, 0.555, height))
    axes.set_title(_plain(day.title), loc="left", fontsize=LARGE)
    _draw_rows(axes, day, rows)
    for phase, end in (("P", -0.45), ("S", 0.45)):
        row, minute = places[:, [pick.phase == phase for pick in day.picks]]
        axes.vlines(minute, row, row + end, color=COLOURS[phase], linewidth=0.9, label=phase, zorder=3)
    axes.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=2, frameon=False, fontsize=MEDIUM, borderaxespad=0)
    for row in there:
        told = count_picks(pick for pick, own in zip(day.picks, places[0], strict=True) if own == row)
        axes.text(1.01, row, told, transform=axes.get_yaxis_transform(), fontsize=SMALL, color=GREY, va="center")
    if not day.events:
        figure.text(0.83, 0.5, "no picks", fontsize=LARGE, color=GREY, ha="center")
    for number, (letter, (time_ns, view)) in enumerate(zip("ABC", day.events, strict=False)):
        [row], [minute] = day.place([time_ns])
        axes.text(minute, row - 0.3, letter, fontsize=LARGE, fontweight="bold", ha="right", va="bottom", zorder=4)
        block = figure.add_axes((0.705, 0.07 + (2 - number) * 0.31, 0.25, 0.25))
        block.text(-0.11, 1.0, letter, transform=block.transAxes, fontsize=1.5 * LARGE, fontweight="bold", ha="right", va="top")
        _draw_block(block, view, thresholds)
        _show_utc(block, view.x[0], view.x[-1])
        _write_marks(block, view.marks)
    return figure


def to_png(figure: "Figure") -> bytes:
    """The picture as the bytes of a PNG file."""
    buffer = io.BytesIO()
    figure.savefig(buffer)
    return buffer.getvalue()


def _figure(width: float, height: float) -> "Figure":
    from matplotlib.figure import Figure  # only those who draw pay for it

    return Figure(figsize=(width, height), dpi=DPI)


def _draw_block(axes: "Axes", view: View, thresholds: Mapping[str, float]) -> None:
    """A lane for each component and one for the probabilities, with the picks through all."""
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
            _write_beside(axes, 0.75 if phase == "P" else 0.4, f"{phase} ≥ {thresholds[phase]:g}", COLOURS[phase])
    axes.axhline(HEIGHTS["P"][0] - 0.05, color=PALE, linewidth=0.8)
    labels = [view.labels.get(component, f"no {component}") for component in LANES]
    axes.set_yticks([0, 0.5, 1, *LANES.values()], ["0", "0.5", "1", *(_plain(label) for label in labels)], fontsize=SMALL)
    axes.annotate(
        "probability", (0, 0.5), (-28, 0), axes.get_yaxis_transform(), "offset points", fontsize=SMALL, rotation=90, ha="right", va="center"
    )
    axes.set_ylim(FLOOR, CEILING)
    axes.set_title(_plain(view.title), loc="left", fontsize=LARGE, pad=LEVELS["P"] + 14)


def _draw_lane(axes: "Axes", x: NDArray[np.float64], trace: NDArray[np.float64], component: str, overview: bool) -> None:
    """A component in its lane, scaled to its peak; in an overview to less, and clipped."""
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
    _write_beside(axes, LANES[component], f"±{_in_words(full)}" + ("\nclipped" if full < peak else ""), GREY)


def _write_beside(axes: "Axes", y: float, text: str, colour: str) -> None:
    axes.annotate(text, (1, y), (4, 0), axes.get_yaxis_transform(), "offset points", fontsize=SMALL, color=colour, va="center")


def _write_marks(axes: "Axes", marks: Sequence[Mark]) -> None:
    """Words on the picks above a block, the most probable first, as far as there is room."""
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


def _draw_rows(axes: "Axes", day: Day, rows: range) -> None:
    """The traces of a day, on one scale."""
    known = day.half_range[day.half_range > 0]
    unit = float(np.percentile(known, LOUD)) if len(known) else 1.0
    columns = day.half_range.shape[1]
    minutes = np.repeat((np.arange(columns) + 0.5) * day.minutes / columns, 2)
    for row in rows:
        reach = np.minimum(day.half_range[row] / unit / 2, OVERLAP)
        axes.plot(minutes, row + np.stack([-reach, reach], axis=-1).reshape(-1), color=INK, linewidth=0.5)
    axes.set(
        xlim=(0, day.minutes), xticks=np.linspace(0, day.minutes, 11 if day.minutes < 60 else 13), ylim=(rows[-1] + 0.6, rows[0] - 0.6)
    )
    axes.set_yticks(rows, [_clock(day.start_ns + row * day.row_ns)[:5] for row in rows])
    axes.tick_params(labelsize=SMALL)
    axes.set_xlabel(f"minutes, UTC    ({day.channel}; {_in_words(unit)} from row to row)", fontsize=MEDIUM)
    axes.grid(axis="x", alpha=0.3)


def _show_utc(axes: "Axes", low: float, high: float) -> None:
    """Show an axis of matplotlib's dates as UTC, at least a second wide."""
    from matplotlib.dates import AutoDateLocator, num2date

    missing = max(1 / DAY - (high - low), 0)
    low, high = low - missing / 2, high + missing / 2
    words = next(
        words
        for longest, words in ((5, "%H:%M:%S.%f"), (900, "%H:%M:%S"), (2 * DAY, "%H:%M"), (30 * DAY, "%m-%d %H:%M"), (np.inf, "%Y-%m-%d"))
        if (high - low) * DAY <= longest
    )
    axes.set_xlim(low, high)
    locator = AutoDateLocator(tz=UTC, minticks=4, maxticks=int(axes.bbox.width / axes.figure.dpi / 0.75))  # type: ignore[no-untyped-call]
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(lambda x, _: num2date(x, tz=UTC).strftime(words).removesuffix("00000"))  # type: ignore[no-untyped-call]
    axes.tick_params(axis="x", labelsize=SMALL)


def _to_dates(times_ns: Sequence[int] | NDArray[np.int64]) -> NDArray[np.float64]:
    from matplotlib.dates import date2num

    dates: NDArray[np.float64] = date2num(np.asarray(times_ns, dtype=np.int64).astype("datetime64[ns]"))  # type: ignore[no-untyped-call]
    return dates


def _clock(time_ns: int) -> str:
    """Time of day, to 10 ms."""
    return str(np.datetime64(time_ns + 5_000_000, "ns"))[11:22]


def _plain(text: str) -> str:
    """Text without formulas."""
    return text.replace("$", r"\$")


def _in_words(amplitude: float) -> str:
    return f"{amplitude:.0f}" if 100 <= amplitude < 1e6 else f"{amplitude:.2g}"
