import csv
import errno
import itertools
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
import tracemalloc
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path
from threading import Event
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from obspy import Stream

from stand_in import MIDNIGHT, StandIn, record, write, write_days
from xiaonet import Picker
from xiaonet.apps import pick_archive as module
from xiaonet.apps.journal import Journal, Lock, TaskResult
from xiaonet.apps.pick_archive import first_tasks, pick_archive, plan
from xiaonet.errors import OutputError
from xiaonet.io import archive
from xiaonet.io.archive import Archive
from xiaonet.picking.annotation import Annotation
from xiaonet.picking.picks import Pick
from xiaonet.picking.quality import Quality
from xiaonet.picking.segments import Instrument

# Onsets in seconds after midnight, two of them at the edge of the day, by instrument.
ONSETS = {
    "XX.ABC..HH": {"Z": [-120.5, 0.0, 100.0], "N": [3.0, 104.25]},
    "XX.DEF.00.HH": {"Z": [-0.01, 102.0], "N": [2.5, 107.0]},
    "YY.ABC..EH": {"Z": [99.0]},
}


def picks_of(path: Path) -> list[tuple[float, str, str]]:
    """Seconds after midnight, channel and phase of each line, in order."""
    with path.open() as file:
        return [(round(float(row["time"]) - MIDNIGHT.timestamp, 6), row["seed_id"], row["phase"]) for row in csv.DictReader(file)]


EXPECTED = sorted(
    (second, instrument + component, "P" if component == "Z" else "S")
    for instrument, components in ONSETS.items()
    for component, seconds in components.items()
    for second in seconds
)


@pytest.fixture
def picker(monkeypatch: pytest.MonkeyPatch) -> Picker:
    monkeypatch.setattr("xiaonet.picker.load_predictor", lambda *_: StandIn())
    return Picker()


def quakes() -> Stream:
    return sum((record(onsets=onsets, instrument=instrument) for instrument, onsets in ONSETS.items()), Stream())


