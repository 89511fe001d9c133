import io

import matplotlib.image
import numpy as np
import pytest
from matplotlib.figure import Figure

from xiaonet.picking.picks import find_picks
from xiaonet.plots import COLOURS, draw_history, draw_picks, to_png

HISTORY = {
    "epoch": [1, 2, 3, 4],
    "train_loss": [0.9, 0.7, 0.6, 0.55],
    "train_task_loss": [0.8, 0.6, 0.5, 0.45],
    "dev_loss": [0.85, 0.65, 0.60, 0.70],
    "learning_rate": [1e-3, 1e-3, 1e-3, 5e-4],
}
Picks = dict[str, tuple[np.ndarray, np.ndarray]]


def picks(p: dict[int, float], s: dict[int, float]) -> Picks:
    return {phase: (np.array(list(found), dtype=np.int64), np.array(list(found.values()))) for phase, found in (("P", p), ("S", s))}


@pytest.fixture
def waveform() -> np.ndarray:
    return np.random.default_rng(0).standard_normal((3, 3001))


@pytest.fixture
def probabilities() -> np.ndarray:
    time = np.arange(3001)
    p, s = 0.9 * np.exp(-(((time - 1000) / 30) ** 2)), 0.7 * np.exp(-(((time - 1800) / 30) ** 2))
    return np.stack([p, s, 1 - p - s])


def pick_lines(axes) -> list[tuple[float, str]]:
    """Seconds and colours of the vertical lines."""
    lines = [line for line in axes.get_lines() if len(line.get_xdata()) == 2 and line.get_xdata()[0] == line.get_xdata()[1]]
    return sorted((round(float(line.get_xdata()[0]), 6), line.get_color()) for line in lines)


def assert_is_picture(figure: Figure, width: int, height: int) -> None:
    content = to_png(figure)
    assert b"\x89PNG\r\n\x1a\n" == content[:8]
    pixels = matplotlib.image.imread(io.BytesIO(content), format="png")
    assert (height, width) == pixels.shape[:2]
    assert pixels[..., :3].std() > 0.01  # something is drawn


# --- history


def test_the_history_shows_three_losses_and_marks_the_best_epoch() -> None:
    losses = draw_history(HISTORY, "run").axes[0]
    curves = {line.get_label(): (list(line.get_xdata()), list(line.get_ydata())) for line in losses.get_lines()}
    assert {
        "train, combined": (HISTORY["epoch"], HISTORY["train_loss"]),
        "train, task": (HISTORY["epoch"], HISTORY["train_task_loss"]),
        "dev, task": (HISTORY["epoch"], HISTORY["dev_loss"]),
        "best dev 0.6000, epoch 3": ([3], [0.6]),
    } == curves
    assert list(curves) == [text.get_text() for text in losses.get_legend().get_texts()]


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


# --- picks


def test_picks_are_drawn_through_all_rows_at_their_seconds(waveform: np.ndarray, probabilities: np.ndarray) -> None:
    figure = draw_picks(waveform, probabilities, picks({1000: 0.9}, {1800: 0.7, 2900: 0.4}), "record")
    expected = sorted([(10.0, COLOURS["P"]), (18.0, COLOURS["S"]), (29.0, COLOURS["S"])])
    assert [expected] * 4 == [pick_lines(axes) for axes in figure.axes]


def test_rows_hold_components_and_probabilities(waveform: np.ndarray, probabilities: np.ndarray) -> None:
    figure = draw_picks(waveform, probabilities, picks({}, {}), "record")
    assert ["E", "N", "Z", "probability"] == [axes.get_ylabel() for axes in figure.axes]
    assert [1, 1, 1, 2] == [len(axes.get_lines()) for axes in figure.axes]
    for axes, trace in zip(figure.axes, waveform, strict=False):
        np.testing.assert_allclose(axes.get_lines()[0].get_xdata(), np.linspace(0, 30, 3001))
        np.testing.assert_array_equal(axes.get_lines()[0].get_ydata(), trace)
    for line, curve in zip(figure.axes[-1].get_lines(), probabilities, strict=False):
        np.testing.assert_array_equal(line.get_ydata(), curve)
    assert ["P", "S"] == [text.get_text() for text in figure.axes[-1].get_legend().get_texts()]
    assert ("time (s)", (0.0, 30.0)) == (figure.axes[-1].get_xlabel(), figure.axes[-1].get_xlim())


def test_each_pick_is_written_with_phase_seconds_and_probability(waveform: np.ndarray, probabilities: np.ndarray) -> None:
    figure = draw_picks(waveform, probabilities, picks({1000: 0.9}, {1834: 0.7}), "my record")
    texts = [text.get_text() for text in figure.axes[0].texts]
    for text, words in zip(texts, (("P", "10.00 s", "0.90"), ("S", "18.34 s", "0.70")), strict=True):
        assert [] == [word for word in words if word not in text]
    assert "my record" == figure.axes[0].get_title(loc="left")


@pytest.mark.parametrize("p", [{}, {0: 0.5}, {3000: 0.5}, {100: 0.4, 1000: 0.9, 1010: 0.8}])
def test_records_with_any_number_of_picks_become_a_picture(p: dict[int, float], waveform: np.ndarray, probabilities: np.ndarray) -> None:
    assert_is_picture(draw_picks(waveform, probabilities, picks(p, {}), "record"), 10 * 130, 6 * 130)


def test_the_picks_of_find_picks_are_drawn(waveform: np.ndarray, probabilities: np.ndarray) -> None:
    found = {phase: find_picks(curve, 0.3, 100) for phase, curve in zip("PS", probabilities, strict=False)}
    figure = draw_picks(waveform, probabilities, found, "record")
    assert [(10.0, COLOURS["P"]), (18.0, COLOURS["S"])] == pick_lines(figure.axes[1])


def test_a_record_of_another_length_keeps_its_seconds() -> None:
    figure = draw_picks(np.zeros((3, 501)), np.zeros((3, 501)), picks({250: 0.5}, {}), "record")
    assert ((0.0, 5.0), [(2.5, COLOURS["P"])]) == (figure.axes[-1].get_xlim(), pick_lines(figure.axes[2]))


def test_drawing_leaves_no_figure_behind(waveform: np.ndarray, probabilities: np.ndarray) -> None:
    import matplotlib.pyplot as plt

    before = plt.get_fignums()
    draw_picks(waveform, probabilities, picks({}, {}), "record")
    draw_history(HISTORY, "run")
    assert before == plt.get_fignums()
