"""Files of picks: CSV and Parquet with one row for each pick, and QuakeML.

CSV and Parquet have the same columns. PyOcto reads `station`, `phase` and `time`, and GaMMA reads `id`, `timestamp`,
`type`, `prob` and `amp`, without conversion. With pandas 3 or newer, read the CSV for GaMMA with
`parse_dates=["timestamp"]`. CSV and Parquet are written in constant memory. QuakeML is built in memory, about 10 kB for
each pick, so use it for days rather than years.

| column | unit | |
|---|---|---|
| `station` | | NET.STA.LOC, as SeisBench and PyOcto name the stations of an inventory: `PB.B916.` if the location is blank |
| `phase` | | `P` or `S` |
| `time` | s | onset since 1970-01-01 UTC; to the nanosecond in CSV, to 0.24 µs in Parquet, where it is a float64 |
| `timestamp` | | the same in ISO 8601, UTC; to the microsecond in CSV, to the nanosecond in Parquet |
| `prob` | | probability, 0 to 1 |
| `uncertainty` | s | width of the probability's peak as a standard deviation; most onsets are nearer |
| `amp` | of the record | largest absolute sample after the pick; GaMMA's magnitudes need records in m/s |
| `snr` | dB | signal-to-noise ratio |
| `seed_id` | | NET.STA.LOC.CHA |
| `id`, `type` | | `station` and `phase` again, with GaMMA's names |

Numbers have all their digits. NaN is an empty field, or a null in Parquet. Parquet's schema metadata and comments of the
QuakeML event tell which model and settings made the picks. A CSV file does not, because pandas would read it as a pick.
"""

import math
import tempfile
from collections.abc import Iterable, Mapping
from importlib import import_module
from pathlib import Path
from typing import IO

from xiaonet.errors import ConfigError, OutputError
from xiaonet.extras import install_command
from xiaonet.files import write_atomically
from xiaonet.picking.picks import Pick

COLUMNS = ("station", "phase", "time", "timestamp", "prob", "uncertainty", "amp", "snr", "seed_id", "id", "type")
FORMATS = {  # module of each suffix; it is imported when you first write such a file
    ".csv": "xiaonet.io.csv",
    ".xml": "xiaonet.io.quakeml",
    ".quakeml": "xiaonet.io.quakeml",
    ".qml": "xiaonet.io.quakeml",
    ".parquet": "xiaonet.io.parquet",
}


def check_format(path: Path) -> None:
    """Check, before hours of work, that picks can be written to this file.

    Raises:
        ConfigError: the suffix is unknown, or a package is missing.
        OutputError: the folder is missing or you may not write to it, or `path` is a folder.
    """
    suffix = path.suffix.lower()
    if suffix not in FORMATS:
        raise ConfigError(f"{path} ends in {path.suffix!r}; wanted one of {', '.join(FORMATS)}: choose another name")
    if suffix == ".parquet":
        try:
            import_module("pyarrow.parquet")
        except ModuleNotFoundError as error:
            raise ConfigError(f"{path} needs pyarrow, which is not installed: {install_command('pyarrow')}, or write .csv") from error
    if path.is_dir():
        raise OutputError(f"{path} is a folder; wanted a file: choose another name")
    try:
        tempfile.TemporaryFile(dir=path.parent).close()
    except OSError as error:
        raise OutputError(f"{path} cannot be written: {error}; make the folder, or choose one that you may write to") from error


def write_picks(picks: Iterable[Pick], path: Path, provenance: Mapping[str, str]) -> int:
    """Write picks in the format of the suffix of `path`. The file is replaced only when the new one is complete.

    Args:
        picks: written in this order.
        path: `.csv`, `.parquet`, or `.xml`, `.quakeml` and `.qml` for QuakeML.
        provenance: what made the picks, such as the model and its thresholds.

    Returns:
        Number of picks.

    Raises:
        ConfigError: the suffix is unknown, or a package is missing.
        OutputError: the file cannot be written; an older file at `path` stays as it was.
    """
    check_format(path)
    module = import_module(FORMATS[path.suffix.lower()])
    written = 0

    def write(file: IO[bytes]) -> None:
        nonlocal written
        written = module.write(picks, file, provenance)

    write_atomically(path, write)
    return written


def to_row(pick: Pick, time: str | float, timestamp: str | int) -> tuple[object, ...]:
    """The values of a pick in the order of `COLUMNS`; None for NaN.

    Args:
        pick: the pick.
        time: its onset as the format writes it.
        timestamp: the same as a date.
    """
    numbers = (pick.probability, pick.uncertainty, pick.amplitude, pick.snr)
    prob, uncertainty, amp, snr = (None if math.isnan(number) else number for number in numbers)
    return pick.trace_id, pick.phase, time, timestamp, prob, uncertainty, amp, snr, pick.seed_id, pick.trace_id, pick.phase