@pytest.fixture(scope="module")
def days(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An archive of three instruments around a midnight: six tasks; not to be changed."""
    return write_days(quakes(), tmp_path_factory.mktemp("days"))


def journal_of(out: Path) -> Path:
    return out.with_name(out.name + ".journal")


def results_in(journal: Path) -> list[tuple[str, str]]:
    """Keys and contents of the results in a journal, as another program reads them."""
    with closing(sqlite3.connect(journal)) as database:
        return database.execute("SELECT key, content FROM results ORDER BY rowid").fetchall()


def keep_results(journal: Path, content: bytes, number: int) -> None:
    """A journal with the first results of another."""
    journal.write_bytes(content)
    with closing(sqlite3.connect(journal)) as database, database:
        database.execute("DELETE FROM results WHERE rowid > ?", (number,))


# Picks


@pytest.mark.parametrize("workers", [1, 4])
def test_every_onset_is_picked_once_and_in_order_of_time(tmp_path: Path, picker: Picker, days: Path, workers: int) -> None:
    summary = pick_archive(Archive([days]), picker, tmp_path / "picks.csv", workers=workers)
    assert EXPECTED == picks_of(tmp_path / "picks.csv")
    assert (3, 3, 0.5, 0, {"P": 6, "S": 4}) == (summary.stations, summary.instruments, summary.hours, summary.gaps, summary.picks)
    assert ["picks.csv", "picks.csv.json"] == sorted(path.name for path in tmp_path.iterdir())


def one_file(folder: Path) -> None:
    write(quakes(), folder / "joined.mseed", 4096)


def alternating(folder: Path) -> None:
    queues = []
    for trace in quakes():
        raw = write(Stream([trace]), folder / "trace").read_bytes()
        queues.append([raw[at : at + 512] for at in range(0, len(raw), 512)])
    (folder / "trace").unlink()
    (folder / "joined.mseed").write_bytes(b"".join(raw for row in itertools.zip_longest(*queues, fillvalue=b"") for raw in row))


def many_files(folder: Path) -> None:
    for number, at in enumerate(range(-300, 300, 13)):
        write(quakes().slice(MIDNIGHT + at, MIDNIGHT + at + 12.99), folder / f"{number * 7 % 100}", 256)


def twice(folder: Path) -> None:
    one_file(folder)
    shutil.copy(folder / "joined.mseed", folder / "copy.mseed")
    many_files(folder)


@pytest.mark.parametrize("cut", [one_file, alternating, many_files, twice])
@pytest.mark.parametrize("kind", ["csv", "xml", "parquet"])
def test_the_cut_into_files_changes_no_byte_of_the_picks(
    tmp_path: Path, picker: Picker, days: Path, cut: Callable[[Path], None], kind: str
) -> None:
    (tmp_path / "data").mkdir()
    cut(tmp_path / "data")
    for folder, name in ((days, "days"), (tmp_path / "data", "cut")):
        pick_archive(Archive([folder]), picker, tmp_path / f"{name}.{kind}")
    assert (tmp_path / f"days.{kind}").read_bytes() == (tmp_path / f"cut.{kind}").read_bytes()


def test_only_the_time_that_was_asked_for_is_picked_as_in_the_whole(tmp_path: Path, picker: Picker, days: Path) -> None:
    pick_archive(Archive([days]), picker, tmp_path / "all.csv")
    summary = pick_archive(Archive([days], MIDNIGHT.ns, (MIDNIGHT + 102).ns), picker, tmp_path / "some.csv")
    assert [pick for pick in EXPECTED if 0 <= pick[0] < 102] == picks_of(tmp_path / "some.csv")
    lines = (tmp_path / "all.csv").read_text().splitlines()
    assert set((tmp_path / "some.csv").read_text().splitlines()) < set(lines)
    assert (3 * 102 / 3600, 0) == (pytest.approx(summary.hours, abs=1e-6), summary.gaps)


def test_a_task_is_a_day_of_an_instrument(days: Path) -> None:
    tasks = plan(Archive([days]))
    assert [300.0] * 6 == [task.seconds for task in tasks]
    assert 6 == len({task.key for task in tasks})
    assert [f"XX.ABC..HH 100 Hz {(MIDNIGHT + start).ns}" for start in (-300, 0)] == [task.key for task in tasks[:2]]


def test_a_lone_record_of_another_century_is_no_work_for_decades(tmp_path: Path) -> None:
    write(record(MIDNIGHT, 20) + record(MIDNIGHT + 50 * 365 * 86400, 20), tmp_path / "file")
    assert [20.0, 20.0] == [task.seconds for task in plan(Archive([tmp_path / "file"]))]


# Summary


def test_gaps_are_counted_where_data_stop_and_go_on(tmp_path: Path, picker: Picker) -> None:
    stream = Stream()
    for start, end in ((-300, -200), (-199.7, -60), (-30, 90), (200, 300)):  # the first is bridged
        stream += record().slice(MIDNIGHT + start, MIDNIGHT + end - 0.01)
    found = Archive([write(stream, tmp_path / "file")])
    summary = pick_archive(found, picker, tmp_path / "picks.csv")
    assert (2, 1, 1) == (summary.gaps, summary.stations, summary.instruments)
    assert 100 + 139.7 + 120 + 100 == pytest.approx(3600 * summary.hours, abs=0.02)  # a bridge is not data
    assert (1, 30) == (summary.quality.bridges, summary.quality.bridged)
    # From within the data on, there is one gap less before, and none where the time that was asked for begins.
    for first, gaps in ((-250, 2), (-100, 2), (-45, 1), (0, 1), (250, 0)):
        part = Archive([tmp_path / "file"], (MIDNIGHT + first).ns)
        assert gaps == pick_archive(part, picker, tmp_path / "picks.csv").gaps


def test_a_gap_at_midnight_is_one_gap(tmp_path: Path, picker: Picker) -> None:
    stream = record().slice(MIDNIGHT - 300, MIDNIGHT - 6.01) + record().slice(MIDNIGHT + 6)
    summary = pick_archive(Archive([write(stream, tmp_path / "file")]), picker, tmp_path / "picks.csv")
    assert (1, 588) == (summary.gaps, pytest.approx(3600 * summary.hours))


def test_locations_and_rates_are_instruments_of_one_station(tmp_path: Path, picker: Picker) -> None:
    stream = record(seconds=60) + record(seconds=60, instrument="XX.ABC.00.BH")
    for trace in stream[3:]:
        trace.stats.sampling_rate = 50.0
    summary = pick_archive(Archive([write(stream, tmp_path / "file")]), picker, tmp_path / "picks.csv")
    assert (1, 2, pytest.approx(3 / 60, abs=1e-4)) == (summary.stations, summary.instruments, summary.hours)


def test_progress_adds_up_to_the_whole(tmp_path: Path, picker: Picker, days: Path) -> None:
    told: list[tuple[float, bool]] = []
    pick_archive(Archive([days]), picker, tmp_path / "picks.csv", on_progress=lambda seconds, fresh=True: told.append((seconds, fresh)))
    assert (1800, {True}) == (sum(seconds for seconds, _ in told), {fresh for _, fresh in told})


def test_every_chunk_is_shown_to_who_draws(tmp_path: Path, picker: Picker, days: Path) -> None:
    shown: list[tuple[str, int]] = []

    def count(task: module.Task, seen: Annotation, found: list[object]) -> None:
        shown.append((task.key, len(found)))

    pick_archive(Archive([days]), picker, tmp_path / "picks.csv", on_chunk=count)
    assert [task.key for task in plan(Archive([days]))] == [key for key, _ in shown]
    assert [1, 4, 1, 3, 0, 1] == [number for _, number in shown]


# Stations one after the other


STATIONS = [f"XX.S{number}..HH" for number in range(8)]


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is scanned and picked, in order."""
    steps: list[str] = []
    scan, annotate_chunk = archive.scan, Picker.annotate_chunk
    monkeypatch.setattr(archive, "scan", lambda path, *others: steps.append(path.name) or scan(path, *others))
    monkeypatch.setattr(
        Picker, "annotate_chunk", lambda self, instrument, *rest: steps.append("picked") or annotate_chunk(self, instrument, *rest)
    )
    return steps


@pytest.mark.parametrize("workers", [1, 2])
def test_picking_begins_before_all_files_are_scanned(tmp_path: Path, picker: Picker, steps: list[str], workers: int) -> None:
    for instrument in STATIONS:
        write_days(record(MIDNIGHT, 60, instrument=instrument), tmp_path / "sds")
    planned: list[tuple[str, float]] = []
    pick_archive(
        Archive([tmp_path / "sds"]),
        picker,
        tmp_path / "picks.csv",
        workers=workers,
        on_station=lambda instruments, more: planned.append((instruments[0].name, more)),
    )
    assert [(instrument, 60.0 - 86400.0) for instrument in STATIONS] == planned
    files = [step for step in steps if step != "picked"]
    assert (8, 24, 24) == (steps.count("picked"), len(files), len({*files}))
    assert steps.index("picked") <= 3 * (2 * workers + 1)  # files of the stations that wait, and of the next one


def test_results_are_written_while_stations_without_data_are_scanned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, picker: Picker
) -> None:
    write_days(record(MIDNIGHT, 60, instrument="XX.AAA..HH"), tmp_path / "sds")
    for number in range(5):
        write_days(record(MIDNIGHT, 60, instrument=f"XX.S{number}..HH"), tmp_path / "sds")
    written, of_station = Event(), Archive.of_station
    add = Journal.add

    def slow(found: Archive, station: str, *rest: Any) -> list[Instrument]:
        instruments = of_station(found, station, *rest)
        if station == "XX.AAA":
            return instruments
        assert written.wait(60)
        return []

    monkeypatch.setattr(Archive, "of_station", slow)
    monkeypatch.setattr(Journal, "add", lambda journal, result: add(journal, result) or written.set())
    pick_archive(Archive([tmp_path / "sds"]), picker, tmp_path / "picks.csv")
    assert written.is_set()


