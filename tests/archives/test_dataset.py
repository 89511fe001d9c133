"""Datasets of picks: who may write them, and what is found in them."""

import csv
import json
from dataclasses import replace
from pathlib import Path

import obspy
import pytest

pytest.importorskip("obstore", reason="needs obstore: pip install 'xiaonet[archive]'")
pytest.importorskip("pyarrow", reason="needs pyarrow: pip install 'xiaonet[archive]'")

from archives.test_exact import csv_of, objects_of, picked
from xiaonet.archives.dataset import Complete, Dataset
from xiaonet.archives.planning import Plan
from xiaonet.archives.storage import Storage
from xiaonet.errors import ConfigError, DataError, OutputError


@pytest.fixture
def one(ask, tmp_path: Path) -> Storage:
    """A dataset of one station."""
    request = ask(stations=["YY.*"])
    picked(request, tmp_path / "plan")
    return Storage(request.out)


def test_the_objects_have_these_names(one: Storage) -> None:
    names = sorted(found.key for found in one.list())
    keys = [name.rpartition("/")[2].split(".")[1] for name in names if name.startswith("complete/")]
    expected = [
        *(f"complete/YY.DEF/2020-09-{day}.{key}.json" for day, key in zip((14, 15), keys, strict=True)),
        *sorted(f"network=YY/year=2020/month=09/{key}.parquet" for key in keys),
        "run.json",
    ]
    assert expected == [name for name in names if not name.startswith("survey/")]


def test_pyarrow_reads_the_partitions(one: Storage) -> None:
    from pyarrow import dataset

    table = dataset.dataset(str(one.folder), partitioning="hive", exclude_invalid_files=True).to_table()
    assert {"YY"} == {*table["network"].to_pylist()}
    assert {"P", "S"} == {*table["phase"].to_pylist()}


@pytest.mark.parametrize("change", [{"model": "xiaonet"}, {"thresholds": {"P": 0.5, "S": 0.5}}, {"prefer": "HH"}])
def test_another_run_into_the_same_place_is_refused(ask, tmp_path: Path, change: dict[str, object]) -> None:
    request = ask()
    made = dict(request.provenance, thresholds="P 0.5, S 0.5") if "thresholds" in change else dict(request.provenance)
    made |= {"model": "other"} if "model" in change else {}
    dataset = Dataset(Storage(request.out, create=True))
    dataset.begin(request, resume=False)
    with pytest.raises(OutputError, match=r"holds another run: .* there and .* here; choose another --out"):
        dataset.begin(replace(request, **change, provenance=made), resume=True)


def test_a_second_run_into_the_same_place_is_refused_unless_it_continues_the_first(ask, tmp_path: Path) -> None:
    dataset = Dataset(Storage(ask().out, create=True))
    dataset.begin(ask(), resume=False)
    with pytest.raises(OutputError, match="holds this run, finished or not; continue it with --resume, or choose another --out"):
        dataset.begin(ask(), resume=False)
    dataset.begin(ask(stations=["YY.*"], days=3), resume=True)


def test_two_schedulers_at_once_write_the_same_objects(ask, expected: bytes, tmp_path: Path) -> None:
    from concurrent.futures import ThreadPoolExecutor

    request = ask(days=1)
    Dataset(Storage(request.out, create=True)).begin(request, resume=False)
    with ThreadPoolExecutor(2) as pool:
        for done in [pool.submit(picked, request, tmp_path / f"plan{number}", resume=True) for number in (1, 2)]:
            assert {} == done.result().failures
    assert expected == csv_of(request.out)
    alone = ask(out=str(tmp_path / "alone"), days=1)
    picked(alone, tmp_path / "plan3")
    assert objects_of(alone.out) == objects_of(request.out)


def test_a_worker_of_another_version_is_refused(ask, tmp_path: Path) -> None:
    request = ask(provenance={**ask().provenance, "xiaonet": "0.0.9"})
    with pytest.raises(ConfigError, match=r"this worker has xiaonet '0\.1\.0'; wanted '0\.0\.9': install the same XiaoNet and model"):
        picked(request, tmp_path / "plan")
    assert [] == Dataset(Storage(request.out)).complete()


def test_a_half_written_file_is_named_with_the_fix(one: Storage, tmp_path: Path, ask) -> None:
    before = csv_of(one.url)
    done = Dataset(one).complete()[0]
    one.write(done.picks, (one.read(done.picks) or b"")[:300])
    with pytest.raises(DataError) as caught:
        csv_of(one.url)
    assert f"{done.picks} holds no picks: " in str(caught.value)
    assert f"; delete {done.name} and repeat the run with --resume" in str(caught.value)
    one.delete(done.name)
    assert (1, 1) == ((totals := picked(ask(stations=["YY.*"]), tmp_path / "plan", resume=True)).done, totals.known)
    assert before == csv_of(one.url)


