"""The command line in a process of its own that can be killed at any moment.

A server process imports what the commands need and forks for each command, so that a command takes no time to start.
"""

import multiprocessing
import os
import resource
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

PRELOADED = (
    *("numpy", "pandas", "obspy", "scipy.signal", "pydantic.type_adapter", "rich.progress", "rich.status", "rich.spinner", "jinja2"),
    *("torch", "seisbench.data", "seisbench.models", "matplotlib.figure", "lightning_fabric", "onnxruntime", "onnxscript"),
    *("xiaonet.cli.main", "xiaonet.picker", "xiaonet.apps.pick_archive", "xiaonet.training.trainer", "xiaonet.evaluation.report"),
)
HANGING_S = 900  # a command that takes longer hangs
FILE_EVENTS = ("open", "os.rename", "os.remove", "os.mkdir", "sqlite3.connect")
server = multiprocessing.get_context("forkserver")
server.set_forkserver_preload([*PRELOADED])


@dataclass(frozen=True)
class Ended:
    """How a command ended.

    Attributes:
        status: exit status; negative for the number of the signal that killed it.
        told: what it printed.
        seconds: it took.
        file_events: number of times that it opened, renamed or removed a file of its folder.
    """

    status: int
    told: str
    seconds: float
    file_events: int


@dataclass(frozen=True)
class Moment:
    """When a command is killed: after some seconds, or just before a file event of its folder."""

    seconds: float | None = None
    file_event: int | None = None


def call(
    words: Sequence[str | Path],
    folder: Path,
    *,
    kill: Moment | None = None,
    stand_in: bool = False,
    address_space: int | None = None,
    processor_s: int | None = None,
) -> Ended:
    """Run `xiaonet` with these words in a folder, and kill it at a moment.

    Args:
        words: of the command.
        folder: where it runs.
        kill: when it is killed by SIGKILL; by default not at all.
        stand_in: pick with the stand-in rather than with a network.
        address_space: bytes that the process may use, by default any number.
        processor_s: seconds of processor time that it may use, by default any number.
    """
    log, events = folder.parent / f"{folder.name}.log", server.Value("q", 0)
    file_event = kill.file_event if kill else None
    limits = {resource.RLIMIT_AS: address_space, resource.RLIMIT_CPU: processor_s}
    process = server.Process(target=_run, args=([*map(str, words)], folder, log, events, file_event, stand_in, limits))
    started = time.monotonic()
    process.start()
    process.join(kill.seconds if kill and kill.seconds is not None else HANGING_S)
    in_time = not process.is_alive() or (kill is not None and kill.seconds is not None)
    process.kill()
    process.join()
    told = log.read_text(errors="replace") if log.exists() else ""
    assert in_time, f"xiaonet {' '.join(map(str, words))} takes longer than {HANGING_S} s: {told}"
    return Ended(process.exitcode or 0, told, time.monotonic() - started, events.value)


def _run(
    words: list[str], folder: Path, log: Path, events: "multiprocessing.sharedctypes.Synchronized[int]", file_event: int | None,
    stand_in: bool, limits: dict[int, int | None],
) -> None:  # fmt: skip
    """The command in its own process."""
    os.chdir(folder)
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for stream in (1, 2):
        os.dup2(descriptor, stream)
    for kind, limit in limits.items():
        if limit is not None:
            resource.setrlimit(kind, (limit, limit))
    if stand_in:
        import xiaonet.picker
        from stand_in import StandIn

        xiaonet.picker.load_predictor = lambda *_: StandIn()
    inside = str(folder)

    def count(event: str, arguments: tuple[object, ...]) -> None:
        if event in FILE_EVENTS and arguments and isinstance(arguments[0], str | os.PathLike):
            path = os.path.abspath(os.fspath(arguments[0]))
            if path.startswith(inside):
                events.value += 1
                if events.value == file_event:
                    os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(count)
    from xiaonet.cli.main import app

    app(words)