def plain(source: Path, folder: Path) -> Path:
    """The same files under names that tell nothing."""
    folder.mkdir()
    for number, path in enumerate(sorted(path for path in source.rglob("*") if path.is_file())):
        shutil.copy(path, folder / f"{number}")
    return folder


@pytest.fixture(scope="module")
def misnamed(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """SDS archives of three stations in which each file has the name of any other one."""
    folders = []
    for seed in range(6):
        folder = tmp_path_factory.mktemp("misnamed")
        paths = sorted(path for path in write_days(quakes(), folder).rglob("*") if path.is_file())
        contents = [path.read_bytes() for path in paths]
        for path, place in zip(paths, random.Random(seed).sample(range(len(paths)), len(paths)), strict=True):
            path.write_bytes(contents[place])
        folders.append(folder)
    return folders


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("workers", [1, 3])
def test_names_that_are_wrong_change_no_byte_of_the_picks(
    tmp_path: Path, picker: Picker, misnamed: list[Path], seed: int, workers: int
) -> None:
    expected = pick_archive(Archive([plain(misnamed[seed], tmp_path / "plain")]), picker, tmp_path / "plain.csv")
    found = Archive([misnamed[seed]])
    summary = pick_archive(found, picker, tmp_path / "picks.csv", workers=workers)
    assert (tmp_path / "plain.csv").read_bytes() == (tmp_path / "picks.csv").read_bytes()
    assert EXPECTED == picks_of(tmp_path / "picks.csv")
    told = [problem for problem in found.problems if ", but its name says " in problem]
    assert len(told) > 6
    summary = replace(summary, problems=[problem for problem in summary.problems if problem not in told])
    assert expected == summary


@pytest.mark.parametrize("lines", range(1, 9))
def test_names_that_are_wrong_change_nothing_after_a_stop(tmp_path: Path, picker: Picker, misnamed: list[Path], lines: int) -> None:
    pick_archive(Archive([plain(misnamed[0], tmp_path / "plain")]), picker, tmp_path / "plain.csv")
    out = tmp_path / "picks.csv"
    for _ in range(2):
        stop_after(Archive([misnamed[0]]), picker, out, lines)
    pick_archive(Archive([misnamed[0]]), picker, out, resume=True)
    assert (tmp_path / "plain.csv").read_bytes() == out.read_bytes()


def stop_after(found: Archive, picker: Picker, out: Path, number: int) -> None:
    """Pick until so many results were added, or to the end."""
    add, added = Journal.add, 0

    def count(journal: Journal, result: TaskResult) -> None:
        nonlocal added
        add(journal, result)
        added += 1
        if added == number:
            raise StoppedError

    with pytest.MonkeyPatch.context() as patch, suppress(StoppedError):
        patch.setattr(Journal, "add", count)
        pick_archive(found, picker, out, resume=True)


def test_results_of_a_station_can_be_forgotten(tmp_path: Path) -> None:
    quality = Quality(recorded=100)
    with Journal(tmp_path / "picks.csv", "f", False) as journal:
        for station in ("XX.AB", "XX.ABC"):
            for day in (1, 2):
                journal.add(TaskResult(f"{station}..HH 100 Hz {day}", [], quality, {f"{station}..HHZ": quality}))
        journal.forget(["XX.AB"])
        assert ["XX.ABC..HH 100 Hz 1", "XX.ABC..HH 100 Hz 2"] == [*journal.counts] == [key for key, _ in results_in(journal.path)]
        assert {"XX.ABC..HHZ": quality + quality} == journal.channels
        journal.add(TaskResult("XX.AB..HH 100 Hz 1", [], quality, {"XX.AB..HHZ": quality}))
        assert (3, quality) == (len(results_in(journal.path)), journal.channels["XX.AB..HHZ"])


# Resuming


class StoppedError(Exception):
    """What ends a run in these tests."""


def stop(found: Archive, picker: Picker, out: Path, lines: int, error: type[BaseException] = StoppedError, workers: int = 1) -> None:
    """Pick until so many results are in the journal."""
    add = Journal.add

    def count(journal: Journal, result: TaskResult) -> None:
        add(journal, result)
        if lines <= len(journal.counts):
            raise error

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Journal, "add", count)
        with pytest.raises(error):
            pick_archive(found, picker, out, workers=workers)


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("lines", [1, 2, 5, 6])
def test_a_run_that_was_stopped_ends_with_the_same_file(tmp_path: Path, picker: Picker, days: Path, lines: int, workers: int) -> None:
    expected = pick_archive(Archive([days]), picker, tmp_path / "whole.csv")
    out = tmp_path / "picks.csv"
    stop(Archive([days]), picker, out, lines, KeyboardInterrupt, workers=workers)
    assert not out.exists()
    told: list[tuple[float, bool]] = []
    summary = pick_archive(
        Archive([days]), picker, out, workers=workers, resume=True, on_progress=lambda seconds, fresh=True: told.append((seconds, fresh))
    )
    assert expected == summary
    assert (tmp_path / "whole.csv").read_bytes() == out.read_bytes()
    assert (300 * lines, False) == told[0]
    assert (1800, {True}) == (sum(seconds for seconds, _ in told), {fresh for _, fresh in told[1:]} or {True})
    assert not journal_of(out).exists()


