"""`metrics.json` and `report.html`: one page that needs no network, for reading and for print."""

from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined

from xiaonet.constants import PICKED_PHASES
from xiaonet.evaluation import figures
from xiaonet.evaluation.evaluator import ALL, Evaluation
from xiaonet.evaluation.metrics import Metrics, Value
from xiaonet.evaluation.scores import MIN_EVENTS
from xiaonet.files import make_folder, write_atomically

NONE = "–"


def write_report(evaluation: Evaluation, folder: Path) -> Path:
    """Write `metrics.json` and `report.html`, and the answers to the benchmark's tasks.

    Returns:
        The path of the page.

    Raises:
        OutputError: the folder cannot be made or written to.
    """
    make_folder(folder)
    metrics = evaluation.metrics.model_dump_json(indent=1)
    write_atomically(folder / "metrics.json", lambda file: file.write(metrics.encode()))
    page = to_html(evaluation)
    write_atomically(folder / "report.html", lambda file: file.write(page.encode()))
    return folder / "report.html"


def to_html(evaluation: Evaluation) -> str:
    """The page."""
    environment = Environment(loader=PackageLoader("xiaonet.evaluation", ""), autoescape=True, undefined=StrictUndefined)
    environment.filters |= {"interval": interval, "number": number, "count": "{:,}".format}
    return environment.get_template("report.html.jinja").render(
        metrics=evaluation.metrics,
        phases=PICKED_PHASES,
        all=ALL,
        least_events=MIN_EVENTS,
        traits=figures.TRAITS,
        colours=figures.palette(evaluation.metrics.models),
        figures=list(figures.overview(evaluation.metrics)),
        examples=list(figures.example_records(evaluation)),
        has_gaps=any(
            value.value is not None and value.low is None
            for model in evaluation.metrics.models
            for phases in model.subsets.values()
            for own in phases.values()
            for value in own.f1.values()
        ),
    )


def table(metrics: Metrics) -> tuple[list[str], list[list[str]]]:
    """Heads and rows of the table on the console: the figures that decide, by subset and model."""
    heads = ["", "P F1", "S F1", "P at 0.1 s", "S at 0.1 s", "P, S false an hour"]
    rows = []
    for subset in metrics.models[0].subsets:
        rows.append([subset if subset != ALL else "all records"])
        for model in metrics.models:
            own = model.subsets[subset]
            rows.append(
                [
                    f"  {model.name}",
                    *(interval(own[phase].f1["0.5"]) for phase in PICKED_PHASES),
                    *(number(own[phase].recall["0.1"].value) for phase in PICKED_PHASES),
                    ", ".join(number(model.noise.per_hour[phase], 1) for phase in PICKED_PHASES) if subset == ALL else "",
                ]
            )
    return heads, rows


def interval(value: Value, digits: int = 2) -> str:
    """`0.85 [0.79, 0.91]`, without an interval where there is none."""
    if value.low is None or value.high is None:
        return number(value.value, digits)
    return f"{number(value.value, digits)} [{number(value.low, digits)}, {number(value.high, digits)}]"


def number(value: float | None, digits: int = 2) -> str:
    """A figure with so many decimals, or a dash."""
    return NONE if value is None else f"{value:.{digits}f}".replace("-", "−")
