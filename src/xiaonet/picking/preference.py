"""Choose between the instruments of a station.

By default, every instrument is picked, as SeisBench does. A station with a seismometer and an accelerometer then has two picks
of one arrival. An associator wants one set of picks for each station.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from itertools import groupby, pairwise
from typing import NamedTuple

from xiaonet.constants import SAMPLE_NS
from xiaonet.picking.segments import LONGEST_GAP_NS, Instrument, Segment
from xiaonet.picking.time_index import TimeIndex


def one_per_station(instruments: list[Instrument], prefer: Sequence[str] | str) -> tuple[list[Instrument], list[str]]:
    """Keep one instrument of each station at any time.

    Args:
        instruments: of all stations.
        prefer: codes of instruments, such as `HH,BH` or `["10.HH", "HH"]`, best first. Others come after them, by name. Where the
            best instrument has no data, the next one takes its place, for at least 30 s. If empty, all instruments are kept.

    Returns:
        The instruments that have data of their own; and for each one that yields to another, the reason.
    """
    patterns = [name.strip() for name in prefer.split(",")] if isinstance(prefer, str) and prefer else list(prefer)
    if not patterns:
        return instruments, []

    def rank(instrument: Instrument) -> int:
        _, _, location, code = instrument.name.split(".")
        names = (code, f"{location}.{code}", instrument.name)
        return next((at for at, pattern in enumerate(patterns) if any(fnmatchcase(name, pattern) for name in names)), len(patterns))

    left_out = []
    taken: dict[str, list[_Taken]] = defaultdict(list)
    for instrument in sorted(instruments, key=rank):
        before = taken[_station(instrument)]
        index = TimeIndex(before) if before else None
        yielding: dict[str, None] = {}
        parts = []
        for segment in instrument.segments:
            there = index.find(segment.time_ns(segment.first), segment.time_ns(segment.end)) if index else []
            yielding |= dict.fromkeys(one.name for one in there)
            parts += _outside(segment, there)
        if yielding:
            left_out.append(f"{instrument.name}: left out where {' or '.join(yielding)} has data")
        instrument.segments = parts
        before += _times(instrument)
    return [instrument for instrument in instruments if instrument.segments], left_out


def doubles(instruments: Sequence[Instrument]) -> list[str]:
    """A note for each station of which several instruments have data at the same time."""
    notes = []
    for station, group in groupby(instruments, key=_station):
        members = list(group)
        times = sorted(time for member in members for time in _times(member))
        if any(before.end_ns > after.start_ns for before, after in pairwise(times)):
            names = ", ".join(dict.fromkeys(member.name for member in members))
            notes.append(f"{station}: {len(members)} instruments have data at the same time ({names})")
    return notes


class _Taken(NamedTuple):
    """A time range in which an instrument has data."""

    start_ns: int
    end_ns: int
    name: str


def _station(instrument: Instrument) -> str:
    """NET.STA."""
    return instrument.name.rsplit(".", 2)[0]


def _times(instrument: Instrument) -> list[_Taken]:
    return [_Taken(segment.time_ns(segment.first), segment.time_ns(segment.end), instrument.name) for segment in instrument.segments]


def _outside(segment: Segment, taken: Iterable[_Taken]) -> list[Segment]:
    """The parts of a segment outside of time ranges that are taken, without those shorter than 30 s that adjoin one."""
    parts, at = [], segment.first
    for start_ns, end_ns, _ in taken:
        low, high = (-((segment.grid.phase_ns - time_ns) // SAMPLE_NS) for time_ns in (start_ns, end_ns))
        parts.append((at, min(low, segment.end)))
        at = max(at, high)
    parts.append((at, segment.end))
    shortest = max(min(LONGEST_GAP_NS // SAMPLE_NS, segment.end - segment.first), 1)
    return [segment._replace(first=first, end=end) for first, end in parts if end - first >= shortest]
