"""Expand compressed files and archives: `.gz`, `.bz2`, `.zip`, `.tar` and any of them within another.

A small file may expand without end. So the bytes are counted, also those of files within files, and a file that expands beyond
a limit is refused.
"""

import bz2
import gzip
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from errno import ENOSPC
from functools import lru_cache, partial
from pathlib import Path
from tempfile import TemporaryDirectory, gettempdir
from typing import IO, Any, Self

HEAD = 512  # bytes that show how a file is compressed
BEGINNINGS = {"gz": b"\x1f\x8b\x08", "bz2": b"BZh", "zip": b"PK\x03\x04"}
DEEPEST = 4  # a file within a file within …
STEP = 2**12  # bytes expanded at once: damage costs those before it in the same step
KEPT = 64  # expanded files that stay on disk; others are expanded again when they are needed
GROWTH = 100  # times its own size that a file may expand to; miniSEED expands up to twice, text about ten times
SMALL = 10**9  # bytes that any file may expand to
LEAST = 2**12  # bytes that a file takes on the disk, however short it is
LONGEST_NAME = 2**20  # bytes of a name or a comment in a tar archive, which is read into memory
NAMES = (tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK)
DAMAGE = (EOFError, zlib.error, tarfile.TarError, zipfile.BadZipFile, NotImplementedError, RuntimeError)  # the last one: a password


class Expanded:
    """The files within a compressed file, in a temporary folder that goes with this object.

    Attributes:
        names: of the files.
        problems: why not all of the content is there.
    """

    def __init__(self, path: Path) -> None:
        self._folder = TemporaryDirectory(prefix="xiaonet-", ignore_cleanup_errors=True)
        self._files: list[Path] = []
        self._name, self._number, self._bytes = path.name, 0, 0
        self._limit = max(SMALL, GROWTH * path.stat().st_size)
        self.names: list[str] = []
        self.problems: list[str] = []
        try:
            self._expand(path.name, path, DEEPEST)
        except _TooLargeError:
            self._give_up(
                f"refused: it expands to more than {self._limit / 1e9:.3g} GB; the limit is {SMALL / 1e9:g} GB, or {GROWTH} times the size "
                "of the file if that is more; if you trust it, expand it yourself and name the folder instead"
            )
        except OSError as error:
            if error.errno != ENOSPC:
                raise
            self._give_up(f"cannot be expanded: no space is left in {gettempdir()}; free some, or set TMPDIR to another folder")

    def file(self, number: int) -> Path:
        """The place of a file in the order of `names`."""
        return self._files[number]

    def _give_up(self, reason: str) -> None:
        self._folder.cleanup()
        self.names, self.problems = [], [reason]

    def _expand(self, name: str, path: Path, depth: int) -> None:
        """Write the files within a compressed file, and those within them."""
        if not depth:
            self.problems.append(f"{name}: skipped: it is within {DEEPEST} other compressed files; expand it yourself")
            return
        for inner, content in self._members(name, path):
            written = self._write(inner, content)
            if _kind(written):
                self._expand(inner, written, depth - 1)
                written.unlink()
            else:
                self.names.append(inner)
                self._files.append(written)

    def _members(self, name: str, path: Path) -> Iterator[tuple[str, IO[bytes]]]:
        """Name and content of each file within a file, up to the damage if there is any. Read a content before you ask for the next one."""
        kind = _kind(path)
        with self._noted(name):
            if kind.startswith("tar"):
                with tarfile.open(path, f"r{kind[3:]}", tarinfo=_TarHeader) as tar:  # type: ignore[call-overload]
                    for member in tar:
                        if member.isfile() and (content := tar.extractfile(member)) is not None:
                            yield member.name, content
                        else:
                            self._count(member.size)
            elif kind == "zip":
                with zipfile.ZipFile(path) as archive:
                    for item in archive.infolist():
                        if not item.is_dir():
                            with self._noted(item.filename), archive.open(item) as member_content:
                                yield item.filename, member_content
            else:
                with UNPACK[kind](path) as unpacked:
                    yield name.removesuffix(f".{kind}"), unpacked

    def _write(self, name: str, content: IO[bytes]) -> Path:
        """Write a file, up to the damage if there is any."""
        path = Path(self._folder.name, f"{self._number}")
        self._number += 1
        self._count(LEAST)
        with path.open("wb") as target, self._noted(name):
            for block in iter(partial(content.read, STEP), b""):
                self._count(len(block))
                target.write(block)
        return path

    def _count(self, size: int) -> None:
        """Count bytes.

        Raises:
            _TooLargeError: there are too many.
        """
        self._bytes += size
        if self._bytes > self._limit:
            raise _TooLargeError

    @contextmanager
    def _noted(self, name: str) -> Iterator[None]:
        """Note damage to a file, and go on with the next one."""
        try:
            yield
        except (*DAMAGE, OSError) as error:
            if isinstance(error, OSError) and error.errno is not None:  # without a number, it is about the content
                raise
            where = "" if name == self._name else f"{name}: "
            self.problems.append(f"{where}damaged, and only what comes before the damage is read: {type(error).__name__}: {error}")


class _TooLargeError(Exception):
    """A file expands beyond the limit."""


class _TarHeader(tarfile.TarInfo):
    """The header of a member of a tar archive, which refuses two things that Python accepts.

    Python takes a damaged header for the end of the archive, and reads a name of any length into memory.
    """

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        try:
            header = super().frombuf(buf, encoding, errors)
        except tarfile.HeaderError as error:
            if not buf.strip(b"\0"):  # the end
                raise
            raise tarfile.ReadError(f"a header is damaged: {error}") from error
        if header.type in NAMES and header.size > LONGEST_NAME:
            raise tarfile.ReadError(f"a name of {header.size} bytes")
        return header


UNPACK: dict[str, Any] = {"gz": gzip.open, "bz2": bz2.open}


@lru_cache(KEPT)
def expand(path: Path) -> Expanded:
    """Expand a compressed file. Keep the result as long as you use its files.

    Raises:
        OSError: the file cannot be read, or the temporary folder cannot be written.
    """
    return Expanded(path)


def is_compressed(path: Path) -> bool:
    """Whether a file is a compressed file or an archive of files, by its first bytes.

    Raises:
        OSError: it cannot be read.
    """
    return _kind(path) != ""


def _kind(path: Path) -> str:
    """`gz`, `bz2`, `zip`, `tar:`, `tar:gz` and `tar:bz2`; empty for other files."""
    with path.open("rb") as file:
        kind = _kind_of(file.read(HEAD))
    if kind in UNPACK:
        with suppress(*DAMAGE, OSError), UNPACK[kind](path) as unpacked:
            if _kind_of(unpacked.read(HEAD)) == "tar:":
                return f"tar:{kind}"
    return kind


def _kind_of(head: bytes) -> str:
    if head[257:262] == b"ustar":
        return "tar:"
    return next((kind for kind, begin in BEGINNINGS.items() if head.startswith(begin)), "")
