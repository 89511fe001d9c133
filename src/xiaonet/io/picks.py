"""Picks as files: CSV and Parquet, one pick a line, and QuakeML.

CSV and Parquet have the same columns, which PyOcto (`station`, `phase`, `time`) and GaMMA (`id`,
`timestamp`, `type`, `prob`, `amp`) take as they are; from pandas 3 on GaMMA wants the CSV read with
`parse_dates=["timestamp"]`. They are written as the picks come, in memory that does not grow with
their number. QuakeML is built in memory, about 10 kB a pick, so it is for days rather than years.

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

Numbers are written with all their digits; what is not a number is an empty field, or a null. What
made the picks stands in Parquet's schema metadata and in comments of the QuakeML event; a CSV file
has no place for it that pandas would not take for a pick.
"""

import codecs
import csv
import hashlib
import importlib
import math
import re
import tempfile
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import IO, TYPE_CHECKING

from xiaonet.constants import SECOND_NS
from xiaonet.errors import ConfigError, OutputError
from xiaonet.extras import install_command
from xiaonet.files import write_atomically
from xiaonet.picking.picks import Pick

if TYPE_CHECKING:
    from obspy.core import event as quakeml

COLUMNS = ("station", "phase", "time", "timestamp", "prob", "uncertainty", "amp", "snr", "seed_id", "id", "type")
ROW_GROUP = 16_384  # picks that Parquet holds in memory: about 30 MB
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def check_format(path: Path) -> None:
    """See, before hours of work, that picks can be written to a file of this name.

    Raises:
        ConfigError: no format goes by this suffix, or a package that it needs is missing.
        OutputError: the folder is not there or not to be written to, or `path` is a folder.
    """
    suffix = path.suffix.lower()
    if suffix not in _WRITERS:
        raise ConfigError(f"{path} ends in {path.suffix!r}; wanted one of {', '.join(_WRITERS)}: choose another name")
    if suffix == ".parquet":
        try:
            importlib.import_module("pyarrow.parquet")
        except ModuleNotFoundError as error:
            raise ConfigError(f"{path} needs pyarrow, which is not installed: {install_command('pyarrow')}, or write .csv") from error
    if path.is_dir():
        raise OutputError(f"{path} is a folder; wanted a file: choose another name")
    try:
        tempfile.TemporaryFile(dir=path.parent).close()
    except OSError as error:
        raise OutputError(f"{path} cannot be written: {error}; make the folder, or choose one that you may write to") from error


def write_picks(picks: Iterable[Pick], path: Path, provenance: Mapping[str, str]) -> int:
    """Write picks in the format that the suffix of `path` names, whole or not at all.

    Args:
        picks: in the order in which they are to stand in the file.
        path: `.csv`, `.parquet`, or `.xml`, `.quakeml` and `.qml` for QuakeML.
        provenance: what made the picks, such as the model and its thresholds.

    Returns:
        Number of picks written.

    Raises:
        ConfigError: no format goes by this suffix, or a package that it needs is missing.
        OutputError: the file could not be written; what was at `path` stays.
    """
    check_format(path)
    written = 0

    def write(file: IO[bytes]) -> None:
        nonlocal written
        written = _WRITERS[path.suffix.lower()](picks, file, provenance)

    write_atomically(path, write)
    return written


def _write_csv(picks: Iterable[Pick], file: IO[bytes], _: Mapping[str, str]) -> int:
    lines = csv.writer(codecs.getwriter("utf-8")(file), lineterminator="\n")
    lines.writerow(COLUMNS)
    written = 0
    for pick in picks:
        lines.writerow(_row(pick, _decimal(pick.time_ns), _iso(pick.time_ns)))
        written += 1
    return written


def _write_parquet(picks: Iterable[Pick], file: IO[bytes], provenance: Mapping[str, str]) -> int:
    import pyarrow as pa
    from pyarrow.parquet import ParquetWriter

    types = dict.fromkeys(COLUMNS, pa.string()) | dict.fromkeys(("time", "prob", "uncertainty", "amp", "snr"), pa.float64())
    types["timestamp"] = pa.timestamp("ns", tz="UTC")
    schema = pa.schema(types, metadata=dict(provenance))
    rows = (_row(pick, pick.time_ns / SECOND_NS, pick.time_ns) for pick in picks)
    written = 0
    with ParquetWriter(file, schema) as table:
        while group := list(islice(rows, ROW_GROUP)):
            columns = [pa.array(values, kind) for values, kind in zip(zip(*group, strict=True), schema.types, strict=True)]
            table.write_table(pa.Table.from_arrays(columns, schema=schema))
            written += len(group)
    return written


