import io
from datetime import datetime
from fractions import Fraction

import matplotlib as mpl
import matplotlib.image
import numpy as np
import obspy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.dates import date2num, num2date
from matplotlib.figure import Figure

from stand_in import bare_instrument
from xiaonet.picker import Picker
from xiaonet.picking.annotation import Annotation
from xiaonet.picking.picks import Pick, find_picks
from xiaonet.picking.segments import Grid, Segment
from xiaonet.plots.day import Day, draw_day
from xiaonet.plots.history import draw_history
from xiaonet.plots.record import Strip, View, draw_picks, draw_views, find_thinning
from xiaonet.plots.style import COLOURS, to_png
from xiaonet.runtime.predictor import around_by_places

HISTORY = {
    "epoch": [1, 2, 3, 4],
    "train_loss": [0.9, 0.7, 0.6, 0.55],
    "train_task_loss": [0.8, 0.6, 0.5, 0.45],
    "dev_loss": [0.85, 0.65, 0.60, 0.70],
    "learning_rate": [1e-3, 1e-3, 1e-3, 5e-4],
}
SECOND = 10**9
START = int(datetime.fromisoformat("2014-05-01T06:00:00+00:00").timestamp()) * SECOND  # an hour at which windows start
FIRST = START // 10**7  # its sample since 1970
SEGMENT = Segment(Grid(Fraction(100), 0), FIRST, FIRST + 360_000)
INSTRUMENT = bare_instrument("CX.PB01..HH", "12Z")
THRESHOLDS = {"P": 0.15, "S": 0.1}
Picks = dict[str, tuple[np.ndarray, np.ndarray]]


def picks(p: dict[int, float], s: dict[int, float]) -> Picks:
    return {phase: (np.array(list(found), dtype=np.int64), np.array(list(found.values()))) for phase, found in (("P", p), ("S", s))}


def a_pick(phase: str, seconds: float, probability: float = 0.5, uncertainty: float = 0.1) -> Pick:
    """A pick so long after the start."""
    return Pick(START + round(seconds * 1000) * 10**6, "CX.PB01..HHZ", phase, probability, uncertainty, 1.0, 10.0)


def annotation_of(waveform: np.ndarray, probabilities: np.ndarray | None = None) -> Annotation:
    """An annotation that begins at the start, without a margin, all of it trusted."""
    samples = waveform.shape[1]
    if probabilities is None:
        probabilities = np.zeros((3, samples))
    return Annotation(FIRST, FIRST + samples, FIRST, probabilities, waveform, np.ones(samples, dtype=bool))


