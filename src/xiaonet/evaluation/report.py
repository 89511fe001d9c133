"""`metrics.json`, `report.html` and the table on the console. The page needs no network and can be printed."""

from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined

from xiaonet.constants import PICKED_PHASES
from xiaonet.evaluation import figures
from xiaonet.evaluation.evaluator import ALL, Evaluation
from xiaonet.evaluation.metrics import Metrics, Value
from xiaonet.evaluation.scores import MIN_EVENTS
from xiaonet.files import make_folder, write_atomically

UNKNOWN = "–"


def write_report(evaluation: Evaluation, folder: Path) -> Path:
    """Write `metrics.json` and `report.html`.

    Returns:
        The path of the page.

    Raises:
        OutputError: the folder or a file cannot be written.
    """
    make_folder(folder)
    metrics = evaluation.metrics.model_dump_json(indent=1)
    write_atomically(folder / "metrics.json", lambda file: file.write(metrics.encode()))
    page = to_html(evaluation)
    write_atomically(folder / "report.html", lambda file: file.write(page.encode()))
    return folder / "report.html"


def to_html(evaluation: Evaluation) -> str:
    """The page `report.html`."""
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
    """Headings and rows of the table on the console: the main figures by subset and model."""
    heads = ["", "F1 of P", "F1 of S", "P recall, 0.1 s", "S recall, 0.1 s", "false P, S per hour"]
    rows = []
    for subset, phases in metrics.models[0].subsets.items():
        if not any(own.labels for own in phases.values()):
            continue
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
    """A figure as `0.85 [0.79, 0.91]`, or as `0.85` without an interval."""
    if value.low is None or value.high is None:
        return number(value.value, digits)
    return f"{number(value.value, digits)} [{number(value.low, digits)}, {number(value.high, digits)}]"


def number(value: float | None, digits: int = 2) -> str:
    """A figure with `digits` decimals, or a dash if it is None."""
    return UNKNOWN if value is None else f"{value:.{digits}f}".replace("-", "−")
