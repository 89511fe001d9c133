"""The columns of picks in CSV and Parquet files.

PyOcto reads `station`, `phase` and `time`. GaMMA reads `id`, `timestamp`, `type`, `prob` and `amp`. With pandas 3
or newer, read the CSV for GaMMA with `parse_dates=["timestamp"]`.

| column | unit | |
|---|---|---|
| `station` | | NET.STA.LOC, as SeisBench and PyOcto name the stations of an inventory: `PB.B916.` if the location is blank |
| `phase` | | `P` or `S` |
| `time` | s | onset since 1970-01-01 UTC; to the nanosecond in CSV, to 0.24 µs in Parquet, where it is a float64 |
| `timestamp` | | the same in ISO 8601, UTC; to the microsecond in CSV, to the nanosecond in Parquet |
| `prob` | | probability, 0 to 1 |
| `uncertainty` | s | width of the probability's peak as a standard deviation; most onsets are nearer |
| `amp` | `amp_unit` | largest absolute sample after the pick; GaMMA's magnitudes need m/s, from `--inventory` |
| `snr` | dB | signal-to-noise ratio |
| `seed_id` | | NET.STA.LOC.CHA |
| `id`, `type` | | `station` and `phase` again, with GaMMA's names |
| `amp_unit` | | `m/s`, `m/s**2` or `m`; `count` without an inventory, for the unit of the record |

Numbers have all their digits. NaN is an empty field in CSV and a null in Parquet.
"""

import math
from collections.abc import Collection

from xiaonet.errors import DataError
from xiaonet.picking.picks import Pick

COLUMNS = ("station", "phase", "time", "timestamp", "prob", "uncertainty", "amp", "snr", "seed_id", "id", "type", "amp_unit")
READ = ("seed_id", "phase", "time", "prob", "uncertainty", "amp", "snr")  # the columns that make a pick; older files have no `amp_unit`


def pick_row(pick: Pick, time: str | float, timestamp: str | int) -> tuple[object, ...]:
    """The values of a pick in the order of `COLUMNS`. The formats write `time` and `timestamp` in their own ways."""
    numbers = (pick.probability, pick.uncertainty, pick.amplitude, pick.snr)
    prob, uncertainty, amp, snr = (None if math.isnan(number) else number for number in numbers)
    return pick.trace_id, pick.phase, time, timestamp, prob, uncertainty, amp, snr, pick.seed_id, pick.trace_id, pick.phase, pick.unit


def check_columns(found: Collection[str]) -> None:
    """Check that a table has the columns that make a pick.

    Raises:
        DataError: one is missing.
    """
    if missing := [name for name in READ if name not in found]:
        raise DataError(f"the columns {', '.join(missing)} are missing")
