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


def write_quakeml(picks: Iterable[Pick], file: IO[bytes], provenance: Mapping[str, str]) -> int:
    """Write picks and their provenance to an open file. Returns the number of picks."""
    from obspy.core import event as quakeml

    readings = [_reading(pick) for pick in picks]
    # The identifier is a digest of the picks: the same picks give the same file, other picks another event.
    content = "\n".join(f"{reading.resource_id.id} {reading.comments[0].text}" for reading in readings)
    digest = hashlib.sha256(content.encode()).hexdigest()[:32]
    creation = quakeml.CreationInfo(author="XiaoNet")
    event = quakeml.Event(resource_id=_identifier("event", digest), picks=readings, creation_info=creation)
    event.comments = [_comment("picks that no event has been sought for")] + [
        _comment(f"{key}: {value}") for key, value in provenance.items()
    ]
    catalog = quakeml.Catalog([event], resource_id=_identifier("catalog", digest), creation_info=creation)
    catalog.write(file, format="QUAKEML")
    return len(readings)


def read_quakeml(file: IO[bytes]) -> Iterator[Pick]:
    """Read the picks of all events of an open file. What a pick does not tell, such as its probability, is NaN.

    Raises:
        Exception: ObsPy raises errors of many kinds for what is no QuakeML.
    """
    import obspy

    for event in obspy.read_events(file, format="QUAKEML"):
        for reading in event.picks:
            said = " ".join(comment.text or "" for comment in reading.comments)
            told = dict(re.findall(r"(probability|amplitude|snr_db|amplitude_unit)=([^,\s]+)", said))
            uncertainty = reading.time_errors.uncertainty
            yield Pick(
                time_ns=reading.time.ns,
                seed_id=reading.waveform_id.get_seed_string(),
                phase=reading.phase_hint or "",
                probability=float(told.get("probability", "nan")),
                uncertainty=math.nan if uncertainty is None else uncertainty,
                amplitude=float(told.get("amplitude", "nan")),
                snr=float(told.get("snr_db", "nan")),
                unit=told.get("amplitude_unit", COUNT),
            )


def _reading(pick: Pick) -> "quakeml.Pick":
    """A pick of QuakeML. Values that have no element are in a comment."""
    from obspy.core import event as quakeml

    network, station, location, channel = pick.seed_id.split(".")
    rest = {"probability": pick.probability, "amplitude": pick.amplitude, "snr_db": pick.snr}
    told = [f"{key}={number}" for key, number in rest.items() if not math.isnan(number)] + [f"amplitude_unit={pick.unit}"]
    return quakeml.Pick(
        resource_id=_identifier("pick", pick.seed_id, pick.phase, str(pick.time_ns)),
        time=pick.time,
        time_errors=quakeml.QuantityError(uncertainty=pick.uncertainty if math.isfinite(pick.uncertainty) else None),
        waveform_id=quakeml.WaveformStreamID(network, station, location, channel),
        phase_hint=pick.phase,
        evaluation_mode="automatic",
        method_id=_identifier("picker"),
        comments=[_comment(", ".join(told))],
    )


def _identifier(*parts: str) -> "quakeml.ResourceIdentifier":
    from obspy.core import event as quakeml

    return quakeml.ResourceIdentifier("smi:local/xiaonet/" + "/".join(re.sub(r"[^A-Za-z0-9._-]", "_", part) for part in parts))


def _comment(text: str) -> "quakeml.Comment":
    from obspy.core import event as quakeml

    return quakeml.Comment(text=text, force_resource_id=False)  # ObsPy's own identifiers are random
