"""Figures of the report, as SVG in the colours of the page, light or dark. Needs matplotlib."""

import io
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import matplotlib
import numpy as np
from numpy.typing import NDArray

from xiaonet.constants import DISTANCE, PHASES, PICKED_PHASES, SAMPLING_RATE
from xiaonet.evaluation.evaluator import ALL, Evaluation
from xiaonet.evaluation.metrics import Metrics, ModelMetrics
from xiaonet.evaluation.records import cut
from xiaonet.evaluation.scores import HISTOGRAM, TOLERANCE
from xiaonet.picking.picks import find_picks
from xiaonet.plots.record import CEILING, FLOOR, draw_picks
from xiaonet.plots.style import GREY, INK, PALE

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PALETTE = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8c6d31", "#6b6ecf")  # of models, in order
DASHES: tuple[str | tuple[int, tuple[int, ...]], ...] = (
    "-",
    (0, (5, 2)),
    (0, (2, 2)),
    (0, (6, 2, 1, 2)),
)  # for readers who cannot tell the colours apart
VARIABLES = {INK: "ink", GREY: "grey", PALE: "pale", "#000000": "ink"} | {colour: f"m{number}" for number, colour in enumerate(PALETTE)}
EXAMPLES = 3  # records of each kind
TRAITS = {
    "snr_db": "signal-to-noise ratio (dB)",
    "s_minus_p_s": "S minus P time (s)",
    "distance_km": "distance (km)",
    "magnitude": "magnitude",
}

Style = Mapping[str, Any]
Draw = Callable[["Axes", ModelMetrics, str, Style], None]


def overview(metrics: Metrics) -> Iterator[tuple[str, str, str]]:
    """Key, caption and SVG of each figure with all models."""
    drawn: list[tuple[str, str, Draw]] = [
        ("curves", "Precision and recall within 0.5 s at all thresholds. Dots mark the threshold of each model.", _curve),
        (
            "residuals",
            "Pick minus label, as share of labels in bins of 0.02 s. Late picks are on the right.",
            _residuals,
        ),
        (
            "reliability",
            "How many peaks of a given probability are right. On the grey diagonal, the probability equals the share of right peaks.",
            _reliability,
        ),
    ]
    known = {one.trait for model in metrics.models for classes in model.breakdown.values() for one in classes}
    for trait, name in TRAITS.items():
        if trait in known:
            drawn.append((trait, f"F1 within 0.5 s by {name}. The number of labels is in brackets.", _by_trait(trait)))
    for key, caption, draw in drawn:
        yield key, caption, _pair(metrics, draw, key)


def example_records(evaluation: Evaluation) -> Iterator[tuple[str, str, str]]:
    """Kind, caption and SVG of the records that the first model picks best, typically and worst."""
    model, windows = evaluation.models[0], evaluation.windows
    thresholds = evaluation.metrics.models[0].thresholds
    names = windows.data.metadata["trace_name"].to_numpy()
    for kind, chosen in _examples(evaluation).items():
        for number in chosen:
            [waveform] = next(cut(windows.data, windows.rows[[number]], windows.starts[[number]]))
            [probabilities] = model.annotate(waveform[None])
            picks = {phase: find_picks(probabilities[PHASES.index(phase)], thresholds[phase], DISTANCE) for phase in PICKED_PHASES}
            subset = windows.traits["subset"].iloc[number]
            labels = [(phase, sample / SAMPLING_RATE) for phase in PICKED_PHASES for sample in windows.labels[phase][number] if sample >= 0]
            figure = draw_picks(waveform, probabilities, picks, "")
            for _, time in labels:
                figure.axes[0].vlines(time, FLOOR, CEILING, color=INK, linewidth=1, linestyles=(0, (1, 2)))
            listed = ", ".join(f"{phase} {time:.2f} s" for phase, time in labels)
            yield kind, f"{subset}, {names[windows.rows[number]]}. Labels: {listed}", to_svg(figure, f"{kind}{number}")


def to_svg(figure: "Figure", salt: str) -> str:
    """SVG for use within a page, in the page's colours. `salt` makes its ids differ from those of other figures."""
    buffer = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": salt, "svg.fonttype": "none"}):
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    text = buffer.getvalue()
    text = re.sub(r"<metadata>.*?</metadata>", "", text[text.index("<svg") :], flags=re.DOTALL)
    text = re.sub(r'<g id="[^"]*"', "<g", text)  # the same in each figure, and nothing refers to them
    for colour, name in VARIABLES.items():
        text = text.replace(colour, f"var(--{name})")
    text = re.sub(r' d="[^"]*"', lambda path: re.sub(r"\d+\.\d{3,}", lambda number: f"{float(number[0]):.2f}", path[0]), text)
    return re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", text, count=1), count=1)


