"""Find the earthquakes that picks belong to, with PyOcto (Münchmeyer 2024, doi:10.26443/seismica.v3i1.1130).

PyOcto's places are preliminary: constant velocities and a coarse grid. Programs such as NonLinLoc locate the events better.
"""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from xiaonet.constants import SECOND_NS
from xiaonet.errors import ConfigError, DataError
from xiaonet.events.event import Arrival, Event, Hypocentre
from xiaonet.extras import import_for
from xiaonet.picking.channels import instrument_name
from xiaonet.picking.picks import Pick

if TYPE_CHECKING:
    from obspy import Inventory

VP_VS = 1.73  # ratio of the velocities of P and S, unless both are given
FEWEST_STATIONS = 3  # an epicentre needs as many
EACH = 3  # PyOcto's least number of P, of S, and of stations with both, of an event
SLICE = 1200.0  # s: PyOcto's default length of the time in which it looks for events at once
KM_A_DEGREE = 111.2  # of latitude


@dataclass(frozen=True)
class AssociationSettings:
    """What PyOcto needs to know.

    Args:
        p_velocity: km/s, the same everywhere.
        s_velocity: km/s; by default that of P divided by 1.73.
        depth: km, of the deepest event.
        margin: km around the stations in which events are sought.
        tolerance: s, largest difference between a pick and the time that the velocities give.
        min_picks: least number of picks of an event.

    Raises:
        ConfigError: a value is out of range.
    """

    p_velocity: float = 6.0
    s_velocity: float | None = None
    depth: float = 30.0
    margin: float = 15.0
    tolerance: float = 1.5
    min_picks: int = 10

    def __post_init__(self) -> None:
        for name in ("p_velocity", "depth", "tolerance"):
            value = getattr(self, name)
            if not 0 < value < math.inf:
                raise ConfigError(f"{name.replace('_', ' ')} is {value:g}; wanted more than 0")
        if not 0 <= self.margin < math.inf:
            raise ConfigError(f"margin is {self.margin:g} km; wanted 0 or more")
        if not 0 < self.vs < self.p_velocity:
            raise ConfigError(f"s velocity is {self.vs:g} km/s; wanted more than 0 and less than that of P, {self.p_velocity:g} km/s")
        if self.min_picks < 4:
            raise ConfigError(f"min picks is {self.min_picks}; wanted at least 4, because an event has four unknowns")

    @property
    def vs(self) -> float:
        """Velocity of S in km/s."""
        return self.p_velocity / VP_VS if self.s_velocity is None else self.s_velocity


class Associated(NamedTuple):
    """Events in order of time; the stations whose picks are left out because the inventory lacks them; and other notes."""

    events: list[Event]
    unknown: list[str]
    notes: list[str]


def associate(picks: Sequence[Pick], inventory: "Inventory", settings: AssociationSettings, threads: int = 1) -> Associated:
    """Find the events that picks belong to.

    Raises:
        DataError: there are no picks, or too few stations with picks are in the inventory.
        ModuleNotFoundError: PyOcto is missing.
    """
    pyocto, pd = import_for("xiaonet associate", "pyocto"), import_for("xiaonet associate", "pandas")
    if not picks:
        raise DataError("the file holds no picks; wanted those of several stations")
    places = {f"{network.code}.{station.code}": station for network in inventory for station in network}
    used = sorted({pick.station for pick in picks} & places.keys())
    unknown = sorted({pick.station for pick in picks} - places.keys())
    _check_stations(used, unknown, settings)
    columns = ["id", "latitude", "longitude", "elevation"]
    stations = pd.DataFrame([(name, *(getattr(places[name], column) for column in columns[1:])) for name in used], columns=columns)
    known = [pick for pick in picks if pick.station in places]
    table = pd.DataFrame({"station": [pick.station for pick in known], "phase": [pick.phase for pick in known]})
    table["time"] = [pick.time_ns / SECOND_NS for pick in known]
    associator = _associator(pyocto, stations, settings, threads)
    events, assignments = associator.associate(table, associator.transform_stations(stations))
    return Associated(_events(associator, events, assignments, known), unknown, _several_instruments(known))


def _check_stations(used: list[str], unknown: list[str], settings: AssociationSettings) -> None:
    if len(used) < FEWEST_STATIONS:
        missing = f"; the inventory lacks {', '.join(unknown)}" if unknown else ""
        raise DataError(f"{len(used)} stations of the inventory have picks{missing}; wanted at least {FEWEST_STATIONS}")
    if 2 * len(used) < settings.min_picks:
        raise DataError(
            f"{len(used)} stations have at most {2 * len(used)} picks of an event; wanted {settings.min_picks}: "
            f"use --min-picks {2 * len(used)} or less"
        )


def _associator(pyocto: Any, stations: Any, settings: AssociationSettings, threads: int) -> Any:
    """PyOcto for the area around the stations, whose time slices overlap by the travel time of S through it."""
    latitudes, longitudes = stations["latitude"], stations["longitude"]
    north = settings.margin / KM_A_DEGREE
    east = north / math.cos(math.radians(float(latitudes.abs().max())))
    height = (float(latitudes.max() - latitudes.min()) + 2 * north) * KM_A_DEGREE
    width = (float(longitudes.max() - longitudes.min()) + 2 * east) * KM_A_DEGREE * math.cos(math.radians(float(latitudes.abs().min())))
    longest = math.hypot(height, width, settings.depth) / settings.vs
    each = min(EACH, settings.min_picks // 2)
    velocities = pyocto.VelocityModel0D(settings.p_velocity, settings.vs, settings.tolerance)
    return pyocto.OctoAssociator.from_area(
        lat=(latitudes.min() - north, latitudes.max() + north),
        lon=(longitudes.min() - east, longitudes.max() + east),
        zlim=(0.0, settings.depth),
        velocity_model=velocities,
        time_before=longest,
        time_slicing=max(SLICE, 4 * longest),
        pick_match_tolerance=settings.tolerance,
        n_picks=settings.min_picks,
        n_p_picks=each,
        n_s_picks=each,
        n_p_and_s_picks=each,
        n_threads=threads,
    )


def _events(associator: Any, events: Any, assignments: Any, picks: Sequence[Pick]) -> list[Event]:
    if not len(events):
        return []
    arrivals: dict[int, list[Arrival]] = {}
    for row in assignments.itertuples():
        arrivals.setdefault(int(row.event_idx), []).append(Arrival(picks[int(row.pick_idx)], float(row.residual)))
    found = [
        Event(sorted(arrivals[int(row.idx)]), Hypocentre(round(row.time * 1000) * 10**6, row.latitude, row.longitude, row.depth))
        for row in associator.transform_events(events).itertuples()
    ]
    return sorted(found, key=lambda event: event.hypocentre or ())


def _several_instruments(picks: Sequence[Pick]) -> list[str]:
    """Stations whose arrivals may have several picks."""
    instruments = {instrument_name(pick.seed_id): pick.station for pick in picks}
    several = [name for name, number in Counter(instruments.values()).items() if number > 1]
    return [f"{name} has picks of several instruments; for one set each: xiaonet pick --prefer HH,BH,EH,HN" for name in sorted(several)]
