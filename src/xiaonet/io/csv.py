"""Picks as CSV."""

import codecs
import csv
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import IO

from xiaonet.constants import SECOND_NS
from xiaonet.io.picks import COLUMNS, to_row
from xiaonet.picking.picks import Pick

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def write(picks: Iterable[Pick], file: IO[bytes], provenance: Mapping[str, str]) -> int:
    """Write picks one by one. A CSV file has no place for the provenance. Returns the number of picks."""
    lines = csv.writer(codecs.getwriter("utf-8")(file), lineterminator="\n")
    lines.writerow(COLUMNS)
    written = 0
    for pick in picks:
        lines.writerow(to_row(pick, _seconds(pick.time_ns), _iso(pick.time_ns)))
        written += 1
    return written


def _seconds(time_ns: int) -> str:
    """Seconds since 1970 with nine decimals, more than a float has."""
    seconds, rest = divmod(abs(time_ns), SECOND_NS)
    return f"{'-' * (time_ns < 0)}{seconds}.{rest:09d}"


def _iso(time_ns: int) -> str:
    """To the microsecond: GaMMA's `fromisoformat` accepts no more decimals up to Python 3.10."""
    return (EPOCH + timedelta(microseconds=(time_ns + 500) // 1000)).isoformat(timespec="microseconds")
