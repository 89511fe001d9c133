"""Picks as Parquet, with the provenance in the schema metadata. Needs pyarrow."""

import math
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import IO

from xiaonet.constants import SECOND_NS
from xiaonet.io.columns import COLUMNS, READ, check_columns, pick_row
from xiaonet.picking.picks import COUNT, Pick

ROW_GROUP = 16_384  # number of picks in memory: about 30 MB


def write_parquet(picks: Iterable[Pick], file: IO[bytes], provenance: Mapping[str, str]) -> int:
    """Write picks and their provenance to an open file. Returns the number of picks."""
    import pyarrow as pa
    from pyarrow.parquet import ParquetWriter

    types = dict.fromkeys(COLUMNS, pa.string()) | dict.fromkeys(("time", "prob", "uncertainty", "amp", "snr"), pa.float64())
    types["timestamp"] = pa.timestamp("ns", tz="UTC")
    schema = pa.schema(types, metadata=dict(provenance))
    rows = (pick_row(pick, pick.time_ns / SECOND_NS, pick.time_ns) for pick in picks)
    written = 0
    with ParquetWriter(file, schema) as table:
        while group := list(islice(rows, ROW_GROUP)):
            columns = [pa.array(values, kind) for values, kind in zip(zip(*group, strict=True), schema.types, strict=True)]
            table.write_table(pa.Table.from_arrays(columns, schema=schema))
            written += len(group)
    return written


def read_parquet(file: IO[bytes]) -> Iterator[Pick]:
    """Read the picks of an open file.

    Raises:
        DataError: a column is missing.
        ValueError: this is no Parquet.
    """
    from pyarrow import int64
    from pyarrow.parquet import ParquetFile

    table = ParquetFile(file)
    check_columns(table.schema_arrow.names)
    unit = ["amp_unit"] if "amp_unit" in table.schema_arrow.names else []
    for batch in table.iter_batches(ROW_GROUP, columns=["timestamp", *READ, *unit]):
        times = batch.column("timestamp").cast(int64()).to_pylist()  # exact, unlike the float64 of `time`
        for time_ns, row in zip(times, batch.select([*READ, *unit]).to_pylist(), strict=True):
            prob, uncertainty, amp, snr = (math.nan if row[name] is None else row[name] for name in ("prob", "uncertainty", "amp", "snr"))
            yield Pick(time_ns, row["seed_id"], row["phase"], prob, uncertainty, amp, snr, row.get("amp_unit") or COUNT)
