"""Find the instruments in files, folders, globs and SDS archives of miniSEED and of other formats.

When an archive is opened, only the headers of its files are read. Samples are read when they are needed. Files
that follow each other in time are one record.
"""

import os
import re
import stat
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from fnmatch import fnmatchcase
from functools import lru_cache, partial
from glob import glob
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from xiaonet.constants import SAMPLE_NS, SAMPLING_RATE, SECOND_NS
from xiaonet.extras import import_for
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

# Names of files in an SDS archive: NET.STA.LOC.CHA.TYPE.YEAR.DAY
SDS_NAME = re.compile(r"(?P<net>[^.]*)\.(?P<sta>[^.]*)\.(?P<loc>[^.]*)\.(?P<cha>[^.]*)\.[A-Z]\.(?P<year>\d{4})\.(?P<day>\d{3})")
ONE_DAY = timedelta(days=1)
KEPT_PIECES = 10**6  # in files that are scanned only once, 72 bytes each; other files are scanned again when they are needed
CACHED_FILES = 64  # whose pieces stay in memory as objects
CACHED_PIECES = 32  # whose samples stay in memory, 1 MB each


class FileRange(NamedTuple):
    """A time range in which a file holds a channel, without a long gap. `file` is its number in the archive."""

    start_ns: int
    end_ns: int
    file: int


