"""Expand compressed files and archives: `.gz`, `.bz2`, `.zip`, `.tar` and any of them within another."""

import bz2
import gzip
import shutil
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO

HEAD = 512  # bytes that show how a file is compressed
BEGINNINGS = {"gz": b"\x1f\x8b\x08", "bz2": b"BZh", "zip": b"PK\x03\x04"}
DEEPEST = 4  # a file within a file within …
STEP = 2**12  # bytes expanded at once: damage costs those before it in the same step
KEPT = 64  # expanded files that stay on disk; others are expanded again when they are needed


class Expanded:
    """The files within a compressed file, in a temporary folder that goes with this object.

    Attributes:
        names: of the files.
        damage: why not all of the file could be expanded; empty if all could.
    """

    def __init__(self, path: Path) -> None:
        self._folder = TemporaryDirectory(prefix="xiaonet-", ignore_cleanup_errors=True)
        self.names: list[str] = []
        self.damage = ""
        try:
            with path.open("rb") as file:
                for name, content in _members(path.name, file, DEEPEST):
                    self.names.append(name)
                    with self.file(len(self.names) - 1).open("wb") as target:
                        shutil.copyfileobj(content, target, STEP)
        except (EOFError, OSError, zlib.error, tarfile.TarError, zipfile.BadZipFile, RuntimeError, NotImplementedError) as error:
            if isinstance(error, OSError) and error.errno is not None:  # without a number, it is about the content
                raise
            self.damage = f"{type(error).__name__}: {error}"  # RuntimeError: a password is needed

    def file(self, number: int) -> Path:
        """The place of a file in the order of `names`."""
        return Path(self._folder.name, f"{number}")


@lru_cache(KEPT)
def expand(path: Path) -> Expanded:
    """Expand a compressed file. Keep the result as long as you use its files.

    Raises:
        OSError: the file cannot be read, or the temporary folder is full.
    """
    return Expanded(path)


def is_compressed(path: Path) -> bool:
    """Whether a file is a compressed file or an archive of files, by its first bytes.

    Raises:
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        return _kind(file.read(HEAD)) != ""


def _kind(head: bytes) -> str:
    if head[257:262] == b"ustar":
        return "tar"
    return next((kind for kind, begin in BEGINNINGS.items() if head.startswith(begin)), "")


def _members(name: str, file: IO[bytes], depth: int) -> Iterator[tuple[str, IO[bytes]]]:
    """Name and content of each file within a file. Read the content before you ask for the next one."""
    kind = _kind(file.read(HEAD)) if depth else ""
    if depth:
        file.seek(0)
    if kind == "gz":
        with gzip.GzipFile(fileobj=file) as unzipped:
            yield from _members(name.removesuffix(".gz"), unzipped, depth - 1)  # type: ignore[arg-type]
    elif kind == "bz2":
        with bz2.BZ2File(file) as unzipped:
            yield from _members(name.removesuffix(".bz2"), unzipped, depth - 1)
    elif kind == "tar":
        with tarfile.open(fileobj=file) as tar:
            for member in tar:
                if member.isfile() and (content := tar.extractfile(member)) is not None:
                    yield from _members(member.name, content, depth - 1)
    elif kind == "zip":
        with zipfile.ZipFile(file) as archive:
            for item in archive.infolist():
                if not item.is_dir():
                    with archive.open(item) as content:
                        yield from _members(item.filename, content, depth - 1)
    else:
        yield name, file
