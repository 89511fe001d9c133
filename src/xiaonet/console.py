"""What XiaoNet prints while it works: status lines and progress.

Every line goes to standard output through one console. Of several processes, only the first prints. A command may choose
another form: `quiet` prints only warnings and errors, to standard error; `json` prints each status line and each step of
progress as one JSON object on a line of standard output.
"""

import io
import json
import os
import re
import sys
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self

from rich.console import Console
from rich.text import Text

if TYPE_CHECKING:
    from rich.progress import Progress

_console = Console(highlight=False, soft_wrap=True, force_jupyter=False, emoji=False)
PLAIN_SECONDS = 5.0  # between two progress lines without a terminal
REDRAW_SECONDS = 0.1  # between two updates of a bar that may have very many
SHOWN_SKIPS = 20  # reasons for skipping that are printed; the others are only counted
DAY_SECONDS = 86400
TIME_UNITS = (("station-days", DAY_SECONDS), ("station-hours", 3600), ("station-minutes", 60))
PLACE = re.compile(r"(.*?: )?((?:record at byte |\d+ bytes from byte ).*)", re.DOTALL)  # a message about a place in a file

Form = Literal["text", "quiet", "json"]
_form: Form = "text"


def choose_form(form: Form) -> None:
    """Choose what is printed from now on, and how. JSON is UTF-8 on any terminal."""
    global _form
    _form = form
    if form == "json" and isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8")
    silence(form != "text")


def silence(quiet: bool = True) -> None:
    """Suppress output, as in every process but the first."""
    _console.quiet = quiet


def ok(component: str, status: str, details: str = "") -> None:
    """Print `✓ Component: status - details`."""
    _line("ok", "[green]✓[/green]", component, status, details)


def warn(component: str, status: str, details: str = "") -> None:
    """Print `! Component: status - details`, for what the user should check but what stops nothing."""
    if _form == "quiet":
        print(f"! {_text(component, status, details)}", file=sys.stderr)
    _line("warning", "[yellow]![/yellow]", component, status, details)


def fail(component: str, status: str, details: str = "") -> None:
    """Print `✗ Component: status - details`; to standard error where output is suppressed."""
    if _console.quiet and _form != "json":
        process = f" (process {os.environ['RANK']})" if "RANK" in os.environ else ""
        print(f"✗ {_text(component, status, details)}{process}", file=sys.stderr)
    _line("error", "[red]✗[/red]", component, status, details)


def skipped(problems: Iterable[str], where: str = "") -> None:
    """Print a warning for each input that was skipped, up to a limit, then the number of the others, and where they are listed."""
    rows = condense(problems)
    for row in rows[:SHOWN_SKIPS]:
        warn("Skipped", row)
    if len(rows) > SHOWN_SKIPS:
        warn("Skipped", f"and {len(rows) - SHOWN_SKIPS} more", where)


def condense(problems: Iterable[str]) -> list[str]:
    """Make one row, with a count, of messages that differ only in the place in a file.

    Example:
        >>> condense(["a: record at byte 0 skipped: damaged", "a: record at byte 512 skipped: damaged", "b: empty"])
        ['a: record at byte 0 skipped: damaged (and 1 more like it in this file)', 'b: empty']
    """
    like: dict[str, list[str]] = {}
    for problem in problems:
        match = PLACE.fullmatch(problem)
        key = f"{match[1]}{re.sub(r'-?[0-9]+', '#', match[2])}" if match else problem
        like.setdefault(key, []).append(problem)
    return [first + (f" (and {len(rest)} more like it in this file)" if rest else "") for first, *rest in like.values()]


def result(content: Mapping[str, object]) -> None:
    """Print the result of a command, only as JSON."""
    if _form == "json":
        _emit("result", content)


def info(component: str, parameters: Mapping[str, object]) -> None:
    """Print `Component information:` and an indented line for each parameter."""
    say(f"{component} information:")
    for name, value in parameters.items():
        say(f"  {name}: {value}")


