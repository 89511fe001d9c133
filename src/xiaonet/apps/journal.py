"""The journal of a run of `xiaonet pick`. It keeps the result of each finished task on disk.

The journal is an SQLite database beside the output. A second database, the lock, keeps two runs from writing one output.
SQLite releases the lock when the process ends, even if it is killed. If somebody deletes the journal during a run, the run
still has it open, and writes it again with the next result.
"""

import hashlib
import heapq
import json
import os
import socket
import sqlite3
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from operator import attrgetter
from pathlib import Path
from typing import NamedTuple, Self

from xiaonet.errors import OutputError
from xiaonet.picking.picks import Pick
from xiaonet.picking.quality import Quality, add_qualities

MAGIC = b"SQLite format 3\0"  # how an SQLite database begins
SUFFIX = ".journal"  # added to the name of the output while the run is not finished
FORMAT = 3  # of the results; a journal with another one is of another run
DAMAGE = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR, sqlite3.SQLITE_FORMAT)
INSERT = "INSERT INTO results VALUES (?, ?, ?)"
_pick_fields, _quality_fields = (attrgetter(*(one.name for one in fields(kind))) for kind in (Pick, Quality))  # as tuples
SCHEMA = """
CREATE TABLE IF NOT EXISTS run (fingerprint TEXT NOT NULL, digest TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS results (key TEXT PRIMARY KEY, content TEXT NOT NULL, digest TEXT NOT NULL);
"""


@dataclass(frozen=True)
class TaskResult:
    """The result of a task.

    Attributes:
        key: of the task.
        picks: in order of time.
        quality: of the instrument.
        channels: quality of each of its channels.
        problems: found in the records since the previous result.
        seconds: length of the task, gaps included.
    """

    key: str
    picks: list[Pick]
    quality: Quality = field(default_factory=Quality)
    channels: dict[str, Quality] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    seconds: float = 0.0


class Counts(NamedTuple):
    """The part of a result that stays in memory."""

    quality: Quality
    picks: Counter[str]  # by phase
    seconds: float