@pytest.fixture(scope="module")
def stopped(days: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, bytes]:
    """The journal of a run when all is done but the file is not written, and the file."""
    folder = tmp_path_factory.mktemp("stopped")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("xiaonet.picker.load_predictor", lambda *_: StandIn())
        pick_archive(Archive([days]), Picker(), folder / "picks.csv")
        patch.setattr(module, "write_picks", lambda *_: (_ for _ in ()).throw(StoppedError))
        with pytest.raises(StoppedError):
            pick_archive(Archive([days]), Picker(), folder / "other.csv")
    return journal_of(folder / "other.csv").read_bytes(), (folder / "picks.csv").read_bytes()


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_journal_torn_at_any_byte_is_resumed(
    tmp_path: Path, picker: Picker, days: Path, stopped: tuple[bytes, bytes], data: st.DataObject
) -> None:
    journal, expected = stopped
    kept = data.draw(st.one_of(st.integers(0, len(journal)), st.integers(0, len(journal) // 512).map(lambda sectors: 512 * sectors)))
    lost = data.draw(st.sampled_from([0, 100, 4096, len(journal)]))
    out = tmp_path / "picks.csv"
    # A disk that lost power may have the length of what was written but not its bytes.
    journal_of(out).write_bytes(journal[:kept] + b"\0" * min(lost, len(journal) - kept))
    pick_archive(Archive([days]), picker, out, resume=True)
    assert expected == out.read_bytes()
    assert not journal_of(out).exists()


@pytest.mark.parametrize("kept", [0, 20, 3000, -1, -40, -4096])
def test_a_torn_journal_is_whole_again_after_an_interrupted_resume(
    tmp_path: Path, picker: Picker, days: Path, stopped: tuple[bytes, bytes], kept: int
) -> None:
    journal, expected = stopped
    out = tmp_path / "picks.csv"
    journal_of(out).write_bytes(journal[:kept])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "write_picks", lambda *_: (_ for _ in ()).throw(StoppedError))
        with pytest.raises(StoppedError):
            pick_archive(Archive([days]), picker, out, resume=True)
    (tmp_path / "whole").write_bytes(journal)
    assert sorted(results_in(tmp_path / "whole")) == sorted(results_in(journal_of(out)))
    pick_archive(Archive([days]), picker, out, resume=True)
    assert expected == out.read_bytes()


def test_a_result_with_a_flipped_bit_is_computed_again(tmp_path: Path, picker: Picker, days: Path, stopped: tuple[bytes, bytes]) -> None:
    journal, expected = stopped
    damaged = bytearray(journal)
    damaged[journal.rindex(b"XX.ABC..HHN")] ^= 1
    journal_of(tmp_path / "picks.csv").write_bytes(damaged)
    pick_archive(Archive([days]), picker, tmp_path / "picks.csv", resume=True)
    assert expected == (tmp_path / "picks.csv").read_bytes()


def test_nothing_is_done_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, picker: Picker, days: Path, stopped: tuple[bytes, bytes]
) -> None:
    journal, expected = stopped
    out = tmp_path / "picks.csv"
    keep_results(journal_of(out), journal, 3)
    seen: list[str] = []
    annotate_chunk = Picker.annotate_chunk
    monkeypatch.setattr(
        Picker, "annotate_chunk", lambda self, instrument, *rest: seen.append(instrument.name) or annotate_chunk(self, instrument, *rest)
    )
    pick_archive(Archive([days]), picker, out, resume=True)
    assert ["XX.DEF.00.HH", "YY.ABC..EH", "YY.ABC..EH"] == seen
    assert expected == out.read_bytes()


def test_what_was_skipped_before_the_stop_is_reported_after_it(tmp_path: Path, picker: Picker, days: Path) -> None:
    shutil.copytree(days, tmp_path / "days")
    spoiled = sorted(path for path in (tmp_path / "days").rglob("*.2020.*") if path.is_file())[:3:2]
    for path in spoiled:
        raw = bytearray(path.read_bytes())
        raw[10 * 512 + 200 : 10 * 512 + 210] = b"something!"
        path.write_bytes(raw)
    pick_archive(whole := Archive([tmp_path / "days"]), picker, tmp_path / "whole.csv")
    assert spoiled == [Path(problem.partition(":")[0]) for problem in whole.problems]
    stop(Archive([tmp_path / "days"]), picker, tmp_path / "picks.csv", 2)
    pick_archive(found := Archive([tmp_path / "days"]), picker, tmp_path / "picks.csv", resume=True)
    assert whole.problems == found.problems


class CountingDict(dict[str, None]):
    """Counts how often a key is looked up."""

    lookups = 0

    def __contains__(self, key: object) -> bool:
        self.lookups += 1
        return super().__contains__(key)


def test_a_problem_is_looked_up_once_and_not_after_each_task(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, picker: Picker, days: Path
) -> None:
    shutil.copytree(days, tmp_path / "days")
    empty = [tmp_path / "days" / f"{number:03}" for number in range(200)]
    for path in empty:
        path.touch()
    told = CountingDict()
    contents: list[list[str]] = []
    start, add = Journal.__init__, Journal.add

    def count(journal: Journal, *arguments: Any) -> None:
        start(journal, *arguments)
        journal.problems = told

    monkeypatch.setattr(Journal, "__init__", count)
    monkeypatch.setattr(Journal, "add", lambda journal, result: contents.append(result.problems) or add(journal, result))
    pick_archive(Archive([tmp_path / "days"]), picker, tmp_path / "picks.csv")
    expected = [f"{path}: empty" for path in empty]
    assert [expected, [], [], [], [], []] == contents
    assert (200, expected) == (told.lookups, list(told))


@pytest.mark.parametrize("change", ["threshold", "time", "stations", "file", "model"])
def test_a_journal_of_another_run_is_refused(tmp_path: Path, picker: Picker, days: Path, change: str) -> None:
    shutil.copytree(days, tmp_path / "days")
    out = tmp_path / "picks.csv"
    stop(Archive([tmp_path / "days"]), picker, out, 1)
    before = journal_of(out).read_bytes()
    other, found = Picker(threshold=0.7 if change == "threshold" else None), Archive([tmp_path / "days"])
    if change == "time":
        found = Archive([tmp_path / "days"], (MIDNIGHT - 200).ns)
    elif change == "stations":
        found = Archive([tmp_path / "days"], stations=["XX.*"])
    elif change == "file":
        path = next(path for path in (tmp_path / "days").rglob("*HHZ.D.2020.259"))
        path.write_bytes(path.read_bytes()[:-512])
        found = Archive([tmp_path / "days"])
    elif change == "model":
        other.predictor.digest = "1" * 64
    with pytest.raises(OutputError, match="was made from other files or with other settings; repeat the command as it was, or delete"):
        pick_archive(found, other, out, resume=True)
    assert before == journal_of(out).read_bytes()


def test_a_journal_is_not_written_over(tmp_path: Path, picker: Picker, days: Path) -> None:
    journal_of(tmp_path / "picks.csv").write_text("an earlier run's")
    with pytest.raises(
        OutputError, match=r"picks\.csv\.journal exists: an earlier run was interrupted; continue it with --resume, or delete"
    ):
        pick_archive(Archive([days]), picker, tmp_path / "picks.csv")
    assert "an earlier run's" == journal_of(tmp_path / "picks.csv").read_text()


def test_without_a_journal_resume_starts(tmp_path: Path, picker: Picker, days: Path) -> None:
    pick_archive(Archive([days]), picker, tmp_path / "picks.csv", resume=True)
    assert EXPECTED == picks_of(tmp_path / "picks.csv")
    assert ["picks.csv", "picks.csv.json"] == sorted(path.name for path in tmp_path.iterdir())


def test_an_older_file_stays_until_all_is_done(tmp_path: Path, picker: Picker, days: Path) -> None:
    out = tmp_path / "picks.csv"
    out.write_text("older")
    stop(Archive([days]), picker, out, 5)
    assert "older" == out.read_text()
    pick_archive(Archive([days]), picker, out, resume=True)
    assert EXPECTED == picks_of(out)


def test_the_first_days_are_found_where_all_names_of_files_are_wrong(tmp_path: Path) -> None:
    for number, trace in enumerate(record(MIDNIGHT, 60, instrument="XX.ZZZ..HH")):
        write(Stream([trace]), tmp_path / f"XX.ABC..HHZ.D.2020.26{number}")
    assert ["XX.ZZZ..HH"] == [task.instrument.name for task in first_tasks(Archive([tmp_path]), 2)]


def test_results_that_come_at_the_moment_of_a_failure_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, picker: Picker, days: Path
) -> None:
    """Both workers end, one of them with an error, before their results are looked at."""
    wait, pick_task = module.wait, module.pick_task
    tasks = itertools.count()

    def fail_at_second(*arguments: Any) -> TaskResult:
        if next(tasks) == 1:
            raise ZeroDivisionError
        return pick_task(*arguments)

    def wait_for_all(waited: set[Any], return_when: str) -> Any:
        return wait(waited, return_when="ALL_COMPLETED")

    monkeypatch.setattr(module, "pick_task", fail_at_second)
    monkeypatch.setattr(module, "wait", wait_for_all)
    with pytest.raises(ZeroDivisionError):
        pick_archive(Archive([days]), picker, tmp_path / "picks.csv", workers=2)
    assert results_in(journal_of(tmp_path / "picks.csv"))


