"""Events with their arrivals, and their files: QuakeML, and CSV with a second file of the arrivals."""

import csv
import hashlib
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from xiaonet.constants import PICKED_PHASES
from xiaonet.errors import ConfigError, DataError
from xiaonet.files import write_atomically
from xiaonet.io.columns import COLUMNS, pick_row
from xiaonet.io.csv import decimal_seconds, iso_time
from xiaonet.io.picks import check_picks, read_pick_file
from xiaonet.io.quakeml import SUFFIXES, comment, identifier, pick_of, reading_of
from xiaonet.picking.picks import Pick

if TYPE_CHECKING:
    from obspy import Catalog
    from obspy.core import event as quakeml

EVENT_COLUMNS = ("event", "time", "latitude", "longitude", "depth_km", "picks", "p_picks", "s_picks", "rms_s")


class Arrival(NamedTuple):
    """A pick of an event, and by how many seconds it is later than expected; NaN if nobody knows."""

    pick: Pick
    residual: float = math.nan


class Hypocentre(NamedTuple):
    """Origin time in nanoseconds since 1970-01-01 UTC, place in degrees, and depth in km below sea level."""

    time_ns: int
    latitude: float
    longitude: float
    depth: float


@dataclass(frozen=True)
class Event:
    """An earthquake, or only picks that may belong to some.

    Attributes:
        arrivals: in order of time.
        hypocentre: None for picks that no event has been sought for.
    """

    arrivals: Sequence[Arrival]
    hypocentre: Hypocentre | None = None

    @property
    def digest(self) -> str:
        """16 hexadecimal digits that are the same for the same picks at the same place."""
        said = [(arrival.pick.seed_id, arrival.pick.phase, arrival.pick.time_ns) for arrival in self.arrivals]
        return hashlib.sha256(repr((self.hypocentre, said)).encode()).hexdigest()[:16]

    @property
    def rms(self) -> float:
        """Root mean square of the residuals in s."""
        known = [arrival.residual for arrival in self.arrivals if not math.isnan(arrival.residual)]
        return math.sqrt(sum(residual**2 for residual in known) / len(known)) if known else math.nan


def check_event_file(path: Path) -> None:
    """Check that events can be written to a file of this name.

    Raises:
        ConfigError: the suffix names no format.
    """
    if path.suffix.lower() not in (".csv", *SUFFIXES):
        raise ConfigError(f"{path} ends in {path.suffix!r}; wanted .csv or .xml (QuakeML): choose another name")


def arrivals_path(path: Path) -> Path:
    """The file of arrivals beside a CSV file of events."""
    return path.with_name(f"{path.stem}_arrivals.csv")


def write_events(events: Sequence[Event], path: Path, provenance: Mapping[str, str]) -> None:
    """Write events as CSV and their arrivals in a second file beside it, or both as QuakeML, as the suffix of `path` says.

    Raises:
        ConfigError: the suffix names no format.
        OutputError: a file cannot be written.
    """
    check_event_file(path)
    if path.suffix.lower() == ".csv":
        _write_table(arrivals_path(path), ("event", "residual_s", *COLUMNS), _arrival_rows(events))
        _write_table(path, EVENT_COLUMNS, map(_event_row, range(1, len(events) + 1), events))
    else:
        write_atomically(path, lambda file: catalog_of(events, provenance).write(file, format="QUAKEML"))


def read_events(path: Path) -> list[Event]:
    """Read events from QuakeML; or picks from a file of `xiaonet pick` in any format, as one event without a hypocentre.

    Raises:
        ConfigError: the suffix names no format.
        DataError: the file is missing, damaged or holds no picks.
    """
    if path.suffix.lower() not in SUFFIXES:
        events = [Event([Arrival(pick) for pick in sorted(read_pick_file(path))])]
    else:
        events = _read_quakeml(path)
    if not any(event.arrivals for event in events):
        raise DataError(f"{path} holds no picks; wanted some of xiaonet pick")
    return events


