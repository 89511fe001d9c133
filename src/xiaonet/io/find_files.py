"""Find files in folders and globs, and read what the name of a file in an SDS archive says."""

import os
import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from glob import glob
from pathlib import Path
from typing import NamedTuple

from xiaonet.constants import SECOND_NS

# Names of files in an SDS archive: NET.STA.LOC.CHA.TYPE.YEAR.DAY
SDS_NAME = re.compile(r"([^.]*)\.([^.]*)\.([^.]*)\.([^.]*)\.[A-Z]\.(\d{4})\.(\d{3})", re.ASCII)
DAY_NS = 86400 * SECOND_NS


class DayFile(NamedTuple):
    """What the name of a file in an SDS archive says: the channel and the day, in nanoseconds since 1970-01-01."""

    seed_id: str
    start_ns: int

    @property
    def end_ns(self) -> int:
        """The end of the day."""
        return self.start_ns + DAY_NS

    @property
    def station(self) -> str:
        """NET.STA."""
        return self.seed_id.rsplit(".", 2)[0]

    def may_hold(self, first_ns: float, end_ns: float) -> bool:
        """Whether data from `first_ns` up to `end_ns` are expected in this file: they touch its day, or the day before or after it."""
        return self.end_ns + DAY_NS > first_ns and self.start_ns - DAY_NS < end_ns


def parse_name(name: str) -> DayFile | None:
    """What the name of a file says; None if the file is not named as in an SDS archive. The location code `--` is an empty one."""
    match = SDS_NAME.fullmatch(name)
    start_ns = match and _midnight(int(match[5]), int(match[6]))
    if match is None or start_ns is None:
        return None
    network, station, location, channel = match.group(1, 2, 3, 4)
    return DayFile(f"{network}.{station}.{'' if location == '--' else location}.{channel}", start_ns)


@lru_cache(maxsize=4096)
def _midnight(year: int, day: int) -> int | None:
    """The start of a day of a year, in nanoseconds since 1970-01-01; None if there is no such day."""
    try:
        midnight = datetime(year, 1, 1, tzinfo=UTC) + timedelta(days=day - 1)
    except (ValueError, OverflowError):
        return None
    return round(midnight.timestamp()) * SECOND_NS if midnight.year == year else None


def find_files(path: str | Path, report: Callable[[str], None]) -> Iterator[tuple[str, str]]:
    """Name and real path of each file that a path leads to: a file, a folder or a glob. Hidden files in folders are left out.

    Args:
        path: where to look.
        report: called with each place that cannot be read, and the reason.
    """
    matches = [str(path)] if os.path.exists(path) else sorted(glob(str(path), recursive=True))
    if not matches:
        report(f"{path}: no such file or folder")
    for match in matches:
        if os.path.isdir(match):
            yield from _walk(match, report)
        else:
            yield os.path.basename(match), os.path.realpath(match)


def _walk(folder: str, report: Callable[[str], None]) -> Iterator[tuple[str, str]]:
    """All files below a folder by name. Links are followed once."""
    seen = set()
    for root, folders, files in os.walk(folder, followlinks=True, onerror=lambda error: report(unreadable(error.filename, error))):
        if (real := os.path.realpath(root)) in seen:
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(name for name in files if not name.startswith(".")):
            path = os.path.join(real, name)
            yield name, os.path.realpath(path) if os.path.islink(path) else path


def unreadable(path: str | Path, error: OSError) -> str:
    """The report of a file or folder that cannot be read."""
    return f"{path}: cannot be read: {error.strerror}"
