"""Cut an archive into blocks of days of stations, from its listing alone.

The listing goes into a temporary database, so that any number of objects in any order takes little memory.
"""

import sqlite3
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from itertools import groupby, pairwise
from pathlib import Path
from typing import Any, NamedTuple
from zlib import crc32

from xiaonet.archives.layouts import EPOCH, Layout, Named
from xiaonet.archives.storage import Object, Storage
from xiaonet.constants import SECOND_NS
from xiaonet.errors import WaveformError
from xiaonet.io.archive import is_chosen
from xiaonet.picking.amplitudes import Deconvolution
from xiaonet.picking.channels import instrument_name, parse_components, why_no_component

DAY_NS = 24 * 3600 * SECOND_NS
FOREVER = 10**6  # days from 1970; no name has a year this late
SHOWN_NAMES = 3
INVENTORY = "inventory"  # what the provenance and the dataset call it
ROWS = 10_000  # written to the database at once


@dataclass(frozen=True)
class Request:
    """What to pick, and how; all that a worker needs to know.

    Attributes:
        source: URL of the archive.
        layout: of its names.
        out: URL of the dataset.
        model: as that of a `Picker`.
        thresholds: by phase.
        how: further arguments of a `Picker`, such as its runtime.
        provenance: that of the picker here. A worker whose own differs is refused.
        start_ns: skip data before this time.
        end_ns: skip data from this time on.
        stations: names of stations or instruments to keep.
        components: channel codes that the user gives for components.
        prefer: codes of instruments, best first.
        shard: which share of the stations, and of how many.
        days: in a block.
        inventory: name of the object in the dataset that holds the inventory; empty if there is none.
        deconvolve: how to remove whole responses.
        drop_lone_s: leave out S picks without a P on their station within 30 s before them.
        plot: draw each day.
    """

    source: str
    layout: str
    out: str
    model: str
    thresholds: dict[str, float]
    how: dict[str, Any]
    provenance: dict[str, str]
    start_ns: int | None = None
    end_ns: int | None = None
    stations: Sequence[str] = ()
    components: str | None = None
    prefer: str = ""
    shard: tuple[int, int] = (1, 1)
    days: int = 10
    inventory: str = ""
    deconvolve: Deconvolution | None = None
    drop_lone_s: bool = False
    plot: bool = False

    @property
    def made(self) -> dict[str, object]:
        """What the picks are made with. The provenance names the runtime that was found."""
        chosen = {"components": self.components, "prefer": self.prefer, "drop_s_without_p": self.drop_lone_s, **self.how}
        return {**self.provenance, **{name: value for name, value in chosen.items() if name != "runtime"}}

    @property
    def inventory_said(self) -> dict[str, str]:
        """The name and digest of the inventory, if there is one."""
        return {INVENTORY: self.provenance[INVENTORY]} if self.inventory else {}

    @property
    def picked_days(self) -> range | None:
        """The days from 1970 that `start_ns` and `end_ns` leave; None if one of them is open."""
        if self.start_ns is None or self.end_ns is None:
            return None
        return range(self.start_ns // DAY_NS, -(-self.end_ns // DAY_NS))


class DayObject(NamedTuple):
    """An object and the day of its name."""

    day: int
    object: Object


class Block(NamedTuple):
    """Days of a station that are picked together.

    Attributes:
        station: NET.STA.
        first: day from 1970 on which it begins.
        end: the day after its last. The first and the last block of a station have no limit, because a file may hold a bit of the next day.
        objects: of its days and of the days beside it.
    """

    station: str
    first: int
    end: int
    objects: list[DayObject]

    @property
    def own(self) -> list[DayObject]:
        """The objects of its days."""
        return [one for one in self.objects if self.first <= one.day < self.end]

    @property
    def name(self) -> str:
        """For messages."""
        days = [one.day for one in self.own]
        return f"{self.station} {as_date(min(days))} to {as_date(max(days))}"


class Plan:
    """The stations of an archive and their blocks. Use it in a `with` statement.

    Args:
        storage: the archive.
        request: what to pick.
        folder: where the temporary database is made.

    Attributes:
        station_days: number of station-days to pick.
        strange: names that do not fit the layout, the first few.
        unfit: number of them.
        left_out: number of objects of each reason why their channels cannot be picked.

    Raises:
        WaveformError: the archive is empty, no name fits the layout, or nothing fits the request.
        StorageError: the archive cannot be listed.
    """

    def __init__(self, storage: Storage, request: Request, folder: Path) -> None:
        self.request = request
        self.strange: list[str] = []
        self.unfit = 0
        self.left_out: Counter[str] = Counter()
        self._components = parse_components(request.components)
        self._database = sqlite3.connect(folder / "plan.sqlite", isolation_level=None)
        self._database.executescript("PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF;")
        self._database.execute("CREATE TABLE objects (station TEXT, day INT, key TEXT, size INT, stamp TEXT)")
        self._fill(storage, Layout(request.layout))
        self._database.execute("CREATE INDEX by_station ON objects (station, day)")
        [(self.station_days,)] = self._database.execute(
            f"SELECT count(*) FROM (SELECT DISTINCT station, day FROM objects WHERE {self._is_picked()})"
        )

    def __enter__(self) -> "Plan":
        return self

    def __exit__(self, *_: object) -> None:
        self._database.close()

    def stations(self) -> Iterator[list[Block]]:
        """The blocks of each station that has days to pick, in order of their names and days."""
        rows = self._database.execute("SELECT station, day, key, size, stamp FROM objects ORDER BY station, day, key")
        for station, group in groupby(rows, key=lambda row: str(row[0])):
            objects = [DayObject(day, Object(key, size, stamp)) for _, day, key, size, stamp in group]
            yield _blocks(station, objects, self.request)

    def _fill(self, storage: Storage, layout: Layout) -> None:
        seen = 0
        others: dict[str, None] = {}  # stations that were not asked for
        rows: list[tuple[str, int, str, int, str]] = []
        for found in self._listed(storage, layout):
            seen += 1
            named = layout.parse(found.key)
            if named is None:
                self.unfit += 1
                self.strange += [found.key] if len(self.strange) < SHOWN_NAMES else []
            elif not self._is_wanted(named):
                if len(others) < SHOWN_NAMES:
                    others[f"{named.station} on {as_date(named.day)}"] = None
            elif crc32(named.station.encode()) % self.request.shard[1] == self.request.shard[0] - 1:
                rows.append((named.station, named.day, *found))
            if len(rows) >= ROWS:
                self._insert(rows)
        self._insert(rows)
        [(kept,)] = self._database.execute("SELECT count(*) FROM objects")
        if not seen:
            raise WaveformError(f"nothing to pick in {storage.url}: no objects were found there; check the prefix, --from and --to")
        if self.unfit == seen:
            names = ", ".join(self.strange)
            raise WaveformError(f"no name in {storage.url} fits --layout {self.request.layout}: {names}; wanted names like {layout.text}")
        if not kept and self.request.shard[1] == 1:
            raise WaveformError(f"nothing to pick in {storage.url}: found {', '.join(others)}; change --stations, --from or --to")

    def _insert(self, rows: list[tuple[str, int, str, int, str]]) -> None:
        self._database.execute("BEGIN")
        self._database.executemany("INSERT INTO objects VALUES (?, ?, ?, ?, ?)", rows)
        self._database.execute("COMMIT")
        rows.clear()

    def _listed(self, storage: Storage, layout: Layout) -> Iterator[Object]:
        days = self.request.picked_days
        around = None if days is None else range(days.start - 1, days.stop + 1)
        networks = [name.partition(".")[0] for name in self.request.stations]
        literal = all("." in name for name in self.request.stations) and not any(sign in "".join(networks) for sign in "*?[")
        for prefix in layout.prefixes(around, sorted(set(networks)) if literal else ()):
            yield from storage.list(prefix)

    def _is_wanted(self, named: Named) -> bool:
        """Whether an object may hold data that was asked for; one of the day before or after may."""
        start_ns, end_ns = self.request.start_ns, self.request.end_ns
        if start_ns is not None and (named.day + 2) * DAY_NS <= start_ns:
            return False
        if end_ns is not None and (named.day - 1) * DAY_NS >= end_ns:
            return False
        if named.channel is None:
            return may_be_chosen(named.station, self.request.stations)
        seed_id = f"{named.station}.{named.location}.{named.channel}"
        if not is_chosen(instrument_name(seed_id, self._components), self.request.stations):
            return False
        reason = why_no_component(seed_id, self._components)
        self.left_out.update([reason] if reason else [])
        return not reason

    def _is_picked(self) -> str:
        """The SQL condition that a day is to be picked, not only read."""
        start_ns, end_ns = self.request.start_ns, self.request.end_ns
        first = -FOREVER if start_ns is None else start_ns // DAY_NS
        end = FOREVER if end_ns is None else -(-end_ns // DAY_NS)
        return f"day >= {first} AND day < {end}"


def as_date(day: int) -> str:
    """A day from 1970 in ISO 8601."""
    return str(EPOCH + timedelta(days=day))


def may_be_chosen(station: str, patterns: Sequence[str]) -> bool:
    """Whether any instrument of a station may match one of the names of stations or instruments."""
    shorter = [".".join(pattern.split(".")[:2]) for pattern in patterns]
    return is_chosen(f"{station}..", shorter)


def _blocks(station: str, objects: list[DayObject], request: Request) -> list[Block]:
    """Cut the days of a station into blocks. `objects` are in order of their days."""
    start_ns, end_ns = request.start_ns, request.end_ns
    days = sorted({one.day for one in objects})
    picked = [day for day in days if (start_ns is None or (day + 1) * DAY_NS > start_ns) and (end_ns is None or day * DAY_NS < end_ns)]
    bounds = (picked or days)[:: request.days][1:]
    limits = [-FOREVER, *bounds, FOREVER]
    of_day = [one.day for one in objects]
    return [
        Block(station, first, end, objects[bisect_left(of_day, first - 1) : bisect_right(of_day, end)]) for first, end in pairwise(limits)
    ]