def test_a_worker_that_fails_ends_the_run_and_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, picker: Picker, days: Path
) -> None:
    out, read_picks = tmp_path / "picks.csv", Picker.read_picks

    def fail(self: Picker, seen: Annotation, instrument: object, segment: object) -> list[object]:
        if instrument.name == "YY.ABC..EH":
            raise ZeroDivisionError
        return read_picks(self, seen, instrument, segment)

    with monkeypatch.context() as patch:
        patch.setattr(Picker, "read_picks", fail)
        with pytest.raises(ZeroDivisionError):
            pick_archive(Archive([days]), picker, out)
    assert 4 == len(results_in(journal_of(out)))
    pick_archive(Archive([days]), picker, out, resume=True)
    assert EXPECTED == picks_of(out)


def test_workers_leave_soon_after_an_interruption(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, picker: Picker) -> None:
    path = write(record(MIDNIGHT, 4 * 3600), tmp_path / "file")  # four chunks of a day that is never finished
    begun, calls = threading.Event(), []
    annotate_chunk = Picker.annotate_chunk

    def slow(self: Picker, *arguments: object) -> Annotation:
        calls.append(arguments)
        begun.set()
        return annotate_chunk(self, *arguments)

    def interrupted(*_: object, **__: object) -> None:
        begun.wait(20)
        raise KeyboardInterrupt

    monkeypatch.setattr(Picker, "annotate_chunk", slow)
    monkeypatch.setattr(module, "wait", interrupted)
    with pytest.raises(KeyboardInterrupt):
        pick_archive(Archive([path]), picker, tmp_path / "picks.csv")
    assert len(calls) < 4
    assert [] == results_in(journal_of(tmp_path / "picks.csv"))


