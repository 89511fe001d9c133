"""Say why there is nothing to pick in an archive: what was found, and which condition failed."""

from itertools import groupby

import numpy as np

from xiaonet.io.archive import Archive, is_chosen
from xiaonet.picking.channels import instrument_name

SHOWN = 6  # instruments that are named


def why_nothing_to_pick(archive: Archive) -> str:
    """The first condition that no channel meets, and the channels that do not meet it, with their times."""
    if not archive.seen:
        return "no waveforms were found; wanted miniSEED or another format that ObsPy knows"
    chosen = {
        seed_id: times
        for seed_id, times in archive.seen.items()
        if is_chosen(instrument_name(seed_id, archive.components), archive.stations)
    }
    if not chosen:
        return f"no station matches {', '.join(archive.stations)}; found {_channels(archive.seen)}"
    start_ns, end_ns = archive.start_ns, archive.end_ns
    in_time = {
        seed_id: (first, last)
        for seed_id, (first, last) in chosen.items()
        if (end_ns is None or first < end_ns) and (start_ns is None or last > start_ns)
    }
    if not in_time:
        asked = " ".join(f"{word} {_clock(time_ns)}" for word, time_ns in (("from", start_ns), ("to", end_ns)) if time_ns is not None)
        return f"no data {asked}; found {_channels(chosen)}"
    return f"no usable channel; wanted components E, N, Z or 1, 2, Z at 20 Hz or more; found {_channels(in_time)}"


def _channels(seen: dict[str, tuple[int, int]]) -> str:
    """Instruments with the last letters of their channels, and their times."""
    found = []
    for name, group in groupby(sorted(seen), key=lambda seed_id: seed_id[:-1]):
        members = list(group)
        first, last = min(seen[seed_id][0] for seed_id in members), max(seen[seed_id][1] for seed_id in members)
        found.append(f"{name}[{''.join(seed_id[-1:] for seed_id in members)}] from {_clock(first)} to {_clock(last)}")
    rest = f", and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
    return ", ".join(found[:SHOWN]) + rest


def _clock(time_ns: int) -> str:
    return str(np.datetime64(time_ns, "ns"))[:19]