def _pair(metrics: Metrics, draw: Draw, salt: str) -> str:
    """One panel for P and one for S, with all models in each."""
    from matplotlib.figure import Figure

    with matplotlib.rc_context(
        {"text.color": INK, "axes.labelcolor": INK, "axes.edgecolor": GREY, "xtick.color": GREY, "ytick.color": GREY}
    ):
        figure = Figure(figsize=(9, 3.6), layout="constrained")
        legend: dict[str, Any] = {}
        for axes, phase in zip(figure.subplots(1, 2), PICKED_PHASES, strict=True):
            for number, model in enumerate(metrics.models):
                style = {"color": PALETTE[number % len(PALETTE)], "linestyle": DASHES[number % len(DASHES)], "label": model.name}
                draw(axes, model, phase, style)
            axes.set_title(phase, loc="left")
            axes.grid(color=PALE, linewidth=0.6)
            axes.spines[["top", "right"]].set_visible(False)
            legend |= {label: handle for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)}
        figure.legend(legend.values(), legend.keys(), loc="outside lower center", ncols=max(min(len(legend), 5), 1), frameon=False)
        return to_svg(figure, salt)


def _curve(axes: "Axes", model: ModelMetrics, phase: str, style: Style) -> None:
    own = model.subsets[ALL][phase]
    axes.plot([point.recall for point in own.curve], [point.precision for point in own.curve], linewidth=1.4, **style)
    recall, precision = own.recall[str(TOLERANCE)].value, own.precision[str(TOLERANCE)].value
    if recall is not None and precision is not None:
        axes.plot(recall, precision, "o", color=style["color"], markersize=5)
    axes.set(xlabel="recall", ylabel="precision", xlim=(0, 1.02), ylim=(0, 1.02))


def _residuals(axes: "Axes", model: ModelMetrics, phase: str, style: Style) -> None:
    own = model.subsets[ALL][phase]
    axes.stairs(np.array(own.residual_counts) / max(own.labels, 1), HISTOGRAM, linewidth=1.2, **style)
    axes.set(xlabel="pick minus label (s)", ylabel="share of labels", xlim=(-0.6, 0.6))


def _reliability(axes: "Axes", model: ModelMetrics, phase: str, style: Style) -> None:
    own = model.subsets[ALL][phase].reliability
    axes.plot([0, 1], [0, 1], color=GREY, linewidth=0.8)
    if own:  # a model that gives no probabilities has none
        axes.plot([one.probability for one in own], [one.right for one in own], marker=".", linewidth=1.2, **style)
    axes.set(xlabel="probability of a peak", ylabel="share of right peaks", xlim=(0, 1), ylim=(0, 1.02))


def _by_trait(trait: str) -> Draw:
    def draw(axes: "Axes", model: ModelMetrics, phase: str, style: Style) -> None:
        own = [one for one in model.breakdown[phase] if one.trait == trait]
        names = [f"{one.name}\n({one.labels})" for one in own]
        axes.plot(range(len(own)), [one.f1 for one in own], marker="o", markersize=4, linewidth=1.2, **style)
        axes.set_xticks(range(len(own)), names, fontsize=8)
        axes.set(xlabel=TRAITS[trait], ylabel="F1", ylim=(0, 1.02))

    return draw


def _examples(evaluation: Evaluation) -> dict[str, NDArray[np.int64]]:
    """Windows of different records, sorted by number of errors and then by the distance of picks from labels."""
    scores, windows = evaluation.scores[0], evaluation.windows
    errors, off = np.zeros(len(windows)), np.zeros(len(windows))
    for own in scores.values():
        sums = own.sums
        errors += sums[f"labels {TOLERANCE}"] - sums[f"right {TOLERANCE}"] + sums[f"false {TOLERANCE}"]
        off += sums["absolute"]
    judged = np.flatnonzero(sum(own.sums[f"labels {TOLERANCE}"] for own in scores.values()))
    order = judged[np.lexsort((off[judged], errors[judged]))]
    _, first = np.unique(windows.rows[order], return_index=True)  # the best window of each record
    order = order[np.sort(first)]
    number = min(EXAMPLES, -(-len(order) // 3))
    middle = max((len(order) - number) // 2, 0)
    return {"best": order[:number], "typical": order[middle : middle + number], "worst": order[::-1][:number]}


def palette(models: Sequence[ModelMetrics]) -> list[str]:
    """The CSS variable with the colour of each model."""
    return [f"var(--m{number % len(PALETTE)})" for number in range(len(models))]
