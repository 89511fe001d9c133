"""Survey and pick a block. These functions run on the workers, and may be repeated at any time."""

import json
import os
import re
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
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from xiaonet.apps.pick_archive import Task
from xiaonet.archives.dataset import Complete, Dataset, digest
from xiaonet.archives.days import beside, by_day, clipped, facts, pick_day
from xiaonet.archives.planning import DAY_NS, Block, DayObject, Request
from xiaonet.archives.storage import Storage
from xiaonet.archives.worker import picker_of, storage_of, turns
from xiaonet.io.archive import Archive
from xiaonet.picker import Picker
from xiaonet.picking.channels import parse_components
from xiaonet.picking.preference import one_per_station
from xiaonet.picking.segments import Channel, Instrument, Piece, build_instruments
from xiaonet.picking.time_index import TimeIndex

if TYPE_CHECKING:
    from xiaonet.apps.day_plots import DayPlots

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
        return cls(f"{socket.gethostname()} {os.getpid()}", time.process_time(), _peak_mb())


def _peak_mb() -> float:
    """The largest memory of this process. That of `getrusage` counts the process that started it on Linux, even if that is larger."""
    try:
        told = Path("/proc/self/status").read_text()
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    found = re.search(r"VmHWM:\s+(\d+) kB", told)
    return int(found[1]) / 1024 if found else 0.0


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
        dropped_s: number of S picks that were left out because no P is before them.
        problems: what was skipped and why.
        usage: of the worker.
    """

    days: int = 0
    known: int = 0
    picks: int = 0
    dropped_s: int = 0
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
    storage = storage_of(request.out, create=True)
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
    picker = picker_of(request)
    dataset = Dataset(storage_of(request.out, create=True))
    here: list[Archive] = []
    instruments, problems = _instruments(ranges, request, here)
    whole = Archive((), request.start_ns, request.end_ns)  # of which one machine would have all files
    for instrument in instruments:
        parts = [part for part in map(whole.within, instrument.segments) if part.first < part.end]
        problems += picker.amplitude_problems(instrument, parts)
    days = by_day(instruments, whole, block)
    named = {one.day for one in block.own if _is_asked(one.day, request)}
    picked = named | {day for day in days if block.first <= day < block.end}  # a file may hold a bit of the next day
    earlier: dict[int, list[Complete]] = defaultdict(list)
    for done in dataset.complete(block.station):
        earlier[done.day].append(done)
    wanted = {day: Complete(day, block.station, _key(day, block, days, request)) for day in sorted(picked)}
    left = {day: done for day, done in wanted.items() if earlier[day] != [done]}
    result = Picked(known=len(named - left.keys()), problems=problems)
    near = {day + shift for day in left for shift in (-1, 0, 1)}
    with _fetched([one for one in block.objects if one.day in near], request) as files, turns.take(), _plots(request, picker) as plots:
        archive = Archive(files.paths, stations=request.stations, components=request.components)
        archive.of_station(block.station)
        here.append(archive)
        for day, done in left.items():
            found = pick_day(day, days, whole, picker, drop_lone_s=request.drop_lone_s, on_chunk=plots)
            _keep_plots(plots, block.station, dataset.storage)
            dataset.add(done, found.picks, [old for old in earlier[day] if old != done], {**found.details, **request.inventory_said})
            result.days += day in named
            result.picks += len(found.picks)
            result.dropped_s += found.dropped_s
        result.problems += files.renamed(list(archive.problems))
        here.clear()
        archive.forget()
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


def _key(day: int, block: Block, days: dict[int, list[Task]], request: Request) -> str:
    """A digest of all that the picks of a day depend on."""
    objects = [one.object for one in block.objects if day - 1 <= one.day <= day + 1]
    tasks = [*days.get(day, ()), *(beside(day, days) if request.drop_lone_s else ())]
    return digest(block.station, day, objects, request.made, clipped(day, request), [facts(task) for task in tasks])


def _is_asked(day: int, request: Request) -> bool:
    first, end = clipped(day, request)
    return first < end


@contextmanager
def _plots(request: Request, picker: Picker) -> Iterator["DayPlots | None"]:
    """What draws the days, if they are to be drawn, into a folder here."""
    if not request.plot:
        yield None
        return
    from xiaonet.apps.day_plots import DayPlots

    with tempfile.TemporaryDirectory(prefix="xiaonet-") as folder:
        yield DayPlots(Path(folder), picker.thresholds)


def _keep_plots(plots: "DayPlots | None", station: str, storage: Storage) -> None:
    """Move what was drawn to the output."""
    for path in sorted(plots.folder.iterdir()) if plots else ():
        storage.write(f"plots/{station}/{path.name}", path.read_bytes())
        path.unlink()


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
    storage = storage_of(request.source)
    ordered = sorted(objects, key=lambda one: reading_order(one.object.key))
    with tempfile.TemporaryDirectory(prefix="xiaonet-") as name, ThreadPoolExecutor(FETCHERS) as pool:
        folder = Path(name).resolve()
        paths = list(pool.map(lambda one: storage.fetch(one.object, folder), ordered))
        yield _Files(ordered, paths, f"{folder}/", storage.url)
