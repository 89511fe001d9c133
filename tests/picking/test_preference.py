import numpy as np
import pytest
from obspy import Stream

from strategies import trace
from xiaonet.picking.preference import doubles, one_per_station
from xiaonet.picking.segments import Instrument, sort_stream

SECOND = 10**9


def station(*parts: tuple[str, int, int]) -> list[Instrument]:
    """Instruments of traces `(seed_id, first second, last second)` at 100 Hz."""
    traces = [trace(np.ones(100 * (end - first)), first * SECOND, seed_id=seed_id) for seed_id, first, end in parts]
    instruments, reasons = sort_stream(Stream(traces))
    assert [] == reasons
    return instruments


def seconds(instruments: list[Instrument]) -> dict[str, list[tuple[float, float]]]:
    return {
        one.name: [(segment.time_ns(segment.first) / SECOND, segment.time_ns(segment.end) / SECOND) for segment in one.segments]
        for one in instruments
    }


SHAKE = [("AM.R1.00.EHZ", 0, 90), *((f"AM.R1.00.EN{letter}", 0, 90) for letter in "ENZ")]


@pytest.mark.parametrize(
    ("prefer", "kept", "left_out"), [("HH,BH,EH,HN", "EH", "EN"), ("EN", "EN", "EH"), (["EN", "EH"], "EN", "EH"), (" HN , E? ", "EH", "EN")]
)
def test_the_best_instrument_of_a_station_is_kept(prefer: str | list[str], kept: str, left_out: str) -> None:
    found, reasons = one_per_station(station(*SHAKE), prefer)
    assert {f"AM.R1.00.{kept}": [(0, 90)]} == seconds(found)
    assert [f"AM.R1.00.{left_out}: left out where AM.R1.00.{kept} has data"] == reasons


def test_without_a_preference_all_are_kept() -> None:
    found, reasons = one_per_station(station(*SHAKE), "")
    assert ({"AM.R1.00.EH": [(0, 90)], "AM.R1.00.EN": [(0, 90)]}, []) == (seconds(found), reasons)
    assert ["AM.R1: 2 instruments have data at the same time (AM.R1.00.EH, AM.R1.00.EN)"] == doubles(found)


def test_locations_are_instruments_of_one_station() -> None:
    given = [("XX.A.10.HHZ", 0, 60), ("XX.A.00.HHZ", 0, 60), ("XX.B.10.HHZ", 0, 60)]
    assert {"XX.A.00.HH": [(0, 60)], "XX.B.10.HH": [(0, 60)]} == seconds(one_per_station(station(*given), "HH")[0])
    assert {"XX.A.10.HH": [(0, 60)], "XX.B.10.HH": [(0, 60)]} == seconds(one_per_station(station(*given), "10.HH,HH")[0])


def test_the_next_best_instrument_takes_over_where_the_best_has_no_data() -> None:
    # 00.HH lacks seconds 100 to 200; 60 s before its start and 20 s after its end are recorded by the other ones alone.
    given = [("XX.A.00.HHZ", 60, 100), ("XX.A.00.HHZ", 200, 300), ("XX.A.00.BHZ", 150, 320), ("XX.A.00.HNZ", 0, 400)]
    found, reasons = one_per_station(station(*given), "HH,BH,HN")
    assert {
        "XX.A.00.BH": [(150, 200)],
        "XX.A.00.HH": [(60, 100), (200, 300)],
        "XX.A.00.HN": [(0, 60), (100, 150), (300, 400)],
    } == seconds(found)
    assert [
        "XX.A.00.BH: left out where XX.A.00.HH has data",
        "XX.A.00.HN: left out where XX.A.00.HH or XX.A.00.BH has data",
    ] == reasons
    assert [] == doubles(found)


def test_a_station_that_changes_its_instrument_has_no_doubles() -> None:
    assert [] == doubles(station(("XX.A..BHZ", 0, 60), ("XX.A..HHZ", 60, 120), ("XX.B..HHZ", 0, 120)))