class Journal:
    """Results of finished tasks. Use it in a `with` statement.

    Args:
        out: the output of the run.
        fingerprint: of its input files and settings.
        resume: continue the journal of an interrupted run, if there is one.

    Attributes:
        path: of the journal.
        counts: of each finished task, by key.
        channels: quality of each channel in all finished tasks.
        problems: found in the records of finished tasks, each once.

    Raises:
        OutputError: another run is writing this output; there is a journal and `resume` is false; the journal belongs to another
            run; or it cannot be written.
    """

    def __init__(self, out: Path, fingerprint: str, resume: bool) -> None:
        self.path = out.with_name(out.name + SUFFIX)
        self.counts: dict[str, Counts] = {}
        self.channels: dict[str, Quality] = {}
        self.problems: dict[str, None] = {}
        self._fingerprint = fingerprint
        self._lock = Lock(out)
        created = self._create()
        if not self._lock.acquire():
            if created:  # the other run has just deleted its own, or writes it again
                self.path.unlink(missing_ok=True)
            raise OutputError(f"{out} is being written by {self._lock.holder}; wait for it, or choose another --out")
        try:
            if not (created or self._create()):  # again: a run that has just finished deleted its journal
                self._check_earlier(resume)
            self._database = self._open()
        except BaseException:
            self._lock.release()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._database.close()
        self._lock.release()

    def add(self, result: TaskResult) -> None:
        """Write a result; it is on disk when this returns. A journal that was deleted is written again.

        Raises:
            OutputError: it cannot be written. Earlier results are safe.
        """
        channels = {seed_id: _quality_fields(quality) for seed_id, quality in result.channels.items()}
        content = json.dumps(
            [_quality_fields(result.quality), channels, result.problems, list(map(_pick_fields, result.picks)), result.seconds]
        )
        self._write(INSERT, [(result.key, content, _digest(self._fingerprint, result.key, content))])
        self._remember(result)

    def forget(self, stations: Iterable[str]) -> None:
        """Remove all results of stations such as `CX.PB01`, because more of their data were found.

        Raises:
            OutputError: the journal cannot be written.
        """
        for station in stations:
            keys = [key for key in self.counts if key.startswith(f"{station}.")]
            self._write("DELETE FROM results WHERE key = ?", [(key,) for key in keys])
            for key in keys:
                del self.counts[key]
            self.channels = {seed_id: quality for seed_id, quality in self.channels.items() if not seed_id.startswith(f"{station}.")}

    def picks(self, groups: Iterable[Sequence[str]]) -> Iterator[Pick]:
        """Picks in order of time, read from disk as they are needed.

        Args:
            groups: keys of tasks; within a group the tasks follow each other in time.
        """
        return heapq.merge(*map(self._picks_of, groups))

    def keep(self) -> None:
        """Write the journal again if it was deleted after the last result.

        Raises:
            OutputError: it cannot be written.
        """
        try:
            if not self.path.exists():
                self._database = _copy(self._database, self.path)
        except sqlite3.Error as error:
            raise OutputError(f"{self.path} was deleted and cannot be written again: {error}; free some space and start again") from error

    def delete(self) -> None:
        """Remove the journal of a finished run."""
        self._database.close()
        self.path.unlink(missing_ok=True)

    def _write(self, statement: str, rows: list[tuple[str, ...]]) -> None:
        try:
            try:
                _execute(self._database, statement, rows)
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode != sqlite3.SQLITE_READONLY_DBMOVED:
                    raise
                self._database = _copy(self._database, self.path)  # the open database still holds everything
                _execute(self._database, statement, rows)
        except sqlite3.Error as error:
            raise OutputError(
                f"{self.path} cannot be written: {error}; finished tasks are safe: free some space and continue with --resume"
            ) from error

    def _create(self) -> bool:
        """Make an empty journal for a new run; false if there is one already."""
        try:
            self.path.open("xb").close()
        except FileExistsError:
            return False
        except FileNotFoundError as error:
            raise OutputError(f"{self.path} cannot be written: no such file or folder; choose a folder that exists") from error
        except OSError as error:
            raise OutputError(f"{self.path} cannot be written: {error.strerror}; choose another place for the picks") from error
        return True

    def _check_earlier(self, resume: bool) -> None:
        """Refuse the journal of an earlier run if it is not to be continued, or is none."""
        if not resume:
            raise OutputError(f"{self.path} exists: an earlier run was interrupted; continue it with --resume, or delete that file")
        try:
            with self.path.open("rb") as file:
                head = file.read(len(MAGIC))
        except OSError as error:
            raise OutputError(f"{self.path} cannot be read: {error.strerror}; choose another place for the picks") from error
        if not MAGIC.startswith(head.rstrip(b"\0")):  # a journal that lost power may end in zeros
            raise OutputError(f"{self.path} is not a journal of this XiaoNet; delete that file and leave --resume out")

    def _open(self) -> sqlite3.Connection:
        """Open the journal and read it. If it was damaged by a power failure, keep the intact results."""
        database = sqlite3.connect(self.path)
        try:
            if not self._read(database):
                database = self._rebuild(database)
        except (sqlite3.Error, OSError) as error:
            database.close()
            raise OutputError(f"{self.path} cannot be written: {error}; free some space and continue with --resume") from error
        except OutputError:
            database.close()
            raise
        return database

    def _read(self, database: sqlite3.Connection) -> bool:
        """Count the results; true if the journal is complete and intact."""
        try:
            runs = [own for own, digest in database.execute("SELECT fingerprint, digest FROM run") if digest == _digest(own)]
            if runs and runs != [self._fingerprint]:
                raise OutputError(
                    f"{self.path} was made from other files or with other settings; repeat the command as it was, "
                    "or delete that file and leave --resume out"
                )
            for row in _intact_rows(database, self._fingerprint):
                self._remember(_result(*row[:2]))
            [(total,)] = database.execute("SELECT count(*) FROM results")
            return bool(runs) and total == len(self.counts) and database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        except sqlite3.DatabaseError as error:
            if not _is_damage(error):
                raise
            return False

    def _rebuild(self, damaged: sqlite3.Connection) -> sqlite3.Connection:
        """Write the journal again, with the intact results."""
        copy = sqlite3.connect("")  # a temporary file
        copy.executescript(SCHEMA)
        with copy:
            copy.execute("INSERT INTO run VALUES (?, ?)", (self._fingerprint, _digest(self._fingerprint)))
        self.counts.clear()
        self.channels.clear()
        self.problems.clear()
        try:
            for row in _intact_rows(damaged, self._fingerprint):
                _execute(copy, INSERT, [row])
                self._remember(_result(*row[:2]))
        except sqlite3.DatabaseError as error:
            if not _is_damage(error):
                raise
        damaged.close()
        with suppress(FileNotFoundError):
            self.path.with_name(self.path.name + "-journal").unlink()  # SQLite's own, of the damaged journal
        os.truncate(self.path, 0)
        return _copy(copy, self.path)

    def _remember(self, result: TaskResult) -> None:
        self.problems |= dict.fromkeys(result.problems)
        self.counts[result.key] = Counts(result.quality, Counter(pick.phase for pick in result.picks), result.seconds)
        add_qualities(self.channels, result.channels)

    def _picks_of(self, keys: Sequence[str]) -> Iterator[Pick]:
        for key in keys:
            (content,) = self._database.execute("SELECT content FROM results WHERE key = ?", (key,)).fetchone()
            yield from _result(key, content).picks


