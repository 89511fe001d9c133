"""Association of made-up picks of known earthquakes, and of real ones of the Ridgecrest aftershocks."""

import csv
from pathlib import Path

import numpy as np
import obspy
import pytest
from typer.testing import CliRunner

from inventories import inventory_of
from xiaonet.cli import main as cli
from xiaonet.errors import ConfigError, DataError
from xiaonet.events.association import AssociationSettings, associate
from xiaonet.events.event import Event, read_events
from xiaonet.io.picks import write_picks
from xiaonet.picking.picks import Pick

SECOND = 10**9
START = 1_562_486_400 * SECOND  # 2019-07-07T08:00:00
PLACES = {
    "XX.AAA": (35.60, -117.60, 0.0),
    "XX.BBB": (35.60, -117.40, 0.0),
    "XX.CCC": (35.80, -117.60, 0.0),
    "XX.DDD": (35.80, -117.40, 0.0),
    "XX.EEE": (35.70, -117.70, 0.0),
    "XX.FFF": (35.70, -117.30, 0.0),
}
QUAKES = [(100.0, 35.71, -117.52, 8.0), (400.0, 35.65, -117.45, 5.0), (700.0, 35.76, -117.55, 12.0)]  # s, degrees, km


def picks_at(name: str, quake: tuple[float, float, float, float]) -> list[Pick]:
    """P and S at a station, at 6 km/s and 6 / 1.73 km/s in a straight line."""
    seconds, latitude, longitude, depth = quake
    away = [(PLACES[name][0] - latitude) * 111.0, (PLACES[name][1] - longitude) * 111.3 * np.cos(np.radians(35.7)), depth]
    travel = float(np.linalg.norm(away)) / 6.0
    times = {"P": seconds + travel, "S": seconds + travel * 1.73}
    return [
        Pick(START + round(time * SECOND), f"{name}..HH{'Z' if phase == 'P' else 'N'}", phase, 0.9, 0.1, 1e-6, 20.0, "m/s")
        for phase, time in times.items()
    ]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with the inventory and the picks of three earthquakes, in three formats; and one pick of none."""
    monkeypatch.chdir(tmp_path)
    inventory_of(places=PLACES).write("stations.xml", "STATIONXML")
    stray = Pick(START + 250 * SECOND, "XX.AAA..HHZ", "P", 0.5, 0.1, 1e-6, 5.0, "m/s")
    picks = sorted([stray, *(pick for quake in QUAKES for name in PLACES for pick in picks_at(name, quake))])
    for suffix in ("csv", "xml", "parquet"):
        write_picks(picks, tmp_path / f"picks.{suffix}", {"model": "x"})
    return tmp_path


def run(*words: str) -> tuple[int, list[str]]:
    result = CliRunner().invoke(cli.app, list(words), env={"COLUMNS": "250"})
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.output.splitlines()


def near(event: Event, quake: tuple[float, float, float, float]) -> bool:
    """Within half a second and 3 km."""
    place = event.hypocentre
    assert place is not None
    away = np.hypot((place.latitude - quake[1]) * 111, (place.longitude - quake[2]) * 90)
    return abs((place.time_ns - START) / SECOND - quake[0]) < 0.5 and away < 3


needs_pyocto = pytest.mark.usefixtures("pyocto")


@pytest.fixture(scope="module")
def pyocto() -> object:
    return pytest.importorskip("pyocto", reason="needs pyocto: pip install pyocto")


@needs_pyocto
@pytest.mark.parametrize("suffix", ["csv", "xml", "parquet"])
def test_events_of_picks_in_any_format_are_written_as_csv_with_their_arrivals(folder: Path, suffix: str) -> None:
    status, lines = run("associate", f"picks.{suffix}", "--inventory", "stations.xml")
    assert 0 == status
    assert "✓ Picks: 36 of 37 - belong to events" in lines
    assert "✓ Events: 3 - events.csv, arrivals in events_arrivals.csv" in lines
    with open("events.csv") as file:
        events = list(csv.DictReader(file))
    assert [("1", "12", "6", "6"), ("2", "12", "6", "6"), ("3", "12", "6", "6")] == [
        (row["event"], row["picks"], row["p_picks"], row["s_picks"]) for row in events
    ]
    for row, quake in zip(events, QUAKES, strict=True):
        assert abs(obspy.UTCDateTime(row["time"]).timestamp - START / SECOND - quake[0]) < 0.5
        assert abs(float(row["latitude"]) - quake[1]) < 0.03 > abs(float(row["longitude"]) - quake[2])
        assert float(row["rms_s"]) < 0.3
    with open("events_arrivals.csv") as file:
        arrivals = list(csv.DictReader(file))
    expected = sorted(
        (str(number), pick.seed_id, pick.phase, "m/s")
        for number, quake in enumerate(QUAKES, 1)
        for name in PLACES
        for pick in picks_at(name, quake)
    )
    assert expected == sorted((row["event"], row["seed_id"], row["phase"], row["amp_unit"]) for row in arrivals)
    assert max(abs(float(row["residual_s"])) for row in arrivals) < 1


@needs_pyocto
def test_arrivals_in_quakeml_name_the_picks_and_are_read_back(folder: Path) -> None:
    assert 0 == run("associate", "picks.csv", "--inventory", "stations.xml", "--out", "events.xml")[0]
    catalog = obspy.read_events("events.xml")
    assert 3 == len(catalog)
    for event, quake in zip(catalog, QUAKES, strict=True):
        origin = event.preferred_origin()
        picks = {pick.resource_id.id: pick for pick in event.picks}
        assert {arrival.pick_id.id for arrival in origin.arrivals} == picks.keys()
        assert all(arrival.phase == picks[arrival.pick_id.id].phase_hint for arrival in origin.arrivals)
        assert (12, "automatic", "preliminary") == (origin.quality.used_phase_count, origin.evaluation_mode, origin.evaluation_status)
        assert abs(origin.time.timestamp - START / SECOND - quake[0]) < 0.5
        assert abs(origin.depth - quake[3] * 1000) < 5000
        told = [comment.text for comment in event.comments]
        assert "picks: picks.csv" in told
        assert any(text.startswith("associator: PyOcto, AssociationSettings(p_velocity=6.0") for text in told)
    events = read_events(Path("events.xml"))
    assert all(near(event, quake) for event, quake in zip(events, QUAKES, strict=True))
    assert [sorted(pick.seed_id for name in PLACES for pick in picks_at(name, quake)) for quake in QUAKES] == [
        sorted(arrival.pick.seed_id for arrival in event.arrivals) for event in events
    ]
    assert {0.9} == {arrival.pick.probability for event in events for arrival in event.arrivals}


@needs_pyocto
def test_the_residual_is_how_much_later_a_pick_is_than_expected() -> None:
    picks = [pick for name in PLACES for pick in picks_at(name, QUAKES[0])]
    late = Pick(
        picks[0].time_ns + SECOND,
        *[getattr(picks[0], name) for name in ("seed_id", "phase", "probability", "uncertainty", "amplitude", "snr")],
    )
    [event] = associate([late, *picks[1:]], inventory_of(places=PLACES), AssociationSettings()).events
    residuals = {arrival.pick: arrival.residual for arrival in event.arrivals}
    assert late == max(residuals, key=lambda pick: residuals[pick])
    assert 0.4 < residuals[late] < 1.1


@needs_pyocto
def test_picks_that_fit_no_event_give_none(folder: Path) -> None:
    picks = sorted(pick for at, name in enumerate(PLACES) for pick in picks_at(name, (100.0 * at, *QUAKES[0][1:])))
    write_picks(picks, folder / "scattered.csv", {})
    assert 0 == run("associate", "scattered.csv", "--inventory", "stations.xml")[0]
    assert 1 == len(Path("events.csv").read_text().splitlines()) == len(Path("events_arrivals.csv").read_text().splitlines())
    assert (0, []) == (
        run("associate", "scattered.csv", "--inventory", "stations.xml", "--out", "events.xml")[0],
        list(obspy.read_events("events.xml")),
    )


@needs_pyocto
def test_stations_that_the_inventory_lacks_are_named_and_the_others_used(folder: Path) -> None:
    inventory_of(places={name: place for name, place in PLACES.items() if name != "XX.FFF"}).write("stations.xml", "STATIONXML")
    status, lines = run("associate", "picks.csv", "--inventory", "stations.xml")
    assert (0, True) == (status, "! Stations: XX.FFF is not in stations.xml - its picks are left out" in lines)
    assert 4 == len(Path("events.csv").read_text().splitlines())


@needs_pyocto
def test_stations_with_picks_of_two_instruments_are_named() -> None:
    picks = [pick for name in PLACES for pick in picks_at(name, QUAKES[0])]
    double = Pick(picks[0].time_ns, "XX.AAA..HNZ", "P", 0.9, 0.1, 1.0, 1.0)
    notes = associate([*picks, double], inventory_of(places=PLACES), AssociationSettings()).notes
    assert ["XX.AAA has picks of several instruments; for one set each: xiaonet pick --prefer HH,BH,EH,HN"] == notes


@needs_pyocto
@pytest.mark.parametrize(
    ("number", "options", "message"),
    [
        (
            0,
            [],
            "0 stations of the inventory have picks; the inventory lacks XX.AAA, XX.BBB, XX.CCC, XX.DDD, XX.EEE, XX.FFF; wanted at least 3",
        ),
        (2, [], "2 stations of the inventory have picks; the inventory lacks XX.CCC"),
        (4, [], "4 stations have at most 8 picks of an event; wanted 10: use --min-picks 8 or less"),
        (6, ["--p-velocity", "0"], "p velocity is 0; wanted more than 0"),
        (6, ["--s-velocity", "7"], "s velocity is 7 km/s; wanted more than 0 and less than that of P, 6 km/s"),
        (6, ["--depth", "nan"], "depth is nan; wanted more than 0"),
        (6, ["--margin", "-1"], "margin is -1 km; wanted 0 or more"),
        (6, ["--min-picks", "3"], "min picks is 3; wanted at least 4"),
        (6, ["--out", "events.txt"], "events.txt ends in '.txt'; wanted .csv or .xml (QuakeML): choose another name"),
        (6, ["--out", "no/events.csv"], "no/events_arrivals.csv could not be written"),
    ],
)
def test_what_cannot_be_associated_is_refused(folder: Path, number: int, options: list[str], message: str) -> None:
    places = dict(list(PLACES.items())[:number]) or {"YY.AAA": (0.0, 0.0, 0.0)}
    inventory_of(places=places).write("stations.xml", "STATIONXML")
    status, lines = run("associate", "picks.csv", "--inventory", "stations.xml", *options)
    assert (1, True) == (status, any(message in line for line in lines)), lines
    assert not Path("events.csv").exists()


@needs_pyocto
@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("picks.csv", "", "picks.csv holds no picks of XiaoNet: the columns seed_id"),
        ("picks.csv", "seed_id,phase,time,prob,uncertainty,amp,snr\n", "the file holds no picks; wanted those of several stations"),
        ("picks.csv", "seed_id,phase,time,prob,uncertainty,amp,snr\nXX.AAA..HHZ,P,noon,1,1,1,1\n", "line 2 holds no pick"),
        ("stations.xml", "no XML", "stations.xml holds no inventory: "),
    ],
)
def test_damaged_input_is_named(folder: Path, name: str, content: str, message: str) -> None:
    (folder / name).write_text(content)
    status, lines = run("associate", "picks.csv", "--inventory", "stations.xml")
    assert (1, True) == (status, any(message in line for line in lines)), lines


def test_without_pyocto_the_command_that_installs_it_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pyocto", None)
    status, lines = run("associate", "picks.csv", "--inventory", "stations.xml")
    assert (1, True) == (status, any("pip install 'xiaonet[associate]'" in line for line in lines)), lines


def test_settings_are_checked_before_anything_is_read() -> None:
    with pytest.raises(ConfigError, match=r"tolerance is -1; wanted more than 0"):
        AssociationSettings(tolerance=-1)
    with pytest.raises(DataError, match="holds no picks"):
        associate([], inventory_of(places=PLACES), AssociationSettings())
