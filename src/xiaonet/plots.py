"""Pictures: how a training went, and what was picked. Needs matplotlib."""

import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from xiaonet.spec import COMPONENTS, PHASES, SAMPLING_RATE

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLOURS = {"P": "#0072b2", "S": "#d55e00", "N": "#999999"}  # told apart by colour-blind eyes too
Picks = Mapping[str, tuple[NDArray[np.int64], NDArray[np.float64]]]


def draw_history(columns: Mapping[str, Sequence[float]], title: str) -> "Figure":
    """Losses and learning rate against epochs; the best dev loss is marked.

    Args:
        columns: `epoch`, `train_loss`, `train_task_loss`, `dev_loss` and `learning_rate`.
        title: above the picture.
    """
    figure = _figure(8, 5)
    losses, rates = figure.subplots(2, 1, sharex=True, height_ratios=(4, 1))
    epochs = columns["epoch"]
    marker = "o" if len(epochs) < 30 else None
    for name, label, colour in (
        ("train_loss", "train, combined", "#999999"),
        ("train_task_loss", "train, task", "#56b4e9"),
        ("dev_loss", "dev, task", "#d55e00"),
    ):
        if name == "train_loss" and list(columns[name]) == list(columns["train_task_loss"]):
            continue  # without a teacher the two are one
        losses.plot(epochs, columns[name], label=label, color=colour, marker=marker, markersize=3)
    best = int(np.argmin(np.nan_to_num(columns["dev_loss"], nan=np.inf)))
    losses.plot(
        epochs[best],
        columns["dev_loss"][best],
        "k*",
        markersize=11,
        label=f"best dev {columns['dev_loss'][best]:.4f}, epoch {epochs[best]:g}",
    )
    losses.set(ylabel="loss", yscale="log", title=title)
    losses.legend(frameon=False)
    rates.step(epochs, columns["learning_rate"], where="mid", color="#009e73")
    rates.set(xlabel="epoch", ylabel="learning rate", yscale="log")
    for axis, steps in ((losses.yaxis, (2, 5)), (rates.yaxis, ())):  # 0.1, 0.2, 0.5, not 10 to a power
        axis.get_minor_locator().set_params(subs=steps)
        axis.set_major_formatter("{x:g}")
        axis.set_minor_formatter("{x:g}")
    rates.xaxis.get_major_locator().set_params(integer=True)
    for axes in (losses, rates):
        axes.grid(alpha=0.25)
    return figure


def draw_picks(waveform: NDArray[np.floating], probabilities: NDArray[np.floating], picks: Picks, title: str) -> "Figure":
    """Three components, the probabilities below them, and the picks through all.

    Args:
        waveform: `(3, samples)` in E, N, Z order, any unit.
        probabilities: `(3, samples)` in P, S, noise order.
        picks: sample indexes and probabilities by phase, as `find_picks` gives them.
        title: above the picture.
    """
    figure = _figure(10, 6)
    rows = figure.subplots(len(COMPONENTS) + 1, 1, sharex=True, height_ratios=(2, 2, 2, 2))
    seconds = np.arange(waveform.shape[-1]) / SAMPLING_RATE
    for axes, component, trace in zip(rows[:-1], COMPONENTS, waveform, strict=True):
        axes.plot(seconds, trace, color="#333333", linewidth=0.6)
        axes.set_ylabel(component, rotation=0, labelpad=12)
        axes.set_yticks([])
    for phase, curve in zip(PHASES[:2], probabilities, strict=False):
        rows[-1].plot(seconds, curve, color=COLOURS[phase], label=phase)
        samples, heights = picks[phase]
        for sample, height in zip(samples, heights, strict=True):
            for axes in rows:
                axes.axvline(seconds[sample], color=COLOURS[phase], linewidth=1, alpha=0.8)
            rows[0].annotate(
                f" {phase} {seconds[sample]:.2f} s ({height:.2f}) ",
                (seconds[sample], 1.02),
                xycoords=("data", "axes fraction"),
                color=COLOURS[phase],
                horizontalalignment="right" if phase == "P" else "left",  # P and S may be close
                fontsize=9,
            )
    rows[-1].set(xlabel="time (s)", ylabel="probability", ylim=(0, 1.02), xlim=(seconds[0], seconds[-1]))
    rows[-1].legend(loc="upper right", frameon=False, ncols=2)
    rows[0].set_title(title, loc="left", pad=20)
    return figure


def to_png(figure: "Figure") -> bytes:
    """The picture as the bytes of a PNG file."""
    buffer = io.BytesIO()
    figure.savefig(buffer, dpi=130)
    return buffer.getvalue()


def _figure(width: float, height: float) -> "Figure":
    from matplotlib.figure import Figure  # only those who draw pay for it

    return Figure(figsize=(width, height), layout="constrained")
