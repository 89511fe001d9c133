import csv
import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import obspy
import pandas as pd
import pytest
from obspy import Stream
from typer.testing import CliRunner

from inventories import channel, inventory_of, response
from stand_in import MIDNIGHT, StandIn, record, write, write_days
from xiaonet import console
from xiaonet.cli import main as cli
from xiaonet.shipped import shipped_models

ONSETS = {"Z": [-120.5, 0.0, 100.0], "N": [3.0, 104.25]}
LINES = [("P", -120.5), ("P", 0.0), ("S", 3.0), ("P", 100.0), ("S", 104.25)]

# The command line with a slow stand-in, for a process that is stopped from outside.
SLOW = """
import sys, time
import xiaonet.picker
from stand_in import StandIn
from xiaonet.cli.main import app

class Slow(StandIn):
    def __call__(self, windows):
        time.sleep(0.15)
        return super().__call__(windows)

xiaonet.picker.load_predictor = lambda *_: Slow()
app(sys.argv[1:])
"""


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., tuple[int, list[str]]]:
    """A function that calls `xiaonet pick` with a stand-in, in an empty folder: `status, lines = run("data", …)`."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("xiaonet.picker.load_predictor", lambda *_: StandIn())

    def call(*words: str | Path) -> tuple[int, list[str]]:
        result = CliRunner().invoke(cli.app, ["pick", *map(str, words)], env={"COLUMNS": "250"})
        if result.exception and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result.exit_code, result.output.splitlines()

    return call


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An SDS archive of two stations around a midnight; not to be changed."""
    stream = record(onsets=ONSETS) + record(onsets={"Z": [99.0]}, instrument="YY.DEF.00.EH")
    return write_days(stream, tmp_path_factory.mktemp("data"))


def lines_of(path: Path) -> list[tuple[str, float]]:
    with path.open() as file:
        return [(row["phase"], round(float(row["time"]) - MIDNIGHT.timestamp, 6)) for row in csv.DictReader(file)]


def test_picks_and_a_summary(run: Callable[..., tuple[int, list[str]]], tmp_path: Path, data: Path) -> None:
    status, told = run(data)
    assert sorted([*LINES, ("P", 99.0)], key=lambda line: line[1]) == lines_of(tmp_path / "picks.csv")
    assert 0 == status
    assert ["✓ Model: stand-in - P from 0.5, S from 0.5", "✓ Data: 20.0 minutes - 2 stations, 2 instruments, 0 gaps"] == told[:2]
    assert [
        ["station", "hours", "gaps", "bridged", "P", "S", "S", "without", "P", "warnings"],
        ["XX.ABC", "0.17", "0", "0", "3", "2", "0", "0"],
        ["YY.DEF", "0.17", "0", "0", "1", "0", "0", "0"],
    ] == [line.split() for line in told[2:5]]
    assert re.fullmatch(r"✓ Picks: 4 P, 2 S - picks\.csv, in \d+\.\d s", told[5])
    assert 6 == len(told)


