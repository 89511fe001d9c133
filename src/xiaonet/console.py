"""All that XiaoNet says while it works: ✓ and ✗ lines, and progress.

Every line goes to standard output through one console, which only the first of several
processes may use.
"""

import os
import sys
import threading
import time
from collections.abc import Mapping
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

_console = Console(highlight=False, soft_wrap=True, force_jupyter=False, emoji=False)
PLAIN_SECONDS = 5.0  # between two progress lines where there is no terminal
DAY = 86400  # s


def silence(quiet: bool = True) -> None:
    """Say nothing any more, as every process but the first must."""
    _console.quiet = quiet


def ok(component: str, status: str, details: str = "") -> None:
    """Print `✓ Component: status - details`."""
    _line("[green]✓[/green]", component, status, details)


def warn(component: str, status: str, details: str = "") -> None:
    """Print `! Component: status - details`, for what the user should look at but that stops nothing."""
    _line("[yellow]![/yellow]", component, status, details)


def fail(component: str, status: str, details: str = "") -> None:
    """Print `✗ Component: status - details`."""
    if _console.quiet:  # another process speaks for all, but not of what went wrong here
        print(f"✗ {component}: {status} - {details} (process {os.environ.get('RANK', '?')})", file=sys.stderr)
    _line("[red]✗[/red]", component, status, details)


def info(component: str, parameters: Mapping[str, object]) -> None:
    """Print `Component information:` and an indented line for each parameter."""
    _console.print(f"{component} information:", markup=False)
    for name, value in parameters.items():
        _console.print(f"  {name}: {value}", markup=False)


def say(text: str = "") -> None:
    """Print a line as it is."""
    _console.print(text, markup=False)


def busy(text: str) -> AbstractContextManager[object]:
    """Show that something goes on, where there is a terminal."""
    return _console.status(text)


def ask(question: str) -> str:
    """Ask the person at the terminal; an empty answer where there is none."""
    return _console.input(f"{question} ", markup=False).strip() if sys.stdin.isatty() and not _console.quiet else ""


class EpochProgress:
    """A live bar with loss, rate and time left; without a terminal, `loss: 0.123456  [ 640/ 5000]` lines.

    Args:
        title: shown before the bar, such as `Epoch 3/50`.
        total: windows in the epoch.
        done: windows that a run before an interruption has seen.
    """

    def __init__(self, title: str, total: int, done: int = 0) -> None:
        self.title, self.total, self.first = title, total, done
        self.started = self.spoken = time.monotonic()
        self.bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.completed:.0f}/{task.total:.0f}  loss: {task.fields[loss]}  {task.fields[rate]:.0f} windows/s"),
            TimeRemainingColumn(),
            console=_console,
            transient=True,
            disable=not sys.stdout.isatty(),
        )
        self.task = self.bar.add_task(title, total=total, completed=done, loss="–", rate=0.0)

    def update(self, done: int, loss: float) -> None:
        """Tell that `done` windows of the epoch are seen at a mean `loss`."""
        now = time.monotonic()
        rate = (done - self.first) / max(now - self.started, 1e-9)
        self.bar.update(self.task, completed=done, loss=f"{loss:.6f}", rate=rate)
        if not sys.stdout.isatty() and (now - self.spoken > PLAIN_SECONDS or done >= self.total):
            self.spoken = now
            left = (self.total - done) / rate if rate else float("inf")
            say(f"loss: {loss:.6f}  [{done:>5}/{self.total:>5}]  {rate:.0f} windows/s, {left:.0f} s left")

    def __enter__(self) -> Self:
        self.bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.bar.stop()


class DataProgress:
    """A live bar by time of data, with a rate in station-days; a line every few seconds without a terminal.

    Args:
        total: seconds of data to be worked through.
    """

    def __init__(self, total: float) -> None:
        self.total, self.done, self.fresh = total, 0.0, 0.0
        self.started = self.spoken = time.monotonic()
        self.lock = threading.Lock()
        self.bar = Progress(
            TextColumn("Picking"),
            BarColumn(),
            TextColumn("{task.fields[text]}"),
            TimeRemainingColumn(),
            console=_console,
            transient=True,
            disable=not sys.stdout.isatty(),
        )
        self.task = self.bar.add_task("", total=total, text="")

    def update(self, seconds: float, *, fresh: bool = True) -> None:
        """Tell that more seconds of data are done, by this run if `fresh`; from any thread."""
        with self.lock:
            self.done += seconds
            self.fresh += seconds * fresh
            now = time.monotonic()
            rate = self.fresh / DAY / max(now - self.started, 1e-9)
            text = f"{self.done / DAY:.2f}/{self.total / DAY:.2f} station-days, {60 * rate:.1f} a minute"
            self.bar.update(self.task, completed=self.done, text=text)
            if not sys.stdout.isatty() and now - self.spoken > PLAIN_SECONDS:
                self.spoken = now
                say(f"{text}, {(self.total - self.done) / DAY / rate:.0f} s left" if rate else text)

    def __enter__(self) -> Self:
        self.bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.bar.stop()


def _line(mark: str, component: str, status: str, details: str) -> None:
    text = f"{component}: {status}" + (f" - {details}" if details else "")
    _console.print(Text.from_markup(mark).append(f" {text}"))
