"""Inputs from real life that once went wrong, as the command line reads them and as ObsPy does."""

from pathlib import Path

import numpy as np
import obspy
import pytest

from xiaonet import Picker
from xiaonet.io.archive import Archive
from xiaonet.picking.picks import Pick
from xiaonet.picking.segments import Instrument, sort_stream


@pytest.fixture(scope="module")
def picker() -> Picker:
    return Picker("xiaonet-nano")


def channels(instruments: list[Instrument]) -> dict[str, dict[str, str]]:
    return {one.name: {component: seed_id.rpartition(".")[2] for component, seed_id in one.channels.items()} for one in instruments}


@pytest.mark.parametrize(
    ("case", "expected"),
    [
        ("kiknet_channels", {"XX.TST1..1": {"E": "EW1", "N": "NS1", "Z": "UD1"}}),
        ("one_letter_channels", {"XX.TST1..": {"E": "E", "N": "N", "Z": "Z"}}),
        ("mixed_rate_components", {"XX.TST1..HH": {"E": "HHE", "N": "HHN", "Z": "HHZ"}}),
        ("filtered_silently_in_python", {"XX.TST1..HH": {"E": "HHX", "N": "HHY", "Z": "HHZ"}}),
        ("colocated_sensors", {"AM.R1234.00.EH": {"Z": "EHZ"}, "AM.R1234.00.EN": {"E": "ENE", "N": "ENN", "Z": "ENZ"}}),
    ],
)
def test_channels_become_instruments_in_files_and_in_streams(
    cases: Path, picker: Picker, case: str, expected: dict[str, dict[str, str]]
) -> None:
    path = cases / case / "a.mseed"
    stream = obspy.read(str(path))
    found = Archive([path])
    assert (expected, {}) == (channels(found.instruments), found.problems)
    assert (expected, []) == (channels(sort_stream(stream)[0]), sort_stream(stream)[1])
    picks = picker.pick(stream)
    assert {instrument.name for instrument in found.instruments} >= {_instrument(pick, found) for pick in picks}
    assert {"P", "S"} <= {pick.phase for pick in picks}


def _instrument(pick: Pick, archive: Archive) -> str:
    return next(one.name for one in archive.instruments if pick.seed_id in one.channels.values())


def test_a_preference_leaves_one_set_of_picks_for_a_station(cases: Path, picker: Picker) -> None:
    stream = obspy.read(str(cases / "colocated_sensors" / "a.mseed"))
    both = [pick for pick in picker.pick(stream) if pick.phase == "P"]
    one = [pick for pick in Picker("xiaonet-nano", prefer="HH,BH,EH,HN").pick(stream) if pick.phase == "P"]
    assert [pick for pick in both if pick.seed_id == "AM.R1234.00.EHZ"] == one
    assert 1 <= len(one) < len(both)
    found = Archive([cases / "colocated_sensors"], prefer=["EN"])
    assert {"AM.R1234.00.EH: left out where AM.R1234.00.EN has data": None} == {
        reason: None for reason in found.problems if "README" not in reason
    }


def test_one_bit_in_a_header_costs_one_record(cases: Path) -> None:
    path = (cases / "one_bit_in_a_header" / "flip.mseed").resolve()
    found = Archive([path])
    [instrument] = found.instruments
    [segment] = instrument.segments
    samples = instrument.waveform(segment, segment.first, segment.end)[0][2]
    assert (193_937, 5291) == (len(samples), int(np.isnan(samples).sum()))
    [problem] = found.problems
    assert problem.startswith(f"{path}: record at byte 20480 skipped: ")


def test_one_bit_in_a_rate_costs_one_record_and_a_wrong_rate_is_named(cases: Path) -> None:
    one = Archive([cases / "rate_field" / "one-bit.mseed"])
    assert [100] == [instrument.rate for instrument in one.instruments]
    [problem] = one.problems
    assert "its sampling rate is 819300 Hz, but it lasts as long as at 100 Hz" in problem
    everywhere = Archive([cases / "rate_field" / "rate-all.mseed"])
    assert ([], {"PB.B916..EHZ: sampled at 983010 Hz; wanted at most 5000 Hz": None}) == (everywhere.instruments, everywhere.problems)


def test_a_fraction_of_10000_is_read_as_obspy_reads_it(cases: Path) -> None:
    path = cases / "microsecond_wrap" / "a.mseed"
    [trace] = obspy.read(str(path))
    found = Archive([path])
    [segment] = found.instruments[0].segments
    assert ({}, trace.stats.starttime.ns, trace.stats.npts) == (found.problems, segment.time_ns(segment.first), segment.end - segment.first)
    np.testing.assert_array_equal(trace.data, found.instruments[0].waveform(segment, segment.first, segment.end)[0][2])
