"""Find the instruments in files, folders, globs and SDS archives of miniSEED and of other formats.

A file that is named as in an SDS archive is scanned with the other files of its station, when you ask for that station. All
other files are scanned when the archive is opened. A scan reads only headers. Samples are read when they are needed. Files
that follow each other in time are one record.
"""

import os
import stat
from array import array
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import CancelledError
from fnmatch import fnmatchcase
from functools import lru_cache, partial
from math import inf
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from xiaonet.constants import SAMPLE_NS, SAMPLING_RATE, SECOND_NS
from xiaonet.extras import import_for
from xiaonet.io.find_files import DAY_NS, DayFile, find_files, parse_name, unreadable
from xiaonet.io.kept_pieces import KeptPieces
from xiaonet.io.waveforms import MINISEED, Stored, decode, scan
from xiaonet.picking.channels import instrument_name, parse_components
from xiaonet.picking.integer_table import IntegerTable
from xiaonet.picking.preference import one_per_station
from xiaonet.picking.segments import (
    LONGEST_GAP_NS,
    Channel,
    Instrument,
    Piece,
    Segment,
    build_instruments,
    nominal_rate,
    split_drifting,
    why_unusable,
)
from xiaonet.picking.time_index import TimeIndex

KEPT_PIECES = 10**6  # in files that are scanned only once, 72 bytes each; other files are scanned again when they are needed
CACHED_CHANNELS = 4096  # whose names were judged
CACHED_FILES = 64  # whose pieces stay in memory as objects
CACHED_PIECES = 32  # whose samples stay in memory, 1 MB each

OnFiles = Callable[[float, int], object]


class FileRange(NamedTuple):
    """A time range in which a file holds a channel, without a long gap. `file` is its number in the archive."""

    start_ns: int
    end_ns: int
    file: int


class _Batch:
    """Files that are scanned together.

    Attributes:
        files: their numbers in the archive, in order.
        named: number of files of each channel, by their names.
        kept: what was found in them; None before they are scanned, and when it is no longer kept.
    """

    def __init__(self) -> None:
        self.files = array("q")
        self.named: Counter[str] = Counter()
        self.kept: KeptPieces | None = None

    def pieces_of(self, file: int, path: Path) -> list[Stored]:
        """What was found in a file; empty if it is not kept."""
        return [] if self.kept is None else self.kept.of(bisect_left(self.files, file), file, path)


