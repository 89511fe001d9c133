"""Files of picks and events for other programs.

| format | program | |
|---|---|---|
| nonlinloc | NonLinLoc | phase file; a block for each event |
| hypoinverse | HYPOINVERSE-2000 | phase file in the Y2000 archive format, for `200 T` and `COP 3` |
| scml | SeisComP | XML |
| real | REAL | a folder for each day, with a file for each station and phase |
| pyrocko | Pyrocko | markers for Snuffler |
"""

import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from io import BytesIO
from pathlib import Path
from typing import get_args

from xiaonet.constants import PICKED_PHASES, SECOND_NS, EventFormat
from xiaonet.errors import ConfigError
from xiaonet.events.event import Event, catalog_of
from xiaonet.files import make_folder, write_atomically
from xiaonet.picking.picks import Pick

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MARKERS = "# Snuffler Markers File Version 0.2\n"


def convert(events: Sequence[Event], form: EventFormat, out: Path) -> None:
    """Write picks or events in the format of another program.

    Args:
        events: at least one; picks without events are one without a hypocentre.
        form: the format.
        out: file; for `real` a folder.

    Raises:
        ConfigError: there is no such format.
        OutputError: it cannot be written.
    """
    if form == "real":
        _write_real(events, out)
    elif form in _TEXTS:
        _write(out, _TEXTS[form](events))
    else:
        raise ConfigError(f"the format is {form!r}; wanted one of {', '.join(get_args(EventFormat))}")


def _nonlinloc(events: Sequence[Event]) -> bytes:
    """ObsPy's writer takes one event; a blank line ends each."""
    blocks = []
    for event in catalog_of(events, {}):
        block = BytesIO()
        type(catalog_of([], {}))([event]).write(block, format="NLLOC_OBS")
        blocks.append(block.getvalue())
    return b"\n".join(blocks) + b"\n"


def _scml(events: Sequence[Event]) -> bytes:
    text = BytesIO()
    catalog_of(events, {}).write(text, format="SCML")
    return text.getvalue()


def _hypoinverse(events: Sequence[Event]) -> bytes:
    """Klein (2002), USGS Open-File Report 02-171: for each event a summary line, a line for each pick, and a terminator line."""
    lines = []
    for number, event in enumerate(events, 1):
        lines += [_summary_line(number, event), *(_station_line(arrival.pick) for arrival in event.arrivals), f"{'':62}{number:>10}"]
    return ("\n".join(lines) + "\n").encode()


def _summary_line(number: int, event: Event) -> str:
    """Columns 1-16 origin time, 17-23 latitude, 24-31 longitude, 32-36 depth, 137-146 number of the event.

    Without a hypocentre, the time is that of the first pick and HYPOINVERSE starts at the station with the first arrival.
    """
    hypocentre = event.hypocentre
    minute, hundredths = _minute(event.arrivals[0].pick.time_ns if hypocentre is None else hypocentre.time_ns)
    place = ""
    if hypocentre is not None:
        latitude, south = _degrees(hypocentre.latitude, " S")
        longitude, east = _degrees(-hypocentre.longitude, " E")
        place = f"{latitude[0]:2d}{south}{latitude[1]:4d}{longitude[0]:3d}{east}{longitude[1]:4d}{round(hypocentre.depth * 100):5d}"
    return f"{minute}{hundredths:4d}{place}".ljust(136) + f"{number:>10}"


def _station_line(pick: Pick) -> str:
    """Columns 1-5 station, 6-7 network, 10-12 channel, 14-15 P remark, 17 its weight code, 18-29 minute, 30-34 seconds of P;
    42-46 seconds of S, 47-48 S remark, 50 its weight code; 112-113 location. Seconds are in hundredths.
    """
    network, station, location, channel = pick.seed_id.split(".")
    minute, hundredths = _minute(pick.time_ns)
    if pick.phase == "P":
        reading = f" P {_weight(pick)}{minute}{hundredths:5d}"
    else:
        reading = f"   4{minute}{0:5d}       {hundredths:5d} S {_weight(pick)}"
    return f"{station:5.5}{network:2.2}  {channel:3.3} {reading}".ljust(111) + f"{location:2.2}"


def _weight(pick: Pick) -> int:
    """HYPOINVERSE's codes: 0 counts fully, 1 three quarters, 2 a half, 3 a quarter; by the quarter of the probability."""
    return 0 if math.isnan(pick.probability) else min(3, int(4 * (1 - pick.probability)))


def _minute(time_ns: int) -> tuple[str, int]:
    """Year to minute, and hundredths of a second in that minute."""
    hundredths = round(time_ns / (SECOND_NS // 100))
    minute, rest = divmod(hundredths, 6000)
    return (EPOCH + timedelta(minutes=minute)).strftime("%Y%m%d%H%M"), rest


def _degrees(degrees: float, signs: str) -> tuple[tuple[int, int], str]:
    """Degrees, hundredths of a minute, and the letter of the sign, the first one for positive degrees."""
    return divmod(round(abs(degrees) * 6000), 6000), signs[degrees < 0]


def _pyrocko(events: Sequence[Event]) -> bytes:
    lines = []
    for number, event in enumerate(events, 1):
        name, origin = "None", "None None"
        if event.hypocentre is not None:
            time_ns, latitude, longitude, depth = event.hypocentre
            name, origin = event.digest, _marker_time(time_ns)
            lines.append(f"event: {origin}  0 {name} {latitude:.6f} {longitude:.6f} {depth * 1000:.1f} None None event-{number} None\n")
        for pick, _ in event.arrivals:
            lines.append(f"phase: {_marker_time(pick.time_ns)}  0 {pick.seed_id} {name} {origin} {pick.phase} None True\n")
    return (MARKERS + "".join(lines)).encode()


def _marker_time(time_ns: int) -> str:
    """Date and time of day to the tenth of a millisecond."""
    seconds, rest = divmod(round(time_ns / 100_000), 10_000)
    return f"{EPOCH + timedelta(seconds=seconds):%Y-%m-%d %H:%M:%S}.{rest:04d}"


def _write_real(events: Sequence[Event], folder: Path) -> None:
    """`DAY/NET.STA.P.txt` and `.S.txt`: seconds since midnight, probability, and 0 for the amplitude on a Wood-Anderson seismometer.

    REAL opens both files of a station, so one may be empty.
    """
    picks: defaultdict[tuple[str, str], list[Pick]] = defaultdict(list)
    for pick in sorted(arrival.pick for event in events for arrival in event.arrivals):
        picks[f"{EPOCH + timedelta(seconds=pick.time_ns // SECOND_NS):%Y%m%d}", pick.station].append(pick)
    for (day, station), found in picks.items():
        make_folder(folder / day)
        for phase in PICKED_PHASES:
            text = "".join(_real_line(pick) for pick in found if pick.phase == phase)
            _write(folder / day / f"{station}.{phase}.txt", text.encode())


def _write(path: Path, content: bytes) -> None:
    write_atomically(path, lambda file: file.write(content))


def _real_line(pick: Pick) -> str:
    probability = 1.0 if math.isnan(pick.probability) else pick.probability
    return f"{pick.time_ns % (86_400 * SECOND_NS) / SECOND_NS:.4f} {probability:.4f} 0.0\n"


_TEXTS: Mapping[str, Callable[[Sequence[Event]], bytes]] = {
    "nonlinloc": _nonlinloc,
    "hypoinverse": _hypoinverse,
    "scml": _scml,
    "pyrocko": _pyrocko,
}
