"""Options of one machine with --layout: responses, S without P, and pictures. All give what one machine gives."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

pytest.importorskip("obstore", reason="needs obstore: pip install 'xiaonet[archive]'")
pytest.importorskip("pyarrow", reason="needs pyarrow: pip install 'xiaonet[archive]'")

from archives.test_exact import csv_of, objects_of, picked
from inventories import channel, inventory_of, response
from stand_in import MIDNIGHT, StandIn, record, write_days
from xiaonet.archives import worker
from xiaonet.archives.dataset import Dataset
from xiaonet.archives.storage import Storage
from xiaonet.picker import Picker

LATER = 2 * 86400.0  # the second midnight after the first
RESPONSES = (["--inventory", "station.xml"], ["--inventory", "station.xml", "--deconvolve", "--corners", "0.5,1,40,45"])
Run = Callable[..., tuple[int, str]]


@pytest.fixture(autouse=True)
def stand_in(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr("xiaonet.picker.load_predictor", lambda *_: StandIn())
    worker._picker.cache_clear()
    yield
    worker._picker.cache_clear()


@pytest.fixture
def edges(tmp_path: Path) -> Path:
    """Ten minutes around each of two midnights, with S that have their P before midnight and S that have none."""
    folder = tmp_path / "edges"
    first = {"Z": [-200.0, -10.0], "N": [-100.0, -0.5, 5.0, 25.0, 60.0]}
    write_days(record(MIDNIGHT - 300, 600, first), folder)
    second = {"Z": [LATER + 100.0], "N": [LATER - 0.2, LATER + 10.0, LATER + 104.0]}
    write_days(record(MIDNIGHT + LATER - 300, 600, second), folder)
    return folder


def station(path: str, *sensitivities: float, name: str = "XX.ABC..HH") -> None:
    """Write an inventory in which the response changes at midnight."""
    times = ["2020-01-01", "2020-09-15", "2020-09-17", None]
    epochs = [
        channel(f"{name}{component}", response(value), times[number], times[number + 1])
        for component in "ENZ"
        for number, value in enumerate(sensitivities)
    ]
    inventory_of(*epochs).write(path, "STATIONXML")


def both(run: Run, source: Path, *words: str, out: str = "out") -> tuple[bytes, bytes, str]:
    """The CSV of one machine, that of the dataset, and what the second command printed."""
    ended, told = run("pick", str(source), "--out", "one.csv", *words)
    assert 0 == ended, told
    ended, told = run("pick", str(source), "--layout", "sds", "--out", out, "--workers", "1", *words)
    assert 0 == ended, told
    return Path("one.csv").read_bytes(), csv_of(out), told


def test_s_without_p_are_left_out_across_midnight(run: Run, edges: Path) -> None:
    one, dataset, told = both(run, edges, "--drop-s-without-p")
    assert one == dataset
    times = [line.split(",")[3] for line in dataset.decode().splitlines()[1:] if ",S," in line]
    assert ["2020-09-14T23:59:59.500000+00:00", "2020-09-15T00:00:05.000000+00:00"] == times[:2]
    assert (3, True) == (len(times), "S without P: 5 - left out" in told), told


@pytest.mark.parametrize("words", [["--from", "2020-09-15", "--to", "2020-09-16"], ["--from", "2020-09-14T23:59:45"]])
def test_only_p_that_were_asked_for_keep_an_s(run: Run, edges: Path, words: list[str]) -> None:
    one, dataset, _ = both(run, edges, "--drop-s-without-p", *words)
    assert one == dataset
    assert ("--to" in words) == (b"2020-09-15T00:00:05" not in dataset)


def test_a_day_that_is_picked_alone_knows_the_p_of_the_day_before(ask, run: Run, edges: Path, tmp_path: Path) -> None:
    stand_in = Picker()
    how = {"thresholds": stand_in.thresholds, "provenance": stand_in.provenance}
    request = ask(source=str(edges), days=1, drop_lone_s=True, **how)
    picked(request, tmp_path / "plan")
    before = objects_of(request.out)
    for done in Dataset(Storage(request.out)).complete():
        if done.day % 2:
            Storage(request.out).delete(done.name)
    totals = picked(request, tmp_path / "plan", resume=True)
    assert 0 < totals.done < totals.station_days
    assert before == objects_of(request.out)


@pytest.mark.parametrize("words", RESPONSES)
def test_amplitudes_are_those_of_one_machine(run: Run, edges: Path, words: list[str]) -> None:
    station("station.xml", 1e8, 2e8, 4e8)
    one, dataset, _ = both(run, edges, *words)
    assert one == dataset
    assert all(line.endswith(b",m/s") for line in dataset.splitlines()[1:])
    saved = json.loads(Path("out/run.json").read_text())
    assert saved["inventory"].startswith("station.xml, sha256 ")


def test_channels_without_a_response_are_told(run: Run, edges: Path) -> None:
    station("station.xml", 1e8, name="XX.OTHER..HH")
    one, dataset, told = both(run, edges, "--inventory", "station.xml")
    assert (one, True) == (dataset, "not in the inventory" in told)


def test_days_are_done_again_with_another_inventory(run: Run, edges: Path) -> None:
    station("station.xml", 1e8, 2e8, 4e8)
    words = ["--inventory", "station.xml"]
    _, before, _ = both(run, edges, *words)
    ended, told = run("pick", str(edges), "--layout", "sds", "--out", "out", "--resume", *words)
    assert (0, True) == (ended, "4 station-days complete before" in told), told
    station("station.xml", 1e8, 3e8, 4e8)
    ended, told = run("pick", str(edges), "--layout", "sds", "--out", "out", *words)
    assert (1, True) == (ended, "holds another run: inventory is" in told), told
    one, dataset, _ = both(run, edges, "--resume", *words)
    assert before != dataset
    assert one == dataset
    ended, told = run("pick", str(edges), "--layout", "sds", "--out", "out", "--resume")
    assert (1, True) == (ended, "holds another run: " in told), told


def test_workers_need_no_copy_of_the_inventory(ask, edges: Path, tmp_path: Path) -> None:
    path, out = tmp_path / "station.xml", str(tmp_path / "out")
    station(str(path), 1e8, 2e8, 4e8)
    picker = Picker(inventory=path)
    name = Dataset(Storage(out, create=True)).keep_inventory(path)
    path.unlink()
    wanted = ask(source=str(edges), thresholds=picker.thresholds, provenance=picker.provenance, inventory=name)
    totals = picked(wanted, tmp_path / "plan")
    assert ({}, True) == (totals.failures, b"m/s" in csv_of(out))


def test_pictures_are_those_of_one_machine(run: Run, edges: Path) -> None:
    pytest.importorskip("matplotlib", reason="needs matplotlib: pip install 'xiaonet[plot]'")
    both(run, edges, "--plot", "--to", "2020-09-15T12:00")
    alone = {path.name: path.read_bytes() for path in Path("one_plots").iterdir()}
    assert alone == {path.name: path.read_bytes() for path in Path("out/plots/XX.ABC").iterdir()}
    assert len(alone) == 2
