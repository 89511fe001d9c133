"""Making folders, and writing files completely or not at all."""

import os
import re
import socket
from collections.abc import Callable
from contextlib import suppress
from glob import escape as glob_escape
from pathlib import Path
from typing import IO
from uuid import uuid4

from xiaonet.errors import OutputError


def make_folder(path: Path) -> None:
    """Make a folder and its parents where they are missing.

    Raises:
        OutputError: the folder cannot be made.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{path} cannot be made: {error}; choose another --out") from error


def write_atomically(path: Path, write: Callable[[IO[bytes]], object]) -> None:
    """Let `write` fill a new file, which replaces `path` only when it is complete and on disk.

    The new file is a hidden one in the same folder. Those of killed processes are removed first.

    Raises:
        OutputError: the file cannot be written. What was at `path` stays.
    """
    temporary = path.with_name(f".{path.name}.{_host()}.{os.getpid()}.{uuid4().hex}")
    try:
        _remove_leftovers(path)
        with temporary.open("xb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        fix = "close the program that has it open" if isinstance(error, PermissionError) else "free some space"
        raise OutputError(
            f"{path} could not be written: {error}; an older file there is unchanged; {fix} or choose another folder"
        ) from error
    finally:
        with suppress(OSError):  # it has replaced `path`, or was never made
            temporary.unlink()


def _remove_leftovers(path: Path) -> None:
    """Remove temporary files for the same target that killed processes of this machine left behind."""
    name = re.compile(rf"\.{re.escape(path.name)}\.{_host()}\.(\d+)\.[0-9a-f]{{32}}")
    for file in path.parent.glob(f".{glob_escape(path.name)}.*"):
        match = name.fullmatch(file.name)
        if match and not _is_alive(int(match[1])):
            with suppress(OSError):  # another process removed it
                file.unlink()


def _is_alive(process: int) -> bool:
    if os.name == "nt":
        return True  # signal 0 would end the process there
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # it belongs to somebody else
        return True
    return True


def _host() -> str:
    return re.sub(r"\W", "-", socket.gethostname())
