"""Files of picks: the suffix of the name chooses the format.

The files also tell which model and thresholds made the picks: Parquet in the schema metadata, QuakeML in comments of the
event. CSV does not, because pandas would read that as a pick.
"""

import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import IO, TYPE_CHECKING, SupportsIndex, overload

from xiaonet.console import aligned
from xiaonet.constants import PICKED_PHASES, SECOND_NS
from xiaonet.errors import ConfigError, DataError, OutputError
from xiaonet.extras import MissingPackageError, import_for
from xiaonet.files import write_atomically
from xiaonet.io.columns import COLUMNS, pick_row
from xiaonet.io.csv import read_csv, write_csv
from xiaonet.io.parquet import read_parquet, write_parquet
from xiaonet.io.quakeml import read_quakeml, write_quakeml
from xiaonet.picking.picks import Pick

if TYPE_CHECKING:
    from pandas import DataFrame

MOST_ROWS = 60  # of a printed table
ENDS = 20  # rows at its start and at its end, if there are more

_WRITERS: Mapping[str, Callable[[Iterable[Pick], IO[bytes], Mapping[str, str]], int]] = {
    ".csv": write_csv,
    ".xml": write_quakeml,
    ".quakeml": write_quakeml,
    ".qml": write_quakeml,
    ".parquet": write_parquet,
}
_MODULES: Mapping[Callable[..., int], str] = {write_parquet: "pyarrow.parquet", write_quakeml: "obspy"}  # that a format needs
_READERS: Mapping[str, Callable[[IO[bytes]], Iterator[Pick]]] = {
    ".csv": read_csv,
    ".xml": read_quakeml,
    ".quakeml": read_quakeml,
    ".qml": read_quakeml,
    ".parquet": read_parquet,
}


class Picks(list[Pick]):
    """A list of picks that prints as a table.

    Args:
        picks: in any order.
        provenance: how they were made, such as the model and its thresholds.

    Attributes:
        provenance: the same.
    """

    def __init__(self, picks: Iterable[Pick] = (), provenance: Mapping[str, str] | None = None) -> None:
        super().__init__(picks)
        self.provenance = dict(provenance or {})

    @overload
    def __getitem__(self, at: SupportsIndex, /) -> Pick: ...
    @overload
    def __getitem__(self, at: slice, /) -> "Picks": ...
    def __getitem__(self, at: SupportsIndex | slice, /) -> "Pick | Picks":
        return Picks(super().__getitem__(at), self.provenance) if isinstance(at, slice) else super().__getitem__(at)

    def __repr__(self) -> str:
        if not self:
            return "no picks"
        rows: list[list[str]] = [_shown(pick) for pick in (self if len(self) <= MOST_ROWS else [*self[:ENDS], *self[-ENDS:]])]
        if len(self) > MOST_ROWS:
            rows.insert(ENDS, [f"… {len(self) - 2 * ENDS} more"])
        return "\n".join(aligned(("time", "channel", "phase", "probability", "± s", "snr dB"), rows))

    def to_dataframe(self) -> "DataFrame":
        """A pandas table with the columns of the CSV; `time` in s since 1970-01-01 UTC, `timestamp` as a UTC time.

        Raises:
            ModuleNotFoundError: pandas is missing.
        """
        try:
            import pandas as pd
        except ModuleNotFoundError as error:
            raise ModuleNotFoundError("to_dataframe needs pandas: pip install pandas", name="pandas") from error
        table = pd.DataFrame([pick_row(pick, pick.time_ns / SECOND_NS, pick.time_ns) for pick in self], columns=list(COLUMNS))
        numbers = dict.fromkeys(("time", "prob", "uncertainty", "amp", "snr"), "float64")
        return table.astype(numbers).assign(timestamp=pd.to_datetime(table["timestamp"].astype("int64"), unit="ns", utc=True))

    def write(self, path: str | Path) -> None:
        """Write the picks in the format that the suffix names: `.csv`, `.xml` or `.parquet`. Errors are those of `write_picks`."""
        write_picks(self, Path(path), self.provenance)


def _shown(pick: Pick) -> list[str]:
    numbers = f"{pick.probability:.2f}", f"{pick.uncertainty:.2f}", f"{pick.snr:.0f}"
    return [f"{pick.time}", pick.seed_id, pick.phase, *numbers]


def check_format(path: Path) -> None:
    """Check, before hours of work, that picks can be written to a file of this name.

    Raises:
        ConfigError: the suffix names no format, or a package that it needs is missing.
        OutputError: the folder is missing or you may not write to it, or `path` is a folder.
    """
    _check_suffix(path)
    if path.is_dir():
        raise OutputError(f"{path} is a folder; wanted a file: choose another name")
    try:
        tempfile.TemporaryFile(dir=path.parent).close()
    except OSError as error:
        raise OutputError(f"{path} cannot be written: {error}; make the folder, or choose one that you may write to") from error


def write_picks(picks: Iterable[Pick], path: Path, provenance: Mapping[str, str]) -> int:
    """Write picks in the format that the suffix of `path` names. An older file is replaced when the new one is complete.

    Args:
        picks: written in this order.
        path: `.csv`, `.parquet`, or `.xml`, `.quakeml` and `.qml` for QuakeML.
        provenance: how the picks were made, such as the model and its thresholds.

    Returns:
        Number of picks.

    Raises:
        ConfigError: the suffix names no format, or a package that it needs is missing.
        OutputError: the file cannot be written. An older file at `path` stays as it was.
    """
    check_format(path)
    written = 0

    def write(file: IO[bytes]) -> None:
        nonlocal written
        written = _WRITERS[path.suffix.lower()](picks, file, provenance)

    write_atomically(path, write)
    return written


def read_pick_file(path: Path) -> list[Pick]:
    """Read a file that `write_picks` wrote, in the format that its suffix names.

    QuakeML holds times to the microsecond.

    Raises:
        ConfigError: the suffix names no format, or a package that it needs is missing.
        DataError: the file is missing, damaged or holds no picks of XiaoNet.
    """
    _check_suffix(path)
    try:
        with path.open("rb") as file:
            picks = list(_READERS[path.suffix.lower()](file))
        check_picks(picks)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}; wanted a file of picks from xiaonet pick") from error
    except Exception as error:  # of ObsPy, pyarrow or a decoder, about any content
        raise DataError(f"{path} holds no picks of XiaoNet: {error}; wanted a file that xiaonet pick wrote") from error
    return picks


def check_picks(picks: Iterable[Pick]) -> None:
    """Check that picks from a file are of P and S, and of channels.

    Raises:
        DataError: one is not.
    """
    for pick in picks:
        if pick.seed_id.count(".") != 3:
            raise DataError(f"its channel {pick.seed_id!r} is no NET.STA.LOC.CHA")
        if pick.phase not in PICKED_PHASES:
            raise DataError(f"its phases include {pick.phase!r}, which is neither P nor S")


def _check_suffix(path: Path) -> None:
    """Raise the ConfigError of `check_format` and `read_pick_file`."""
    suffix = path.suffix.lower()
    if suffix not in _WRITERS:
        raise ConfigError(f"{path} ends in {path.suffix!r}; wanted one of {', '.join(_WRITERS)}: choose another name")
    if module := _MODULES.get(_WRITERS[suffix]):
        try:
            import_for(str(path), module)
        except MissingPackageError as error:
            raise ConfigError(f"{error}, or write .csv") from error
