"""Picking an archive. A task is a day of an instrument; several run at once, and a journal keeps what is finished."""

import hashlib
import json
import os
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property
from itertools import chain, groupby, islice
from pathlib import Path
from threading import Event
from typing import Any, NamedTuple, Protocol

import numpy as np

from xiaonet.apps.journal import FORMAT, Journal, TaskResult
from xiaonet.apps.summary import StationSummary, Summary, write_summary
from xiaonet.constants import SAMPLE_NS, SECOND_NS
from xiaonet.errors import OutputError
from xiaonet.io.archive import Archive
from xiaonet.io.picks import write_picks
from xiaonet.picker import Picker
from xiaonet.picking.annotation import CHUNK, Annotation, chunks
from xiaonet.picking.pairs import with_lone_s
from xiaonet.picking.picks import Pick
from xiaonet.picking.quality import Quality, add_qualities, channel_problems, measure
from xiaonet.picking.segments import Instrument, Segment

DAY_SAMPLES = 24 * CHUNK


@dataclass(frozen=True)
class Task:
    """A day of an instrument, which is picked and kept as a whole."""

    instrument: Instrument
    ranges: tuple[tuple[Segment, int, int], ...]  # segments and sample ranges of about an hour

    @cached_property
    def key(self) -> str:
        """A name that is the same in every run over the same data."""
        segment, first, _ = self.ranges[0]
        return f"{self.instrument.name} {self.instrument.rate} Hz {segment.time_ns(first)}"

    @property
    def seconds(self) -> float:
        """Length, gaps included."""
        return sum(end - first for _, first, end in self.ranges) * SAMPLE_NS / SECOND_NS


class OnSeconds(Protocol):
    """Called when seconds of data are done, from any thread."""

    def __call__(self, seconds: float, *, fresh: bool = True) -> None:
        """`fresh` seconds were done by this run, others by an earlier one."""


OnChunk = Callable[[Task, Annotation, list[Pick]], None]
OnStation = Callable[[list[Instrument], float], None]
TaskKeys = dict[tuple[str, Fraction], list[str]]  # of each instrument, by its name and rate


def plan(archive: Archive) -> list[Task]:
    """Days of all instruments, in order."""
    return list(days_of(archive.instruments, archive))


def first_tasks(archive: Archive, number: int) -> list[Task]:
    """At most `number` days of instruments, of as few stations as possible, because their files are scanned."""
    return list(islice(chain.from_iterable(days_of(archive.of_station(name), archive) for name in _stations(archive)), number))


def _stations(archive: Archive) -> Iterator[str]:
    """The stations in the names of files, and then those that only the files tell."""
    known: set[str] = set()
    while names := [name for name in archive.station_names() if name not in known]:
        yield from names
        known.update(names)


