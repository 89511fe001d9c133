"""Picks as Parquet, with the provenance in the schema metadata. Needs pyarrow."""

from collections.abc import Iterable, Mapping
from itertools import islice
from typing import IO

from xiaonet.constants import SECOND_NS
from xiaonet.io.columns import COLUMNS, pick_row
from xiaonet.picking.picks import Pick

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
