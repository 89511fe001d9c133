"""The journal of a run of `xiaonet pick`: the results of finished tasks, safe on disk as soon as they exist.

It is an SQLite database beside the output. A second database, the lock, keeps two runs from writing one output. SQLite
releases the lock when the process ends, however it ends.
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
from dataclasses import astuple, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple, Self

from xiaonet.errors import OutputError
from xiaonet.picking.picks import Pick

MAGIC = b"SQLite format 3\0"  # how an SQLite database begins
SUFFIX = ".journal"  # added to the name of the output while the run is not finished
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
        seconds: of data.
        starts: how often data start, at the beginning or after a gap.
        problems: that came up since the result before.
    """

    key: str
    picks: list[Pick]
    seconds: float
    starts: int
    problems: list[str] = field(default_factory=list)


class Counts(NamedTuple):
    """What the journal keeps of a result in memory."""

    seconds: float
    starts: int
    picks: Counter[str]  # by phase


class Journal:
    """Results of finished tasks. Use it in a `with` statement.

    Args:
        out: the output of the run.
        fingerprint: of its input files and settings.
        resume: continue the journal of an interrupted run.

    Attributes:
        path: of the journal.
        counts: of each finished task, by key.
        problems: that came up in finished tasks, each once.

    Raises:
        OutputError: another run is writing this output; there is a journal and `resume` is false, or there is none and
            it is true; the journal belongs to another run; or it cannot be written.
    """

    def __init__(self, out: Path, fingerprint: str, resume: bool) -> None:
        self.path = out.with_name(out.name + SUFFIX)
        self.counts: dict[str, Counts] = {}
        self.problems: dict[str, None] = {}
        self._fingerprint = fingerprint
        existed = self._create(resume)
        self._lock = Lock(out)
        try:
            if existed and not resume:
                raise OutputError(f"{self.path} exists: an earlier run was interrupted; continue it with --resume, or delete that file")
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
        """Write a result; it is on disk when this returns.

        Raises:
            OutputError: it cannot be written. Earlier results are safe.
        """
        content = json.dumps([result.seconds, result.starts, result.problems, [astuple(pick) for pick in result.picks]])
        try:
            if not self.path.exists():
                self._restore()
            with self._database:
                self._database.execute(
                    "INSERT INTO results VALUES (?, ?, ?)", (result.key, content, _digest(self._fingerprint, result.key, content))
                )
        except sqlite3.Error as error:
            raise OutputError(
                f"{self.path} cannot be written: {error}; finished tasks are safe: free some space and continue with --resume"
            ) from error
        self._remember(result)

    def picks(self, groups: Iterable[Sequence[str]]) -> Iterator[Pick]:
        """Picks in order of time, read from disk as they are needed.

        Args:
            groups: keys of tasks; within a group the tasks follow each other in time.
        """
        return heapq.merge(*map(self._picks_of, groups))

    def delete(self) -> None:
        """Remove the journal of a finished run."""
        self._database.close()
        self.path.unlink(missing_ok=True)

    def _create(self, resume: bool) -> bool:
        """Make an empty journal for a new run; true if there was one before."""
        try:
            with self.path.open("rb" if resume else "xb") as file:
                head = file.read(len(MAGIC)) if resume else b""
        except FileExistsError:
            return True
        except FileNotFoundError as error:
            fix = "leave --resume out" if resume else "choose a folder that exists"
            raise OutputError(f"{self.path} cannot be {'read' if resume else 'written'}: no such file or folder; {fix}") from error
        except OSError as error:
            raise OutputError(f"{self.path} cannot be written: {error.strerror}; choose another place for the picks") from error
        if not MAGIC.startswith(head.rstrip(b"\0")):  # a journal that lost power may end in zeros
            raise OutputError(f"{self.path} is not a journal of this XiaoNet; delete that file and leave --resume out")
        return resume

    def _open(self) -> sqlite3.Connection:
        """Read the results that are there. A journal that lost power while it was written keeps those that are intact."""
        database = sqlite3.connect(self.path)
        try:
            fingerprints, results, intact = _read(database, self._fingerprint)
            if fingerprints and fingerprints != [self._fingerprint]:
                raise OutputError(
                    f"{self.path} was made from other files or with other settings; repeat the command as it was, "
                    "or delete that file and leave --resume out"
                )
            for result in results:
                self._remember(result)
            if not (fingerprints and intact):
                database.close()
                database = self._rebuild(results)
        except sqlite3.Error as error:
            database.close()
            raise OutputError(f"{self.path} cannot be written: {error}; free some space and continue with --resume") from error
        except OutputError:
            database.close()
            raise
        return database

    def _rebuild(self, results: list[TaskResult]) -> sqlite3.Connection:
        """Write a new journal that holds these results."""
        with suppress(FileNotFoundError):
            self.path.with_name(self.path.name + "-journal").unlink()  # SQLite's own, of a damaged journal
        os.truncate(self.path, 0)
        self.counts.clear()
        database = sqlite3.connect(self.path)
        database.executescript(SCHEMA)
        with database:
            database.execute("INSERT INTO run VALUES (?, ?)", (self._fingerprint, _digest(self._fingerprint)))
        self._database = database
        for result in results:
            self.add(result)
        return database

    def _restore(self) -> None:
        """Write the journal again after somebody deleted it: the open database still holds everything."""
        copy = sqlite3.connect(self.path)
        self._database.backup(copy)
        self._database.close()
        self._database = copy

    def _remember(self, result: TaskResult) -> None:
        self.problems |= dict.fromkeys(result.problems)
        self.counts[result.key] = Counts(result.seconds, result.starts, Counter(pick.phase for pick in result.picks))

    def _picks_of(self, keys: Sequence[str]) -> Iterator[Pick]:
        for key in keys:
            (content,) = self._database.execute("SELECT content FROM results WHERE key = ?", (key,)).fetchone()
            yield from _result(key, content).picks