# Disks


def test_a_folder_that_is_not_there_is_named(tmp_path: Path, picker: Picker, days: Path) -> None:
    with pytest.raises(OutputError, match=r"missing/picks\.csv\.journal cannot be written: .* choose a folder that exists"):
        pick_archive(Archive([days]), picker, tmp_path / "missing" / "picks.csv")


def test_a_folder_that_may_not_be_written_to_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, picker: Picker, days: Path) -> None:
    path_open = Path.open

    def refuse(path: Path, *arguments: object, **options: object) -> object:
        if path.name.endswith(".journal"):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return path_open(path, *arguments, **options)

    monkeypatch.setattr(Path, "open", refuse)  # root may write to any folder
    with pytest.raises(OutputError, match=r"picks\.csv\.journal cannot be written: Permission denied; choose another place"):
        pick_archive(Archive([days]), picker, tmp_path / "picks.csv")


@pytest.mark.parametrize("share", [0.0, 0.01, 0.2, 0.6, 0.99])
def test_a_disk_that_fills_up_under_the_journal_loses_nothing(
    tmp_path: Path, picker: Picker, days: Path, stopped: tuple[bytes, bytes], write_limit: Callable[[int], None], share: float
) -> None:
    journal, expected = stopped
    out, found = tmp_path / "picks.csv", Archive([days])
    write_limit(int(share * len(journal)))
    with pytest.raises(
        OutputError,
        match=r"picks\.csv(\.journal)? cannot be written: (disk I/O error|database or disk is full|unable to open)",
    ):
        pick_archive(found, picker, out)
    write_limit(10**7)
    assert not out.exists()
    pick_archive(Archive([days]), picker, out, resume=True)
    assert expected == out.read_bytes()


def test_a_disk_that_is_full_at_the_end_loses_nothing(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    picker: Picker,
    days: Path,
    stopped: tuple[bytes, bytes],
    write_limit: Callable[[int], None],
) -> None:
    journal, expected = stopped
    out = tmp_path / "picks.csv"
    out.write_text("older")
    journal_of(out).write_bytes(journal)
    found, write_picks = Archive([days]), module.write_picks

    def write_to_a_full_disk(*arguments: Any) -> int:
        write_limit(len(expected) // 2)
        return write_picks(*arguments)

    monkeypatch.setattr(module, "write_picks", write_to_a_full_disk)
    with pytest.raises(
        OutputError, match=r"picks\.csv could not be written: .*all picks are kept in .*picks\.csv\.journal: continue with --resume"
    ):
        pick_archive(found, picker, out, resume=True)
    monkeypatch.setattr(module, "write_picks", write_picks)
    write_limit(10**7)
    assert ("older", journal) == (out.read_text(), journal_of(out).read_bytes())
    assert 2 == len(list(tmp_path.iterdir()))
    pick_archive(Archive([days]), picker, out, resume=True)
    assert expected == out.read_bytes()


def test_a_result_is_on_disk_before_the_next_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, picker: Picker, days: Path
) -> None:
    found: list[int] = []
    add = Journal.add

    def count(journal: Journal, result: TaskResult) -> None:
        add(journal, result)
        found.append(len(results_in(journal.path)))
        assert (2,) == journal._database.execute("PRAGMA synchronous").fetchone()  # FULL: it waits for the disk

    monkeypatch.setattr(Journal, "add", count)
    pick_archive(Archive([days]), picker, tmp_path / "picks.csv")
    assert [1, 2, 3, 4, 5, 6] == found


def test_a_pick_comes_back_from_the_journal_as_it_was(tmp_path: Path, picker: Picker, days: Path, stopped: tuple[bytes, bytes]) -> None:
    found = Archive([days])
    picks = [
        pick
        for task in plan(found)
        for segment, first, end in task.ranges
        for pick in picker.read_picks(picker.annotate_chunk(task.instrument, segment, first, end), task.instrument, segment)
    ]
    out = tmp_path / "picks.csv"
    journal_of(out).write_bytes(stopped[0])
    with closing(sqlite3.connect(journal_of(out))) as database:
        [(fingerprint,)] = database.execute("SELECT fingerprint FROM run").fetchall()
    with Journal(out, fingerprint, resume=True) as kept:
        assert sorted(picks) == list(kept.picks([task.key] for task in plan(found)))