class Archive:
    """The instruments in files of miniSEED or of any format that ObsPy knows, compressed or not.

    Args:
        paths: files, folders and globs, or a single one.
        start_ns: skip data before this time, in nanoseconds since 1970-01-01.
        end_ns: skip data from this time on.
        stations: names of stations or instruments to keep, such as `CX.PB01`, `PB*` or `CX.PB01.10.HH`; all by default.
        components: channel codes of components whose names do not show it, such as `E=HHX,N=HHY,Z=HHZ` or `{"E": "HHX", …}`.
        prefer: codes of instruments, best first, such as `HH,BH`: keep one instrument of each station at any time; all by default.
        on_progress: called with the number of files whose headers are read, and the number of those to read now.

    Attributes:
        formats: number of files with usable data in each other format than miniSEED, of those that were scanned.
        problems: what was skipped and why, as keys; it grows while files are scanned and samples are read.
        seen: first and last time of each channel in the files, also of those that were not asked for or cannot be picked.
        changed: stations that you have asked for, and of which data were found later in files with the name of another station.

    Raises:
        ConfigError: `components` names something other than channels of E, N and Z.
        MissingPackageError: a channel has another rate than 100 Hz, and scipy is not installed.
    """

    def __init__(
        self,
        paths: str | Path | Iterable[str | Path],
        start_ns: int | None = None,
        end_ns: int | None = None,
        stations: str | Sequence[str] = (),
        components: str | Mapping[str, str] | None = None,
        prefer: str | Sequence[str] = (),
        on_progress: OnFiles = lambda done, total: None,
    ) -> None:
        self.problems: dict[str, None] = {}  # in order, each once
        self._reported: list[str] = []  # the same, without those that others added to `problems`
        self.seen: dict[str, tuple[int, int]] = {}
        self.formats: Counter[str] = Counter()
        self.changed: set[str] = set()
        self.start_ns, self.end_ns = start_ns, end_ns
        self.stations = [stations] if isinstance(stations, str) else stations
        self.components, self.prefer = parse_components(components), prefer
        self._channels = lru_cache(CACHED_FILES)(self._read_channels)
        self._decode = lru_cache(CACHED_PIECES)(partial(decode, report=self._report))
        self._is_chosen = lru_cache(CACHED_CHANNELS)(lambda seed_id: is_chosen(instrument_name(seed_id, self.components), self.stations))
        self._why_unusable = lru_cache(CACHED_CHANNELS)(partial(why_unusable, components=self.components))
        self._on_progress, self._read, self._to_read = on_progress, 0, 0  # number of files
        self._paths: list[str] = []
        self._batch_of: list[_Batch] = []  # of each file
        self._waiting: defaultdict[str, _Batch] = defaultdict(_Batch)  # files that are not scanned yet, by the station in their names
        self._scanned: list[_Batch] = []  # in the order in which they were scanned
        self._usable = array("q")  # numbers of files
        self._ranges: defaultdict[str, dict[Channel, IntegerTable[FileRange]]] = defaultdict(dict)  # by station
        self._indexes: dict[Channel, TimeIndex[FileRange]] = {}
        self._built: dict[str, list[Instrument]] = {}
        self._scan_batch(self._find([paths] if isinstance(paths, str | Path) else paths))
        for station in self._ranges.keys() - self._waiting.keys():
            self.of_station(station)

    @property
    def instruments(self) -> list[Instrument]:
        """All instruments in order of their name. This scans all files."""
        self._scan_all()
        return [instrument for station in self.station_names() for instrument in self.of_station(station)]

    @property
    def files(self) -> list[Path]:
        """The files with usable data, in order. This scans all files."""
        self._scan_all()
        return [Path(self._paths[file]) for file in sorted(self._usable)]

    def sources(self) -> Iterator[str]:
        """The files that are named as in an SDS archive, and others with usable data, in order. This scans no file."""
        usable = {*self._usable}
        return (path for file, path in enumerate(self._paths) if file in usable or self._batch_of[file].named)

    def ranges(self) -> Iterator[tuple[Channel, str, FileRange]]:
        """Each usable channel, the path of a file, and a time range in which the file holds it. This scans all files."""
        self._scan_all()
        for channels in self._ranges.values():
            for channel, table in channels.items():
                yield from ((channel, self._paths[found.file], found) for found in table)

    def station_names(self) -> list[str]:
        """The stations in the names of files and in files that were scanned, as NET.STA, in the order of their instruments."""
        return sorted({*self._waiting, *self._ranges}, key="{}.".format)

    def of_station(self, station: str, is_stopped: Callable[[], bool] = lambda: False) -> list[Instrument]:
        """The instruments of a station, in order of their name. This scans the files with the station in their names.

        Args:
            station: NET.STA.
            is_stopped: whether to end the scan, because the instruments are no longer wanted.

        Raises:
            CancelledError: the scan was ended.
            MissingPackageError: a channel has another rate than 100 Hz, and scipy is not installed.
        """
        if station in self._waiting:
            self._scan_batch(self._waiting[station], is_stopped)
            del self._waiting[station]
        if station not in self._built:
            self._built[station] = self._build(station)
        return self._built[station]

    def expected_seconds(self, station: str) -> float:
        """Length of the data of a station's instruments, gaps included. Before its files are scanned, their names tell it."""
        if station not in self._waiting:
            segments = [self.within(segment) for instrument in self.of_station(station) for segment in instrument.segments]
            return sum(max(segment.end - segment.first, 0) for segment in segments) * SAMPLE_NS / SECOND_NS
        days: Counter[str] = Counter()
        for seed_id, number in self._waiting[station].named.items():
            name = instrument_name(seed_id, self.components)
            days[name] = max(days[name], number)
        return days.total() * DAY_NS / SECOND_NS

    def within(self, segment: Segment) -> Segment:
        """The part of a segment from `start_ns` to `end_ns` of this archive."""
        first = segment.first if self.start_ns is None else max(segment.first, -((segment.grid.phase_ns - self.start_ns) // SAMPLE_NS))
        end = segment.end if self.end_ns is None else min(segment.end, -((segment.grid.phase_ns - self.end_ns) // SAMPLE_NS))
        return segment._replace(first=first, end=end)

    def forget(self) -> None:
        """Forget the samples that were read, which are read again where they are needed."""
        self._channels.cache_clear()
        self._decode.cache_clear()

    def problems_since(self, number: int) -> list[str]:
        """The problems that this archive found after its first `number` ones, in order. It looks at no others."""
        return self._reported[number:]

    def _find(self, paths: Iterable[str | Path]) -> _Batch:
        """Find the files, and sort those that are named as in an SDS archive by station. Returns the others."""
        wanted: dict[str, None] = {}
        for path in paths:
            for name, real in find_files(path, self._report):
                if real not in wanted and self._is_wanted(parse_name(name)):
                    wanted[real] = None
        others = _Batch()
        for file, path in enumerate(wanted):
            day = parse_name(os.path.basename(path))
            batch = others if day is None else self._waiting[day.station]
            batch.files.append(file)
            if day is not None:
                batch.named[day.seed_id] += 1
            self._batch_of.append(batch)
        self._paths = list(wanted)
        return others

    def _is_wanted(self, day: DayFile | None) -> bool:
        """False if the name of an SDS file shows that it has another day or station."""
        if day is None:
            return True
        in_time = day.may_hold(-inf if self.start_ns is None else self.start_ns, inf if self.end_ns is None else self.end_ns)
        wanted = in_time and self._is_chosen(day.seed_id)
        if not wanted:
            self._see(day.seed_id, day.start_ns, day.end_ns)
        return wanted

    def _scan_all(self) -> None:
        for station in self.station_names():
            self.of_station(station)

    def _scan_batch(self, batch: _Batch, is_stopped: Callable[[], bool] = lambda: False) -> None:
        """Scan files, and keep what is found in them, instead of what was found in earlier batches if all takes too much memory."""
        batch.kept = KeptPieces(KEPT_PIECES)
        self._to_read += len(batch.files)
        for file in batch.files:
            if is_stopped():
                raise CancelledError
            self._on_progress(self._read, self._to_read)
            self._add(file, batch.kept)
            self._read += 1
        self._scanned.append(batch)
        while len(self._scanned) > 1 and sum(len(one.kept or ()) for one in self._scanned) > KEPT_PIECES:
            self._scanned.pop(0).kept = None

    def _build(self, station: str) -> list[Instrument]:
        """The instruments of a station whose files were scanned."""
        indexes = {channel: TimeIndex(found, partial(IntegerTable, FileRange)) for channel, found in self._ranges[station].items()}
        self._indexes |= indexes
        instruments, spare = build_instruments(indexes, self.pieces, self.components)
        chosen, left_out = one_per_station(instruments, self.prefer)
        for reason in spare + left_out:
            self._report(reason)
        _check_rates(chosen)
        return chosen

    def _read_channels(self, file: int) -> dict[Channel, TimeIndex[Stored]]:
        """The pieces in a file, for each channel that can be picked and is wanted."""
        path = Path(self._paths[file])
        channels: dict[Channel, list[Stored]] = {}
        if kept := self._batch_of[file].pieces_of(file, path):
            for stored in kept:
                channels.setdefault((stored.seed_id, nominal_rate(stored.rate)), []).append(stored)
        else:
            channels = self._scan_file(file, path)
        return {channel: TimeIndex(pieces) for channel, pieces in channels.items()}

    def _scan_file(self, file: int, path: Path) -> dict[Channel, list[Stored]]:
        reasons: list[str] = []
        try:
            if not stat.S_ISREG(path.stat().st_mode):  # reading a pipe might never end
                self._report(f"{path}: neither a file nor a folder")
                return {}
            found = scan(path, reasons.append, lambda share: self._on_progress(self._read + share, self._to_read))
        except OSError as error:
            self._report(unreadable(path, error))
            return {}
        reasons += _contradictions(path, found)
        channels: dict[Channel, list[Stored]] = {}
        for stored in found:
            self._see(stored.seed_id, stored.start_ns, stored.end_ns)
            if not self._is_chosen(stored.seed_id):
                continue
            if reason := self._why_unusable(stored.seed_id, stored.rate):
                reasons.append(f"{stored.seed_id}: {reason}")
            else:
                channels.setdefault((stored.seed_id, nominal_rate(stored.rate)), []).append(stored)
        for reason in reasons:
            self._report(reason)
        for pieces in channels.values():
            _rank(pieces, file)
        return channels

    def _add(self, file: int, kept: KeptPieces) -> None:
        """Scan a file, keep its pieces, and add the time range of each of its channels."""
        channels = self._channels(file)
        pieces = [piece for index in channels.values() for piece in index.pieces]
        kept.add(pieces)
        if pieces:
            self._usable.append(file)
            self.formats.update({piece.format for piece in pieces} - {MINISEED})
        for channel, index in channels.items():
            found: list[FileRange] = []
            for stored in index.pieces:
                if found and stored.start_ns <= found[-1].end_ns + LONGEST_GAP_NS:
                    found[-1] = found[-1]._replace(end_ns=max(found[-1].end_ns, stored.end_ns))
                else:
                    found.append(FileRange(stored.start_ns, stored.end_ns, file))
            station = channel[0].rsplit(".", 2)[0]
            table = self._ranges[station].setdefault(channel, IntegerTable(FileRange))
            for one in found:
                table.append(one)
            if self._built.pop(station, None) is not None:
                self.changed.add(station)

    def pieces(self, channel: Channel, first_ns: int, end_ns: int) -> Iterator[Piece]:
        """The pieces of a channel of a station that you have asked for, as far as they touch a time range."""
        ranges = self._indexes[channel].find(first_ns, end_ns) if channel in self._indexes else []
        for file in dict.fromkeys(found.file for found in ranges):
            index = self._channels(file).get(channel)
            for stored in index.find(first_ns, end_ns) if index else ():  # the file may be gone by now
                piece = Piece(stored.seed_id, stored.start_ns, stored.samples, stored.rate, partial(self._load, stored), stored.rank)
                yield from split_drifting(piece)

    def _load(self, stored: Stored) -> NDArray[Any]:
        try:
            return self._decode(stored)
        except OSError as error:  # gone since it was scanned
            self._report(unreadable(stored.path, error))
            return np.full(stored.samples, np.nan)

    def _see(self, seed_id: str, start_ns: int, end_ns: int) -> None:
        first_ns, last_ns = self.seen.get(seed_id, (start_ns, end_ns))
        self.seen[seed_id] = min(first_ns, start_ns), max(last_ns, end_ns)

    def _report(self, reason: str) -> None:
        if reason not in self.problems:
            self.problems[reason] = None
            self._reported.append(reason)


def _contradictions(path: Path, found: Sequence[Stored]) -> list[str]:
    """What a file in an SDS archive holds although its name says something else."""
    day = parse_name(path.name)
    if day is None:
        return []
    others = sorted({stored.seed_id for stored in found} - {day.seed_id})
    at_other_times = [stored for stored in found if not day.may_hold(stored.start_ns, stored.end_ns)]
    reasons = [f"{path}: holds {seed_id}, but its name says {day.seed_id}; it is picked as {seed_id}" for seed_id in others]
    if at_other_times:
        times = [str(np.datetime64(time_ns, "ns"))[:10] for time_ns in (at_other_times[0].start_ns, day.start_ns)]
        reasons.append(f"{path}: holds data of {times[0]}, but its name says {times[1]}; --from and --to go by the name")
    return reasons


def _rank(pieces: Sequence[Stored], file: int) -> None:
    """Rank the pieces of a channel in a file, given in their order in the file, by the length of the unbroken record they are part of."""
    runs: list[list[Stored]] = []
    for piece in pieces:
        if runs and abs(piece.start_ns - runs[-1][-1].end_ns) < SECOND_NS / piece.rate / 2:
            runs[-1].append(piece)
        else:
            runs.append([piece])
    for place, run in enumerate(runs):
        for piece in run:
            piece.rank = (-sum(part.samples for part in run), file, place)


def is_chosen(instrument: str, stations: Sequence[str]) -> bool:
    """Whether an instrument such as `CX.PB01..HH` matches one of the names of stations, or none is given."""
    network, station, location, _ = instrument.split(".")
    names = (station, f"{network}.{station}", f"{network}.{station}.{location}", instrument)
    return not stations or any(fnmatchcase(name, pattern) for pattern in stations for name in names)


def _check_rates(instruments: Iterable[Instrument]) -> None:
    """Check, before a station is picked, that channels at other rates than 100 Hz can be resampled."""
    for instrument in instruments:
        for channels in instrument.recorded.values():
            for seed_id, rate in channels:
                if rate != SAMPLING_RATE:
                    import_for(f"{seed_id} at {float(rate):g} Hz (not {SAMPLING_RATE:g} Hz)", "scipy")