def test_files_without_a_completion_are_not_read(one: Storage) -> None:
    done = Dataset(one).complete()[0]
    before = csv_of(one.url)
    one.write(done.picks.replace(done.key, "0" * 32), one.read(done.picks) or b"")
    assert before == csv_of(one.url)


def test_a_day_that_is_complete_twice_is_told_and_mended(one: Storage, tmp_path: Path, ask) -> None:
    before = csv_of(one.url)
    done = Dataset(one).complete()[0]
    one.write(done._replace(key="0" * 32).name, b"{}")
    with pytest.raises(DataError, match=r"YY\.DEF on 2020-09-14 is complete twice, from files that changed; repeat the run with --resume"):
        csv_of(one.url)
    picked(ask(stations=["YY.*"]), tmp_path / "plan", resume=True)
    assert before == csv_of(one.url)


def test_a_strange_name_among_completions_is_told() -> None:
    with pytest.raises(DataError, match="complete/x is no object of a complete station-day; wanted a name like complete/"):
        Complete.parse("complete/x")


def test_picks_are_found_by_station_time_and_phase(ask, tmp_path: Path, expected: bytes, run) -> None:
    picked(ask(), tmp_path / "plan")
    lines = expected.decode().splitlines()
    words = ["picks", ask().out, "--stations", "ABC", "--from", "2020-09-15", "--to", "2020-09-16", "--phase", "P", "--out", "p.csv"]
    ended, told = run(*words)
    wanted = [line for line in lines[1:] if line.startswith("XX.ABC.,P,") and ",2020-09-15T" in line]
    assert len(wanted) >= 2
    assert (0, [lines[0], *wanted]) == (ended, Path("p.csv").read_text().splitlines()), told


def test_picks_are_written_as_quakeml_with_the_model(one: Storage, run) -> None:
    ended, told = run("picks", one.url, "--out", "p.xml")
    catalog = obspy.read_events("p.xml")
    assert (0, csv_of(one.url).count(b"\n") - 1) == (ended, len(catalog[0].picks)), told
    assert "digest: " in " ".join(comment.text for comment in catalog[0].comments)


def test_the_manifest_lists_the_complete_days(one: Storage, run) -> None:
    ended, told = run("picks", one.url, "--manifest", "m.csv")
    with open("m.csv") as file:
        rows = list(csv.DictReader(file))
    assert (0, [("YY.DEF", "2020-09-14"), ("YY.DEF", "2020-09-15")]) == (ended, [(row["station"], row["day"]) for row in rows]), told
    assert all(one.read(row["picks"]) and json.loads(one.read(row["complete"]) or b"")["parquet"] == row["picks"] for row in rows)


def test_a_folder_without_a_run_is_told(tmp_path: Path, run) -> None:
    ended, told = run("picks", str(tmp_path))
    assert (1, True) == (ended, "holds no run of XiaoNet; wanted the --out of xiaonet pick --layout" in told)


def test_a_layout_that_does_not_fit_shows_three_names(days: Path, run) -> None:
    ended, told = run("pick", str(days), "--layout", "scedc", "--out", "out")
    names = [f"2020/XX/ABC/HHE.D/XX.ABC..HHE.D.2020.{day}" for day in (258, 259, 260, 261, 262)]
    assert (1, True) == (ended, "fits --layout scedc: " in told)
    assert 3 == told.count(".D.2020.") or 3 <= sum(name in told for name in names)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--cluster", "local"], "--cluster needs --layout"),
        (["--layout", "sds", "--shard", "4/3"], "--shard is '4/3'; wanted a share such as 3/100"),
        (["--layout", "sds", "--shard", "1/3", "--cluster", "local"], "--shard and --cluster: these options exclude each other"),
        (["--layout", "sds", "--inventory", "x.xml"], "x.xml cannot be read: No such file or directory"),
        (["--layout", "sds", "--stations", "ZZ.*"], "nothing to pick in "),
        (["--layout", "sds", "--cluster", "spark"], "--cluster is 'spark'; wanted local, slurm, or the address of a scheduler"),
        (["--layout", "sds", "--cluster", "tcp://127.0.0.1:9"], "no scheduler answers at tcp://127.0.0.1:9"),
    ],
)
def test_wrong_options_name_what_is_wanted(days: Path, run, words: list[str], told: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("xiaonet.archives.engines.ANSWER_S", 1)
    ended, lines = run("pick", str(days), *words, "--out", "out")
    assert (1, True) == (ended, told in lines), lines


def test_a_part_of_a_name_decides_the_shard(ask, days: Path, tmp_path: Path) -> None:
    stations = []
    for number in (1, 2):
        (tmp_path / f"{number}").mkdir()
        with Plan(Storage(str(days)), ask(shard=(number, 2)), tmp_path / f"{number}") as plan:
            stations += [blocks[0].station for blocks in plan.stations()]
    assert ["XX.ABC", "YY.DEF"] == sorted(stations)
