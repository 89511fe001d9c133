"""The output: picks of each station-day as a Parquet file, and an object for each that is complete.

    run.json                                          what the picks were made with; another run into the same place is refused
    network=CX/year=2014/month=05/KEY.parquet         the picks of a station-day
    complete/CX.PB01/2014-05-01.KEY.json              written last: this station-day is complete
    survey/CX.PB01/KEY.json                           the time ranges of the channels in the files of a block
    inventory/DIGEST/station.xml                      where the workers read the inventory
    plots/CX.PB01/CX.PB01..HH_100Hz_2014-05-01.png    the figure of a day

KEY is a digest of all that the picks depend on. Whoever reads the picks goes by the names of the complete station-days alone. So a
repeated block, a killed worker or two schedulers cannot double a pick: they write the same objects again.
"""

import hashlib
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import date, timedelta
from fnmatch import fnmatchcase
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

from xiaonet.archives.layouts import EPOCH
from xiaonet.archives.planning import DAY_NS, INVENTORY, Request, as_date, may_be_chosen
from xiaonet.archives.storage import Storage
from xiaonet.constants import SECOND_NS
from xiaonet.errors import DataError, OutputError
from xiaonet.extras import import_for
from xiaonet.files import write_atomically
from xiaonet.io.parquet import read_parquet, write_parquet
from xiaonet.picking.picks import Pick

RUN = "run.json"
COMPLETE = "complete"
READERS = 16  # objects that are read at the same time


class Complete(NamedTuple):
    """A complete station-day. It sorts by day."""

    day: int
    station: str
    key: str

    @property
    def name(self) -> str:
        """Of its object."""
        return f"{COMPLETE}/{self.station}/{as_date(self.day)}.{self.key}.json"

    @property
    def picks(self) -> str:
        """Name of the object with its picks."""
        when = EPOCH + timedelta(days=self.day)
        return f"network={self.station.partition('.')[0]}/year={when:%Y}/month={when:%m}/{self.key}.parquet"

    @classmethod
    def parse(cls, name: str) -> "Complete":
        """The station-day of an object by its name.

        Raises:
            DataError: it has another name.
        """
        try:
            _, station, rest = name.split("/")
            day, key, _ = rest.split(".")
            return cls((date.fromisoformat(day) - EPOCH).days, station, key)
        except ValueError as error:
            raise DataError(
                f"{name} is no object of a complete station-day; wanted a name like {COMPLETE}/CX.PB01/2014-05-01.KEY.json"
            ) from error


