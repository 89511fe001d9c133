"""Picking an archive: a day of an instrument at a time, several at once, and never the same one twice."""

import hashlib
import heapq
import json
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import astuple, dataclass, field, replace
from itertools import groupby, islice
from pathlib import Path
from threading import Event
from typing import Protocol, Self

import numpy as np

from xiaonet.constants import SAMPLE_NS, SECOND_NS
from xiaonet.errors import OutputError
from xiaonet.io.archive import Archive
from xiaonet.io.picks import write_picks
from xiaonet.picker import Picker
from xiaonet.picking.annotation import CHUNK, Annotation, chunks
from xiaonet.picking.picks import Pick
from xiaonet.picking.segments import Instrument, Segment

DAY = 24 * CHUNK  # samples
JOURNAL = ".journal"  # is added to the name of the output while that is not finished


@dataclass(frozen=True)
class Task:
    """A day of an instrument: the least that is done or not done."""

    instrument: Instrument
    ranges: tuple[tuple[Segment, int, int], ...]  # segments and sample ranges of about an hour

    @property
    def key(self) -> str:
        """A name that is the same in every run over the same data."""
        segment, first, _ = self.ranges[0]
        return f"{self.instrument.name} {self.instrument.rate} Hz {segment.time_ns(first)}"

    @property
    def seconds(self) -> float:
        """Length of what is to be done, gaps included."""
        return sum(end - first for _, first, end in self.ranges) * SAMPLE_NS / SECOND_NS


@dataclass(frozen=True)
class Result:
    """What came out of a task."""

    key: str
    picks: list[Pick]
    seconds: float  # with data
    starts: int  # of data, at the beginning or after a gap
    problems: list[str] = field(default_factory=list)  # that came up since the result before


@dataclass(frozen=True)
class Summary:
    """What came out of an archive; `gaps` lie between the first and the last sample of an instrument."""

    stations: int
    instruments: int
    hours: float
    gaps: int
    picks: Mapping[str, int]


class Watch(Protocol):
    """Is told of seconds of data that are done, by this run or by an earlier one, from any thread."""

    def __call__(self, seconds: float, *, fresh: bool = True) -> None:
        """`fresh` seconds are done by this run."""


Sketch = Callable[[Task, Annotation, list[Pick]], None]