def catalog_of(events: Iterable[Event], provenance: Mapping[str, str]) -> "Catalog":
    """ObsPy's form of events. An arrival names the pick that it is made of."""
    from obspy import Catalog
    from obspy.core import event as quakeml

    creation = quakeml.CreationInfo(author="XiaoNet")
    comments = [comment(f"{key}: {value}") for key, value in provenance.items()]
    found = []
    for event in events:
        picks = [reading_of(arrival.pick) for arrival in event.arrivals]
        made = quakeml.Event(resource_id=identifier("event", event.digest), picks=picks, creation_info=creation, comments=comments)
        if event.hypocentre is not None:
            made.origins = [_origin(event, event.hypocentre, picks)]
            made.preferred_origin_id = made.origins[0].resource_id
        found.append(made)
    digest = hashlib.sha256(" ".join(event.resource_id.id for event in found).encode()).hexdigest()[:16]
    return Catalog(found, resource_id=identifier("catalog", digest), creation_info=creation)


def _origin(event: Event, hypocentre: Hypocentre, picks: "list[quakeml.Pick]") -> "quakeml.Origin":
    from obspy import UTCDateTime
    from obspy.core import event as quakeml

    arrivals = [
        quakeml.Arrival(
            resource_id=identifier("arrival", event.digest, reading.resource_id.id.rpartition("pick/")[2]),
            pick_id=reading.resource_id,
            phase=arrival.pick.phase,
            time_residual=None if math.isnan(arrival.residual) else arrival.residual,
        )
        for arrival, reading in zip(event.arrivals, picks, strict=True)
    ]
    return quakeml.Origin(
        resource_id=identifier("origin", event.digest),
        time=UTCDateTime(ns=hypocentre.time_ns),
        latitude=hypocentre.latitude,
        longitude=hypocentre.longitude,
        depth=hypocentre.depth * 1000,
        arrivals=arrivals,
        evaluation_mode="automatic",
        evaluation_status="preliminary",
        quality=quakeml.OriginQuality(used_phase_count=len(arrivals), standard_error=None if math.isnan(event.rms) else event.rms),
    )


def _read_quakeml(path: Path) -> list[Event]:
    import obspy

    try:
        events = [_event_of(event) for event in obspy.read_events(path, format="QUAKEML")]
        check_picks([arrival.pick for event in events for arrival in event.arrivals])
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}; wanted QuakeML with picks or events") from error
    except Exception as error:  # of ObsPy or its parser, about any content
        raise DataError(f"{path} holds no picks or events: {error}; wanted QuakeML of xiaonet pick or xiaonet associate") from error
    return events


def _event_of(event: "quakeml.Event") -> Event:
    origin = event.preferred_origin() or next(iter(event.origins), None)
    if origin is None:
        return Event([Arrival(pick_of(reading)) for reading in event.picks])
    readings = {reading.resource_id.id: reading for reading in event.picks}
    if missing := [arrival.pick_id.id for arrival in origin.arrivals if arrival.pick_id.id not in readings]:
        raise DataError(f"an arrival names the pick {missing[0]}, which is not in the file")
    arrivals = [
        Arrival(pick_of(readings[arrival.pick_id.id]), math.nan if arrival.time_residual is None else arrival.time_residual)
        for arrival in origin.arrivals
        if (readings[arrival.pick_id.id].phase_hint or "") in PICKED_PHASES
    ]
    place = origin.latitude, origin.longitude, (origin.depth or 0.0) / 1000
    return Event(sorted(arrivals), Hypocentre(origin.time.ns, *place))


def _event_row(number: int, event: Event) -> tuple[object, ...]:
    phases = [arrival.pick.phase for arrival in event.arrivals]
    counts = len(phases), phases.count("P"), phases.count("S")
    rms = None if math.isnan(event.rms) else round(event.rms, 4)
    if event.hypocentre is None:
        return number, None, None, None, None, *counts, rms
    time_ns, latitude, longitude, depth = event.hypocentre
    return number, iso_time(time_ns), round(latitude, 5), round(longitude, 5), round(depth, 3), *counts, rms


def _arrival_rows(events: Sequence[Event]) -> Iterable[tuple[object, ...]]:
    for number, event in enumerate(events, 1):
        for pick, residual in event.arrivals:
            row = pick_row(pick, decimal_seconds(pick.time_ns), iso_time(pick.time_ns))
            yield number, None if math.isnan(residual) else round(residual, 4), *row


def _write_table(path: Path, columns: Sequence[str], rows: Iterable[tuple[object, ...]]) -> None:
    text = StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(columns)
    table.writerows(rows)
    write_atomically(path, lambda file: file.write(text.getvalue().encode()))
