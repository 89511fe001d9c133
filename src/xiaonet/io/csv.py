"""Picks as CSV: a line for each pick, written in constant memory."""

import codecs
import csv
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import IO

from xiaonet.constants import SECOND_NS
from xiaonet.io.columns import COLUMNS, pick_row
from xiaonet.picking.picks import Pick

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def write_csv(picks: Iterable[Pick], file: IO[bytes], _: Mapping[str, str]) -> int:
    """Write picks to an open file, without provenance. Returns the number of picks."""
    lines = csv.writer(codecs.getwriter("utf-8")(file), lineterminator="\n")
    lines.writerow(COLUMNS)
    written = 0
    for pick in picks:
        lines.writerow(pick_row(pick, _decimal(pick.time_ns), _iso(pick.time_ns)))
        written += 1
    return written


def _decimal(time_ns: int) -> str:
    """Seconds since 1970 with nine decimals, more than a float has."""
    seconds, rest = divmod(abs(time_ns), SECOND_NS)
    return f"{'-' * (time_ns < 0)}{seconds}.{rest:09d}"


def _iso(time_ns: int) -> str:
    """To the microsecond: GaMMA's `fromisoformat` accepts no more decimals up to Python 3.10."""
    return (EPOCH + timedelta(microseconds=(time_ns + 500) // 1000)).isoformat(timespec="microseconds")
