"""Survey and pick a block. These functions run on the workers, and may be repeated at any time."""

import json
import os
import resource
import socket
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from xiaonet.apps.pick_archive import DAY_SAMPLES, Task, days_of, pick_task
from xiaonet.archives.dataset import Complete, Dataset, digest
from xiaonet.archives.planning import DAY_NS, Block, DayObject, Request
from xiaonet.archives.storage import Storage
from xiaonet.errors import ConfigError
from xiaonet.io.archive import Archive
from xiaonet.picker import Picker
from xiaonet.picking.channels import parse_components
from xiaonet.picking.picks import Pick
from xiaonet.picking.preference import one_per_station
from xiaonet.picking.quality import Quality, add_qualities, channel_problems
from xiaonet.picking.segments import Channel, Instrument, Piece, build_instruments, first_time
from xiaonet.picking.time_index import TimeIndex

FETCHERS = 8  # objects that are fetched at the same time


class Range(NamedTuple):
    """A time range in which an object holds a channel, without a long gap."""

    seed_id: str
    rate: str  # a ratio of integers in Hz
    start_ns: int
    end_ns: int


class Usage(NamedTuple):
    """Processor time that a worker has used since it began, in seconds, and its largest memory in MB."""

    worker: str
    seconds: float
    memory: float

    @classmethod
    def now(cls) -> "Usage":
        """That of this process."""
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        return cls(f"{socket.gethostname()} {os.getpid()}", time.process_time(), peak)


@dataclass
class Survey:
    """What the headers of the files of a block tell.

    Attributes:
        ranges: of each object, by its key.
        problems: what was skipped and why.
        usage: of the worker.
    """

    ranges: dict[str, list[Range]]
    problems: list[str]
    usage: Usage


@dataclass
class Picked:
    """What was done with a block.

    Attributes:
        days: station-days that were picked.
        known: station-days that were complete before.
        picks: number of picks of the new station-days.
        problems: what was skipped and why.
        usage: of the worker.
    """

    days: int = 0
    known: int = 0
    picks: int = 0
    problems: list[str] = field(default_factory=list)
    usage: Usage = field(default_factory=Usage.now)


class _Files(NamedTuple):
    """Local files of objects, in the order in which one machine would read them."""

    objects: list[DayObject]
    paths: list[Path]
    replaced: str
    url: str

    def renamed(self, problems: Sequence[str]) -> list[str]:
        """Problems with the URLs of objects instead of local copies."""
        return [problem.replace(self.replaced, f"{self.url}/") for problem in problems]


def survey(block: Block, request: Request) -> Survey:
    """Read the headers of the files of a block, unless an earlier run has done so.

    Raises:
        StorageError: a file cannot be read, or the survey cannot be written.
    """
    storage = _storage(request.out, create=True)
    name = f"survey/{block.station}/{digest(request.components, request.stations, block.own)}.json"
    known = storage.read(name)
    if known is None:
        with _fetched(block.own, request) as files:
            archive = Archive(files.paths, stations=request.stations, components=request.components)
            ranges, problems = _ranges(archive, files, block.station)
            known = json.dumps([ranges, files.renamed([*archive.problems, *problems])]).encode()
        storage.write(name, known)
    by_key, problems = json.loads(known)
    return Survey({key: [Range(*found) for found in ranges] for key, ranges in by_key.items()}, problems, Usage.now())