class Lock:
    """Keeps other runs from writing the same output, until it is released or the process ends.

    The holder commits who it is, then keeps a write transaction open. Others can read the holder, but cannot write.

    Args:
        out: the output.

    Raises:
        OutputError: another run holds the lock, or the lock cannot be written.
    """

    def __init__(self, out: Path) -> None:
        self.path = out.with_name(f".{out.name}.lock")
        while True:
            self._database = sqlite3.connect(self.path, timeout=0, isolation_level=None)
            try:
                self._acquire(out)
            except BaseException:
                self._database.close()
                raise
            if self.path.exists():
                return
            self._database.close()  # the run before removed the file while this one waited for it

    def release(self) -> None:
        """Let other runs write the output."""
        with suppress(OSError):
            self.path.unlink()
        self._database.close()

    def _acquire(self, out: Path) -> None:
        holder = f"process {os.getpid()} on {socket.gethostname()} since {datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC"
        try:
            self._database.execute("BEGIN IMMEDIATE")
            self._database.execute("CREATE TABLE IF NOT EXISTS holder (name TEXT)")
            self._database.execute("DELETE FROM holder")
            self._database.execute("INSERT INTO holder VALUES (?)", (holder,))
            self._database.execute("COMMIT")
            self._database.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode not in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
                raise OutputError(
                    f"{out} cannot be written: {error}; free some space and continue with --resume, or choose another folder"
                ) from error
            raise OutputError(f"{out} is being written by {self._holder()}; wait for it, or choose another --out") from error
        except sqlite3.DatabaseError as error:
            raise OutputError(f"{self.path} is not a lock of XiaoNet: {error}; delete that file") from error

    def _holder(self) -> str:
        try:
            rows = self._database.execute("SELECT name FROM holder").fetchall()
        except sqlite3.OperationalError:  # it is just being written
            rows = []
        return str(rows[0][0]) if rows else "another run"


def _read(database: sqlite3.Connection, fingerprint: str) -> tuple[list[str], list[TaskResult], bool]:
    """The intact fingerprints of a journal, its intact results, and whether that is all of it."""
    fingerprints: list[str] = []
    results: list[TaskResult] = []
    try:
        fingerprints += [own for own, digest in database.execute("SELECT fingerprint, digest FROM run") if digest == _digest(own)]
        for key, content, digest in database.execute("SELECT key, content, digest FROM results ORDER BY rowid"):
            if digest != _digest(fingerprint, key, content):
                return fingerprints, results, False
            results.append(_result(key, content))
        intact = database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode != sqlite3.SQLITE_ERROR:  # not "no such table", which is an empty journal
            raise
        return fingerprints, results, False
    except sqlite3.DatabaseError:  # damaged
        return fingerprints, results, False
    return fingerprints, results, intact


def _result(key: str, content: str) -> TaskResult:
    seconds, starts, problems, picks = json.loads(content)
    return TaskResult(key, [Pick(*fields) for fields in picks], seconds, starts, problems)


def _digest(*texts: str) -> str:
    return hashlib.blake2b(json.dumps(texts).encode(), digest_size=16).hexdigest()