def _row(pick: Pick, time: str | float, timestamp: str | int) -> tuple[object, ...]:
    """One pick in the order of `COLUMNS`."""
    numbers = (pick.probability, pick.uncertainty, pick.amplitude, pick.snr)
    prob, uncertainty, amp, snr = (None if math.isnan(number) else number for number in numbers)
    return pick.trace_id, pick.phase, time, timestamp, prob, uncertainty, amp, snr, pick.seed_id, pick.trace_id, pick.phase


def _decimal(time_ns: int) -> str:
    """Seconds since 1970 with all nine decimals, which a float of this size has not."""
    seconds, rest = divmod(abs(time_ns), SECOND_NS)
    return f"{'-' * (time_ns < 0)}{seconds}.{rest:09d}"


def _iso(time_ns: int) -> str:
    """To the microsecond: GaMMA's `fromisoformat` refuses more decimals up to Python 3.10."""
    return (EPOCH + timedelta(microseconds=(time_ns + 500) // 1000)).isoformat(timespec="microseconds")


def _write_quakeml(picks: Iterable[Pick], file: IO[bytes], provenance: Mapping[str, str]) -> int:
    from obspy.core import event as quakeml

    readings = [_reading(pick) for pick in picks]
    # Named after what is in it: the same picks give the same file, other picks another event.
    content = "\n".join(f"{reading.resource_id.id} {reading.comments[0].text}" for reading in readings)
    digest = hashlib.sha256(content.encode()).hexdigest()[:32]
    creation = quakeml.CreationInfo(author="XiaoNet")
    event = quakeml.Event(resource_id=_identifier("event", digest), picks=readings, creation_info=creation)
    event.comments = [_comment("picks that no event has been sought for")] + [
        _comment(f"{key}: {value}") for key, value in provenance.items()
    ]
    catalog = quakeml.Catalog([event], resource_id=_identifier("catalog", digest), creation_info=creation)
    catalog.write(file, format="QUAKEML")
    return len(readings)


def _reading(pick: Pick) -> "quakeml.Pick":
    """A pick as QuakeML knows it; what it has no element for goes into a comment."""
    from obspy.core import event as quakeml

    network, station, location, channel = pick.seed_id.split(".")
    rest = {"probability": pick.probability, "amplitude": pick.amplitude, "snr_db": pick.snr}
    return quakeml.Pick(
        resource_id=_identifier("pick", pick.seed_id, pick.phase, str(pick.time_ns)),
        time=pick.time,
        time_errors=quakeml.QuantityError(uncertainty=pick.uncertainty if math.isfinite(pick.uncertainty) else None),
        waveform_id=quakeml.WaveformStreamID(network, station, location, channel),
        phase_hint=pick.phase,
        evaluation_mode="automatic",
        method_id=_identifier("picker"),
        comments=[_comment(", ".join(f"{key}={number}" for key, number in rest.items() if not math.isnan(number)))],
    )


def _identifier(*parts: str) -> "quakeml.ResourceIdentifier":
    from obspy.core import event as quakeml

    return quakeml.ResourceIdentifier("smi:local/xiaonet/" + "/".join(re.sub(r"[^A-Za-z0-9._-]", "_", part) for part in parts))


def _comment(text: str) -> "quakeml.Comment":
    from obspy.core import event as quakeml

    return quakeml.Comment(text=text, force_resource_id=False)  # ObsPy's own identifiers are random


_WRITERS: Mapping[str, Callable[[Iterable[Pick], IO[bytes], Mapping[str, str]], int]] = {
    ".csv": _write_csv,
    ".xml": _write_quakeml,
    ".quakeml": _write_quakeml,
    ".qml": _write_quakeml,
    ".parquet": _write_parquet,
}
