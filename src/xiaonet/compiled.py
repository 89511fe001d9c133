"""The parts of XiaoNet in C, compiled when it is installed if there is a C compiler."""

import ctypes
from functools import cache
from pathlib import Path

from xiaonet.errors import ConfigError

SUFFIXES = (".so", ".pyd", ".dll", ".dylib")
REBUILD = "install XiaoNet again where there is a C compiler (gcc or clang)"


@cache
def find_library(folder: Path, name: str) -> Path | None:
    """The library in a folder whose name begins so; None if it was not built."""
    return next((path for path in sorted(folder.glob(f"{name}*")) if path.suffix in SUFFIXES), None)


def open_library(path: Path, what: str, version: tuple[str, int], fix: str = REBUILD) -> ctypes.CDLL:
    """Load a library.

    Args:
        path: of the library.
        what: it is, for messages.
        version: name of its function that gives the number of its interface, and the number that is wanted.
        fix: what to do where it cannot be used.

    Raises:
        ConfigError: it cannot be loaded, or it was built from another version of XiaoNet.
    """
    function, wanted = version
    try:
        library = ctypes.CDLL(str(path))
        interface = getattr(library, function)()
    except (OSError, AttributeError) as error:
        raise ConfigError(f"{what} cannot be loaded from {path}: {error}; {fix}") from error
    if interface != wanted:
        raise ConfigError(f"{path} was built from another version of XiaoNet: its interface is {interface}, wanted {wanted}; {fix}")
    return library
