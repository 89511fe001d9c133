"""The figure of a training history."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from xiaonet.plots.style import new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def draw_history(columns: Mapping[str, Sequence[float]], title: str) -> "Figure":
    """Draw losses and learning rate against epochs, and mark the best dev loss.

    Args:
        columns: `epoch`, `train_loss`, `train_task_loss`, `dev_loss` and `learning_rate`.
        title: of the figure.
    """
    figure = new_figure(8, 5)
    figure.set_layout_engine("constrained")
    losses, rates = figure.subplots(2, 1, sharex=True, height_ratios=(4, 1))
    epochs = columns["epoch"]
    marker = "o" if len(epochs) < 30 else None
    for name, label, colour in (
        ("train_loss", "train, combined", "#999999"),
        ("train_task_loss", "train, task", "#56b4e9"),
        ("dev_loss", "dev, task", "#d55e00"),
    ):
        if name == "train_loss" and list(columns[name]) == list(columns["train_task_loss"]):
            continue  # without a teacher both are the same
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
    for axis, steps in ((losses.yaxis, (2, 5)), (rates.yaxis, ())):  # 0.1, 0.2, 0.5 instead of powers of ten
        axis.get_minor_locator().set_params(subs=steps)
        axis.set_major_formatter("{x:g}")
        axis.set_minor_formatter("{x:g}")
    rates.xaxis.get_major_locator().set_params(integer=True)
    for axes in (losses, rates):
        axes.grid(alpha=0.25)
    return figure
