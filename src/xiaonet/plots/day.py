"""The figure of a day: traces in rows with their picks, and some events in detail."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from xiaonet.constants import SECOND_NS
from xiaonet.picking.picks import Pick
from xiaonet.plots.record import View, draw_block, show_utc, write_marks
from xiaonet.plots.style import (
    COLOURS,
    DAY_SECONDS,
    GREY,
    INK,
    LARGE,
    MEDIUM,
    SMALL,
    clock,
    count_picks,
    format_amplitude,
    new_figure,
    plain_text,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LOUD = 99.5  # percent of the traces of a day that are no larger than half the distance of two rows
OVERLAP = 0.9  # rows that a larger event may reach up and down


class Day(NamedTuple):
    """The content of the figure of a day.

    Attributes:
        title: of the figure.
        channel: of the traces.
        start_ns: midnight, in nanoseconds since 1970-01-01.
        half_range: `(rows, columns)`; half the range of the samples in each part of the day, NaN for no data.
        picks: of the day.
        events: up to three parts of the day in detail, each with the time of its event in nanoseconds.
    """

    title: str
    channel: str
    start_ns: int
    half_range: NDArray[np.floating]
    picks: Sequence[Pick]
    events: Sequence[tuple[int, View]]

    @property
    def row_ns(self) -> int:
        """Length of a row in nanoseconds."""
        return DAY_SECONDS * SECOND_NS // len(self.half_range)

    @property
    def minutes(self) -> float:
        """Length of a row in minutes."""
        return self.row_ns / SECOND_NS / 60

    def place(self, times_ns: Sequence[int]) -> NDArray[np.float64]:
        """The row of each time and the minute in it: `(2, times)`."""
        passed = np.maximum(np.array(times_ns, dtype=np.int64) - self.start_ns, 0)  # the first sample may be 5 ms before midnight
        return np.stack([passed // self.row_ns, passed % self.row_ns / SECOND_NS / 60])


def draw_day(day: Day, thresholds: Mapping[str, float]) -> "Figure":
    """Draw a day in rows, with picks as ticks, P up and S down. Some events are shown in detail beside it.

    Args:
        day: the content.
        thresholds: minimum probability of a pick, by phase.
    """
    places = day.place([pick.time_ns for pick in day.picks])
    alive = np.flatnonzero((day.half_range > 0).any(axis=1))  # a single sample has no range
    there = np.union1d(alive, places[0]).astype(np.int64).tolist() or [0]
    rows = range(there[0], there[-1] + 1)
    figure = new_figure(15, 8.4)
    height = min(0.87, 0.1 * (len(rows) + 0.2))
    axes = figure.add_axes((0.045, 0.94 - height, 0.555, height))
    axes.set_title(plain_text(day.title), loc="left", fontsize=LARGE)
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
        draw_block(block, view, thresholds)
        show_utc(block, view.x[0], view.x[-1])
        write_marks(block, view.marks)
    return figure


def _draw_rows(axes: "Axes", day: Day, rows: range) -> None:
    """Draw the traces of a day on one scale."""
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
    axes.set_yticks(rows, [clock(day.start_ns + row * day.row_ns)[:5] for row in rows])
    axes.tick_params(labelsize=SMALL)
    axes.set_xlabel(f"minutes, UTC    ({day.channel}; {format_amplitude(unit)} from row to row)", fontsize=MEDIUM)
    axes.grid(axis="x", alpha=0.3)