def test_a_file_that_went_before_the_start_is_no_crash(tmp_path: Path, picker: Picker, days: Path) -> None:
    shutil.copytree(days, tmp_path / "days")
    found = Archive([tmp_path / "days"])
    gone = next(path for path in (tmp_path / "days").rglob("YY.ABC..EHE.D.2020.258"))
    gone.unlink()
    pick_archive(found, picker, tmp_path / "picks.csv")
    assert EXPECTED == picks_of(tmp_path / "picks.csv")  # E is not what the stand-in looks at
    assert [f"{gone}: cannot be read: No such file or directory"] == list(found.problems)


def test_the_journal_and_the_picks_in_the_folder_itself_disturb_nothing(tmp_path: Path, picker: Picker, days: Path) -> None:
    shutil.copytree(days, tmp_path / "days")
    out = tmp_path / "days" / "picks.csv"
    out.write_text("older\n")
    stop(Archive([tmp_path / "days"]), picker, out, 2)
    pick_archive(Archive([tmp_path / "days"]), picker, out, resume=True)
    assert EXPECTED == picks_of(out)


# Two runs on one output

PICK_SLOWLY = """
import sys, time
from pathlib import Path
sys.path.insert(0, {tests!r})
from stand_in import StandIn
import xiaonet.picker
xiaonet.picker.load_predictor = lambda *_: StandIn()
from xiaonet.apps.journal import Journal
from xiaonet.apps.pick_archive import pick_archive
from xiaonet.io import archive
from xiaonet.io.archive import Archive
{before}
add = Journal.add
def slow(journal, result):
    add(journal, result)
    print(len(journal.counts), flush=True)
    time.sleep({pause})
Journal.add = slow
pick_archive(Archive([{days!r}]), xiaonet.picker.Picker(), Path({out!r}))
"""


def start(days: Path, out: Path, pause: float, *, before: str = "") -> subprocess.Popen[str]:
    """A process that picks, and prints how many results are in the journal."""
    code = PICK_SLOWLY.format(before=before, tests=str(Path(__file__).parents[1]), days=str(days), out=str(out), pause=pause)
    return subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.parametrize("resume", [False, True])
def test_a_second_run_is_refused_and_the_first_one_finishes(tmp_path: Path, picker: Picker, days: Path, resume: bool) -> None:
    out = tmp_path / "picks.csv"
    with start(days, out, 0.5) as first:
        assert "1\n" == first.stdout.readline()
        message = rf"picks\.csv is being written by process {first.pid} on .* since \d{{4}}-.* UTC; wait for it, or choose another --out"
        with pytest.raises(OutputError, match=message):
            pick_archive(Archive([days]), picker, out, resume=resume)
        first.stdout.read()
    assert 0 == first.returncode
    assert EXPECTED == picks_of(out)
    assert ["picks.csv", "picks.csv.json"] == sorted(path.name for path in tmp_path.iterdir())


def test_a_journal_deleted_while_it_is_written_loses_nothing(tmp_path: Path, picker: Picker, days: Path) -> None:
    out = tmp_path / "picks.csv"
    pick_archive(Archive([days]), picker, tmp_path / "whole.csv")
    with start(days, out, 0.3) as first:
        assert "2\n" == [first.stdout.readline() for _ in range(2)][1]
        journal_of(out).unlink()
        while "4\n" != first.stdout.readline():
            pass
        first.send_signal(signal.SIGKILL)
    assert 4 <= len(results_in(journal_of(out)))  # those from before it was deleted, too
    pick_archive(Archive([days]), picker, out, resume=True)
    assert (tmp_path / "whole.csv").read_bytes() == out.read_bytes()


@pytest.mark.parametrize("seconds", [0.0, 0.05, 0.12])
def test_a_killed_run_is_resumed_and_leaves_no_lock(tmp_path: Path, picker: Picker, days: Path, seconds: float) -> None:
    out = tmp_path / "picks.csv"
    pick_archive(Archive([days]), picker, tmp_path / "whole.csv")
    with start(days, out, 0.05) as first:
        first.stdout.readline()
        time.sleep(seconds)
        first.send_signal(signal.SIGKILL)
    pick_archive(Archive([days]), picker, out, resume=True)
    assert (tmp_path / "whole.csv").read_bytes() == out.read_bytes()
    assert {"picks.csv", "picks.csv.json", "whole.csv", "whole.csv.json"} == {path.name for path in tmp_path.iterdir()}


def test_a_lock_is_free_after_its_release(tmp_path: Path) -> None:
    first, second = Lock(tmp_path / "picks.csv"), Lock(tmp_path / "picks.csv")
    assert (True, False) == (first.acquire(), second.acquire())
    assert first.holder == second.holder
    first.release()
    assert second.acquire()
    second.release()
    assert [] == list(tmp_path.iterdir())


def test_a_lock_whose_file_was_replaced_while_it_was_opened_is_taken_from_the_new_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second, third = (Lock(tmp_path / "picks.csv") for _ in range(3))
    connect, opened = sqlite3.connect, []

    def slowly(*arguments: Any, **options: Any) -> sqlite3.Connection:
        database = connect(*arguments, **options)
        if not opened:
            opened.append(database.execute("SELECT name FROM holder").fetchall())  # opens the file
            first.release()
            assert third.acquire()
        return database

    assert first.acquire()
    monkeypatch.setattr(sqlite3, "connect", slowly)
    assert not second.acquire()
    third.release()
    assert second.acquire()
    second.release()


