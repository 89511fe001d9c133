"""Files of picks: the suffix of the name chooses the format.

The files also tell which model and thresholds made the picks: Parquet in the schema metadata, QuakeML in comments of the
event. CSV does not, because pandas would read that as a pick.
"""

import importlib
import tempfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import IO

from xiaonet.errors import ConfigError, OutputError
from xiaonet.extras import install_command
from xiaonet.files import write_atomically
from xiaonet.io.csv import write_csv
from xiaonet.io.parquet import write_parquet
from xiaonet.io.quakeml import write_quakeml
from xiaonet.picking.picks import Pick

_WRITERS: Mapping[str, Callable[[Iterable[Pick], IO[bytes], Mapping[str, str]], int]] = {
    ".csv": write_csv,
    ".xml": write_quakeml,
    ".quakeml": write_quakeml,
    ".qml": write_quakeml,
    ".parquet": write_parquet,
}


def check_format(path: Path) -> None:
    """Check, before hours of work, that picks can be written to a file of this name.

    Raises:
        ConfigError: the suffix names no format, or a package that it needs is missing.
        OutputError: the folder is missing or you may not write to it, or `path` is a folder.
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
