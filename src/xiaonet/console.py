"""All that XiaoNet says while it works: ✓ and ✗ lines, and progress.

Every line goes to standard output through one console, which only the first of several
processes may use.
"""

import os
import sys
import threading
import time
from collections.abc import Mapping, Sequence
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


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table, its first column to the left; a row of one cell is a heading within it."""
    widths = [max(map(len, column)) for column in zip(heads, *(row for row in rows if len(row) > 1), strict=True)]
    for row in (heads, *rows):
        say(
            "  ".join(
                cell.rjust(width) if at else cell.ljust(width) for at, (cell, width) in enumerate(zip(row, widths, strict=False))
            ).rstrip()
        )


def busy(text: str) -> AbstractContextManager[object]:
    """Show that something goes on, where there is a terminal."""
    return _console.status(text)


def ask(question: str) -> str:
    """Ask the person at the terminal; an empty answer where there is none."""
    return _console.input(f"{question} ", markup=False).strip() if sys.stdin.isatty() and not _console.quiet else ""


class _Bar:
    """A live bar with the time left; without a terminal, a line every few seconds.

    Args:
        title: shown before the bar.
        total: of whatever is counted.
        done: of it, before this run.
    """

    def __init__(self, title: str, total: float, done: int = 0) -> None:
        self.total, self.first = total, done
        self.started = self.spoken = self.now = time.monotonic()
        self.bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.fields[text]}"),
            TimeRemainingColumn(),
            console=_console,
            transient=True,
            disable=not sys.stdout.isatty(),
        )
        self.task = self.bar.add_task(title, total=total, completed=done, text="")

    def _rate(self, fresh: float) -> float:
        """What of `fresh`, done by this run, is done in a second; looks at the clock."""
        self.now = time.monotonic()
        return fresh / max(self.now - self.started, 1e-9)

    def _show(self, done: float, text: str, line: str, *, last: bool = False) -> None:
        """Show `text` beside the bar; without a terminal `line`, if it is time or the `last` one."""
        self.bar.update(self.task, completed=done, text=text)
        if not sys.stdout.isatty() and (self.now - self.spoken > PLAIN_SECONDS or last):
            self.spoken = self.now
            say(line)

    def __enter__(self) -> Self:
        self.bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.bar.stop()


class EpochProgress(_Bar):
    """Windows of an epoch, such as `Epoch 3/50`: loss, rate and time left; else `loss: 0.123456  [ 640/ 5000]` lines."""

    def update(self, done: int, loss: float) -> None:
        """Tell that `done` windows of the epoch are seen at a mean `loss`."""
        rate = self._rate(done - self.first)
        left = (self.total - done) / rate if rate else float("inf")
        self._show(
            done,
            f"{done:.0f}/{self.total:.0f}  loss: {loss:.6f}  {rate:.0f} windows/s",
            f"loss: {loss:.6f}  [{done:>5}/{self.total:>5}]  {rate:.0f} windows/s, {left:.0f} s left",
            last=done >= self.total,
        )


class ShareProgress(_Bar):
    """A run that knows what share of it is done, by steps or by the clock."""

    def __init__(self, title: str) -> None:
        super().__init__(title, 1.0)

    def update(self, share: float, windows: int, loss: float) -> None:
        """Tell how far the run is, after how many windows, at what recent loss."""
        text = f"{windows} windows  loss: {loss:.4f}"
        self._show(share, text, f"{text}  [{100 * min(share, 1):.1f} %]", last=share >= 1)


class WindowProgress(_Bar):
    """Windows that models are shown."""

    done = 0

    def update(self, windows: int) -> None:
        """Tell that so many more windows are done."""
        self.done += windows
        text = f"{self.done}/{self.total:.0f} windows, {self._rate(self.done):.0f}/s"
        self._show(self.done, text, text)


class DataProgress(_Bar):
    """Seconds of data that are picked, with a rate in station-days.

    Args:
        total: seconds of data to be worked through.
    """

    def __init__(self, total: float) -> None:
        super().__init__("Picking", total)
        self.done, self.fresh = 0.0, 0.0
        self.lock = threading.Lock()

    def update(self, seconds: float, *, fresh: bool = True) -> None:
        """Tell that more seconds of data are done, by this run if `fresh`; from any thread."""
        with self.lock:
            self.done += seconds
            self.fresh += seconds * fresh
            rate = self._rate(self.fresh) / DAY
            text = f"{self.done / DAY:.2f}/{self.total / DAY:.2f} station-days, {60 * rate:.1f} a minute"
            self._show(self.done, text, f"{text}, {(self.total - self.done) / DAY / rate:.0f} s left" if rate else text)


def _line(mark: str, component: str, status: str, details: str) -> None:
    text = f"{component}: {status}" + (f" - {details}" if details else "")
    _console.print(Text.from_markup(mark).append(f" {text}"))
