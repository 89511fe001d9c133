"""Run the blocks of a plan: first the surveys of a station, then its picks. What fails is counted and the rest goes on."""

from collections import Counter, deque
from collections.abc import Iterator, Sequence
from concurrent.futures import CancelledError, Future
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from typing import Any, Protocol

from xiaonet.archives.blocks import Picked, Range, Survey, Usage, pick_block, reading_order, survey
from xiaonet.archives.engines import Engine
from xiaonet.archives.planning import Block, Plan, Request
from xiaonet.errors import ConfigError, StorageError

AHEAD = 4  # blocks that wait for each core, so that none is idle
LOOK_S = 10.0  # between two looks at the engine, also while nothing is finished
MOST_PROBLEMS = 1000  # that are kept to be printed


@dataclass
class RunTotals:
    """What a run has done.

    Attributes:
        station_days: number of station-days of the plan.
        done: picked by this run.
        known: complete before.
        picks: number of picks of this run.
        dropped_s: number of S picks that were left out because no P is before them.
        failed: station-days of blocks that failed.
        failures: number of blocks that failed, by reason.
        problems: what was skipped and why, each once.
        workers: processor time and memory of each worker.
    """

    station_days: int
    done: int = 0
    known: int = 0
    picks: int = 0
    dropped_s: int = 0
    failed: int = 0
    failures: Counter[str] = field(default_factory=Counter)
    problems: dict[str, None] = field(default_factory=dict)
    workers: dict[str, Usage] = field(default_factory=dict)

    @property
    def processor_s(self) -> float:
        """Processor time of all workers in seconds."""
        return sum(usage.seconds for usage in self.workers.values())

    def add(self, result: Picked) -> None:
        """Count a block."""
        self.done += result.days
        self.known += result.known
        self.picks += result.picks
        self.dropped_s += result.dropped_s

    def note(self, problems: Sequence[str], usage: Usage) -> None:
        """Add what a worker found, and what it used."""
        for problem in problems:
            if len(self.problems) < MOST_PROBLEMS:
                self.problems[problem] = None
        self.workers[usage.worker] = max(usage, self.workers.get(usage.worker, usage))


class OnProgress(Protocol):
    """Called when a block is done or failed, with the totals so far and the number of cores."""

    def __call__(self, totals: RunTotals, cores: int, /) -> None: ...  # noqa: D102


@dataclass
class _Station:
    """A station whose blocks are being surveyed."""

    blocks: list[Block]
    left: int
    ranges: dict[str, list[Range]] = field(default_factory=dict)
    failed: bool = False

    def in_order(self) -> list[Range]:
        return [found for key in sorted(self.ranges, key=reading_order) for found in self.ranges[key]]


@dataclass
class _Work:
    """A call on the engine."""

    station: _Station
    block: Block
    ranges: list[Range] | None = None  # None for a survey


def run(plan: Plan, request: Request, engine: Engine, on_progress: OnProgress) -> RunTotals:
    """Survey and pick all blocks of a plan.

    Raises:
        ConfigError: a worker has another version or model.
        StorageError: the scheduler is gone.
    """
    totals = RunTotals(plan.station_days)
    surveys = _surveys(plan)
    picks: deque[_Work] = deque()
    running: dict[Future[Any], _Work] = {}
    ended: SimpleQueue[Future[Any]] = SimpleQueue()
    try:
        while True:
            cores = engine.cores()
            while len(running) < AHEAD * cores and (work := picks.popleft() if picks else next(surveys, None)):
                running[future := _submit(work, request, engine)] = work
                future.add_done_callback(ended.put)
            if not running:
                return totals
            for future in _waited(ended):
                picks.extend(_take(future, running.pop(future), totals))
            on_progress(totals, cores)
    except (OSError, CancelledError) as error:
        gone = f"the scheduler is gone: {type(error).__name__}: {error}"
        raise StorageError(f"{gone}; complete days are kept: start it and repeat the command with --resume") from error


def _waited(ended: "SimpleQueue[Future[Any]]") -> Iterator[Future[Any]]:
    """The calls that have ended, after at least one has, or after some seconds."""
    try:
        yield ended.get(timeout=LOOK_S)
        while True:
            yield ended.get_nowait()
    except Empty:
        return


def _surveys(plan: Plan) -> Iterator[_Work]:
    for blocks in plan.stations():
        station = _Station(blocks, len(blocks))
        yield from (_Work(station, block) for block in blocks)


def _submit(work: _Work, request: Request, engine: Engine) -> Future[Any]:
    if work.ranges is None:
        return engine.executor.submit(survey, work.block, request)
    return engine.executor.submit(pick_block, work.block, request, work.ranges)


def _take(future: Future[Any], work: _Work, totals: RunTotals) -> list[_Work]:
    """Count the result of a call. Returns the work that it makes possible."""
    station = work.station
    error = future.exception()
    if isinstance(error, ConfigError | ModuleNotFoundError | CancelledError):  # no block would fare better
        raise error
    if error is not None:
        totals.failures[_reason(error)] += 1
        totals.failed += _days(work.block) if work.ranges is not None else 0
        station.failed |= work.ranges is None
    else:
        result = future.result()
        totals.note(result.problems, result.usage)
        if isinstance(result, Survey):
            station.ranges |= result.ranges
        else:
            totals.add(result)
    if work.ranges is not None:
        return []
    station.left -= 1
    if station.left:
        return []
    if station.failed:  # without all headers of a station no block of it is exact
        totals.failed += sum(map(_days, station.blocks))
        return []
    ranges = station.in_order()
    return [_Work(station, block, ranges) for block in station.blocks]


def _days(block: Block) -> int:
    return len({one.day for one in block.own})


def _reason(error: BaseException) -> str:
    """Why a block failed, without what differs from block to block."""
    if type(error).__name__ == "KilledWorker":
        return "its workers died again and again; give them more memory"
    text = str(error)
    return f"{type(error).__name__}: {text.partition(': ')[2] or text}".partition("\n")[0]