def pick_block(block: Block, request: Request, ranges: Sequence[Range]) -> Picked:
    """Pick the days of a block that are not complete, and complete them.

    Args:
        block: some days of a station.
        request: what to pick.
        ranges: of all objects of the station, in the order in which one machine would read them.

    Raises:
        ConfigError: this worker has another version or model than the request.
        StorageError: a file cannot be read, or a result cannot be written.
    """
    picker = _checked_picker(request)
    dataset = Dataset(_storage(request.out, create=True))
    here: list[Archive] = []
    instruments, problems = _instruments(ranges, request, here)
    named = {one.day for one in block.own if _is_asked(one.day, request)}
    days: dict[int, list[Task]] = {day: [] for day in named}  # and others, where a file holds a bit of the next day
    whole = Archive((), request.start_ns, request.end_ns)  # of which one machine would have all files
    for task in days_of(instruments, whole):
        if block.first <= (day := task.ranges[0][1] // DAY_SAMPLES) < block.end:
            days.setdefault(day, []).append(task)
    earlier: dict[int, list[Complete]] = defaultdict(list)
    for done in dataset.complete(block.station):
        earlier[done.day].append(done)
    wanted = {day: Complete(day, block.station, _key(day, block, tasks, request)) for day, tasks in sorted(days.items())}
    left = {day: done for day, done in wanted.items() if earlier[day] != [done]}
    result = Picked(known=len(named - left.keys()), problems=problems)
    near = {day + shift for day in left for shift in (-1, 0, 1)}
    with _fetched([one for one in block.objects if one.day in near], request) as files:
        archive = Archive(files.paths, stations=request.stations, components=request.components)
        archive.of_station(block.station)
        here.append(archive)
        for day, done in left.items():
            picks, details = _pick_day(days[day], whole, picker)
            dataset.add(done, picks, [old for old in earlier[day] if old != done], details)
            result.days += day in named
            result.picks += len(picks)
        result.problems += files.renamed(list(archive.problems))
    result.usage = Usage.now()
    return result


def reading_order(key: str) -> list[tuple[int, str]]:
    """Sorts the names of objects as one machine reads a folder: its files by name, then its folders."""
    *folders, name = key.split("/")
    return [*((1, folder) for folder in folders), (0, name)]


def _instruments(ranges: Sequence[Range], request: Request, here: Sequence[Archive]) -> tuple[list[Instrument], list[str]]:
    """The instruments that one machine would find in all files of a station, and what is left out.

    Their samples are read from the archives that are `here` when they are needed.
    """
    table: dict[Channel, list[Range]] = {}
    for one in ranges:
        table.setdefault((one.seed_id, Fraction(one.rate)), []).append(one)

    def find(channel: Channel, first_ns: int, end_ns: int) -> Iterator[Piece]:
        for archive in here:
            yield from archive.pieces(channel, first_ns, end_ns)

    indexes = {channel: TimeIndex(found) for channel, found in table.items()}
    instruments, spare = build_instruments(indexes, find, parse_components(request.components))
    chosen, left_out = one_per_station(instruments, request.prefer)
    return chosen, [*spare, *left_out]


def _pick_day(tasks: Sequence[Task], whole: Archive, picker: Picker) -> tuple[list[Pick], dict[str, object]]:
    """The picks of a station-day in order of time, and what to tell about it."""
    picks: list[Pick] = []
    total = Quality()
    channels: dict[str, Quality] = {}
    for task in tasks:
        result = pick_task(task, whole, picker)
        picks += result.picks
        total += result.quality
        add_qualities(channels, result.channels)
    counts = {phase.lower(): sum(pick.phase == phase for pick in picks) for phase in "PS"}
    return sorted(picks), {**counts, "hours": round(total.hours, 6), "channels": channel_problems(channels)}


def _key(day: int, block: Block, tasks: Sequence[Task], request: Request) -> str:
    """A digest of all that the picks of a day depend on."""
    objects = [one.object for one in block.objects if day - 1 <= one.day <= day + 1]
    return digest(block.station, day, objects, request.made, _clipped(day, request), [_facts(task) for task in tasks])


def _clipped(day: int, request: Request) -> tuple[int, int]:
    """The time of a day that was asked for."""
    first, end = day * DAY_NS, (day + 1) * DAY_NS
    start_ns, end_ns = request.start_ns, request.end_ns
    return first if start_ns is None else max(first, start_ns), end if end_ns is None else min(end, end_ns)


def _facts(task: Task) -> list[object]:
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


def _is_asked(day: int, request: Request) -> bool:
    first, end = _clipped(day, request)
    return first < end


def _ranges(archive: Archive, files: _Files, station: str) -> tuple[dict[str, list[Range]], list[str]]:
    """The time ranges of each object by its key, and a problem for each one that its name does not promise."""
    objects = {os.path.realpath(path): one for path, one in zip(files.paths, files.objects, strict=True)}
    ranges: dict[str, list[Range]] = {}
    problems: dict[str, None] = {}
    for (seed_id, rate), path, found in archive.ranges():
        day, (key, *_) = objects[path]
        first, end = (day - 1) * DAY_NS, (day + 2) * DAY_NS
        if not seed_id.startswith(f"{station}."):
            problems[f"{path}: holds {seed_id}, but its name says {station}; left out"] = None
            continue
        if found.start_ns < first or found.end_ns > end:
            problems[f"{path}: holds {seed_id} more than a day before or after the day of its name; left out there"] = None
        if found.start_ns < end and found.end_ns > first:
            ranges.setdefault(key, []).append(Range(seed_id, f"{rate}", max(found.start_ns, first), min(found.end_ns, end)))
    return ranges, list(problems)


@contextmanager
def _fetched(objects: Sequence[DayObject], request: Request) -> Iterator[_Files]:
    """Local files of objects, for as long as they are needed."""
    storage = _storage(request.source)
    ordered = sorted(objects, key=lambda one: reading_order(one.object.key))
    with tempfile.TemporaryDirectory(prefix="xiaonet-") as name, ThreadPoolExecutor(FETCHERS) as pool:
        folder = Path(name).resolve()
        paths = list(pool.map(lambda one: storage.fetch(one.object, folder), ordered))
        yield _Files(ordered, paths, f"{folder}/", storage.url)


def _checked_picker(request: Request) -> Picker:
    """The picker of a request, which is the same as that of the one who asks."""
    picker = _picker(request.model, tuple(sorted(request.thresholds.items())), tuple(request.how.items()))
    for name, wanted in request.provenance.items():
        if (found := picker.provenance.get(name)) != wanted:
            raise ConfigError(f"this worker has {name} {found!r}; wanted {wanted!r}: install the same XiaoNet and model on all workers")
    return picker


@lru_cache(4)
def _picker(model: str, thresholds: tuple[tuple[str, float], ...], how: tuple[tuple[str, Any], ...]) -> Picker:
    return Picker(model, dict(thresholds), threads=1, **dict(how))


@lru_cache(8)
def _storage(url: str, create: bool = False) -> Storage:
    return Storage(url, create=create)
