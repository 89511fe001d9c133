import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime
from fractions import Fraction
from pathlib import Path
from threading import Lock
from types import MappingProxyType
from unittest.mock import Mock

import numpy as np
import obspy
import pytest
from matplotlib.dates import num2date

from stand_in import bare_instrument
from xiaonet.apps import day_plots as module
from xiaonet.apps.day_plots import DayPlots
from xiaonet.apps.pick_archive import Task, pick_archive
from xiaonet.errors import OutputError
from xiaonet.io.archive import Archive
from xiaonet.picker import Picker
from xiaonet.picking.annotation import CHUNK, MARGIN, Annotation, chunks
from xiaonet.picking.picks import Pick
from xiaonet.picking.segments import Grid, Segment
from xiaonet.plots.day import Day
from xiaonet.plots.record import View
from xiaonet.runtime.predictor import around_by_places

SECOND = 10**9
MIDNIGHT = int(datetime.fromisoformat("2014-05-01T00:00:00+00:00").timestamp()) * SECOND
FIRST = MIDNIGHT // 10**7  # its sample since 1970
THRESHOLDS = {"P": 0.15, "S": 0.1}
PNG = b"\x89PNG\r\n\x1a\n"


def a_task(first: int, end: int, name: str = "CX.PB01..HH", components: str = "ENZ", phase_ns: int = 0) -> Task:
    """A record from one sample after midnight to another."""
    instrument = bare_instrument(name, components)
    segment = Segment(Grid(Fraction(100), phase_ns), FIRST + first, FIRST + end)
    return Task(instrument, tuple((segment, *chunk) for chunk in chunks(segment)))


def record(task: Task, spikes: dict[int, float], dead: str) -> Iterator[Annotation]:
    """Chunks of ones and minus ones, with spikes on all components at samples after midnight."""
    for segment, first, end in task.ranges:
        samples = np.arange(first - MARGIN, end + MARGIN)
        waveform = np.where(samples % 2, 1.0, -1.0) * np.ones((3, 1))
        for at, size in spikes.items():
            waveform[:, samples == FIRST + at] = size
        waveform[:, (samples < segment.first) | (samples >= segment.end)] = np.nan
        waveform[["ENZ".index(component) for component in dead]] = np.nan
        yield Annotation(first, end, first - MARGIN, np.zeros(waveform.shape), waveform, ~np.isnan(waveform).all(axis=0))


def show(
    plots: DayPlots,
    task: Task,
    picks: Sequence[Pick] = (),
    spikes: Mapping[int, float] = MappingProxyType({}),
    dead: str = "",
    part: slice = slice(None),
) -> None:
    """Show some or all chunks of a task."""
    for annotation in list(record(task, dict(spikes), dead))[part]:
        start_ns, end_ns = MIDNIGHT + (annotation.first - FIRST) * 10**7, MIDNIGHT + (annotation.end - FIRST) * 10**7
        plots(task, annotation, [pick for pick in picks if start_ns <= pick.time_ns < end_ns])


def a_pick(phase: str, sample: int, probability: float = 0.5) -> Pick:
    """A pick at a sample after midnight."""
    return Pick(MIDNIGHT + sample * 10**7, "CX.PB01..HHZ", phase, probability, 0.1, 1.0, 10.0)


@pytest.fixture
def plots(tmp_path: Path) -> DayPlots:
    return DayPlots(tmp_path / "plots", THRESHOLDS)


