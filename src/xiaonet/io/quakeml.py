"""Picks as QuakeML: one event with all picks.

It is built in memory, about 10 kB for each pick, so use it for days rather than years.
"""

import hashlib
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import IO, TYPE_CHECKING

from xiaonet.picking.picks import COUNT, Pick

if TYPE_CHECKING:
    from obspy.core import event as quakeml

SUFFIXES = (".xml", ".quakeml", ".qml")


def write_quakeml(picks: Iterable[Pick], file: IO[bytes], provenance: Mapping[str, str]) -> int:
    """Write picks and their provenance to an open file. Returns the number of picks."""
    from obspy.core import event as quakeml

    readings = [reading_of(pick) for pick in picks]
    # The identifier is a digest of the picks: the same picks give the same file, other picks another event.
    content = "\n".join(f"{reading.resource_id.id} {reading.comments[0].text}" for reading in readings)
    digest = hashlib.sha256(content.encode()).hexdigest()[:32]
    creation = quakeml.CreationInfo(author="XiaoNet")
    event = quakeml.Event(resource_id=identifier("event", digest), picks=readings, creation_info=creation)
    event.comments = [comment("picks that no event has been sought for")] + [
        comment(f"{key}: {value}") for key, value in provenance.items()
    ]
    catalog = quakeml.Catalog([event], resource_id=identifier("catalog", digest), creation_info=creation)
    catalog.write(file, format="QUAKEML")
    return len(readings)


def read_quakeml(file: IO[bytes]) -> Iterator[Pick]:
    """Read the picks of all events of an open file. What a pick does not tell, such as its probability, is NaN.

    Raises:
        Exception: ObsPy raises errors of many kinds for what is no QuakeML.
    """
    import obspy

    for event in obspy.read_events(file, format="QUAKEML"):
        yield from map(pick_of, event.picks)


def pick_of(reading: "quakeml.Pick") -> Pick:
    """Our form of a pick of QuakeML. What it does not tell is NaN."""
    said = " ".join(remark.text or "" for remark in reading.comments)
    told = dict(re.findall(r"(probability|amplitude|snr_db|amplitude_unit)=([^,\s]+)", said))
    uncertainty = reading.time_errors.uncertainty
    return Pick(
        time_ns=reading.time.ns,
        seed_id=reading.waveform_id.get_seed_string(),
        phase=reading.phase_hint or "",
        probability=float(told.get("probability", "nan")),
        uncertainty=math.nan if uncertainty is None else uncertainty,
        amplitude=float(told.get("amplitude", "nan")),
        snr=float(told.get("snr_db", "nan")),
        unit=told.get("amplitude_unit", COUNT),
    )


def reading_of(pick: Pick) -> "quakeml.Pick":
    """QuakeML's form of a pick. Values that have no element are in a comment."""
    from obspy.core import event as quakeml

    network, station, location, channel = pick.seed_id.split(".")
    rest = {"probability": pick.probability, "amplitude": pick.amplitude, "snr_db": pick.snr}
    told = [f"{key}={number}" for key, number in rest.items() if not math.isnan(number)] + [f"amplitude_unit={pick.unit}"]
    return quakeml.Pick(
        resource_id=identifier("pick", pick.seed_id, pick.phase, str(pick.time_ns)),
        time=pick.time,
        time_errors=quakeml.QuantityError(uncertainty=pick.uncertainty if math.isfinite(pick.uncertainty) else None),
        waveform_id=quakeml.WaveformStreamID(network, station, location, channel),
        phase_hint=pick.phase,
        evaluation_mode="automatic",
        method_id=identifier("picker"),
        comments=[comment(", ".join(told))],
    )


def identifier(*parts: str) -> "quakeml.ResourceIdentifier":
    """An identifier in QuakeML, of words that may hold any characters."""
    from obspy.core import event as quakeml

    return quakeml.ResourceIdentifier("smi:local/xiaonet/" + "/".join(re.sub(r"[^A-Za-z0-9._-]", "_", part) for part in parts))


def comment(text: str) -> "quakeml.Comment":
    """A comment in QuakeML."""
    from obspy.core import event as quakeml

    return quakeml.Comment(text=text, force_resource_id=False)  # ObsPy's own identifiers are random