def noise(samples: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((3, samples))


def a_view(samples: int = 3001, found: list[Pick] | None = None, waveform: np.ndarray | None = None) -> View:
    annotation = annotation_of(noise(samples) if waveform is None else waveform)
    return View.of(INSTRUMENT, Strip.cut(annotation, SEGMENT, FIRST, annotation.end), found or [])


@pytest.fixture
def waveform() -> np.ndarray:
    return noise(3001)


@pytest.fixture
def probabilities() -> np.ndarray:
    time = np.arange(3001)
    p, s = 0.9 * np.exp(-(((time - 1000) / 30) ** 2)), 0.7 * np.exp(-(((time - 1800) / 30) ** 2))
    return np.stack([p, s, 1 - p - s])


def upright(axes: Axes) -> list[tuple[float, str, float, float]]:
    """Upright lines, such as picks are drawn by: place, colour, lower and upper end; ordered."""
    found = []
    for lines in axes.collections:
        if hasattr(lines, "get_segments"):
            colour = mpl.colors.to_hex(lines.get_colors()[0])
            found += [(float(x), colour, float(low), float(high)) for (x, low), (_, high) in lines.get_segments()]
    return sorted(found)


def pick_lines(axes: Axes) -> list[tuple[float, str]]:
    return [(round(x, 6), colour) for x, colour, _, _ in upright(axes)]


def seconds_after_start(x: float) -> float:
    return round((num2date(x).timestamp() - START / SECOND), 3)


def curve(axes: Axes, label: str) -> tuple[np.ndarray, np.ndarray]:
    [line] = [line for line in axes.get_lines() if line.get_label() == label]
    return np.asarray(line.get_xdata()), np.asarray(line.get_ydata())


def words(axes: Axes) -> list[str]:
    return [text.get_text() for text in axes.texts]


def assert_is_picture(figure: Figure, width: int, height: int) -> None:
    content = to_png(figure)
    assert b"\x89PNG\r\n\x1a\n" == content[:8]
    pixels = matplotlib.image.imread(io.BytesIO(content), format="png")
    assert (height, width) == pixels.shape[:2]
    assert pixels[..., :3].std() > 0.01  # something is drawn


# --- history


def test_the_history_shows_three_losses_and_marks_the_best_epoch() -> None:
    losses = draw_history(HISTORY, "run").axes[0]
    lines = {line.get_label(): (list(line.get_xdata()), list(line.get_ydata())) for line in losses.get_lines()}
    assert {
        "train, combined": (HISTORY["epoch"], HISTORY["train_loss"]),
        "train, task": (HISTORY["epoch"], HISTORY["train_task_loss"]),
        "dev, task": (HISTORY["epoch"], HISTORY["dev_loss"]),
        "best dev 0.6000, epoch 3": ([3], [0.6]),
    } == lines
    assert list(lines) == [text.get_text() for text in losses.get_legend().get_texts()]


def test_the_history_shows_the_learning_rate() -> None:
    rates = draw_history(HISTORY, "run").axes[1]
    assert [(HISTORY["epoch"], HISTORY["learning_rate"])] == [
        (list(line.get_xdata()), list(line.get_ydata())) for line in rates.get_lines()
    ]


def test_the_axes_of_the_history_say_what_they_hold() -> None:
    losses, rates = draw_history(HISTORY, "my run").axes
    assert ("my run", "loss", "log") == (losses.get_title(), losses.get_ylabel(), losses.get_yscale())
    assert ("epoch", "learning rate", "log") == (rates.get_xlabel(), rates.get_ylabel(), rates.get_yscale())


@pytest.mark.parametrize("epochs", [1, 2, 29, 200])
def test_a_history_of_any_length_becomes_a_picture(epochs: int) -> None:
    values = np.geomspace(1, 0.1, epochs).tolist()
    columns = dict.fromkeys(HISTORY, values) | {"epoch": list(range(1, epochs + 1))}
    assert_is_picture(draw_history(columns, "run"), 8 * 130, 5 * 130)


def test_a_loss_that_is_no_number_does_not_hide_the_best_epoch() -> None:
    columns = {**HISTORY, "dev_loss": [0.85, float("nan"), 0.60, 0.70]}
    labels = [text.get_text() for text in draw_history(columns, "run").axes[0].get_legend().get_texts()]
    assert "best dev 0.6000, epoch 3" == labels[-1]


# --- a window


def test_picks_are_drawn_through_all_lanes_at_their_seconds(waveform: np.ndarray, probabilities: np.ndarray) -> None:
    [axes] = draw_picks(waveform, probabilities, picks({1000: 0.9}, {1800: 0.7, 2900: 0.4}), "record").axes
    assert [(10.0, COLOURS["P"]), (18.0, COLOURS["S"]), (29.0, COLOURS["S"])] == pick_lines(axes)
    assert {axes.get_ylim()} == {(low, high) for _, _, low, high in upright(axes)}


def test_lanes_hold_components_and_probabilities(waveform: np.ndarray, probabilities: np.ndarray) -> None:
    [axes] = draw_picks(waveform, probabilities, picks({}, {}), "record").axes
    for component, trace, middle in zip("ENZ", waveform, (3.65, 2.65, 1.65), strict=True):
        x, y = curve(axes, component)
        np.testing.assert_allclose(x, np.linspace(0, 30, 3001))
        rest = trace - trace.mean()
        np.testing.assert_allclose(y, middle + 0.45 * rest / np.abs(rest).max())
    for phase, row in zip("PS", probabilities, strict=False):
        np.testing.assert_array_equal(curve(axes, phase)[1], row)
    assert ["0", "0.5", "1", "Z", "N", "E"] == [text.get_text() for text in axes.get_yticklabels()]
    assert ("time (s)", (0.0, 30.0)) == (axes.get_xlabel(), axes.get_xlim())


def test_each_pick_is_written_with_phase_seconds_and_probability(waveform: np.ndarray, probabilities: np.ndarray) -> None:
    [axes] = draw_picks(waveform, probabilities, picks({1000: 0.9}, {1834: 0.7}), "my record").axes
    assert ["P 10.00 s  0.90", "S 18.34 s  0.70"] == [text for text in words(axes) if text[0] in "PS"]
    assert "my record" == axes.get_title(loc="left")


def test_the_largest_sample_of_a_component_is_reported(probabilities: np.ndarray) -> None:
    waveform = np.stack([np.cos(np.arange(3000) * np.pi) * size for size in (0.00012, 250, 7e6)])
    [axes] = draw_picks(waveform, probabilities[:, :3000], picks({}, {}), "record").axes
    assert ["±0.00012", "±250", "±7e+06"] == [text for text in words(axes) if "±" in text]


@pytest.mark.parametrize("p", [{}, {0: 0.5}, {3000: 0.5}, {100: 0.4, 1000: 0.9, 1010: 0.8}])
def test_records_with_any_number_of_picks_become_a_picture(p: dict[int, float], waveform: np.ndarray, probabilities: np.ndarray) -> None:
    assert_is_picture(draw_picks(waveform, probabilities, picks(p, {}), "record"), 10 * 130, 5 * 130)


def test_the_picks_of_find_picks_are_drawn(waveform: np.ndarray, probabilities: np.ndarray) -> None:
    found = {phase: find_picks(row, 0.3, 100) for phase, row in zip("PS", probabilities, strict=False)}
    [axes] = draw_picks(waveform, probabilities, found, "record").axes
    assert [(10.0, COLOURS["P"]), (18.0, COLOURS["S"])] == pick_lines(axes)


def test_a_record_of_another_length_keeps_its_seconds() -> None:
    [axes] = draw_picks(np.zeros((3, 501)), np.zeros((3, 501)), picks({250: 0.5}, {}), "record").axes
    assert ((0.0, 5.0), [(2.5, COLOURS["P"])]) == (axes.get_xlim(), pick_lines(axes))


# --- strips


def test_a_strip_holds_samples_and_probabilities_at_their_times() -> None:
    waveform, probabilities = np.arange(30.0).reshape(3, 10), np.linspace(0, 1, 30).reshape(3, 10)
    strip = Strip.cut(annotation_of(waveform, probabilities), SEGMENT, FIRST + 2, FIRST + 5)
    assert [START + 20_000_000, START + 30_000_000, START + 40_000_000] == strip.times_ns.tolist()
    np.testing.assert_array_equal(strip.rows, np.concatenate([waveform, probabilities[:2]])[:, 2:5])


def test_no_probability_is_shown_where_nothing_is_picked() -> None:
    annotation = annotation_of(np.ones((3, 4)), np.ones((3, 4)))._replace(trusted=np.array([False, True, True, False]))
    strip = Strip.cut(annotation, SEGMENT, FIRST, FIRST + 4)
    np.testing.assert_array_equal(strip.rows, [[1, 1, 1, 1]] * 3 + [[np.nan, 1, 1, np.nan]] * 2)


def test_a_thinned_strip_keeps_the_lowest_and_the_highest_of_each_part() -> None:
    row = [5.0, -1, 3, np.nan, 7, 6, np.nan, np.nan, np.nan, 4]
    strip = Strip.cut(annotation_of(np.array([row] * 3)), SEGMENT, FIRST, FIRST + 10, thinning=3)
    np.testing.assert_array_equal(strip.rows[0], [-1, 5, 6, 7, np.nan, np.nan, 4, 4])
    assert [0, 2, 3, 5, 6, 8, 9, 9] == ((strip.times_ns - START) // 10**7).tolist()


@given(samples=st.integers(1, 400), thinning=st.integers(1, 50))
def test_thinning_moves_no_end_and_loses_no_extreme(samples: int, thinning: int) -> None:
    annotation = annotation_of(noise(samples))
    strip = Strip.cut(annotation, SEGMENT, FIRST, annotation.end, thinning)
    assert (START, START + (samples - 1) * 10**7) == (strip.times_ns[0], strip.times_ns[-1])
    assert (np.diff(strip.times_ns) >= 0).all()
    np.testing.assert_array_equal(strip.rows[:3].min(axis=1), annotation.waveform.min(axis=1))
    np.testing.assert_array_equal(strip.rows[:3].max(axis=1), annotation.waveform.max(axis=1))


@given(samples=st.integers(1, 10**9))
def test_any_record_is_thinned_to_what_a_picture_can_show(samples: int) -> None:
    thinning = find_thinning(samples)
    points = samples if thinning == 1 else 2 * -(-samples // thinning)
    assert points <= 16_000
    assert thinning == 1 or points > 4000


@pytest.mark.parametrize("thinning", [1, 7])
def test_strips_are_joined_by_a_line_only_where_they_touch(thinning: int) -> None:
    annotation = annotation_of(noise(100))
    strips = [Strip.cut(annotation, SEGMENT, FIRST + first, FIRST + end, thinning) for first, end in ((0, 20), (20, 41), (60, 100))]
    joined = Strip.join(strips)
    [at] = np.flatnonzero(np.isnan(joined.rows[0]))
    assert len(strips[0].times_ns) + len(strips[1].times_ns) == at
    assert sum(len(strip.times_ns) for strip in strips) + 1 == len(joined.times_ns)
    np.testing.assert_array_equal(np.delete(joined.rows, at, axis=1), np.concatenate([strip.rows for strip in strips], axis=1))


# --- views


def test_a_view_is_named_after_its_instrument_its_day_and_its_picks() -> None:
    view = a_view(3001, [a_pick("P", 10), a_pick("S", 12), a_pick("S", 14)])
    assert "CX.PB01..HH, 100 Hz    2014-05-01    1 P, 2 S" == view.title
    assert {"E": "HH2", "N": "HH1", "Z": "HHZ"} == view.labels


def test_picks_outside_of_a_view_are_left_out() -> None:
    view = a_view(1001, [a_pick("P", -0.01), a_pick("P", 0), a_pick("S", 10), a_pick("S", 10.01)])
    assert [("P", 0.0), ("S", 10.0)] == [(mark.phase, seconds_after_start(mark.x)) for mark in view.marks]


def test_a_view_over_midnight_names_both_days() -> None:
    strip = Strip(np.array([START, START + 86400 * SECOND]), np.zeros((5, 2)))
    assert "CX.PB01..HH, 100 Hz    2014-05-01 to 2014-05-02    0 P, 0 S" == View.of(INSTRUMENT, strip, []).title


def test_a_day_that_begins_milliseconds_early_is_one_day() -> None:
    midnight = START - 6 * 3600 * SECOND
    strip = Strip(np.array([midnight - 1_607_000, midnight + SECOND]), np.zeros((5, 2)))
    assert "    2014-05-01    " in View.of(INSTRUMENT, strip, []).title


def test_picks_are_drawn_at_their_utc_with_their_uncertainty() -> None:
    [axes] = draw_views([a_view(3001, [a_pick("P", 10.25, 0.9, 0.2), a_pick("S", 12, 0.7, 0.5)])], THRESHOLDS).axes
    assert [(10.25, COLOURS["P"]), (12.0, COLOURS["S"])] == [(seconds_after_start(x), colour) for x, colour, _, _ in upright(axes)]
    bands = [path.get_extents() for collection in axes.collections for path in collection.get_paths() if len(path.vertices) > 2]
    assert [(10.05, 10.45), (11.5, 12.5)] == sorted((seconds_after_start(band.x0), seconds_after_start(band.x1)) for band in bands)
    assert ["P 06:00:10.25  0.90", "S 06:00:12.00  0.70"] == [text for text in words(axes) if text[0] in "PS" and ":" in text]


@pytest.mark.parametrize("thresholds", [{"P": 0.6, "S": 0.8}, {"P": 0.8, "S": 0.6}, {"P": 0.5, "S": 0.5}])
def test_the_labels_of_thresholds_have_the_order_of_their_lines(thresholds: dict[str, float]) -> None:
    [axes] = draw_views([a_view(3001)], thresholds).axes
    p, s = (next(text.xy[1] for text in axes.texts if text.get_text().startswith(f"{phase} ≥")) for phase in "PS")
    assert (p > s) == (thresholds["P"] >= thresholds["S"])


def test_thresholds_are_drawn_and_labelled() -> None:
    [axes] = draw_views([a_view()], {"P": 0.15, "S": 0.1}).axes
    level = {line.get_color(): line.get_ydata()[0] for line in axes.get_lines() if line.is_dashed()}
    assert {COLOURS["P"]: 0.15, COLOURS["S"]: 0.1} == level
    assert ["P ≥ 0.15", "S ≥ 0.1"] == [text for text in words(axes) if "≥" in text]


def test_components_bear_the_names_of_their_channels() -> None:
    [axes] = draw_views([a_view()], THRESHOLDS).axes
    assert ["0", "0.5", "1", "HHZ", "HH1", "HH2"] == [text.get_text() for text in axes.get_yticklabels()]


def test_a_component_that_is_not_there_or_dead_is_reported() -> None:
    waveform = noise(3001)
    waveform[0] = np.nan
    alone = bare_instrument("CX.PB01..HH", "Z")
    view = View.of(alone, Strip.cut(annotation_of(waveform), SEGMENT, FIRST, FIRST + 3001), [])
    [axes] = draw_views([view], THRESHOLDS).axes
    assert ["HHZ", "no N", "no E"] == [text.get_text() for text in axes.get_yticklabels()][3:]
    assert [3.65] == [text.get_position()[1] for text in axes.texts if text.get_text() == "no data"]


def test_gaps_stay_white() -> None:
    waveform = noise(3001)
    waveform[:, 1000:2000] = np.nan
    [axes] = draw_views([a_view(waveform=waveform)], THRESHOLDS).axes
    for component in "ENZ":
        assert [1000, 1999] == np.flatnonzero(np.isnan(curve(axes, component)[1]))[[0, -1]].tolist()


def test_in_a_long_record_picks_are_drawn_where_they_are_read_and_large_events_are_clipped() -> None:
    waveform = np.where(np.arange(20_000) % 2, 1.0, -1.0) * np.ones((3, 1))
    waveform[0, 5000:5010] = [1000, -1000] * 5
    [axes] = draw_views([a_view(waveform=waveform, found=[a_pick("P", 50), a_pick("S", 52)])], THRESHOLDS).axes
    assert [(1.15, 2.15), (2.15, 4.15)] == [(low, high) for _, _, low, high in upright(axes)]
    assert ["±60\nclipped", "±1", "±1"] == [text for text in words(axes) if "±" in text]
    assert (3.2, 4.1) == (round(curve(axes, "E")[1].min(), 6), round(curve(axes, "E")[1].max(), 6))


def test_a_short_record_is_not_clipped() -> None:
    waveform = np.where(np.arange(3000) % 2, 1.0, -1.0) * np.ones((3, 1))
    waveform[0, 500:510] = [1000, -1000] * 5
    assert ["±1000", "±1", "±1"] == [text for text in words(draw_views([a_view(waveform=waveform)], {}).axes[0]) if "±" in text]


@pytest.mark.parametrize("zone", ["UTC", "Asia/Kolkata"])
def test_the_axis_shows_utc(zone: str) -> None:
    hours = Strip(np.array([START, START + 8 * 3600 * SECOND]), np.zeros((5, 2)))
    with mpl.rc_context({"timezone": zone}):
        for view, ticks in (
            (a_view(), [f"06:00:{second:02}" for second in range(0, 31, 5)]),
            (View.of(INSTRUMENT, hours, []), [f"{hour:02}:00" for hour in range(6, 15)]),
        ):
            [axes] = draw_views([view], THRESHOLDS).axes
            assert ticks == [text.get_text() for text in axes.get_xticklabels()]
            assert ("UTC", 0.0) == (axes.get_xlabel(), seconds_after_start(axes.get_xlim()[0]))


@pytest.mark.parametrize(
    ("seconds", "tick"),
    [(0, "06:00:00.0"), (4, "06:00:00.0"), (600, "06:00:00"), (40_000, "06:00"), (10 * 86400, "05-01 00:00"), (400 * 86400, "2014-05-01")],
)
def test_ticks_say_what_differs(seconds: int, tick: str) -> None:
    strip = Strip(np.array([START, START + seconds * SECOND]), np.zeros((5, 2)))
    [axes] = draw_views([View.of(INSTRUMENT, strip, [])], THRESHOLDS).axes
    at = START // SECOND - (6 * 3600 if seconds > 80_000 else 0)
    assert tick == axes.xaxis.get_major_formatter()(date2num(np.datetime64(at, "s")), 0)


def test_a_single_sample_becomes_a_picture_a_second_wide() -> None:
    figure = draw_views([a_view(1)], THRESHOLDS)
    low, high = figure.axes[0].get_xlim()
    assert (-0.5, 0.5) == (seconds_after_start(low), seconds_after_start(high))
    assert_is_picture(figure, 12 * 130, 669)


def test_instruments_are_drawn_one_below_the_other_on_one_axis() -> None:
    late = Strip.cut(annotation_of(noise(4001)), SEGMENT, FIRST + 2000, FIRST + 4001)
    figure = draw_views([a_view(3001), View.of(INSTRUMENT, late, [])], THRESHOLDS, note="and some more")
    upper, lower = figure.axes
    assert [(0.0, 40.0)] * 2 == [tuple(map(seconds_after_start, axes.get_xlim())) for axes in (upper, lower)]
    assert upper.get_position().y0 > lower.get_position().y1
    assert ["and some more"] == [text.get_text() for text in figure.texts]


def test_instruments_that_lie_far_apart_have_an_axis_each() -> None:
    later = Strip(np.array([START + 10**5 * SECOND, START + (10**5 + 20) * SECOND]), np.zeros((5, 2)))
    figure = draw_views([a_view(3001), View.of(INSTRUMENT, later, [])], THRESHOLDS)
    assert [(0.0, 30.0), (100_000.0, 100_020.0)] == [tuple(map(seconds_after_start, axes.get_xlim())) for axes in figure.axes]


def test_a_name_is_no_formula() -> None:
    bad = r"$\nothing$"  # matplotlib would refuse it
    odd = bare_instrument(f"CX.{bad}..HH", "Z")
    view = View.of(odd, Strip.cut(annotation_of(noise(10)), SEGMENT, FIRST, FIRST + 10), [])
    assert_is_picture(draw_views([view._replace(labels={"Z": bad})], THRESHOLDS, note=bad), 12 * 130, 669)
    assert_is_picture(draw_day(a_day(np.ones((24, 60)))._replace(title=bad), THRESHOLDS), 15 * 130, 1092)


@settings(max_examples=15, deadline=None)
@given(
    found=st.lists(st.tuples(st.sampled_from("PS"), st.floats(0, 30), st.floats(0.1, 1)), min_size=1, max_size=40),
    samples=st.sampled_from([3001, 30_001]),
)
def test_words_on_picks_never_overlap_and_the_most_probable_has_some(found: list[tuple[str, float, float]], samples: int) -> None:
    view = a_view(samples, [a_pick(phase, seconds, probability) for phase, seconds, probability in found])
    figure = draw_views([view], THRESHOLDS)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    written = [text for text in figure.axes[0].texts if ":" in text.get_text()]
    boxes = [text.get_window_extent(canvas.get_renderer()) for text in written]
    assert [] == [(a, b) for number, a in enumerate(boxes) for b in boxes[:number] if a.overlaps(b)]
    edge = figure.axes[0].bbox
    assert [] == [box for box in boxes if box.x0 < edge.x0 - 1 or box.x1 > edge.x1 + 1 or box.y0 < edge.y1]
    best = max(view.marks, key=lambda mark: mark.probability)
    assert best.text in [text.get_text() for text in written]


# --- the picker's picture


class Spikes:
    """A network that sees P at the largest sample of Z, and S at the largest of E."""

    runtime, thresholds, description, digest = "none", THRESHOLDS, "spikes", ""
    stacking = "probabilities"
    around = around_by_places

    def __call__(self, windows: np.ndarray) -> np.ndarray:
        time = np.arange(windows.shape[-1])
        p, s = (np.exp(-(((time - np.abs(windows[:, row]).argmax(axis=1)[:, None]) / 20) ** 2)) for row in (2, 0))
        return np.stack([0.9 * p, 0.7 * s, 1 - 0.9 * p - 0.7 * s], axis=1).astype(np.float32)


@pytest.fixture
def picker(monkeypatch: pytest.MonkeyPatch) -> Picker:
    monkeypatch.setattr("xiaonet.picker.load_predictor", lambda *_: Spikes())
    return Picker()


def a_stream(stations: list[str], samples: int = 3001, start: float = 0.0) -> obspy.Stream:
    """Noise with a spike on Z after 10 s and one on E after 18 s."""
    stream = obspy.Stream()
    for station in stations:
        for component, trace in zip("ENZ", noise(samples), strict=True):
            trace[1000 if component == "Z" else 1800] += 0 if component == "N" else 1000
            stats = {"network": "CX", "station": station, "channel": f"HH{component}", "sampling_rate": 100}
            stream += obspy.Trace(trace, {**stats, "starttime": obspy.UTCDateTime(ns=START) + start})
    return stream


def test_a_picker_draws_what_it_picks(picker: Picker) -> None:
    figure = picker.plot(a_stream(["A"]))
    [axes] = figure.axes
    assert [(10.0, COLOURS["P"]), (18.0, COLOURS["S"])] == [(seconds_after_start(x), colour) for x, colour, _, _ in upright(axes)]
    assert "CX.A..HH, 100 Hz    2014-05-01    1 P, 1 S" == axes.get_title(loc="left")
    assert ["P ≥ 0.15", "S ≥ 0.1"] == [text for text in words(axes) if "≥" in text]
    assert_is_picture(figure, 12 * 130, 669)


def test_a_picker_draws_six_instruments_and_names_the_others(picker: Picker) -> None:
    figure = picker.plot(a_stream([f"S{number}" for number in range(8)]))
    assert [f"CX.S{number}..HH" for number in range(6)] == [axes.get_title(loc="left").split(",")[0] for axes in figure.axes]
    assert ["2 more not drawn: CX.S6..HH, CX.S7..HH; choose a station with stream.select(station=…)"] == [
        text.get_text() for text in figure.texts
    ]


def test_a_picker_draws_hours_in_few_points_with_the_gap_between_two_runs(picker: Picker) -> None:
    hours = a_stream(["A"], 400_000) + a_stream(["A"], 400_000, start=6000.0)
    [axes] = picker.plot(hours).axes
    x, y = curve(axes, "Z")
    assert 4000 < len(x) < 16_000
    before, after = (seconds_after_start(x[at]) for at in (np.flatnonzero(np.isnan(y))[0] - 1, np.flatnonzero(np.isnan(y))[-1] + 1))
    assert (3999.99, 6000.0) == (before, after)
    assert (0.0, 9999.99) == tuple(map(seconds_after_start, axes.get_xlim()))


# --- days

HOUR = 3600 * SECOND
MIDNIGHT = START - 6 * HOUR


def a_day(half_range: np.ndarray, found: list[Pick] | None = None, events: list[tuple[int, View]] | None = None) -> Day:
    return Day("a day", "HHZ", MIDNIGHT, half_range, found or [], events or [])


def test_a_day_is_drawn_an_hour_a_row_and_gaps_stay_white() -> None:
    half_range = np.full((24, 60), 2.0)
    half_range[7, 20:40] = np.nan
    [axes] = draw_day(a_day(half_range), THRESHOLDS).axes
    traces = [line for line in axes.get_lines() if len(line.get_xdata()) == 120]
    assert [f"{hour:02}:00" for hour in range(24)] == [text.get_text() for text in axes.get_yticklabels()]
    for hour, trace in enumerate(traces):
        x, y = trace.get_xdata(), trace.get_ydata()
        known = ~np.isnan(y)
        np.testing.assert_allclose(x, np.repeat(np.arange(60) + 0.5, 2))
        np.testing.assert_allclose(y[known], np.tile([hour - 0.5, hour + 0.5], known.sum() // 2))
        assert (list(range(40, 80)) if hour == 7 else []) == np.flatnonzero(~known).tolist()
    assert axes.yaxis_inverted()
    assert "minutes, UTC    (HHZ; 2 from row to row)" == axes.get_xlabel()


def test_only_hours_with_data_are_drawn() -> None:
    half_range = np.full((24, 60), np.nan)
    half_range[5:8] = 1.0
    half_range[8, 0] = 0.0  # a lone sample
    [axes] = draw_day(a_day(half_range), THRESHOLDS).axes
    assert ["05:00", "06:00", "07:00"] == [text.get_text() for text in axes.get_yticklabels()]


def test_an_hour_of_which_only_another_component_is_known_is_drawn_for_its_picks() -> None:
    half_range = np.full((24, 60), np.nan)
    half_range[3] = 1.0
    [axes] = draw_day(a_day(half_range, [a_pick("S", 60)]), THRESHOLDS).axes
    assert ["03:00", "04:00", "05:00", "06:00"] == [text.get_text() for text in axes.get_yticklabels()]
    assert ["0 P, 0 S", "0 P, 1 S"] == words(axes)


def test_picks_are_ticks_in_their_rows_p_up_and_s_down() -> None:
    found = [a_pick("P", 90), a_pick("S", 3600 + 1800), a_pick("P", -6 * 3600 - 0.005)]
    [axes] = draw_day(a_day(np.ones((24, 60)), found), THRESHOLDS).axes
    expected = [(0.0, COLOURS["P"], 0.0, -0.45), (1.5, COLOURS["P"], 6.0, 5.55), (30.0, COLOURS["S"], 7.0, 7.45)]
    assert expected == [(round(x, 6), colour, low, round(high, 6)) for x, colour, low, high in upright(axes)]
    told = {text.get_position()[1]: text.get_text() for text in axes.texts}
    assert {row: {0: "1 P, 0 S", 6: "1 P, 0 S", 7: "0 P, 1 S"}.get(row, "0 P, 0 S") for row in range(24)} == told


def test_rows_of_ten_minutes_start_every_ten_minutes() -> None:
    half_range = np.full((144, 10), np.nan)
    half_range[36:39] = 1.0
    [axes] = draw_day(a_day(half_range, [a_pick("P", 660)]), THRESHOLDS).axes
    assert ["06:00", "06:10", "06:20"] == [text.get_text() for text in axes.get_yticklabels()]
    assert [(1.0, COLOURS["P"], 37.0)] == [(round(x, 6), colour, low) for x, colour, low, _ in upright(axes)]
    assert (0.0, 10.0) == axes.get_xlim()


def test_large_events_do_not_hide_more_than_the_next_row() -> None:
    half_range = np.ones((24, 6000))
    half_range[5, 100] = 1e6
    [axes] = draw_day(a_day(half_range), THRESHOLDS).axes
    traces = [line.get_ydata() for line in axes.get_lines() if len(line.get_xdata()) == 12_000]
    assert (4.1, 5.9) == (round(traces[5].min(), 6), round(traces[5].max(), 6))
    assert (3.5, 4.5) == (round(traces[4].min(), 6), round(traces[4].max(), 6))


def test_events_are_drawn_beside_the_day_and_marked_in_it() -> None:
    event = a_view(3001, [a_pick("P", 10, 0.9), a_pick("S", 12, 0.8)])
    day = a_day(np.ones((24, 60)), [a_pick("P", 10, 0.9), a_pick("S", 12, 0.8)], [(START + 10 * SECOND, event), (START + HOUR, event)])
    figure = draw_day(day, THRESHOLDS)
    rows, *beside = figure.axes
    letters = {text.get_text(): text.get_position() for text in rows.texts if len(text.get_text()) == 1}
    assert {"A": (10 / 60, 5.7), "B": (0.0, 6.7)} == letters
    assert ["A", "B"] == [words(axes)[0] for axes in beside]
    assert [[(10.0, COLOURS["P"]), (12.0, COLOURS["S"])]] * 2 == [
        [(seconds_after_start(x), colour) for x, colour, _, _ in upright(axes)] for axes in beside
    ]
    assert all("P 06:00:10.00  0.90" in words(axes) for axes in beside)
    assert_is_picture(figure, 15 * 130, 1092)


@pytest.mark.parametrize("known", [0, 1, 24])
def test_a_day_without_picks_becomes_a_picture_that_says_so(known: int) -> None:
    half_range = np.full((24, 60), np.nan)
    half_range[:known] = 1.0
    figure = draw_day(a_day(half_range), THRESHOLDS)
    assert ["no picks"] == [text.get_text() for text in figure.texts]
    assert_is_picture(figure, 15 * 130, 1092)


def test_drawing_leaves_no_figure_behind(waveform: np.ndarray, probabilities: np.ndarray) -> None:
    import matplotlib.pyplot as plt

    before = plt.get_fignums()
    draw_picks(waveform, probabilities, picks({}, {}), "record")
    draw_history(HISTORY, "run")
    draw_views([a_view()], THRESHOLDS)
    draw_day(a_day(np.ones((24, 60))), THRESHOLDS)
    assert before == plt.get_fignums()