class Dataset:
    """Picks of station-days in a folder or a bucket.

    Args:
        storage: where they are.
    """

    def __init__(self, storage: Storage) -> None:
        self.storage = storage

    def begin(self, request: Request, resume: bool) -> None:
        """Begin or continue a run. One that is continued with another edition of its inventory is done again.

        Raises:
            OutputError: there is a run and `resume` is false, or it was made in another way.
            StorageError: the place cannot be written.
        """
        ours = _identity(request)
        while not self.storage.write(RUN, json.dumps(ours, indent=1).encode(), new=True):
            theirs = self.run
            if theirs is None:  # deleted in this moment
                continue
            different = [name for name in {**ours, **theirs} if ours.get(name) != theirs.get(name)]
            if different == [INVENTORY] and theirs.get(INVENTORY) and resume:
                self.storage.write(RUN, json.dumps(ours, indent=1).encode())
                return
            if different:
                name = different[0]
                values = f"{name} is {theirs.get(name)!r} there and {ours.get(name)!r} here"
                raise OutputError(f"{self.storage.url} holds another run: {values}; choose another --out")
            if not resume:
                raise OutputError(f"{self.storage.url} holds this run, finished or not; continue it with --resume, or choose another --out")
            return

    def keep_inventory(self, path: Path) -> str:
        """Write a file with an inventory for the workers. Returns the name of its object.

        Raises:
            DataError: the file cannot be read.
            StorageError: the place cannot be written.
        """
        try:
            content = path.read_bytes()
        except OSError as error:
            raise DataError(f"{path} cannot be read: {error.strerror or error}") from error
        name = f"{INVENTORY}/{hashlib.sha256(content).hexdigest()[:32]}/{path.name}"
        self.storage.write(name, content)
        return name

    @property
    def run(self) -> dict[str, Any] | None:
        """What the picks were made with; None if there is no run.

        Raises:
            OutputError: the object that tells it is damaged.
        """
        content = self.storage.read(RUN)
        try:
            return None if content is None else dict(json.loads(content))
        except ValueError as error:
            raise OutputError(f"{self.storage.url}/{RUN} is damaged: {error}; choose another --out") from error

    def complete(self, station: str = "") -> list[Complete]:
        """The complete station-days of a station or of all, in order of their days."""
        return sorted(Complete.parse(found.key) for found in self.storage.list(f"{COMPLETE}/{station}" if station else COMPLETE))

    def add(self, done: Complete, picks: Sequence[Pick], earlier: Sequence[Complete], details: Mapping[str, object]) -> None:
        """Write the picks of a station-day, then the object that completes it.

        Args:
            done: the station-day.
            picks: in order of time.
            earlier: the same station-day, completed from other files; it is taken back.
            details: written into the object that completes it.
        """
        file = io.BytesIO()
        write_parquet(picks, file, {})
        self.storage.write(done.picks, file.getvalue())
        for old in earlier:
            self.storage.delete(old.name)
        self.storage.write(done.name, json.dumps({"parquet": done.picks, **details}).encode())

    def find(
        self, stations: Sequence[str] = (), start_ns: int | None = None, end_ns: int | None = None, phase: str | None = None
    ) -> Iterator[Pick]:
        """Picks of complete station-days in order of time, read day by day.

        Args:
            stations: names of stations or channels, such as `PB*`, `CX.PB01` or `CX.PB01..HHZ`; all by default.
            start_ns: no picks before this time.
            end_ns: no picks from this time on.
            phase: `P` or `S`; both by default.

        Raises:
            DataError: there is no run, a station-day is complete twice, or a file is damaged.
            MissingPackageError: pyarrow is not installed.
        """
        import_for("a dataset of picks", "pyarrow")

        def is_wanted(pick: Pick) -> bool:
            in_time = (start_ns is None or pick.time_ns >= start_ns) and (end_ns is None or pick.time_ns < end_ns)
            return in_time and phase in (None, pick.phase) and _is_named(pick, stations)

        left: list[Pick] = []
        with ThreadPoolExecutor(READERS) as pool:
            for day, group in groupby(self._days(stations, start_ns, end_ns), key=lambda done: done.day):
                left += [pick for picks in pool.map(self._read, group) for pick in picks if is_wanted(pick)]
                left.sort()
                sure = [pick for pick in left if pick.time_ns < (day + 1) * DAY_NS - SECOND_NS]  # a grid may be shifted by half a sample
                yield from sure
                del left[: len(sure)]
        yield from left

    def write_manifest(self, path: Path) -> int:
        """Write a CSV file that lists the complete station-days and the objects of their picks. Returns their number.

        Raises:
            OutputError: it cannot be written.
            DataError: there is no run.
        """
        days = self._days((), None, None)
        rows = [f"{done.station},{as_date(done.day)},{done.picks},{done.name}" for done in days]
        text = "\n".join(["station,day,picks,complete", *rows]) + "\n"
        write_atomically(path, lambda file: file.write(text.encode()))
        return len(days)

    def _days(self, stations: Sequence[str], start_ns: int | None, end_ns: int | None) -> list[Complete]:
        if self.run is None:
            raise DataError(f"{self.storage.url} holds no run of XiaoNet; wanted the --out of xiaonet pick --layout")
        days = [
            done
            for done in self.complete()
            if (start_ns is None or (done.day + 1) * DAY_NS + SECOND_NS > start_ns)
            and (end_ns is None or done.day * DAY_NS - SECOND_NS < end_ns)
            and may_be_chosen(done.station, stations)
        ]
        for (day, station), group in groupby(days, key=lambda done: done[:2]):
            if len(list(group)) > 1:
                raise DataError(f"{station} on {as_date(day)} is complete twice, from files that changed; repeat the run with --resume")
        return days

    def _read(self, done: Complete) -> list[Pick]:
        content = self.storage.read(done.picks)
        try:
            if content is None:
                raise DataError("it is missing")
            return list(read_parquet(io.BytesIO(content)))
        except Exception as error:  # of pyarrow, about any content
            fix = f"delete {done.name} and repeat the run with --resume"
            raise DataError(f"{self.storage.url}/{done.picks} holds no picks: {error}; {fix}") from error


def digest(*content: object) -> str:
    """A short name for content that JSON can hold."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:32]


def _identity(request: Request) -> dict[str, object]:
    """What makes a run another one. Days, stations and shards of the same run may differ."""
    return {"source": request.source.partition("?")[0], "layout": request.layout, **request.made}


def _is_named(pick: Pick, names: Sequence[str]) -> bool:
    own = (pick.station.partition(".")[2], pick.station, pick.trace_id, pick.seed_id, pick.seed_id[:-1])
    return not names or any(fnmatchcase(name, pattern) for pattern in names for name in own)
