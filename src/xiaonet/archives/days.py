"""The days of a station: their tasks, what their picks depend on, and the picks."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from xiaonet.apps.pick_archive import DAY_SAMPLES, OnChunk, Task, days_of, pick_task
from xiaonet.archives.planning import DAY_NS, Block, Request
from xiaonet.constants import SECOND_NS
from xiaonet.io.archive import Archive
from xiaonet.picker import Picker
from xiaonet.picking.pairs import PAIR_NS, with_lone_s
from xiaonet.picking.picks import Pick
from xiaonet.picking.quality import Quality, add_qualities, channel_problems
from xiaonet.picking.segments import Instrument, first_time


@dataclass
class PickedDay:
    """What was found on a station-day.

    Attributes:
        picks: in order of time.
        dropped_s: number of S picks that were left out because no P is before them.
        details: what to tell about the day.
    """

    picks: list[Pick]
    dropped_s: int
    details: dict[str, object]


def by_day(instruments: Iterable[Instrument], whole: Archive, block: Block) -> dict[int, list[Task]]:
    """The tasks of each day from 1970 of a block, and of the days beside it."""
    days: dict[int, list[Task]] = {}
    for task in days_of(instruments, whole):
        if block.first - 1 <= (day := task.ranges[0][1] // DAY_SAMPLES) <= block.end:
            days.setdefault(day, []).append(task)
    return days


def beside(day: int, days: dict[int, list[Task]]) -> list[Task]:
    """The hours before and after a day in which a P may be that belongs to an S of the day.

    One of the day after can, where two instruments of a station have other time grids, or a centred window moves a pick.
    """
    first_ns, end_ns = day * DAY_NS - PAIR_NS - SECOND_NS, (day + 1) * DAY_NS + SECOND_NS
    found = []
    for task in [*days.get(day - 1, ()), *days.get(day + 1, ())]:
        ranges = [one for one in task.ranges if one[0].time_ns(one[2]) > first_ns and one[0].time_ns(one[1]) < end_ns]
        found += [replace(task, ranges=tuple(ranges))] if ranges else []
    return found


def pick_day(
    day: int, days: dict[int, list[Task]], whole: Archive, picker: Picker, *, drop_lone_s: bool, on_chunk: OnChunk | None
) -> PickedDay:
    """Pick a day.

    Args:
        day: from 1970.
        days: tasks of this day and of those beside it.
        whole: limits of time.
        picker: picks them.
        drop_lone_s: leave out S picks without a P on their station within 30 s before them.
        on_chunk: called with every chunk.
    """
    picks: list[Pick] = []
    total = Quality()
    channels: dict[str, Quality] = {}
    for task in days.get(day, ()):
        result = pick_task(task, whole, picker, on_chunk=on_chunk)
        picks += result.picks
        total += result.quality
        add_qualities(channels, result.channels)
    lone = _lone_s(day, picks, days, whole, picker) if drop_lone_s else set()
    kept = sorted(pick for pick in picks if pick not in lone)
    counts = {phase.lower(): sum(pick.phase == phase for pick in kept) for phase in "PS"}
    details: dict[str, object] = {**counts, "hours": round(total.hours, 6), "channels": channel_problems(channels)}
    return PickedDay(kept, len(picks) - len(kept), details)


def _lone_s(day: int, picks: Sequence[Pick], days: dict[int, list[Task]], whole: Archive, picker: Picker) -> set[Pick]:
    """S picks of a day without a P before them. The hours beside the day are picked only where this may matter."""
    found = _without_p(picks)
    if any(pick.time_ns < day * DAY_NS + PAIR_NS + SECOND_NS or pick.time_ns > (day + 1) * DAY_NS - SECOND_NS for pick in found):
        near = [pick for task in beside(day, days) for pick in pick_task(task, whole, picker).picks]
        found &= _without_p([*picks, *near])
    return found


def _without_p(picks: Sequence[Pick]) -> set[Pick]:
    return {pick for pick, is_lone in with_lone_s(sorted(picks)) if is_lone}


def clipped(day: int, request: Request) -> tuple[int, int]:
    """The time of a day that was asked for."""
    first, end = day * DAY_NS, (day + 1) * DAY_NS
    start_ns, end_ns = request.start_ns, request.end_ns
    return first if start_ns is None else max(first, start_ns), end if end_ns is None else min(end, end_ns)


def facts(task: Task) -> list[object]:
    """What the picks of a task depend on besides its samples: the grids, and which channels are used."""
    return [
        [task.instrument.name, f"{task.instrument.rate}"],
        [
            [segment.grid.phase_ns, f"{segment.grid.rate}", first, end]
            + [
                [component, seed_id, f"{rate}", first_time(index, segment)]
                for component, channels in task.instrument.recorded.items()
                for (seed_id, rate), index in channels.items()
            ]
            for segment, first, end in task.ranges
        ],
    ]