def plan(archive: Archive) -> list[Task]:
    """Days of instruments, in order."""
    tasks = []
    for instrument in archive.instruments:
        ranges = [(segment, first, end) for segment in instrument.segments for first, end in chunks(archive.within(segment))]
        tasks += [Task(instrument, tuple(day)) for _, day in groupby(ranges, key=lambda item: item[1] // DAY)]
    return tasks


def pick_archive(
    archive: Archive,
    picker: Picker,
    out: Path,
    *,
    workers: int = 1,
    resume: bool = False,
    watch: Watch = lambda seconds, fresh=True: None,
    sketch: Sketch | None = None,
) -> Summary:
    """Pick all instruments of an archive and write the picks in order of time.

    What is done is kept in a journal beside `out` until `out` is complete; with `resume`, a run
    that was stopped at any moment goes on from there and ends with the same file.

    Args:
        archive: what to pick.
        picker: with what.
        out: `.csv`, `.xml` (QuakeML) or `.parquet`; replaced only when all is done.
        workers: days that are picked at the same time, each on a thread of its own.
        resume: go on with the journal of a run over the same files with the same settings.
        watch: is told of seconds of data as they are done, from any thread.
        sketch: is shown every chunk, from any thread.

    Raises:
        OutputError: `out` or its journal cannot be written; or there is a journal and
            `resume` is not set, or there is none and it is, or it belongs to another run.
    """
    tasks = plan(archive)
    stop = Event()

    def work(task: Task) -> Result:
        picks: list[Pick] = []
        samples = starts = 0
        for segment, first, end in task.ranges:
            if stop.is_set():
                break
            seen = picker.annotate_chunk(task.instrument, segment, first, end)
            found = picker.read_picks(seen, task.instrument, segment)
            known = ~np.isnan(seen.probabilities[0, first - seen.start - 1 : end - seen.start])
            known[0] &= first > archive.within(segment).first  # what comes before was not asked for
            samples, starts = samples + int(known[1:].sum()), starts + int((known[1:] & ~known[:-1]).sum())
            picks += found
            if sketch is not None:
                sketch(task, seen, found)
            watch((end - first) * SAMPLE_NS / SECOND_NS)
        return Result(task.key, picks, samples * SAMPLE_NS / SECOND_NS, starts)

    with Journal(out.with_name(out.name + JOURNAL), _fingerprint(archive, picker, tasks), resume) as journal:
        archive.problems |= journal.problems
        left = iter([task for task in tasks if task.key not in journal.places])
        if known := sum(task.seconds for task in tasks if task.key in journal.places):
            watch(known, fresh=False)
        with ThreadPoolExecutor(workers) as pool:
            waiting: set[Future[Result]] = set()
            try:
                while waiting := waiting | {pool.submit(work, task) for task in islice(left, 2 * workers - len(waiting))}:
                    done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
                    for future in done:
                        fresh = [problem for problem in list(archive.problems) if problem not in journal.problems]
                        journal.add(replace(future.result(), problems=fresh))
            except BaseException:  # Ctrl-C too; a worker leaves after the hour of data that it is at
                stop.set()
                pool.shutdown(cancel_futures=True)
                raise
        try:
            write_picks(journal.picks(tasks), out, picker.provenance)
        except OutputError as error:
            raise OutputError(f"{error}; all picks are kept in {journal.path}: go on with --resume") from error
        summary = journal.summary(tasks)
    journal.path.unlink()
    return summary


def _fingerprint(archive: Archive, picker: Picker, tasks: list[Task]) -> str:
    """Tells whether two runs do the same work on the same files."""
    files = [(str(path), *_age(path)) for path in archive.files]
    said = json.dumps([picker.provenance, files, [(task.key, task.seconds) for task in tasks]], sort_keys=True)
    return hashlib.sha256(said.encode()).hexdigest()


def _age(path: Path) -> tuple[int, int]:
    try:
        return path.stat().st_size, path.stat().st_mtime_ns
    except OSError:  # gone since it was scanned
        return -1, -1


class Journal:
    """Results of finished tasks, a line each, on disk as soon as they are there.

    Attributes:
        path: of the file.
        places: by task, where its line starts.
        problems: that came up while the tasks were done.
    """

    def __init__(self, path: Path, fingerprint: str, resume: bool) -> None:
        self.path = path
        self.places: dict[str, int] = {}
        self.problems: dict[str, None] = {}
        self.counts: dict[str, tuple[float, int, Counter[str]]] = {}
        try:
            if not resume:
                path.open("xb").close()
            self.file = path.open("rb")
            self._read(fingerprint)
        except FileExistsError as error:
            raise OutputError(f"{path} is there: an earlier run was stopped; go on with --resume, or delete that file") from error
        except FileNotFoundError as error:
            fix = "leave --resume out" if resume else "choose a folder that exists"
            raise OutputError(f"{path} cannot be {'read' if resume else 'written'}: there is no such file or folder; {fix}") from error
        except OSError as error:
            raise OutputError(f"{path} cannot be written: {error.strerror}; choose another place for the picks") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()

    def add(self, result: Result) -> None:
        """Keep what came out of a task."""
        try:
            place = self._write({**vars(result), "picks": [astuple(pick) for pick in result.picks]})
        except OSError as error:
            raise OutputError(
                f"{self.path} cannot be written: {error.strerror}; what was done before is safe: free some space and go on with --resume"
            ) from error
        self._remember(result, place)

    def picks(self, tasks: list[Task]) -> Iterator[Pick]:
        """Picks of all tasks in order of time, read from disk as they are needed."""

        def of(group: Iterator[Task]) -> Iterator[Pick]:
            for key in [task.key for task in group]:
                yield from self._result(self.places[key]).picks

        by_instrument = groupby(tasks, key=lambda task: (task.instrument.name, task.instrument.rate))
        return heapq.merge(*[of(iter(list(group))) for _, group in by_instrument])

    def summary(self, tasks: list[Task]) -> Summary:
        """What came out of all tasks together."""
        starts: Counter[str] = Counter()
        for task in tasks:
            starts[task.instrument.name] += self.counts[task.key][1]
        phases: Counter[str] = Counter()
        for _, _, found in self.counts.values():
            phases.update(found)
        return Summary(
            stations=len({".".join(name.split(".")[:2]) for name in starts}),
            instruments=len(starts),
            hours=sum(seconds for seconds, _, _ in self.counts.values()) / 3600,
            gaps=sum(max(number - 1, 0) for number in starts.values()),
            picks=phases,
        )

    def _read(self, fingerprint: str) -> None:
        """Take in what is there; a line that is not whole was being written when the run was killed."""
        head = self.file.readline()
        if not head.endswith(b"\n"):
            os.truncate(self.path, 0)
            self._write({"fingerprint": fingerprint})
            return
        if head != self._line({"fingerprint": fingerprint}):
            raise OutputError(
                f"{self.path} was made from other files or with other settings; repeat the command as it was, "
                "or delete that file and leave --resume out"
            )
        place = len(head)
        for line in self.file:
            try:
                self._remember(self._parse(line), place)
            except (ValueError, TypeError, KeyError):
                os.truncate(self.path, place)
                return
            place += len(line)

    def _write(self, content: Mapping[str, object]) -> int:
        """Add a line, which is on disk when this returns. Tells where it starts."""
        line = memoryview(self._line(content))
        with self.path.open("ab", buffering=0) as file:  # a buffer would be tried again when it is closed
            place = file.tell()
            while line:
                line = line[file.write(line) :]
            os.fsync(file.fileno())
        return place

    @staticmethod
    def _line(content: Mapping[str, object]) -> bytes:
        return json.dumps(content).encode() + b"\n"

    def _remember(self, result: Result, place: int) -> None:
        self.places[result.key] = place
        self.problems |= dict.fromkeys(result.problems)
        self.counts[result.key] = result.seconds, result.starts, Counter(pick.phase for pick in result.picks)

    def _result(self, place: int) -> Result:
        self.file.seek(place)
        return self._parse(self.file.readline())

    @staticmethod
    def _parse(line: bytes) -> Result:
        if not line.endswith(b"\n"):
            raise ValueError("a line that was not written to its end")
        content = json.loads(line)
        return Result(**{**content, "picks": [Pick(*fields) for fields in content["picks"]]})