class Archive:
    """The instruments in files of miniSEED or of any format that ObsPy knows, compressed or not.

    Args:
        paths: files, folders and globs, or a single one.
        start_ns: skip data before this time, in nanoseconds since 1970-01-01.
        end_ns: skip data from this time on.
        stations: names of stations or instruments to keep, such as `CX.PB01`, `PB*` or `CX.PB01.10.HH`; all by default.
        components: channel codes of components whose names do not show it, such as `E=HHX,N=HHY,Z=HHZ` or `{"E": "HHX", …}`.
        prefer: codes of instruments, best first, such as `HH,BH`: keep one instrument of each station at any time; all by default.

    Attributes:
        instruments: in order of their name.
        formats: number of files with usable data in each other format than miniSEED.
        paths: all files, in order; a `FileRange` counts them.
        indexes: for each usable channel, the time ranges in which a file holds it.
        problems: what was skipped and why, as keys; it grows while samples are read.
        seen: first and last time of each channel in the files, also of those that were not asked for or cannot be picked.

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
    ) -> None:
        self.problems: dict[str, None] = {}  # in order, each once
        self._reported: list[str] = []  # the same, without those that others added to `problems`
        self.seen: dict[str, tuple[int, int]] = {}
        self.formats: Counter[str] = Counter()
        self.start_ns, self.end_ns = start_ns, end_ns
        self.stations = [stations] if isinstance(stations, str) else stations
        self.components = parse_components(components)
        self._channels = lru_cache(CACHED_FILES)(self._read_channels)
        self._decode = lru_cache(CACHED_PIECES)(partial(decode, report=self._report))
        self.paths = self._find_files([paths] if isinstance(paths, str | Path) else paths)
        self._usable = array("q")  # numbers of files
        self._kept = KeptPieces(KEPT_PIECES)
        ranges: dict[Channel, IntegerTable[FileRange]] = {}
        for file in range(len(self.paths)):
            self._add(file, ranges)
        self.indexes = {channel: TimeIndex(found, partial(IntegerTable, FileRange)) for channel, found in ranges.items()}
        instruments, spare = build_instruments(self.indexes, self.pieces, self.components)
        self.instruments, left_out = one_per_station(instruments, prefer)
        for reason in spare + left_out:
            self._report(reason)
        _check_rates(self.instruments)

    @property
    def files(self) -> list[Path]:
        """The files with usable data, in order."""
        return [Path(self.paths[file]) for file in self._usable]

    def within(self, segment: Segment) -> Segment:
        """The part of a segment from `start_ns` to `end_ns` of this archive."""
        first = segment.first if self.start_ns is None else max(segment.first, -((segment.grid.phase_ns - self.start_ns) // SAMPLE_NS))
        end = segment.end if self.end_ns is None else min(segment.end, -((segment.grid.phase_ns - self.end_ns) // SAMPLE_NS))
        return segment._replace(first=first, end=end)

    def problems_since(self, number: int) -> list[str]:
        """The problems that this archive found after its first `number` ones, in order. It looks at no others."""
        return self._reported[number:]

    def _find_files(self, paths: Iterable[str | Path]) -> list[str]:
        found: dict[str, None] = {}
        for path in paths:
            matches = [str(path)] if os.path.exists(path) else sorted(glob(str(path), recursive=True))
            if not matches:
                self._report(f"{path}: no such file or folder")
            for match in matches:
                for file in self._walk(match) if os.path.isdir(match) else [Path(match)]:
                    if self._is_wanted(file):
                        found[os.path.realpath(file)] = None
        return list(found)

    def _walk(self, folder: str) -> Iterator[Path]:
        """All files below a folder by name, without hidden ones. Links are followed once."""
        seen = set()
        for root, folders, files in os.walk(folder, followlinks=True, onerror=lambda error: self._report_unreadable(error.filename, error)):
            if (real := os.path.realpath(root)) in seen:
                folders.clear()
                continue
            seen.add(real)
            folders[:] = sorted(name for name in folders if not name.startswith("."))
            yield from (Path(root, name) for name in sorted(files) if not name.startswith("."))

    def _is_wanted(self, path: Path) -> bool:
        """False if the name of an SDS file shows that it has another day or station."""
        name = SDS_NAME.fullmatch(path.name)
        if name is None:
            return True
        try:
            day = datetime.combine(date(int(name["year"]), 1, 1) + (int(name["day"]) - 1) * ONE_DAY, datetime.min.time(), UTC)
            first, end = ((day + shift).timestamp() * SECOND_NS for shift in (-ONE_DAY, 2 * ONE_DAY))
        except (ValueError, OverflowError):
            return True
        in_time = (self.start_ns is None or end > self.start_ns) and (self.end_ns is None or first < self.end_ns)
        seed_id = f"{name['net']}.{name['sta']}.{name['loc']}.{name['cha']}"
        wanted = in_time and is_chosen(instrument_name(seed_id, self.components), self.stations)
        if not wanted:
            self._see(seed_id, round(day.timestamp()) * SECOND_NS, round((day + ONE_DAY).timestamp()) * SECOND_NS)
        return wanted

    def _read_channels(self, file: int) -> dict[Channel, TimeIndex[Stored]]:
        """The pieces in a file, for each channel that can be picked and is wanted."""
        path = Path(self.paths[file])
        channels: dict[Channel, list[Stored]] = {}
        if kept := self._kept.of(file, path):
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
            found = scan(path, reasons.append)
        except OSError as error:
            self._report_unreadable(path, error)
            return {}
        channels: dict[Channel, list[Stored]] = {}
        for stored in found:
            self._see(stored.seed_id, stored.start_ns, stored.end_ns)
            if not is_chosen(instrument_name(stored.seed_id, self.components), self.stations):
                continue
            if reason := why_unusable(stored.seed_id, stored.rate, self.components):
                reasons.append(f"{stored.seed_id}: {reason}")
            else:
                channels.setdefault((stored.seed_id, nominal_rate(stored.rate)), []).append(stored)
        for reason in reasons:
            self._report(reason)
        for pieces in channels.values():
            _rank(pieces, file)
        return channels

    def _add(self, file: int, ranges: dict[Channel, IntegerTable[FileRange]]) -> None:
        """Scan a file, keep its pieces, and add the time range of each of its channels."""
        channels = self._channels(file)
        pieces = [piece for index in channels.values() for piece in index.pieces]
        self._kept.add(pieces)
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
            table = ranges.setdefault(channel, IntegerTable(FileRange))
            for one in found:
                table.append(one)

    def pieces(self, channel: Channel, first_ns: int, end_ns: int) -> Iterator[Piece]:
        """The pieces of a channel that touch a time range."""
        for file in dict.fromkeys(found.file for found in self.indexes[channel].find(first_ns, end_ns)):
            index = self._channels(file).get(channel)
            for stored in index.find(first_ns, end_ns) if index else ():  # the file may be gone by now
                piece = Piece(stored.seed_id, stored.start_ns, stored.samples, stored.rate, partial(self._load, stored), stored.rank)
                yield from split_drifting(piece)

    def _load(self, stored: Stored) -> NDArray[Any]:
        try:
            return self._decode(stored)
        except OSError as error:  # gone since it was scanned
            self._report_unreadable(stored.path, error)
            return np.full(stored.samples, np.nan)

    def _see(self, seed_id: str, start_ns: int, end_ns: int) -> None:
        first_ns, last_ns = self.seen.get(seed_id, (start_ns, end_ns))
        self.seen[seed_id] = min(first_ns, start_ns), max(last_ns, end_ns)

    def _report(self, reason: str) -> None:
        if reason not in self.problems:
            self.problems[reason] = None
            self._reported.append(reason)

    def _report_unreadable(self, path: str | Path, error: OSError) -> None:
        self._report(f"{path}: cannot be read: {error.strerror}")


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
    """Check, before hours of work, that channels at other rates than 100 Hz can be resampled."""
    for instrument in instruments:
        for channels in instrument.recorded.values():
            for seed_id, rate in channels:
                if rate != SAMPLING_RATE:
                    import_for(f"{seed_id} at {float(rate):g} Hz (not {SAMPLING_RATE:g} Hz)", "scipy")