class Lock:
    """Keeps other runs from writing the same output, until it is released or the process ends.

    The holder commits who it is, then keeps a write transaction open. Others can read the holder, but cannot write.

    Args:
        out: the output.

    Attributes:
        holder: which run holds the lock.
    """

    def __init__(self, out: Path) -> None:
        self.path, self._out = out.with_name(f".{out.name}.lock"), out
        self.holder = f"process {os.getpid()} on {socket.gethostname()} since {datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC"

    def acquire(self) -> bool:
        """Take the lock; false if another run holds it.

        Raises:
            OutputError: the lock cannot be written.
        """
        self._database = sqlite3.connect(self.path, timeout=0, isolation_level=None)
        try:
            self._database.execute("BEGIN IMMEDIATE")
            self._database.execute("CREATE TABLE IF NOT EXISTS holder (name TEXT)")
            self._database.execute("DELETE FROM holder")
            self._database.execute("INSERT INTO holder VALUES (?)", (self.holder,))
            self._database.execute("COMMIT")
            self._database.execute("BEGIN IMMEDIATE")
        except sqlite3.DatabaseError as error:
            code = error.sqlite_errorcode
            if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
                self.holder = self._read_holder()
            self._database.close()
            if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
                return False
            if code == sqlite3.SQLITE_READONLY_DBMOVED:  # the holder released it since we opened the file
                return self.acquire()
            if code == sqlite3.SQLITE_NOTADB:
                raise OutputError(f"{self.path} is not a lock of XiaoNet: {error}; delete that file") from error
            raise OutputError(
                f"{self._out} cannot be written: {error}; free some space and continue with --resume, or choose another folder"
            ) from error
        return self.path.exists() or self.acquire()

    def release(self) -> None:
        """Let other runs write the output."""
        with suppress(OSError):
            self.path.unlink()
        self._database.close()
        if os.name == "nt":  # Windows removes no file that is open, so this cannot be the lock of another run
            with suppress(OSError):
                self.path.unlink()

    def _read_holder(self) -> str:
        try:
            return str(self._database.execute("SELECT name FROM holder").fetchone()[0])
        except (sqlite3.OperationalError, TypeError):  # it has not been written yet
            return "another run"


def _intact_rows(database: sqlite3.Connection, fingerprint: str) -> Iterator[tuple[str, str, str]]:
    """The rows of the results, up to the first that is damaged."""
    for key, content, digest in database.execute("SELECT key, content, digest FROM results ORDER BY rowid"):
        if digest != _digest(fingerprint, key, content):
            return
        yield key, content, digest


def _execute(database: sqlite3.Connection, statement: str, rows: list[tuple[str, ...]]) -> None:
    with database:
        database.executemany(statement, rows)


def _copy(database: sqlite3.Connection, path: Path) -> sqlite3.Connection:
    """Write a database to another file, and close it. Returns the new one."""
    copy = sqlite3.connect(path)
    database.backup(copy)
    database.close()
    return copy


def _is_damage(error: sqlite3.DatabaseError) -> bool:
    """Whether the content of the file is wrong, and not the disk. An empty journal has no tables."""
    return error.sqlite_errorcode & 0xFF in DAMAGE


def _result(key: str, content: str) -> TaskResult:
    quality, channels, problems, picks, seconds = json.loads(content)
    known = {seed_id: Quality(*fields) for seed_id, fields in channels.items()}
    return TaskResult(key, [Pick(*fields) for fields in picks], Quality(*quality), known, problems, seconds)


def _digest(*texts: str) -> str:
    return hashlib.blake2b(json.dumps(texts).encode(), digest_size=16).hexdigest()