@pytest.fixture
def unpainted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pictures are built but not turned into pixels, which takes the longest."""
    monkeypatch.setattr(module, "to_png", lambda figure: PNG)


@pytest.fixture
def days(unpainted: None, monkeypatch: pytest.MonkeyPatch) -> list[Day]:
    """Grows by the days that are drawn."""
    drawn: list[Day] = []
    original = module.draw_day
    monkeypatch.setattr(module, "draw_day", lambda day, thresholds: drawn.append(day) or original(day, thresholds))
    return drawn


@pytest.fixture
def views(unpainted: None, monkeypatch: pytest.MonkeyPatch) -> list[View]:
    """Grows by the views that short records are drawn as."""
    drawn: list[View] = []
    original = module.draw_views
    monkeypatch.setattr(module, "draw_views", lambda those, thresholds: drawn.extend(those) or original(those, thresholds))
    return drawn


def names(plots: DayPlots) -> list[str]:
    return sorted(path.name for path in plots.folder.iterdir())


# --- when, and under which name


def test_a_day_is_drawn_when_its_last_chunk_has_been_shown(plots: DayPlots) -> None:
    task = a_task(0, 2 * CHUNK + 5)
    show(plots, task, part=slice(0, 2))
    assert [] == names(plots)
    show(plots, task, part=slice(2, 3))
    assert ["CX.PB01..HH_100Hz_2014-05-01.png"] == names(plots)
    assert PNG == (plots.folder / names(plots)[0]).read_bytes()[:8]


def test_what_is_known_of_a_day_is_forgotten_when_it_is_drawn(plots: DayPlots) -> None:
    task = a_task(0, 2 * CHUNK)
    show(plots, task, [a_pick("P", 1000)])
    first = (plots.folder / names(plots)[0]).read_bytes()
    show(plots, task, [a_pick("P", 1000)])
    assert first == (plots.folder / names(plots)[0]).read_bytes()  # not two picks
    assert {} == plots._days


@pytest.mark.usefixtures("unpainted")
def test_instruments_rates_and_days_have_a_picture_each(plots: DayPlots) -> None:
    for task in (a_task(0, 5000), a_task(24 * CHUNK, 24 * CHUNK + 5000), a_task(0, 5000, "CX.PB01.10.BH")):
        show(plots, task)
        show(plots, replace(task, instrument=replace(task.instrument, rate=Fraction(200, 3))))
    assert [
        "CX.PB01..HH_100Hz_2014-05-01.png",
        "CX.PB01..HH_100Hz_2014-05-02.png",
        "CX.PB01..HH_66.6667Hz_2014-05-01.png",
        "CX.PB01..HH_66.6667Hz_2014-05-02.png",
        "CX.PB01.10.BH_100Hz_2014-05-01.png",
        "CX.PB01.10.BH_66.6667Hz_2014-05-01.png",
    ] == names(plots)


@pytest.mark.usefixtures("unpainted")
def test_a_name_that_is_no_file_name_becomes_one(plots: DayPlots) -> None:
    show(plots, a_task(0, 5000, "../../A B.$.HH"))
    assert ["..-..-A-B.-.HH_100Hz_2014-05-01.png"] == names(plots)


@pytest.mark.usefixtures("unpainted")
def test_what_a_file_reaches_over_midnight_is_not_drawn_unless_something_was_picked_there(plots: DayPlots) -> None:
    show(plots, a_task(0, 1))
    show(plots, a_task(24 * CHUNK - 1499, 24 * CHUNK))
    assert [] == names(plots)
    show(plots, a_task(0, 1499), [a_pick("P", 700)])
    show(plots, a_task(24 * CHUNK, 24 * CHUNK + 1500))
    assert ["CX.PB01..HH_100Hz_2014-05-01.png", "CX.PB01..HH_100Hz_2014-05-02.png"] == names(plots)


def test_several_threads_draw_the_same_pictures_as_one(tmp_path: Path) -> None:
    tasks = [a_task(CHUNK - 40_000, CHUNK + 40_000, f"CX.S{number}..HH") for number in range(3)]
    picks = [a_pick("P", CHUNK - 20_000 + 15_000 * number, 0.9) for number in range(3)]
    alone, together = DayPlots(tmp_path / "alone", THRESHOLDS), DayPlots(tmp_path / "together", THRESHOLDS)
    for task in tasks:
        show(alone, task, picks)
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(lambda task: show(together, task, picks), tasks))
    assert 3 == len(names(alone))
    assert {name: (alone.folder / name).read_bytes() for name in names(alone)} == {
        name: (together.folder / name).read_bytes() for name in names(together)
    }


def test_pictures_are_drawn_one_at_a_time(plots: DayPlots, monkeypatch: pytest.MonkeyPatch) -> None:
    busy = Lock()

    def paint(figure: object) -> bytes:
        assert busy.acquire(blocking=False)
        time.sleep(0.05)
        busy.release()
        return PNG

    monkeypatch.setattr(module, "to_png", paint)
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(lambda number: show(plots, a_task(0, 5000, f"CX.S{number}..HH")), range(6)))
    assert 6 == len(names(plots))


# --- what is drawn


def test_a_record_of_ten_minutes_is_drawn_as_a_whole(plots: DayPlots, views: list[View], days: list[Day]) -> None:
    show(plots, a_task(CHUNK - 30_000, CHUNK + 30_000), [a_pick("P", CHUNK - 10), a_pick("S", CHUNK + 10)], {CHUNK + 100: 50.0})
    [view] = views
    assert [] == days
    assert "CX.PB01..HH, 100 Hz    2014-05-01    1 P, 1 S" == view.title
    assert (-1.0, 50.0) == (view.rows[2].min(), view.rows[2].max())
    assert not np.isnan(view.rows[2]).any()  # the two chunks touch
    assert 600 == round((view.x[-1] - view.x[0]) * 86400, 1)
    assert len(view.x) < 16_000  # of 60,000 samples


def test_a_longer_record_is_drawn_as_a_day(plots: DayPlots, views: list[View], days: list[Day]) -> None:
    picks = [a_pick("P", 10), a_pick("S", 20)]
    show(plots, a_task(0, 60_001), picks)
    assert ([], 1) == (views, len(days))
    assert ("CX.PB01..HH, 100 Hz    2014-05-01    1 P, 1 S", "Z", MIDNIGHT) == (days[0].title, days[0].channel[-1], days[0].start_ns)
    assert picks == days[0].picks


@pytest.mark.parametrize(("hours", "rows", "seconds"), [(4, 144, 0.6), (5, 24, 2.4)])
def test_every_sample_is_in_its_row_and_column(hours: int, rows: int, seconds: float, plots: DayPlots, days: list[Day]) -> None:
    spikes = {78_000: 31.0, CHUNK - 1: 21.0, CHUNK: 41.0, 3 * CHUNK + 123_456: -61.0}
    show(plots, a_task(77_777, 77_777 + hours * CHUNK), spikes=spikes)
    [day] = days
    columns = round(86400 / rows / seconds)
    assert (MIDNIGHT, (rows, columns)) == (day.start_ns, day.half_range.shape)
    flat = day.half_range.reshape(-1)
    part = round(seconds * 100)
    first, last = 77_777 // part, (77_777 + hours * CHUNK - 1) // part
    assert [first, last] == np.flatnonzero(~np.isnan(flat))[[0, -1]].tolist()
    assert not np.isnan(flat[first : last + 1]).any()
    # Half the range: the spike against the ones of the other sign.
    assert {at // part: (abs(size) + 1) / 2 for at, size in spikes.items()} == {at: flat[at] for at in np.flatnonzero(flat > 1).tolist()}


def test_a_grid_some_milliseconds_early_stays_in_its_day(plots: DayPlots, days: list[Day]) -> None:
    show(plots, a_task(0, CHUNK, phase_ns=-4_000_000))
    assert [(MIDNIGHT, "CX.PB01..HH_100Hz_2014-05-01.png")] == [(day.start_ns, *names(plots)) for day in days]


@pytest.mark.parametrize(
    ("components", "dead", "shown"), [("ENZ", "", "Z"), ("ENZ", "Z", "N"), ("ENZ", "ENZ", "Z"), ("12", "Z", "1"), ("E", "NZ", "E")]
)
def test_the_rows_are_of_the_vertical_or_of_what_there_is(components: str, dead: str, shown: str, plots: DayPlots, days: list[Day]) -> None:
    show(plots, a_task(0, CHUNK, components=components), dead=dead)
    [day] = days
    assert f"HH{shown}" == day.channel
    assert (dead == "ENZ") == np.isnan(day.half_range).all()


def test_hours_without_data_stay_empty(plots: DayPlots, days: list[Day]) -> None:
    early, late = a_task(0, CHUNK), a_task(22 * CHUNK, 23 * CHUNK)
    show(plots, replace(early, ranges=early.ranges + late.ranges))
    [day] = days
    assert [0, 22] == np.flatnonzero(~np.isnan(day.half_range).all(axis=1)).tolist()


def windows(day: Day) -> list[tuple[float, float, float]]:
    """Of each event: the pick, the begin and the end of the window, in seconds after midnight."""

    def after(x: float) -> float:
        return round((num2date(x).timestamp() - MIDNIGHT / SECOND), 2)

    return [((time_ns - MIDNIGHT) / SECOND, after(view.x[0]), after(view.x[-1])) for time_ns, view in day.events]


def test_the_events_are_those_of_most_probability_in_order_of_time(plots: DayPlots, days: list[Day]) -> None:
    picks = [
        *(a_pick("P", 10_000, 0.9), a_pick("S", 10_500, 0.3)),
        *(a_pick("P", 50_000, 0.7), a_pick("S", 51_700, 0.8), a_pick("S", 51_000, 0.2)),
        *(a_pick("P", 90_000, 0.9), a_pick("S", 91_801, 0.9)),  # too late to be of one event
        *(a_pick("P", CHUNK + 10_000, 0.6), a_pick("S", CHUNK + 10_200, 0.7)),
        a_pick("S", CHUNK + 50_000, 0.95),
    ]
    show(plots, a_task(0, 2 * CHUNK), sorted(picks))
    assert [(100.0, 94.0, 124.0), (500.0, 494.0, 524.0), (3700.0, 3694.0, 3724.0)] == windows(days[0])
    assert [["P", "S"], ["P", "S", "S"], ["P", "S"]] == [[mark.phase for mark in view.marks] for _, view in days[0].events]


def test_one_event_is_shown_once(plots: DayPlots, days: list[Day]) -> None:
    show(plots, a_task(0, CHUNK), [a_pick("P", 10_000 + 700 * number, 0.9 - 0.1 * number) for number in range(5)])
    assert [(100.0, 94.0, 124.0)] == windows(days[0])
    assert 4 == len(days[0].events[0][1].marks)  # all of them in 24 s


def test_a_window_at_the_end_of_an_hour_is_moved_to_what_is_at_hand(plots: DayPlots, days: list[Day]) -> None:
    show(plots, a_task(0, 2 * CHUNK), [a_pick("P", CHUNK - 1, 0.9), a_pick("S", CHUNK + 300, 0.9)])
    assert [(3599.99, 3580.0 - 0.01, 3610.0 - 0.01)] == windows(days[0])  # 10 s are known of the next hour
    assert ["P", "S"] == [mark.phase for mark in days[0].events[0][1].marks]


# --- what can go wrong


def test_a_folder_that_cannot_be_made_is_reported_at_once(tmp_path: Path) -> None:
    (tmp_path / "plots").write_text("a file")
    with pytest.raises(OutputError, match=r"plots cannot be made: File exists; choose another place for the picks, or leave --plot out"):
        DayPlots(tmp_path / "plots", THRESHOLDS)


def test_a_picture_that_cannot_be_written_stops_the_run(plots: DayPlots) -> None:
    plots.folder.rmdir()
    with pytest.raises(OutputError, match=r"CX\.PB01\.\.HH_100Hz_2014-05-01\.png could not be written"):
        show(plots, a_task(0, 5000))


def test_a_full_disk_leaves_no_half_picture(plots: DayPlots, monkeypatch: pytest.MonkeyPatch) -> None:
    show(plots, a_task(0, 5000))
    before = (plots.folder / names(plots)[0]).read_bytes()
    monkeypatch.setattr(os, "fsync", Mock(side_effect=OSError(28, "No space left on device")))
    with pytest.raises(OutputError, match="No space left on device"):
        show(plots, a_task(0, 5000), [a_pick("P", 3000)])
    assert {"CX.PB01..HH_100Hz_2014-05-01.png": before} == {path.name: path.read_bytes() for path in plots.folder.iterdir()}


def test_that_matplotlib_is_missing_is_reported_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ModuleNotFoundError, match="matplotlib"):
        DayPlots(tmp_path / "plots", THRESHOLDS)


# --- while an archive is picked


class Spikes:
    """A network that sees P at the largest sample of Z."""

    runtime, thresholds, description, digest = "none", THRESHOLDS, "spikes", ""
    stacking = "probabilities"
    around = around_by_places

    def __call__(self, windows: np.ndarray) -> np.ndarray:
        sample = np.arange(windows.shape[-1])
        p = 0.9 * np.exp(-(((sample - np.abs(windows[:, 2]).argmax(axis=1)[:, None]) / 20) ** 2))
        return np.stack([p, 0 * p, 1 - p], axis=1).astype(np.float32)


def test_an_archive_gets_a_picture_for_every_day_and_instrument(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, views: list[View]) -> None:
    noise = np.random.default_rng(0).integers(-9, 9, (3, 12_000)).astype(np.int32)
    noise[2, 3000] = noise[2, 8000] = 1000  # 30 s before midnight and 20 s after
    for station in "AB":
        header = {"network": "CX", "station": station, "sampling_rate": 100, "starttime": obspy.UTCDateTime(ns=MIDNIGHT - 60 * SECOND)}
        traces = [obspy.Trace(row, {**header, "channel": f"HH{code}"}) for code, row in zip("ENZ", noise, strict=True)]
        obspy.Stream(traces).write(str(tmp_path / f"{station}.mseed"), format="MSEED")
    monkeypatch.setattr("xiaonet.picker.load_predictor", lambda *_: Spikes())
    archive = Archive([tmp_path / "A.mseed", tmp_path / "B.mseed"])
    plots = DayPlots(tmp_path / "plots", THRESHOLDS)
    pick_archive(archive, Picker(), tmp_path / "picks.csv", workers=2, on_chunk=plots)
    assert [f"CX.{station}..HH_100Hz_2014-0{day}.png" for station in "AB" for day in ("4-30", "5-01")] == names(plots)
    written = (tmp_path / "picks.csv").read_text()
    for view in views:
        assert view.marks
        assert [] == [mark for mark in view.marks if num2date(mark.x).isoformat(timespec="milliseconds")[:23] not in written]
