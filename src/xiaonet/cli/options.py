"""What several commands share: the types of their options, with one help text each."""

import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from xiaonet import console
from xiaonet.errors import ConfigError

DATA = "SeisBench class, folder or name; join several with +."
RUNTIME = "What runs the model. auto: torch for .pth, OpenVINO for .xml, else native, or onnxruntime where native is missing."

RunFolder = Annotated[Path | None, typer.Option("--out", help="Folder of the run.", show_default="runs/DATE-TIME")]
Assignments = Annotated[
    list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="Change a setting, such as training.epochs=5; repeatable.")
]

Stations = Annotated[
    list[str] | None, typer.Option(help="Stations, such as CX.PB01, 'PB*' or CX.PB01..HH; repeatable, or join several with commas.")
]

Components = Annotated[
    str | None, typer.Option(metavar="E=…,N=…,Z=…", help="Channels whose names do not show their component: E=HHX,N=HHY,Z=HHZ.")
]
Prefer = Annotated[
    str, typer.Option(help="Only the best instrument of each station, in this order: HH,BH,EH,HN.", show_default="all instruments")
]


def split_stations(given: list[str] | None) -> list[str]:
    """The names of stations in an option that may be repeated and may hold several, joined by commas."""
    return [name.strip() for name in ",".join(given).split(",")] if given else []


def renamed(old: str, old_value: str | None, new: str, new_value: str | None) -> str | None:
    """The value of a renamed option, which the user may have given by its old name.

    Raises:
        ConfigError: both names were used.
    """
    if old_value is None:
        return new_value
    if new_value is not None:
        raise ConfigError(f"{new} and {old}: these options exclude each other; use {new} alone")
    console.warn("Option", f"{old} is now {new}", "the next release will not accept the old name")
    return old_value


def time_ns(option: str, text: str | None) -> int | None:
    """Nanoseconds since 1970-01-01 of a UTC time on the command line.

    Raises:
        ConfigError: this is no time.
    """
    if text is None:
        return None
    try:
        time_utc = datetime.fromisoformat(text)
    except ValueError as error:
        raise ConfigError(f"{option} is {text!r}; wanted a UTC time such as 2014-05-01 or 2014-05-01T06:00:00") from error
    return round((time_utc if time_utc.tzinfo else time_utc.replace(tzinfo=UTC)).timestamp() * 1e6) * 1000


def usable_cores() -> int:
    """Number of CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