def say(text: str = "") -> None:
    """Print a line as it is."""
    _console.print(text, markup=False)


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table as `aligned` makes it."""
    for line in aligned(heads, rows):
        say(line)


def aligned(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """The lines of a table with its first column aligned left and the others right; a row of one cell is a heading."""
    widths = [max(map(len, column)) for column in zip(heads, *(row for row in rows if len(row) > 1), strict=True)]
    lines = []
    for first, *others in (heads, *rows):
        cells = [first.ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(others, widths[1:], strict=False))]
        lines.append("  ".join(cells).rstrip())
    return lines


def busy(text: str) -> AbstractContextManager[object]:
    """Show a spinner on a terminal while something works."""
    return _console.status(text)


def counted(number: int, noun: str) -> str:
    """A number of things.

    Example:
        >>> counted(1, "station"), counted(2, "station")
        ('1 station', '2 stations')
    """
    return f"{number} {noun}{'' if number == 1 else 's'}"


def ask(question: str) -> str:
    """Ask the user at the terminal. The answer is empty without a terminal or where output is suppressed."""
    return _console.input(f"{question} ", markup=False).strip() if sys.stdin.isatty() and not _console.quiet else ""


def _bar() -> "Progress":
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn  # slow to import

    columns = TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[text]}"), TimeRemainingColumn()
    return Progress(*columns, console=_console, transient=True)


class _Bar:
    """A progress bar with the time left; without a terminal, a line every few seconds.

    Args:
        title: shown before the bar.
        total: amount of work, in any unit.
        done: amount that an earlier run has done.
    """

    def __init__(self, title: str, total: float, done: int = 0) -> None:
        self.title, self.total, self.first = title, total, done
        self.started = self.printed = self.now = time.monotonic()
        self.bar = _bar() if sys.stdout.isatty() and _form == "text" else None
        self.task = self.bar.add_task(title, total=total, completed=done, text="") if self.bar else None

    def _rate(self, fresh: float) -> float:
        """Amount of work per second, where this run has done `fresh`; reads the clock."""
        self.now = time.monotonic()
        return fresh / max(self.now - self.started, 1e-9)

    def _show(self, done: float, text: str, line: str, *, last: bool = False) -> None:
        """Show `text` beside the bar; without a terminal print `line`, if it is due or the `last` one."""
        self._redraw(completed=done, text=text)
        if (_form == "json" or not sys.stdout.isatty()) and (self.now - self.printed > PLAIN_SECONDS or last):
            self.printed = self.now
            say(line)
            if _form == "json":
                _emit("progress", {"task": self.title, "done": done, "total": self.total})

    def _redraw(self, **fields: Any) -> None:
        if self.bar is not None and self.task is not None:
            self.bar.update(self.task, **fields)

    def __enter__(self) -> Self:
        if self.bar is not None:
            self.bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self.bar is not None:
            self.bar.stop()


class EpochProgress(_Bar):
    """Progress of an epoch in windows, with loss, rate and time left."""

    def update(self, done: int, loss: float) -> None:
        """Show that `done` windows of the epoch are done, with their mean `loss`."""
        rate = self._rate(done - self.first)
        left = (self.total - done) / rate if rate else float("inf")
        self._show(
            done,
            f"{done:.0f}/{self.total:.0f}  loss: {loss:.6f}  {rate:.0f} windows/s",
            f"loss: {loss:.6f}  [{done:>5}/{self.total:>5}]  {rate:.0f} windows/s, {left:.0f} s left",
            last=done >= self.total,
        )


class ShareProgress(_Bar):
    """Progress of a run of a given number of steps or minutes."""

    def __init__(self, title: str) -> None:
        super().__init__(title, 1.0)

    def update(self, share: float, windows: int, loss: float) -> None:
        """Show the share of the run that is done, the number of windows and the recent loss."""
        self._rate(share)
        text = f"{windows} windows  loss: {loss:.4f}"
        self._show(share, text, f"{text}  [{100 * min(share, 1):.1f} %]", last=share >= 1)


class WindowProgress(_Bar):
    """Progress of models over windows."""

    done = 0

    def update(self, windows: int) -> None:
        """Show that `windows` more are done."""
        self.done += windows
        text = f"{self.done}/{self.total:.0f} windows, {self._rate(self.done):.0f}/s"
        self._show(self.done, text, text)


class FileProgress(_Bar):
    """Progress in files, of which a large one may take a while. After its `with` block, it shows no more."""

    def __init__(self, title: str) -> None:
        super().__init__(title, 1.0)
        self.ended = False

    def __exit__(self, *error: Any) -> None:
        self.ended = True
        super().__exit__(*error)

    def update(self, done: float, total: int) -> None:
        """Show that a number of files are done, the last of them in part. It may be called very often."""
        if self.ended or time.monotonic() - self.now < REDRAW_SECONDS:
            return
        self._rate(done)
        self.total = total
        self._redraw(total=total)
        text = f"{done:.2f}/{total} files"
        self._show(done, text, f"{self.title}: {text}")


class DataProgress(_Bar):
    """Progress in station-days, with their rate. Short records are told in hours or minutes.

    Args:
        total: seconds of data.
        title: shown before the bar.
    """

    def __init__(self, total: float, title: str = "Picking") -> None:
        super().__init__(title, total)
        self.done, self.fresh = 0.0, 0.0
        self.unit, self.unit_seconds = next(unit for unit in TIME_UNITS if total >= 2 * unit[1] or unit is TIME_UNITS[-1])
        self.lock = threading.Lock()

    def extend(self, seconds: float) -> None:
        """Make the work longer, or shorter if `seconds` is negative."""
        with self.lock:
            self.total += seconds
            self._redraw(total=self.total)

    def update(self, seconds: float, *, fresh: bool = True) -> None:
        """Show that more seconds of data are done; `fresh` if by this run. Any thread may call it."""
        with self.lock:
            self.done += seconds
            self.fresh += seconds * fresh
            rate = self._rate(self.fresh) / self.unit_seconds
            text = f"{self.done / self.unit_seconds:.2f}/{self.total / self.unit_seconds:.2f} {self.unit}, {60 * rate:.1f} a minute"
            line = f"{text}, {(self.total - self.done) / self.unit_seconds / rate:.0f} s left" if rate else text
            self._show(self.done, text, line, last=_form == "json" and self.done >= self.total)


class ArchiveProgress(_Bar):
    """Progress of many workers in station-days, with failures, the time left and the cost.

    Args:
        total: station-days.
        price: of a core for an hour, in $; no cost is shown without it.
    """

    def __init__(self, total: int, price: float | None) -> None:
        super().__init__("Picking", total)
        self.price = price

    def update(self, fresh: int, known: int, failed: int, processor_s: float, cores: int) -> None:
        """Show how many station-days this run has done, how many were known and how many failed, and what the workers used."""
        rate = self._rate(fresh)
        done = fresh + known + failed
        text = f"{done}/{self.total:.0f} station-days, {3600 * rate:.0f} an hour"
        text += f", {processor_s / fresh:.2f} vCPU-s each" if fresh else ""
        text += f", {failed} failed" if failed else ""
        left_s = (self.total - done) / rate if rate else float("inf")
        if self.price is not None and rate:
            text += f", $ {(self.now - self.started + left_s) / 3600 * cores * self.price:.2f} in all"
        self._show(done, text, f"{text}, {left_s:.0f} s left", last=_form == "json" and done >= self.total)


def _line(event: str, mark: str, component: str, status: str, details: str) -> None:
    if _form == "json":
        _emit(event, {"component": component, "status": status, "details": details})
    _console.print(Text.from_markup(mark, emoji=False).append(f" {_text(component, status, details)}"))


def _text(component: str, status: str, details: str) -> str:
    return f"{component}: {status}" + (f" - {details}" if details else "")


def _emit(event: str, content: Mapping[str, object]) -> None:
    print(json.dumps({"event": event, **content}, ensure_ascii=False), flush=True)