def test_the_summary_beside_the_picks_has_every_station_and_channel(
    run: Callable[..., tuple[int, list[str]]], tmp_path: Path, data: Path
) -> None:
    stream = record(onsets=ONSETS)
    stream[0].data[:] = 7
    stream[1].data = np.ma.masked_array(stream[1].data, np.arange(60_000) // 500 == 40)  # 5 s
    write(stream.split(), tmp_path / "day.mseed")
    assert 0 == run("day.mseed", "--to", "2020-09-15T00:01:40")[0]
    summary = json.loads((tmp_path / "picks.csv.json").read_text())
    found = {"hours": round(400 / 3600, 6), "gaps": 0, "bridged_gaps": 1, "bridged_s": 5.0}
    counts = {"p": 2, "s": 1, "s_without_p": 0, "s_dropped": 0}
    assert {"stations": 1, "instruments": 1, **found, **counts} == summary["totals"]
    assert {"from": None, "to": "2020-09-15T00:01:40.000000000Z", "stations": [], "components": {}, "files": 1} == {
        key: value for key, value in summary["provenance"].items() if key in ("from", "to", "stations", "components", "files")
    }
    assert ("stand-in", "P 0.5, S 0.5") == (summary["provenance"]["model"], summary["provenance"]["thresholds"])
    [station] = summary["stations"]
    assert ("XX.ABC", {"XX.ABC..HH": found}) == (station["station"], station["instruments"])
    whole = {"hours": round(400 / 3600, 6), "gaps": 0, "bridged_gaps": 0, "bridged_s": 0.0}
    rest = {"unchanging_s": 0.0, "written_zeros_s": 0.0, "disagreeing_s": 0.0}
    assert {
        "XX.ABC..HHE": {**whole, "hours": 0.0, **rest, "unchanging_s": 400.0},
        "XX.ABC..HHN": {**found, "hours": round(395 / 3600, 6), **rest},
        "XX.ABC..HHZ": {**whole, **rest},
    } == station["channels"]
    assert ["XX.ABC..HHE: all samples are equal (7); no data"] == station["warnings"] == summary["warnings"]


@pytest.mark.parametrize("late", [0.0, 0.01, 0.3])
def test_one_of_two_copies_wins_and_the_others_are_told(run: Callable[..., tuple[int, list[str]]], tmp_path: Path, late: float) -> None:
    (tmp_path / "data").mkdir()
    whole, copy = record(onsets=ONSETS), record(onsets={"Z": [50.0]}).slice(MIDNIGHT - 100, MIDNIGHT + 200)
    for trace in copy:
        trace.data = trace.data + 1
        trace.stats.starttime += late
    write(copy, tmp_path / "data" / "a.mseed")
    write(whole, tmp_path / "data" / "b.mseed")
    status, told = run("data")
    assert (0, LINES) == (status, lines_of(tmp_path / "picks.csv"))
    reason = "300.0 s left out because two pieces disagree; the longer one is used, or of two as long the one that was read first"
    assert [f"! Skipped: XX.ABC..HH{component}: {reason}" for component in "ENZ"] == [
        line.replace("299.9", "300.0")
        for line in told[1:4]  # some samples agree by chance
    ]


def test_a_copy_that_was_sent_again_with_a_corrected_clock_is_told(run: Callable[..., tuple[int, list[str]]], tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    copy = record(onsets=ONSETS).slice(MIDNIGHT - 100, MIDNIGHT + 199.99)
    for trace in copy:
        trace.stats.starttime += 0.003  # less than half a sample
    write(copy, tmp_path / "data" / "a.mseed")
    write(record(onsets=ONSETS), tmp_path / "data" / "b.mseed")
    status, told = run("data")
    assert (0, LINES) == (status, lines_of(tmp_path / "picks.csv"))
    reason = "300.0 s left out because two pieces disagree; the longer one is used, or of two as long the one that was read first"
    assert [f"! Skipped: XX.ABC..HH{component}: {reason}" for component in "ENZ"] == told[1:4]


def test_of_two_copies_as_long_the_one_that_was_read_first_wins(run: Callable[..., tuple[int, list[str]]], tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    for name, second in (("a", 40.0), ("b", 80.0)):
        stream = record(onsets={"Z": [second]})
        for trace in stream:
            trace.data = trace.data + (name == "b")
        write(stream, tmp_path / "data" / name)
    assert (0, [("P", 40.0)]) == (run("data")[0], lines_of(tmp_path / "picks.csv"))


def test_short_gaps_are_told_as_bridged(run: Callable[..., tuple[int, list[str]]], tmp_path: Path) -> None:
    write(record().slice(MIDNIGHT - 300, MIDNIGHT - 0.01) + record().slice(MIDNIGHT + 6), tmp_path / "day.mseed")
    _, told = run("day.mseed")
    assert "✓ Data: 9.9 minutes - 1 station, 1 instrument, 0 gaps, 1 short gap bridged (6.0 s)" == told[1]


def test_s_without_p_are_told_and_may_be_left_out(run: Callable[..., tuple[int, list[str]]], tmp_path: Path) -> None:
    onsets = {"Z": [0.0], "N": [-100.0, 30.0, 30.01 + 2, 200.0]}
    write(record(onsets=onsets), tmp_path / "day.mseed")
    _, told = run("day.mseed")
    assert "✓ S without P: 3 of 4 (75%) - no P on the station in the 30 s before; --drop-s-without-p" == told[-2]
    assert told[-1].startswith("✓ Picks: 1 P, 4 S - ")
    _, told = run("day.mseed", "--drop-s-without-p", "--out", "dropped.csv")
    assert ["✓ S without P: 3 of 4 (75%) - left out", "✓ Picks: 1 P, 1 S"] == [told[-2], told[-1].partition(" - ")[0]]
    assert [("P", 0.0), ("S", 30.0)] == lines_of(tmp_path / "dropped.csv")
    assert {"p": 1, "s": 1, "s_without_p": 3, "s_dropped": 3}.items() <= json.loads((tmp_path / "dropped.csv.json").read_text())[
        "totals"
    ].items()


def test_many_stations_are_described_in_the_file_alone(
    run: Callable[..., tuple[int, list[str]]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, data: Path
) -> None:
    monkeypatch.setattr("xiaonet.cli.pick.SHOWN_STATIONS", 1)
    _, told = run(data)
    assert ["✓ Stations: 2 - each is described in picks.csv.json"] == told[2:-1]
    assert ["XX.ABC", "YY.DEF"] == [row["station"] for row in json.loads((tmp_path / "picks.csv.json").read_text())["stations"]]


def test_json_is_one_object_a_line(run: Callable[..., tuple[int, list[str]]], tmp_path: Path, data: Path) -> None:
    (tmp_path / "empty").touch()
    status, told = run(data, "empty", "--json")
    events = [json.loads(line) for line in told]
    assert (0, ["ok", "progress", "warning", "ok", "ok", "result"]) == (status, [event["event"] for event in events])
    assert {"event": "progress", "task": "Picking", "done": 1200.0, "total": 1200.0} == events[1]
    assert {"event": "warning", "component": "Skipped", "status": f"{tmp_path / 'empty'}: empty", "details": ""} == events[2]
    assert ("picks.csv", 4, 2) == (events[-1]["picks"], events[-1]["totals"]["p"], events[-1]["totals"]["s"])
    status, [told] = run(data, "--json", "--stations", "CX.*")
    assert (1, "error") == (status, json.loads(told)["event"])
    assert run(data)[1][0].startswith("✓ Model")  # the next command prints text again


def test_a_long_search_for_records_shows_progress(
    run: Callable[..., tuple[int, list[str]]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(record(onsets=ONSETS), tmp_path / "a")
    write(record(onsets=ONSETS), tmp_path / "b")
    raw = path.read_bytes()
    path.write_bytes(raw[:5120] + bytes(3 * 10**6) + raw[5120:])
    monkeypatch.setattr(console, "REDRAW_SECONDS", 0.0)
    monkeypatch.setattr(console, "PLAIN_SECONDS", 0.0)
    status, told = run("a", "b", "--json")
    shown = [event for event in map(json.loads, told) if event.get("task") == "Reading headers"]
    assert (0, {2}) == (status, {event["total"] for event in shown})
    done = [event["done"] for event in shown]
    assert done == sorted(done)
    assert len([value for value in done if 0 < value < 1]) >= 8
    assert 1 <= done[-1] <= 2
    status, told = run("a", "b")
    assert (0, True) == (status, any(re.fullmatch(r"Reading headers: 0\.\d\d/2 files", line) for line in told))


def test_json_is_utf_8_on_any_terminal(tmp_path: Path) -> None:
    write(record(seconds=60), tmp_path / "Öçé 地震")
    words = [sys.executable, "-m", "xiaonet", "pick", "Öçé 地震", "nowhere 地震", "--json", "--model", "xiaonet-nano"]
    environment = {**os.environ, "PYTHONIOENCODING": "cp1252"}
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, env=environment, check=False)
    events = [json.loads(line) for line in done.stdout.decode("utf-8").splitlines()]
    assert (0, b"") == (done.returncode, done.stderr)
    assert "nowhere 地震: no such file or folder" in [event.get("status") for event in events]
    done = subprocess.run(words[:-3], cwd=tmp_path, capture_output=True, env=environment, check=False)
    assert (0, b"") == (done.returncode, done.stderr)  # a mark that the terminal does not have is no error


def test_quiet_prints_warnings_and_errors_alone(
    run: Callable[..., tuple[int, list[str]]], tmp_path: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert (0, []) == run(data, "--quiet")
    (tmp_path / "empty").touch()
    assert (0, [f"! Skipped: {tmp_path / 'empty'}: empty"]) == run(data, "empty", "--quiet")
    status, [told] = run(data, "--quiet", "--json")
    assert (1, "✗ Config: stopped - --quiet and --json: these options exclude each other; use one of them") == (status, told)


def test_time_and_stations_may_be_chosen(run: Callable[..., tuple[int, list[str]]], tmp_path: Path, data: Path) -> None:
    for words, expected in (
        (["--from", "2020-09-15"], [("P", 0.0), ("S", 3.0), ("P", 99.0), ("P", 100.0), ("S", 104.25)]),
        (["--from", "2020-09-15T00:00:00.001Z", "--to", "2020-09-15T02:01:40+02:00"], [("S", 3.0), ("P", 99.0)]),
        (["--stations", "XX.ABC"], LINES),
        (["--stations", "*EF, NO.NE"], [("P", 99.0)]),
        (["--stations", "XX.*", "--stations", "YY.DEF.00.EH", "--to", "2020-09-15"], [("P", -120.5)]),
    ):
        status, told = run(data, *words)
        assert (0, expected) == (status, lines_of(tmp_path / "picks.csv")), told


def test_a_threshold_may_be_chosen(run: Callable[..., tuple[int, list[str]]], data: Path) -> None:
    for given, shown in (("0.9", "P from 0.9, S from 0.9"), ("P=0.3,S=0.2", "P from 0.3, S from 0.2"), ("S=0.2", "P from 0.5, S from 0.2")):
        status, told = run(data, "--threshold", given)
        assert (0, f"✓ Model: stand-in - {shown}") == (status, told[0])


@pytest.mark.parametrize(("name", "kind"), [("picks.xml", "QUAKEML"), ("picks.PARQUET", ""), ("of a day.csv", "")])
def test_the_name_of_the_file_tells_the_format(
    run: Callable[..., tuple[int, list[str]]], tmp_path: Path, data: Path, name: str, kind: str
) -> None:
    status, told = run(data, "--out", name)
    assert (0, True) == (status, f" - {name}, in " in told[-1])
    if kind:
        [event] = obspy.read_events(tmp_path / name, format=kind)
        assert [MIDNIGHT + second for _, second in sorted([*LINES, ("P", 99.0)], key=lambda line: line[1])] == [p.time for p in event.picks]
    else:
        assert 6 == len(pd.read_csv(tmp_path / name) if name.endswith("csv") else pd.read_parquet(tmp_path / name))


def test_no_picks_are_a_file_too(run: Callable[..., tuple[int, list[str]]], tmp_path: Path) -> None:
    write(record(seconds=60), tmp_path / "quiet")
    status, told = run("quiet")
    assert (0, []) == (status, lines_of(tmp_path / "picks.csv"))
    assert told[-1].startswith("✓ Picks: 0 P, 0 S - picks.csv, in ")


def test_the_old_name_of_prefilter_is_accepted_with_a_warning(
    run: Callable[..., tuple[int, list[str]]], tmp_path: Path, data: Path
) -> None:
    old, new = run(data, "--scout", "xiaonet-nano", "--out", "old.csv"), run(data, "--prefilter", "xiaonet-nano", "--out", "new.csv")
    assert (0, 0) == (old[0], new[0])
    assert "! Option: --scout is now --prefilter - the next release will not accept the old name" == old[1][0]
    assert [line.partition(" - ")[0] for line in old[1][1:]] == [line.partition(" - ")[0] for line in new[1]]
    assert (tmp_path / "old.csv").read_bytes() == (tmp_path / "new.csv").read_bytes()
    status, told = run(data, "--scout", "xiaonet-nano", "--prefilter", "xiaonet")
    assert (1, "✗ Config: stopped - --prefilter and --scout: these options exclude each other; use --prefilter alone") == (status, told[0])


# What cannot be done


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--out", "picks.txt"], "✗ Config: stopped - picks.txt ends in '.txt'; wanted one of .csv, .xml, "),
        (["--out", "no/such/picks.csv"], "✗ Output: stopped - no/such/picks.csv cannot be written: "),
        (["--out", "folder.csv"], "✗ Output: stopped - folder.csv is a folder; wanted a file: choose another name"),
        (["--from", "yesterday"], "✗ Config: stopped - --from is 'yesterday'; wanted a UTC time such as 2014-05-01 or 2014-05-01T06:00:00"),
        (["--to", "2020-13-01"], "✗ Config: stopped - --to is '2020-13-01'; wanted a UTC time"),
        (["--threshold", "1.5"], "✗ Config: stopped - threshold is 1.5; wanted a probability above 0 and up to 1"),
        (
            ["--threshold", "high"],
            "✗ Config: stopped - --threshold is 'high'; wanted a probability such as 0.3, or one each such as P=0.3,S=0.2",
        ),
        (["--threshold", "P=0.3=0.2"], "✗ Config: stopped - --threshold is 'P=0.3=0.2'; wanted a probability"),
        (["--threshold", "Q=0.3"], "✗ Config: stopped - threshold is {'Q': 0.3}; wanted a probability above 0 and up to 1 for P and S"),
        (["--stations", "CX.*"], "✗ Waveform: stopped - nothing to pick in "),
        (["--from", "2021-01-01"], "✗ Waveform: stopped - nothing to pick in "),
        (["--from", "2020-09-15", "--to", "2020-09-14"], "✗ Waveform: stopped - nothing to pick in "),
    ],
)
def test_what_cannot_be_done_is_one_line_and_status_1(
    run: Callable[..., tuple[int, list[str]]], tmp_path: Path, data: Path, words: list[str], message: str
) -> None:
    (tmp_path / "folder.csv").mkdir()
    status, told = run(data, *words)
    assert (1, True) == (status, told[-1].startswith(message)), told
    assert [tmp_path / "folder.csv"] == list(tmp_path.iterdir())


def test_an_unknown_model_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, data: Path) -> None:
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(cli.app, ["pick", str(data), "--model", "xiaonett"], env={"COLUMNS": "250"})
    assert (1, True) == (result.exit_code, "✗ Checkpoint: stopped - there is no model 'xiaonett'; did you mean xiaonet" in result.output)


def test_nothing_to_pick_is_told_with_the_reasons(run: Callable[..., tuple[int, list[str]]], tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "notes.txt").write_text("hello")
    status, told = run("folder", "notes.txt", "nowhere/*.mseed")
    assert 1 == status
    assert [
        "! Skipped: nowhere/*.mseed: no such file or folder",
        f"! Skipped: {tmp_path / 'notes.txt'}: no waveforms in miniSEED or in another format that ObsPy knows",
        "✗ Waveform: stopped - nothing to pick in folder, notes.txt, nowhere/*.mseed: no waveforms were found; wanted miniSEED or another "
        "format that ObsPy knows",
    ] == told


@pytest.mark.parametrize("days", [False, True])
def test_nothing_to_pick_says_which_condition_failed_and_what_was_found(
    run: Callable[..., tuple[int, list[str]]], tmp_path: Path, days: bool
) -> None:
    stream = record(MIDNIGHT, 86_400)[:1] + record(MIDNIGHT, 60, instrument="YY.DEF.00.LH")[2:]
    stream[1].stats.sampling_rate = 1.0
    _ = write_days(stream, tmp_path / "data") if days else (tmp_path / "data").mkdir() or write(stream, tmp_path / "data" / "file")
    first = "XX.ABC..HH[E] from 2020-09-15T00:00:00 to 2020-09-16T00:00:00"
    second = f"YY.DEF.00.LH[Z] from 2020-09-15T00:00:00 to 2020-09-{'16T00:00:00' if days else '15T01:40:00'}"
    low = "YY.DEF.00.LH[Z] from 2020-09-15T00:00:00 to 2020-09-15T01:40:00"
    for words, reason in (
        (["--stations", "CX.*,AA"], f"no station matches CX.*, AA; found {first}, {second}"),
        (["--from", "2021-01-01"], f"no data from 2021-01-01T00:00:00; found {first}, {second}"),
        (["--to", "2020-01-01", "--stations", "ABC"], f"no data to 2020-01-01T00:00:00; found {first}"),
        (["--stations", "DEF"], f"no usable channel; wanted components E, N, Z or 1, 2, Z at 20 Hz or more; found {low}"),
        (["--from", "2020-09-15", "--to", "2020-09-14"], "--from 2020-09-15 is not before --to 2020-09-14; exchange them"),
    ):
        status, told = run("data", *words)
        assert (1, f"✗ Waveform: stopped - nothing to pick in data: {reason}") == (status, told[-1])


def test_what_was_skipped_is_told_and_the_rest_is_picked(run: Callable[..., tuple[int, list[str]]], tmp_path: Path) -> None:
    path = write(record(onsets=ONSETS), tmp_path / "day.mseed")
    raw = bytearray(path.read_bytes())
    raw[10 * 512 + 200 : 10 * 512 + 210] = b"something!"
    path.write_bytes(raw)
    for number in range(30):
        (tmp_path / f"empty{number:02}").touch()
    status, told = run(tmp_path)
    assert (0, LINES) == (status, lines_of(tmp_path / "picks.csv"))
    assert [f"! Skipped: {tmp_path / 'empty00'}: empty", "! Skipped: and 11 more - all are in picks.csv.json"] == [told[1], told[21]]
    assert 26 == len(told)
    for name in ("picks.csv", "picks.csv.json"):
        (tmp_path / name).unlink()
    for path in tmp_path.glob("empty*"):
        path.unlink()
    _, told = run(tmp_path)
    assert told[1].startswith(f"! Skipped: {tmp_path / 'day.mseed'}: record at byte {10 * 512} skipped: ")
    assert 6 == len(told)


def test_a_journal_in_the_way_is_named(run: Callable[..., tuple[int, list[str]]], tmp_path: Path, data: Path) -> None:
    (tmp_path / "picks.csv.journal").write_text("{}\n")
    for words, message in (
        ([], "picks.csv.journal exists: an earlier run was interrupted; continue it with --resume, or delete that file"),
        (["--resume"], "picks.csv.journal is not a journal of this XiaoNet; delete that file and leave --resume out"),
    ):
        status, told = run(data, *words)
        assert (1, True) == (status, told[-1].startswith(f"✗ Output: stopped - {message}"))
    assert "{}\n" == (tmp_path / "picks.csv.journal").read_text()


def test_a_disk_that_fills_up_is_status_1_and_resume_goes_on(
    run: Callable[..., tuple[int, list[str]]], tmp_path: Path, data: Path, write_limit: Callable[[int], None]
) -> None:
    write_limit(300)
    status, told = run(data, "--workers", "1")
    write_limit(10**6)
    assert (1, True) == (status, "free some space and continue with --resume" in told[-1])
    status, told = run(data, "--workers", "1", "--resume")
    assert (0, 6) == (status, len(lines_of(tmp_path / "picks.csv"))), told


# Processes that are stopped


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """A function that starts a slow `xiaonet pick` in a process of its own."""
    started: list[subprocess.Popen[str]] = []
    paths = [str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")]

    def begin(*words: str | Path) -> subprocess.Popen[str]:
        started.append(
            subprocess.Popen(
                [sys.executable, "-c", SLOW, "pick", *map(str, words)],
                cwd=tmp_path,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(paths), "COLUMNS": "250"},
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
        )
        return started[-1]

    yield begin
    for process in started:
        process.kill()
        process.wait()


def finished(journal: Path) -> int:
    """Number of results in a journal."""
    if not journal.exists():
        return 0
    with closing(sqlite3.connect(journal)) as database:
        try:
            return database.execute("SELECT count(*) FROM results").fetchone()[0]
        except sqlite3.OperationalError:  # it is just being made
            return 0


@pytest.mark.parametrize(("sent", "status"), [(signal.SIGINT, 130), (signal.SIGKILL, -9), (signal.SIGTERM, -15)])
@pytest.mark.parametrize("workers", ["1", "3"])
def test_a_stopped_process_is_gone_on_with(
    run: Callable[..., tuple[int, list[str]]],
    start: Callable[..., subprocess.Popen[str]],
    tmp_path: Path,
    sent: signal.Signals,
    status: int,
    workers: str,
) -> None:
    stream = Stream()
    for number in range(6):
        stream += record(onsets=ONSETS, instrument=f"XX.S{number}..HH")
    folder = write_days(stream, tmp_path / "data")
    journal = tmp_path / "picks.csv.journal"
    process = start(folder, "--workers", workers)
    deadline = time.monotonic() + 60
    while finished(journal) < 2:
        assert process.poll() is None, process.stdout.read()
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(sent)
    told, _ = process.communicate(timeout=60)
    assert status == process.returncode, told
    if sent == signal.SIGINT:
        assert "! Picking: stopped - finished days are kept; repeat the command with --resume to continue\n! Stopped: by Ctrl-C\n" in told
        assert "Traceback" not in told
    assert 2 <= finished(journal) < 12
    assert not (tmp_path / "picks.csv").exists()
    assert 0 == run(folder, "--resume")[0]
    assert 0 == run(folder, "--out", "whole.csv")[0]
    assert (tmp_path / "whole.csv").read_bytes() == (tmp_path / "picks.csv").read_bytes()
    assert 30 == len(lines_of(tmp_path / "picks.csv"))
    assert {"data", "picks.csv", "picks.csv.json", "whole.csv", "whole.csv.json"} == {path.name for path in tmp_path.iterdir()}


# Real records, the shipped model


@pytest.mark.parametrize(
    ("folder", "runtime", "data"),
    [
        ("2019", "auto", "✓ Data: 5.3 hours - 4 stations, 4 instruments, 0 gaps"),
        ("2019/PB/B916", "onnxruntime", "✓ Data: 1.3 hours - 1 station, 1 instrument, 0 gaps"),
    ],
)
def test_the_number_of_workers_changes_no_byte(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sds: Path, folder: str, runtime: str, data: str
) -> None:
    monkeypatch.chdir(tmp_path)
    for workers in ("1", "4"):
        words = [str(sds / folder), "--model", "xiaonet-nano", "--runtime", runtime, "--out", f"{workers}.csv", "--workers", workers]
        result = CliRunner().invoke(cli.app, ["pick", *words], env={"COLUMNS": "250"})
        assert (0, True) == (result.exit_code, data in result.output), result.output
    assert (tmp_path / "1.csv").read_bytes() == (tmp_path / "4.csv").read_bytes()
    times = pd.read_csv(tmp_path / "1.csv")["time"]
    assert 200 < len(times)
    assert times.is_monotonic_increasing


# Help


def test_help_names_every_option_with_what_it_does() -> None:
    told = CliRunner().invoke(cli.app, ["pick", "--help"], env={"COLUMNS": "160", "NO_COLOR": "1", "TERM": "dumb"}).output
    assert re.search(r"^ *Usage: \S+ pick \[OPTIONS\] ", told, re.MULTILINE)
    assert "Pick P and S in continuous records." in told
    options = {"model", "threshold", "out", "from", "to", "stations", "components", "prefer", "plot", "workers", "runtime"}
    options |= {
        "cluster",
        "layout",
        "price",
        "shard",
        "not-centred",
        "stacking",
        "inventory",
        "deconvolve",
        "water-level",
        "corners",
        "prefilter",
        "resume",
        "drop-s-without-p",
        "quiet",
        "json",
        "help",
    }
    assert options == set(re.findall(r"^[│ ]+--([a-z-]+)", told, re.MULTILINE))
    assert "Exit status: 0 after picking, even if nothing was found; 1 after an error; 2 for a wrong option; 130 after Ctrl-C." in told
    for text in (
        "miniSEED files, globs, folders or SDS archives",
        "[default: picks.csv]",
        "Resume an interrupted run of the same command",
    ):
        assert text in told
    assert set(shipped_models()) == set(re.findall(r"xiaonet[a-z0-9-]*", re.search(r"The shipped models are (.*)\.", told)[1]))


def test_a_station_with_two_instruments_is_named_and_a_preference_picks_one(
    run: Callable[..., tuple[int, list[str]]], tmp_path: Path
) -> None:
    write(record(onsets={"Z": [0.0]}) + record(onsets={"Z": [0.0]}, instrument="XX.ABC..HN"), tmp_path / "data")
    named = "! Stations: XX.ABC: 2 instruments have data at the same time (XX.ABC..HH, XX.ABC..HN) - "
    status, lines = run("data")
    assert (0, 1) == (status, sum(line.startswith(named) for line in lines))
    assert ["XX.ABC..HHZ", "XX.ABC..HNZ"] == sorted(pd.read_csv("picks.csv")["seed_id"])
    status, lines = run("data", "--prefer", "BH,HN")
    assert (0, ["XX.ABC..HNZ"]) == (status, pd.read_csv("picks.csv")["seed_id"].tolist())
    assert "! Skipped: XX.ABC..HH: left out where XX.ABC..HN has data" in lines
    assert not any(line.startswith("! Stations") for line in lines)


def test_amplitudes_are_in_the_unit_of_the_sensor_and_say_so(run: Callable[..., tuple[int, list[str]]], data: Path) -> None:
    assert 0 == run(data)[0]
    plain = pd.read_csv("picks.csv")
    names = [f"XX.ABC..HH{component}" for component in "ENZ"]
    inventory_of(*(channel(name, response(1e8)) for name in names)).write("station.xml", "STATIONXML")
    status, lines = run(data, "--inventory", "station.xml")
    picks = pd.read_csv("picks.csv")
    assert (0, {"count"}) == (status, set(plain["amp_unit"]))
    assert plain.drop(columns=["amp", "amp_unit"]).equals(picks.drop(columns=["amp", "amp_unit"]))
    at_abc = picks["station"] == "XX.ABC."
    assert [{"m/s"}, {"count"}] == [set(picks["amp_unit"][rows]) for rows in (at_abc, ~at_abc)]
    assert (plain["amp"][at_abc] / 1e8).tolist() == pytest.approx(picks["amp"][at_abc].tolist())
    assert plain["amp"][~at_abc].tolist() == picks["amp"][~at_abc].tolist()
    assert any("YY.DEF.00.EHZ: not in the inventory; its amplitudes stay in counts" in line for line in lines)
    details = json.loads(Path("picks.csv.json").read_text())
    assert "divided by sensitivity" == details["provenance"]["amplitudes"]
    assert 3 == sum("not in the inventory" in warning for warning in details["warnings"])
    assert 0 == run(data, "--inventory", "station.xml", "--deconvolve", "--corners", "0.5,1,40,45", "--water-level", "40")[0]
    deconvolved = json.loads(Path("picks.csv.json").read_text())["provenance"]["amplitudes"]
    assert "deconvolved, water level 40 dB, pre-filter 0.5, 1, 40, 45 Hz" == deconvolved
    assert {"m/s"} == set(pd.read_csv("picks.csv")["amp_unit"][at_abc])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--inventory", "missing.xml"], "missing.xml cannot be read: No such file or directory"),
        (["--deconvolve"], "deconvolution needs the instrument responses"),
        (["--water-level", "60"], "--water-level and --corners are of --deconvolve; add it, or leave them out"),
        (["--deconvolve", "--corners", "low"], "--corners is 'low'; wanted four frequencies in Hz such as 0.5,1,40,45"),
        (["--deconvolve", "--corners", "1,2"], "the pre-filter is (1.0, 2.0); wanted four rising frequencies"),
    ],
)
def test_amplitudes_that_cannot_be_made_are_refused(
    run: Callable[..., tuple[int, list[str]]], data: Path, options: list[str], message: str
) -> None:
    status, lines = run(data, *options)
    assert (1, True) == (status, any(message in line for line in lines)), lines


def test_components_can_be_named(run: Callable[..., tuple[int, list[str]]], tmp_path: Path) -> None:
    stream = record(onsets={"Z": [0.0], "N": [3.0]})
    for trace, code in zip(stream, ("CHA", "CHB", "CHC"), strict=True):
        trace.stats.channel = code
    write(stream, tmp_path / "data")
    assert 1 == run("data")[0]
    assert 0 == run("data", "--components", "E=CHA,N=CHB,Z=CHC")[0]
    picks = pd.read_csv("picks.csv")
    assert [("P", "XX.ABC..CHC"), ("S", "XX.ABC..CHB")] == list(zip(picks["phase"], picks["seed_id"], strict=True))
    status, lines = run("data", "--components", "Q=CHA")
    assert (1, True) == (status, any("wanted a channel code for E, N and Z each" in line for line in lines))


def test_files_of_other_formats_are_picked_and_told_once(run: Callable[..., tuple[int, list[str]]], tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    stream = record(onsets={"Z": [0.0], "N": [3.0]})
    for trace in stream:
        trace.write(str(tmp_path / "data" / f"{trace.id}.sac"), "SAC")
    (tmp_path / "data" / "station.log").write_text("all is well\n" * 99)
    status, lines = run("data")
    assert (0, [("P", "XX.ABC..HHZ"), ("S", "XX.ABC..HHN")]) == (
        status,
        list(pd.read_csv("picks.csv")[["phase", "seed_id"]].itertuples(index=False, name=None)),
    )
    assert ["✓ Files: 3 of SAC are read by ObsPy - it takes longer than miniSEED"] == [line for line in lines if "SAC" in line]
    assert [f"! Skipped: {tmp_path / 'data' / 'station.log'}: no waveforms in miniSEED or in another format that ObsPy knows"] == [
        line for line in lines if "station.log" in line
    ]
