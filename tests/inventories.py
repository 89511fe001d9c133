"""Made-up inventories of stations."""

from collections.abc import Mapping

from obspy import UTCDateTime
from obspy.core.inventory import Channel, Inventory, Network, Response, Station
from obspy.core.inventory.response import InstrumentSensitivity


def response(sensitivity: float, unit: str = "M/S") -> Response:
    """Of a seismometer with a flat response above its corner of 1 Hz."""
    paz = {"zeros": [0j, 0j], "poles": [-4.44 + 4.44j, -4.44 - 4.44j]}
    frequencies = {"stage_gain_frequency": 10.0, "normalization_frequency": 10.0}
    held = Response.from_paz(**paz, **frequencies, stage_gain=sensitivity, input_units=unit, output_units="COUNTS")
    held.instrument_sensitivity = InstrumentSensitivity(sensitivity, 10.0, unit, "COUNTS")
    return held


def only_sensitivity(sensitivity: float, unit: str) -> Response:
    """Without stages."""
    return Response(instrument_sensitivity=InstrumentSensitivity(sensitivity, 10.0, unit, "COUNTS"))


def channel(seed_id: str, held: Response | None, start: str | None = None, end: str | None = None) -> tuple[str, Channel]:
    """An epoch of a channel, and its name."""
    location, code = seed_id.split(".")[2:]
    dates = {"start_date": start and UTCDateTime(start), "end_date": end and UTCDateTime(end)}
    return seed_id, Channel(code, location, 35.0, -117.5, 1000.0, 0.0, response=held, **dates)


def inventory_of(*epochs: tuple[str, Channel], places: Mapping[str, tuple[float, float, float]] | None = None) -> Inventory:
    """Epochs of channels by station, which are at `places`: latitude and longitude in degrees, elevation in m."""
    stations: dict[str, list[Channel]] = {name: [] for name in places or {}}
    for seed_id, epoch in epochs:
        stations.setdefault(seed_id.rsplit(".", 2)[0], []).append(epoch)
    networks: dict[str, list[Station]] = {}
    for name, channels in stations.items():
        network, code = name.split(".")
        place = (places or {}).get(name, (35.0, -117.5, 1000.0))
        networks.setdefault(network, []).append(Station(code, *place, channels=channels))
    return Inventory([Network(code, held) for code, held in networks.items()], source="test")