def test_a_run_that_is_refused_while_another_finishes_leaves_no_journal(tmp_path: Path, picker: Picker, days: Path) -> None:
    lock = Lock(tmp_path / "picks.csv")
    assert lock.acquire()  # its journal is deleted already
    with pytest.raises(OutputError, match=r"picks\.csv is being written by process"):
        pick_archive(Archive([days]), picker, tmp_path / "picks.csv")
    lock.release()
    assert [] == list(tmp_path.iterdir())
    pick_archive(Archive([days]), picker, tmp_path / "picks.csv")
    assert EXPECTED == picks_of(tmp_path / "picks.csv")


def test_of_two_runs_started_together_one_is_refused(tmp_path: Path, days: Path) -> None:
    out = tmp_path / "picks.csv"
    with start(days, out, 0.6) as first, start(days, out, 0.6) as second:
        told = [process.communicate()[1] for process in (first, second)]
    assert [0, 1] == sorted((first.returncode, second.returncode)), told
    assert "OutputError" in told[first.returncode == 0], told
    assert EXPECTED == picks_of(out)
    assert ["picks.csv", "picks.csv.json"] == sorted(path.name for path in tmp_path.iterdir())


def test_a_run_killed_while_it_writes_the_picks_is_resumed_and_leaves_nothing(tmp_path: Path, picker: Picker, days: Path) -> None:
    out = tmp_path / "picks.csv"
    pick_archive(Archive([days]), picker, tmp_path / "whole.csv")
    stall = """
from xiaonet.io import picks
def write(found, file, provenance):
    file.write(b"half a file")
    file.flush()
    print("writing", flush=True)
    time.sleep(60)
picks._WRITERS = {".csv": write}
"""
    with start(days, out, 0.0, before=stall) as first:
        while "writing\n" != first.stdout.readline():
            pass
        first.send_signal(signal.SIGKILL)
    assert {"picks.csv.journal", "whole.csv", ".picks.csv.lock"} < {path.name for path in tmp_path.iterdir()}  # and the half file
    pick_archive(Archive([days]), picker, out, resume=True)
    assert (tmp_path / "whole.csv").read_bytes() == out.read_bytes()
    assert {"picks.csv", "picks.csv.json", "whole.csv", "whole.csv.json"} == {path.name for path in tmp_path.iterdir()}


def test_a_deleted_journal_is_written_again_with_all_results(tmp_path: Path) -> None:
    out = tmp_path / "picks.csv"
    with Journal(out, "fingerprint", resume=False) as journal:
        for key in "abcd":
            journal.add(TaskResult(key, []))
            assert key == results_in(journal.path)[-1][0]
            journal.path.unlink()
            if key == "c":
                journal.path.write_bytes(b"")  # somebody put another file there
    assert not journal.path.exists()  # it was deleted after the last result
    with Journal(out, "fingerprint", resume=True) as journal:
        assert {} == journal.counts  # it was deleted: this one is new


def test_a_journal_deleted_before_the_picks_could_not_be_written_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, picker: Picker, days: Path
) -> None:
    out = tmp_path / "picks.csv"

    def fail(*_: object) -> None:
        journal_of(out).unlink()
        raise OutputError("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(module, "write_picks", fail)
        with pytest.raises(OutputError, match="the disk is full; all picks are kept"):
            pick_archive(Archive([days]), picker, out)
    assert 6 == len(results_in(journal_of(out)))
    pick_archive(Archive([days]), picker, out, resume=True)
    assert EXPECTED == picks_of(out)


def test_a_long_journal_is_read_in_little_memory(tmp_path: Path) -> None:
    out = tmp_path / "picks.csv"
    with Journal(out, "fingerprint", resume=False) as journal:
        for day in range(40):
            picks = [Pick(86_400 * 10**9 * day + number, "XX.ABC..HHZ", "P", 0.5, 0.1, 1.0, 9.5) for number in range(500)]
            journal.add(TaskResult(f"{day:02}", picks))
    for damage in (b"", b"damage"):
        (content := bytearray(journal.path.read_bytes()))[-len(damage) - 5 : -5] = damage  # in the newest result
        journal.path.write_bytes(content)
        tracemalloc.start()
        try:
            with Journal(out, "fingerprint", resume=True) as resumed:
                kept = len(resumed.counts)
                times = [pick.time_ns for pick in resumed.picks([sorted(resumed.counts)])]
            assert tracemalloc.get_traced_memory()[1] < 1_500_000  # all picks together take 5 MB
        finally:
            tracemalloc.stop()
        assert kept * 500 == len(times)
        assert times == sorted(times)
    assert 0 < kept < 40


def test_a_text_journal_of_an_earlier_version_is_refused(tmp_path: Path, picker: Picker, days: Path) -> None:
    out = tmp_path / "picks.csv"
    journal_of(out).write_text('{"fingerprint": "0"}\n')
    with pytest.raises(OutputError, match=r"picks\.csv\.journal is not a journal of this XiaoNet; delete that file and leave --resume out"):
        pick_archive(Archive([days]), picker, out, resume=True)
    assert '{"fingerprint": "0"}\n' == journal_of(out).read_text()
