"""Picks as CSV: a line for each pick, written and read in constant memory."""

import codecs
import csv
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal, DecimalException
from typing import IO

from xiaonet.constants import SECOND_NS
from xiaonet.errors import DataError
from xiaonet.io.columns import COLUMNS, check_columns, pick_row
from xiaonet.picking.picks import COUNT, Pick

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def write_csv(picks: Iterable[Pick], file: IO[bytes], _: Mapping[str, str]) -> int:
    """Write picks to an open file, without provenance. Returns the number of picks."""
    lines = csv.writer(codecs.getwriter("utf-8")(file), lineterminator="\n")
    lines.writerow(COLUMNS)
    written = 0
    for pick in picks:
        lines.writerow(pick_row(pick, decimal_seconds(pick.time_ns), iso_time(pick.time_ns)))
        written += 1
    return written


def read_csv(file: IO[bytes]) -> Iterator[Pick]:
    """Read the picks of an open file.

    Raises:
        DataError: a column is missing, or a line holds no pick.
        UnicodeDecodeError: this is no text.
    """
    lines = csv.DictReader(codecs.getreader("utf-8-sig")(file))
    check_columns(lines.fieldnames or ())
    for row in lines:
        try:
            prob, uncertainty, amp, snr = [float("nan" if row[name] == "" else row[name]) for name in ("prob", "uncertainty", "amp", "snr")]
            time_ns, unit = int(Decimal(row["time"]) * SECOND_NS), row.get("amp_unit") or COUNT
            yield Pick(time_ns, row["seed_id"], row["phase"], prob, uncertainty, amp, snr, unit)
        except (ValueError, TypeError, DecimalException) as error:
            raise DataError(f"line {lines.line_num} holds no pick: {row}") from error


def decimal_seconds(time_ns: int) -> str:
    """Seconds since 1970 with nine decimals, more than a float has."""
    seconds, rest = divmod(abs(time_ns), SECOND_NS)
    return f"{'-' * (time_ns < 0)}{seconds}.{rest:09d}"


def iso_time(time_ns: int) -> str:
    """To the microsecond: GaMMA's `fromisoformat` accepts no more decimals up to Python 3.10."""
    return (EPOCH + timedelta(microseconds=(time_ns + 500) // 1000)).isoformat(timespec="microseconds")
