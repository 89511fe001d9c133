"""`xiaonet evaluate`."""

from pathlib import Path
from typing import Annotated

import typer

from xiaonet import console
from xiaonet.cli.options import DATA, RUNTIME, usable_cores
from xiaonet.constants import Runtime
from xiaonet.errors import ConfigError


def evaluate(
    models: Annotated[
        list[str],
        typer.Argument(
            metavar="MODEL", help="Shipped model, model file, stalta, or a model of SeisBench such as seisbench:PhaseNet/stead."
        ),
    ],
    data: Annotated[str, typer.Option(help=f"Labelled records: {DATA}")],
    split: Annotated[str, typer.Option(help="Split of the records: train, dev or test.")] = "test",
    out: Annotated[Path, typer.Option(help="Folder of report.html and metrics.json.")] = Path("report"),
    threshold: Annotated[
        str | None, typer.Option(help="Lowest probability of a pick, or the metrics.json of --tune.", show_default="each model's own")
    ] = None,
    tune: Annotated[bool, typer.Option("--tune", help="Choose thresholds on this split, which must not be test.")] = False,
    noise: Annotated[list[str] | None, typer.Option(help="miniSEED without earthquakes, in which every pick is false; repeatable.")] = None,
    teacher: Annotated[str, typer.Option(help="Teacher for the distillation loss, as in train, or 'none'.")] = "none",
    targets: Annotated[
        Path | None, typer.Option(help="Folder of the pick benchmark's task1.csv and task23.csv.", show_default="random targets")
    ] = None,
    windows: Annotated[int, typer.Option(min=1, help="Windows per record, at random places around its picks.")] = 5,
    seed: Annotated[int, typer.Option(min=0, help="Random seed of windows, targets and confidence intervals.")] = 0,
    config: Annotated[
        Path | None, typer.Option(help="JSON file of settings: distance between peaks, temperature, alpha, pick statuses.")
    ] = None,
    runtime: Annotated[Runtime, typer.Option(help=RUNTIME)] = "auto",
) -> None:
    """Compare models on the same windows and write a report with confidence intervals."""
    import jinja2  # noqa: F401  # first: its extra brings the other packages as well

    from xiaonet.config.schema import Config
    from xiaonet.evaluation.evaluator import Evaluator
    from xiaonet.evaluation.evaluator import evaluate as score
    from xiaonet.evaluation.kept import KEPT
    from xiaonet.evaluation.models import load_models
    from xiaonet.evaluation.report import table, write_report
    from xiaonet.evaluation.thresholds import read_thresholds
    from xiaonet.io.archive import Archive
    from xiaonet.training.setup import load_teacher

    if tune and threshold is not None:
        raise ConfigError(f"--tune and --threshold {threshold}: these options exclude each other; --tune chooses the thresholds")
    loaded = load_models(models, runtime=runtime, threads=usable_cores())
    for model in loaded:
        console.ok("Model", model.name, model.description)
    thresholds = read_thresholds(threshold, loaded) if threshold is not None else None
    settings = Config.read(config) if config else Config()
    evaluator = Evaluator(data, split, tune=tune, windows_per_record=windows, seed=seed, targets=targets, keep=out / KEPT, config=settings)
    console.ok("Data", f"{evaluator.name}, split {split}", f"{len(evaluator.windows)} windows of {len(evaluator.records)} records")
    teacher_model, archive = load_teacher(settings.distillation.model_copy(update={"teacher": teacher})), Archive(noise) if noise else None
    try:
        with console.WindowProgress("Scoring", len(loaded) * evaluator.total) as progress:
            found = score(evaluator, loaded, thresholds=thresholds, teacher=teacher_model, archive=archive, on_progress=progress.update)
    except KeyboardInterrupt:
        console.warn("Scoring", "stopped", f"finished predictions are kept in {out / KEPT}; repeat the command to continue")
        raise
    if archive is not None:
        console.skipped(list(archive.problems))
    page = write_report(found, out)
    console.table(*table(found.metrics))
    console.ok("Report", "written", f"{page} and {out / 'metrics.json'}")
