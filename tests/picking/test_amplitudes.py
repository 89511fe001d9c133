import io
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import obspy
import pytest
from obspy import Inventory, Stream, Trace

from inventories import channel, inventory_of, only_sensitivity, response
from stand_in import MIDNIGHT, StandIn, record
from xiaonet import Picker
from xiaonet.errors import ConfigError, DataError, WaveformWarning
from xiaonet.picking.amplitudes import Deconvolution
from xiaonet.picking.picks import Pick

NAMES = [f"XX.ABC..HH{component}" for component in "ENZ"]
TWO = {"Z": [0.0, 100.0]}  # s after midnight


@pytest.fixture(autouse=True)
def stand_in(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """The model of all tests but those of real records."""
    if "real" not in request.fixturenames:
        monkeypatch.setattr("xiaonet.picker.load_predictor", lambda *_: StandIn())


@pytest.fixture
def real() -> tuple[Stream, Inventory]:
    """A real record and its inventory."""
    return obspy.read(), obspy.read_inventory()


def picks_of(stream: Stream, inventory: Inventory, deconvolve: Deconvolution | None = None) -> tuple[list[Pick], list[str]]:
    """The picks with an inventory, and the warnings."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        picks = Picker(inventory=inventory, deconvolve=deconvolve).pick(stream)
    return picks, [str(warning.message) for warning in caught if warning.category is WaveformWarning]


def peak(stream: Stream, pick: Pick) -> float:
    """The definition of an amplitude, of a stream in any unit without gaps."""
    samples = np.array([trace.data for trace in stream], dtype=np.float64)
    at = int((pick.time - stream[0].stats.starttime) * 100 + 0.5)
    noise = samples[:, at - 300 : at - 20].mean(axis=1, keepdims=True)
    return float(np.abs(samples[:, at : at + 200] - noise).max())


def test_amplitudes_are_divided_by_the_sensitivity_of_each_channel_and_nothing_else_changes() -> None:
    stream = record(onsets={"Z": [0.0], "N": [3.0]})
    inventory = inventory_of(*(channel(name, response(4e8 * 2**at)) for at, name in enumerate(NAMES)))
    plain = Picker().pick(stream)
    picks, told = picks_of(stream, inventory)
    assert [] == told
    assert ["count"] * 2 == [pick.unit for pick in plain]
    assert ["m/s"] * 2 == [pick.unit for pick in picks]
    assert [replace(pick, amplitude=0.0, unit="") for pick in plain] == [replace(pick, amplitude=0.0, unit="") for pick in picks]
    motion = stream.copy().remove_sensitivity(inventory)
    assert [pytest.approx(peak(motion, pick), rel=1e-12) for pick in plain] == [pick.amplitude for pick in picks]
    assert [pytest.approx(200_000 / 1.6e9, rel=0.02), pytest.approx(200_000 / 8e8, rel=0.02)] == [pick.amplitude for pick in picks]


def test_amplitudes_of_a_real_record_are_those_of_obspy(real: tuple[Stream, Inventory], tmp_path: Path) -> None:
    stream, inventory = real
    inventory.write(tmp_path / "station.xml", "STATIONXML")
    for source in (inventory, tmp_path / "station.xml", str(tmp_path / "station.xml")):
        picks = Picker(inventory=source).pick(stream)
        motion = stream.copy().remove_sensitivity(inventory)
        assert [(pick.phase, "m/s", pytest.approx(peak(motion, pick))) for pick in picks] == [
            (pick.phase, pick.unit, pick.amplitude) for pick in picks
        ]
    assert 2 == len(picks)


@pytest.mark.parametrize(
    ("water_level", "pre_filt"), [(60.0, None), (20.0, None), (60.0, (0.5, 1.0, 20.0, 25.0)), (None, (1.0, 2.0, 30.0, 40.0))]
)
def test_a_deconvolution_is_that_of_obspy(
    real: tuple[Stream, Inventory], water_level: float | None, pre_filt: tuple[float, ...] | None
) -> None:
    stream, inventory = real
    plain = Picker().pick(stream)
    picks, told = picks_of(stream, inventory, Deconvolution(water_level, pre_filt))
    motion = stream.copy().remove_response(inventory, output="VEL", water_level=water_level, pre_filt=pre_filt, taper=False)
    assert ([], ["m/s"] * 2) == (told, [pick.unit for pick in picks])
    assert [pytest.approx(peak(motion, pick), rel=0.01) for pick in plain] == [pick.amplitude for pick in picks]
    assert [replace(pick, amplitude=0.0, unit="") for pick in plain] == [replace(pick, amplitude=0.0, unit="") for pick in picks]


def test_a_deconvolution_recovers_the_ground_motion_also_at_the_edges_of_an_hour_and_beside_a_gap() -> None:
    seconds = [-299.0, -0.02, 0.0 + 2, 200.0]
    ground = record(start=MIDNIGHT - 310, seconds=620, onsets={"Z": seconds})
    ground.filter("lowpass", freq=20.0, zerophase=True)
    held = response(1.0)
    recorded = ground.copy()
    for trace in recorded:
        spectrum = np.fft.rfft(trace.data, 2 * len(trace))
        trace.data = np.fft.irfft(spectrum * held.get_evalresp_response(0.01, 2 * len(trace), output="VEL")[0])[: len(trace)]
    inventory = inventory_of(*(channel(name, held) for name in NAMES))
    picks, _ = picks_of(recorded, inventory, Deconvolution(pre_filt=(0.05, 0.1, 30.0, 40.0)))
    assert len(picks) >= 3
    assert [pytest.approx(peak(ground, pick), rel=0.05) for pick in picks] == [pick.amplitude for pick in picks]
    gap = Stream([part for trace in recorded for part in (trace.slice(endtime=MIDNIGHT + 150), trace.slice(MIDNIGHT + 195))])
    last = picks_of(gap, inventory, Deconvolution(pre_filt=(0.05, 0.1, 30.0, 40.0)))[0][-1]
    assert (picks[-1].time_ns, pytest.approx(picks[-1].amplitude, rel=0.1)) == (last.time_ns, last.amplitude)


def test_the_epoch_at_the_time_of_the_pick_counts() -> None:
    early = [channel(name, response(1e8), "2000-01-01", "2020-09-15T00:01:00") for name in NAMES]
    late = [channel(name, response(2e8), "2020-09-15T00:01:00") for name in NAMES]
    picks, told = picks_of(record(onsets=TWO), inventory_of(*late, *early))
    assert ([], [1e8, 2e8]) == (told, [pytest.approx(200_000 / pick.amplitude, rel=0.02) for pick in picks])


@pytest.mark.parametrize(
    ("unit", "told", "scale"),
    [("m/s**2", "m/s**2", 1.0), ("M/S/S", "m/s**2", 1.0), ("M", "m", 1.0), ("NM/S", "m/s", 1e-9), ("mm/s", "m/s", 1e-3)],
)
@pytest.mark.parametrize("deconvolve", [None, Deconvolution(pre_filt=(0.1, 0.2, 48.0, 50.0))])
def test_the_unit_is_that_of_the_sensor(unit: str, told: str, scale: float, deconvolve: Deconvolution | None) -> None:
    inventory = inventory_of(*(channel(name, response(50.0, unit)) for name in NAMES))
    picks, _ = picks_of(record(onsets={"Z": [0.0]}), inventory, deconvolve)
    near = 0.02 if deconvolve is None else 0.3  # without the highest frequencies, a single sample is lower
    assert [(told, pytest.approx(200_000 / 50 * scale, rel=near))] == [(pick.unit, pick.amplitude) for pick in picks]


FULL = [channel(name, response(1e8)) for name in NAMES]
STAYS = "its amplitudes stay in counts"


@pytest.mark.parametrize(
    ("epochs", "deconvolve", "message"),
    [
        ([channel("YY.ABC..HHZ", response(1e8))], None, f"XX.ABC..HHZ: not in the inventory; {STAYS}"),
        (FULL[:2], None, f"XX.ABC..HHZ: not in the inventory; {STAYS}"),
        (
            [*FULL[:2], channel(NAMES[2], response(1e8), "2021-01-01")],
            None,
            f"XX.ABC..HHZ: no epoch in the inventory from 2020-09-14T23:55:00 to 2020-09-15T00:05:00; {STAYS} there",
        ),
        ([*FULL[:2], channel(NAMES[2], None)], None, f"XX.ABC..HHZ: the inventory does not give a response; {STAYS}"),
        (
            [*FULL[:2], channel(NAMES[2], only_sensitivity(0.0, "M/S"))],
            None,
            f"XX.ABC..HHZ: the inventory does not give a sensitivity; {STAYS}",
        ),
        ([*FULL[:2], channel(NAMES[2], response(9.0, "PA"))], None, f"XX.ABC..HHZ: its sensor measures 'PA', no ground motion; {STAYS}"),
        (
            [*FULL[:2], channel(NAMES[2], only_sensitivity(1e8, "M/S"))],
            Deconvolution(),
            "XX.ABC..HHZ: its response cannot be evaluated: ",
        ),
    ],
)
def test_channels_without_a_response_are_named_and_stay_in_counts(
    epochs: list[tuple[str, object]], deconvolve: Deconvolution | None, message: str
) -> None:
    stream = record(onsets=TWO)
    picks, told = picks_of(stream, inventory_of(*epochs), deconvolve)
    assert any(line.startswith(message) for line in told), told
    assert Picker().pick(stream) == picks


def test_between_two_epochs_amplitudes_stay_in_counts() -> None:
    epochs = [channel(name, response(1e8), *dates) for name in NAMES for dates in ((None, "2020-09-14T23:59"), ("2020-09-15T00:01", None))]
    picks, told = picks_of(record(onsets=TWO), inventory_of(*epochs))
    assert ["count", "m/s"] == [pick.unit for pick in picks]
    assert [
        f"{name}: no epoch in the inventory from 2020-09-14T23:59:01 to 2020-09-15T00:01:00; {STAYS} there" for name in NAMES
    ] == sorted(told)


def test_epochs_that_end_a_second_before_midnight_leave_no_gap() -> None:
    epochs = [channel(name, response(1e8), *dates) for name in NAMES for dates in ((None, "2020-09-14T23:59:59"), ("2020-09-15", None))]
    picks, told = picks_of(record(onsets={"Z": [-0.5]}), inventory_of(*epochs))
    assert ([], ["m/s"]) == (told, [pick.unit for pick in picks])


def test_components_in_two_units_have_no_common_amplitude() -> None:
    picks, _ = picks_of(record(onsets=TWO), inventory_of(*FULL[:2], channel(NAMES[2], response(1e5, "M/S**2"))))
    assert ["count", "count"] == [pick.unit for pick in picks]


def test_a_channel_that_fills_a_gap_has_its_own_sensitivity() -> None:
    stream = record(onsets=TWO, seconds=600)
    vertical = stream.select(component="Z")[0]
    spare = Trace(vertical.data.copy(), {**vertical.stats, "channel": "HH3"}).slice(MIDNIGHT + 60, MIDNIGHT + 200)
    holed = Stream([*stream.select(component="[EN]"), vertical.slice(endtime=MIDNIGHT + 60), spare])
    picks, _ = picks_of(holed, inventory_of(*FULL, channel("XX.ABC..HH3", response(5e8))))
    assert [1e8, 5e8] == [pytest.approx(200_000 / pick.amplitude, rel=0.02) for pick in picks]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"water_level": -1.0}, r"the water level is -1\.0; wanted 0 dB or more"),
        ({"water_level": float("nan")}, "the water level is nan"),
        ({"pre_filt": (1.0, 2.0, 3.0)}, r"the pre-filter is \(1\.0, 2\.0, 3\.0\); wanted four rising frequencies"),
        ({"pre_filt": (1.0, 0.5, 40.0, 45.0)}, "wanted four rising frequencies in Hz"),
    ],
)
def test_a_deconvolution_that_cannot_be_made_is_refused(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Deconvolution(**arguments)


def test_a_deconvolution_needs_an_inventory() -> None:
    with pytest.raises(ConfigError, match="deconvolution needs the instrument responses; give an inventory too"):
        Picker(deconvolve=Deconvolution())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, r"station\.xml cannot be read: No such file or directory; wanted an inventory"),
        (b"", r"station\.xml holds no inventory: "),
        (b"time,station\n1,2\n", r"station\.xml holds no inventory: .*; wanted StationXML"),
        (b"<?xml version='1.0'?><FDSNStationXML", r"station\.xml holds no inventory: "),
        ("no stations", r"station\.xml holds no stations"),
        ("no responses", r"the inventory holds no responses; wanted one with them, such as of FDSN with level=\"response\""),
    ],
)
def test_an_inventory_that_is_none_is_refused(tmp_path: Path, content: bytes | str | None, message: str) -> None:
    path = tmp_path / "station.xml"
    if isinstance(content, str):
        held = io.BytesIO()
        (Inventory() if content == "no stations" else inventory_of(channel(NAMES[0], None))).write(held, "STATIONXML")
        content = held.getvalue()
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError, match=message):
        Picker(inventory=path)
