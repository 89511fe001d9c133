"""The columns of picks in CSV and Parquet files.

PyOcto (`station`, `phase`, `time`) and GaMMA (`id`, `timestamp`, `type`, `prob`, `amp`) read them as they are. With pandas 3
or newer, read the CSV for GaMMA with `parse_dates=["timestamp"]`.

| column | unit | |
|---|---|---|
| `station` | | NET.STA.LOC, as SeisBench and PyOcto name the stations of an inventory: `PB.B916.` where the location is blank |
| `phase` | | `P` or `S` |
| `time` | s | onset since 1970-01-01 UTC; to the nanosecond in CSV, to 0.24 µs in Parquet, which has it as float64 |
| `timestamp` | | the same in ISO 8601, UTC; to the microsecond in CSV, to the nanosecond in Parquet |
| `prob` | | probability, 0 to 1 |
| `uncertainty` | s | width of the probability's peak as a standard deviation; most onsets are nearer |
| `amp` | of the record | largest absolute sample after the pick; GaMMA's magnitudes want records in m/s |
| `snr` | dB | signal-to-noise ratio |
| `seed_id` | | NET.STA.LOC.CHA |
| `id`, `type` | | `station` and `phase` again, under GaMMA's names |

Numbers have all their digits. A value that is not a number becomes an empty field in CSV and a null in Parquet.
"""

import math

from xiaonet.picking.picks import Pick

COLUMNS = ("station", "phase", "time", "timestamp", "prob", "uncertainty", "amp", "snr", "seed_id", "id", "type")


def pick_row(pick: Pick, time: str | float, timestamp: str | int) -> tuple[object, ...]:
    """One pick in the order of `COLUMNS`."""
    numbers = (pick.probability, pick.uncertainty, pick.amplitude, pick.snr)
    prob, uncertainty, amp, snr = (None if math.isnan(number) else number for number in numbers)
    return pick.trace_id, pick.phase, time, timestamp, prob, uncertainty, amp, snr, pick.seed_id, pick.trace_id, pick.phase