def days_of(instruments: Iterable[Instrument], archive: Archive) -> Iterator[Task]:
    """Days of instruments, in order."""
    for instrument in instruments:
        ranges = [(segment, first, end) for segment in instrument.segments for first, end in chunks(archive.within(segment))]
        yield from (Task(instrument, tuple(day)) for _, day in groupby(ranges, key=lambda item: item[1] // DAY_SAMPLES))


def pick_archive(
    archive: Archive,
    picker: Picker,
    out: Path,
    *,
    workers: int = 1,
    resume: bool = False,
    drop_lone_s: bool = False,
    on_progress: OnSeconds = lambda seconds, fresh=True: None,
    on_chunk: OnChunk | None = None,
    on_station: OnStation = lambda instruments, more: None,
) -> Summary:
    """Pick all instruments of an archive and write the picks in order of time, and a summary in a `.json` file beside them.

    Stations are picked one after the other. The files of the next one are scanned while one is picked. Finished tasks are
    kept in a journal beside `out` until `out` is complete. With `resume`, a run that was interrupted at any moment continues
    there and ends with the same file.

    Args:
        archive: the records.
        picker: picks them.
        out: `.csv`, `.xml` (QuakeML) or `.parquet`; replaced only when all is done.
        workers: number of days that are picked at the same time, each on its own thread.
        resume: continue the journal of a run over the same files with the same settings, if there is one.
        drop_lone_s: leave out S picks without a P on their station within 30 s before them.
        on_progress: called when seconds of data are done, from any thread.
        on_chunk: called with every chunk, from any thread.
        on_station: called when the files of a station were scanned, from any thread: with its instruments, and by how many seconds
            their data are longer than `Archive.expected_seconds` before the scan.

    Raises:
        OutputError: `out` or its journal cannot be written, another run is writing it, there is a journal and
            `resume` is false, or it belongs to another run.
    """
    with Journal(out, _fingerprint(archive, picker), resume) as journal:
        archive.problems |= journal.problems
        if known := sum(counts.seconds for counts in journal.counts.values()):
            on_progress(known, fresh=False)
        planned: dict[str, TaskKeys] = {}  # by station
        while names := [name for name in archive.station_names() if name not in planned or name in archive.changed]:
            archive.changed.clear()
            journal.forget([name for name in names if name in planned])
            _pick_stations(names, planned, _Run(archive, picker, journal, on_progress, on_chunk, on_station), workers)
        keys = {instrument: keys for name in archive.station_names() for instrument, keys in planned[name].items()}
        summary = _summarise(keys, journal, archive)
        try:
            write_picks(_counted(journal.picks(keys.values()), summary, drop_lone_s), out, picker.provenance)
            write_summary(summary, out, {**picker.provenance, **_request(archive)})
        except OutputError as error:
            journal.keep()
            raise OutputError(f"{error}; all picks are kept in {journal.path}: continue with --resume") from error
        journal.delete()
        return summary


def _counted(picks: Iterable[Pick], summary: Summary, drop_lone_s: bool) -> Iterator[Pick]:
    """The picks to write; counts S without P in the summary."""
    stations = {station.name: station for station in summary.by_station}
    for pick, is_lone in with_lone_s(picks):
        stations[pick.station].lone_s += is_lone
        if is_lone and drop_lone_s:
            stations[pick.station].dropped_s += 1
        else:
            yield pick


class _Run(NamedTuple):
    """What stays the same while an archive is picked."""

    archive: Archive
    picker: Picker
    journal: Journal
    on_progress: OnSeconds
    on_chunk: OnChunk | None
    on_station: OnStation


def _pick_stations(names: list[str], planned: dict[str, TaskKeys], run: _Run, workers: int) -> None:
    """Pick stations on several threads, and write the result of each task to the journal as soon as it exists.

    While the tasks of a station wait, the files of the next one are scanned on a thread of their own.
    """
    stop, ready, known = Event(), deque[Task](), 0
    stations = _plan_stations(names, planned, run, stop.is_set)
    with ThreadPoolExecutor(1) as scanner, ThreadPoolExecutor(workers) as pool:
        running: set[Future[TaskResult]] = set()
        scanning = {scanner.submit(next, stations, None)}
        try:
            while running or scanning:
                waited: set[Future[Any]] = running | (set() if ready else scanning)
                done, _ = wait(waited, return_when=FIRST_COMPLETED)
                for result in sorted(running & done, key=lambda task: task.exception() is not None):  # so a failure loses no other
                    found = run.archive.problems_since(known)
                    fresh = [problem for problem in found if problem not in run.journal.problems]
                    run.journal.add(replace(result.result(), problems=fresh))
                    known += len(found)
                for tasks in [station.result() for station in scanning & done]:
                    scanning = set() if tasks is None else {scanner.submit(next, stations, None)}
                    ready.extend(task for task in tasks or () if task.key not in run.journal.counts)
                running -= done
                while ready and len(running) < 2 * workers:
                    running.add(pool.submit(pick_task, ready.popleft(), run.archive, run.picker, stop, run.on_progress, run.on_chunk))
        except BaseException:  # Ctrl-C too; a worker stops after its current hour of data
            stop.set()
            pool.shutdown(cancel_futures=True)
            raise


def _plan_stations(names: list[str], planned: dict[str, TaskKeys], run: _Run, is_stopped: Callable[[], bool]) -> Iterator[list[Task]]:
    """The tasks of each station. Their keys are added to `planned`."""
    for name in names:
        expected = 0.0 if name in planned else run.archive.expected_seconds(name)
        instruments = run.archive.of_station(name, is_stopped)
        tasks = list(days_of(instruments, run.archive))
        planned[name] = defaultdict(list)
        for task in tasks:
            planned[name][task.instrument.name, task.instrument.rate].append(task.key)
        for instrument in instruments:
            parts = [part for part in map(run.archive.within, instrument.segments) if part.first < part.end]
            run.archive.problems |= dict.fromkeys(run.picker.amplitude_problems(instrument, parts))
        run.on_station(instruments, sum(task.seconds for task in tasks) - expected)
        yield tasks


def pick_task(
    task: Task,
    archive: Archive,
    picker: Picker,
    stop: Event | None = None,
    on_progress: OnSeconds = lambda seconds, fresh=True: None,
    on_chunk: OnChunk | None = None,
) -> TaskResult:
    """Pick a day of an instrument, hour by hour. `stop` ends it after an hour; the other arguments are those of `pick_archive`."""
    picks: list[Pick] = []
    total = Quality()
    channels: dict[str, Quality] = {}
    for segment, first, end in task.ranges:
        if stop is not None and stop.is_set():
            break
        annotation = picker.annotate_chunk(task.instrument, segment, first, end)
        found = picker.read_picks(annotation, task.instrument, segment)
        quality, by_channel = measure(annotation, begins=first == archive.within(segment).first)
        total += quality
        add_qualities(channels, by_channel)
        picks += found
        if on_chunk is not None:
            on_chunk(task, annotation, found)
        on_progress((end - first) * SAMPLE_NS / SECOND_NS)
    return TaskResult(task.key, picks, total, channels, seconds=task.seconds)


def _summarise(keys: TaskKeys, journal: Journal, archive: Archive) -> Summary:
    """The summary of finished tasks, without what the order of the picks shows."""
    problems = [*archive.problems, *channel_problems(journal.channels)]
    by_station: dict[str, list[str]] = {}
    for problem in problems:
        by_station.setdefault(".".join(problem.split(".", 2)[:2]), []).append(problem)
    stations: dict[str, StationSummary] = {}
    for (name, _), tasks in keys.items():
        station = stations.setdefault(name.rsplit(".", 2)[0], StationSummary(name.rsplit(".", 2)[0]))
        for counts in map(journal.counts.__getitem__, tasks):
            add_qualities(station.instruments, {name: counts.quality})
            station.picks += counts.picks
    for seed_id, quality in sorted(journal.channels.items()):
        stations[seed_id.rsplit(".", 2)[0]].channels[seed_id] = quality
    for station in stations.values():
        station.problems = by_station.get(station.name, [])
    return Summary([stations[name] for name in sorted(stations)], problems)


def _fingerprint(archive: Archive, picker: Picker) -> str:
    """A digest that is the same for two runs with the same files and settings."""
    wanted = [archive.start_ns, archive.end_ns, sorted(archive.stations), archive.components, archive.prefer]
    digest = hashlib.sha256(json.dumps([FORMAT, picker.provenance, wanted], sort_keys=True).encode())
    for path in archive.sources():
        digest.update(json.dumps([path, *_age(path)]).encode())
    return digest.hexdigest()


def _request(archive: Archive) -> dict[str, object]:
    """What was asked for, for the summary."""
    times = {"from": archive.start_ns, "to": archive.end_ns}
    return {
        **{name: time_ns and f"{np.datetime64(time_ns, 'ns')}Z" for name, time_ns in times.items()},
        "stations": list(archive.stations),
        "components": archive.components,
        "files": len(archive.files),
    }


def _age(path: str) -> tuple[int, int]:
    try:
        found = os.stat(path)
    except OSError:  # deleted since it was found
        return -1, -1
    return found.st_size, found.st_mtime_ns
