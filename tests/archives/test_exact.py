"""The union of all blocks is what one machine picks, byte for byte."""

import io
import shutil
from pathlib import Path

import numpy as np
import obspy
import pytest

pytest.importorskip("obstore", reason="needs obstore: pip install 'xiaonet[archive]'")
pytest.importorskip("pyarrow", reason="needs pyarrow: pip install 'xiaonet[archive]'")

from xiaonet.archives.dataset import Dataset
from xiaonet.archives.engines import open_engine
from xiaonet.archives.planning import Plan, Request
from xiaonet.archives.running import RunTotals, run
from xiaonet.archives.storage import Storage
from xiaonet.io.csv import write_csv


def picked(request: Request, folder: Path, *, resume: bool = False) -> RunTotals:
    """Run a request in this process."""
    Dataset(Storage(request.out, create=True)).begin(request, resume)
    folder.mkdir(exist_ok=True)
    (folder / "plan.sqlite").unlink(missing_ok=True)
    with Plan(Storage(request.source), request, folder) as plan, open_engine(None, 1) as engine:
        return run(plan, request, engine, lambda totals, cores: None)


def csv_of(url: str) -> bytes:
    file = io.BytesIO()
    write_csv(Dataset(Storage(url)).find(), file, {})
    return file.getvalue()


def objects_of(url: str) -> dict[str, bytes | None]:
    storage = Storage(url)
    return {found.key: storage.read(found.key) for found in storage.list()}


@pytest.mark.parametrize("length", [1, 2, 10])
def test_blocks_of_any_length_give_the_picks_of_one_machine(ask, expected: bytes, tmp_path: Path, length: int) -> None:
    request = ask(days=length)
    totals = picked(request, tmp_path / "plan")
    assert ({}, 7, 7, 0) == (totals.failures, totals.station_days, totals.done, totals.known)
    assert expected == csv_of(request.out)


def test_picks_on_both_sides_of_midnight_are_there(expected: bytes) -> None:
    times = [line.split(",")[3] for line in expected.decode().splitlines()[1:] if "XX.ABC" in line]
    assert any(time.startswith("2020-09-14T23:59:5") for time in times)
    assert any(time.startswith("2020-09-15T23:59:5") for time in times)


def test_a_bucket_gives_the_same_objects_as_a_folder(ask, s3, expected: bytes, tmp_path: Path) -> None:
    request = ask(source="s3://data/sds", out="s3://mine/run", days=2)
    assert {} == picked(request, tmp_path / "plan").failures
    assert expected == csv_of("s3://mine/run")
    again = ask(source="s3://data/sds", out="s3://mine/again", days=2)
    picked(again, tmp_path / "plan")
    assert objects_of("s3://mine/run") == objects_of("s3://mine/again")


def test_what_is_complete_is_not_picked_again(ask, expected: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    request = ask(days=2)
    picked(request, tmp_path / "plan")
    monkeypatch.setattr(Storage, "fetch", None)  # nothing is read
    totals = picked(request, tmp_path / "plan", resume=True)
    assert (0, 7) == (totals.done, totals.known)
    assert expected == csv_of(request.out)


def test_changed_input_is_picked_again_and_replaces_what_was_picked(ask, days: Path, tmp_path: Path) -> None:
    source = shutil.copytree(days, tmp_path / "source", copy_function=shutil.copy)
    request = ask(source=str(source), days=2)
    picked(request, tmp_path / "plan")
    before = csv_of(request.out)
    changed = sorted(source.glob("2020/YY/DEF/EHZ.D/*.259"))[0]
    stream = obspy.read(changed)
    stream[0].data = np.roll(stream[0].data, 50)
    stream.write(str(changed), "MSEED", reclen=512)
    totals = picked(request, tmp_path / "plan", resume=True)
    assert (2, 5) == (totals.done, totals.known)  # this day, and the one whose edge it is
    fresh = ask(source=str(source), out=str(tmp_path / "fresh"), days=2)
    picked(fresh, tmp_path / "plan")
    assert before != csv_of(request.out)
    assert csv_of(fresh.out) == csv_of(request.out)


def test_a_part_in_time_is_that_of_one_machine(ask, days: Path, tmp_path: Path, run) -> None:
    first, last = obspy.UTCDateTime("2020-09-14T23:59:30"), obspy.UTCDateTime("2020-09-15T11:30:00")
    request = ask(start_ns=first.ns, end_ns=last.ns, days=1)
    picked(request, tmp_path / "plan")
    status, told = run("pick", str(days), "--model", "xiaonet-nano", "--from", str(first)[:19], "--to", str(last)[:19], "--out", "one.csv")
    assert (0, (tmp_path / "one.csv").read_bytes()) == (status, csv_of(request.out)), told


def test_the_shards_of_a_run_make_the_whole(ask, expected: bytes, tmp_path: Path) -> None:
    for number in (1, 2, 3):
        picked(ask(days=2, shard=(number, 3)), tmp_path / "plan", resume=True)
    assert expected == csv_of(ask().out)


def test_one_instrument_a_station_is_chosen_as_on_one_machine(ask, days: Path, tmp_path: Path, run) -> None:
    source = shutil.copytree(days, tmp_path / "source")
    for path in sorted((source / "2020" / "XX" / "ABC").glob("HH?.D/*.25[89]")):
        stream = obspy.read(path)
        for trace in stream:
            trace.stats.channel = "BH" + trace.stats.channel[-1]
        target = source / "2020" / "XX" / "ABC" / f"{stream[0].stats.channel}.D"
        target.mkdir(exist_ok=True)
        stream.trim(stream[0].stats.starttime, stream[0].stats.starttime + 3600)
        stream.write(str(target / path.name.replace(".HH", ".BH")), "MSEED")
    request = ask(source=str(source), prefer="BH,HH", days=1)
    picked(request, tmp_path / "plan")
    status, told = run("pick", str(source), "--model", "xiaonet-nano", "--prefer", "BH,HH", "--out", "one.csv")
    assert b".BHZ" in csv_of(request.out)
    assert (0, (tmp_path / "one.csv").read_bytes()) == (status, csv_of(request.out)), told
