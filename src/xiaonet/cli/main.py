"""The command line: one command for each thing that XiaoNet can do."""

import io
import json
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from xiaonet import __version__, console
from xiaonet.errors import ConfigError, WaveformError, XiaoNetError
from xiaonet.runtime.predictors import Runtime

app = typer.Typer(
    help="XiaoNet: a compact seismic phase picker, distilled from PhaseNet.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_show_locals=False,
)

# Settings that describe a place or a habit rather than an experiment: changing them needs no reason.
NEEDS_NO_REASON = (
    "device.",
    "data.name",
    "data.synthetic_records",
    "distillation.teacher",
    "training.num_workers",
    "training.checkpoint_minutes",
)
DEMO = (
    "training.epochs=10",
    "training.batch_size=16",
    "training.learning_rate=3e-3",
    "training.num_workers=0",
    "data.synthetic_records=800",
    "distillation.alpha=0.3",  # the teacher knows real quakes better than made-up ones
)
FINETUNE = (
    "training.epochs=20",
    "training.patience=5",
    "training.learning_rate=1e-4",
    "distillation.temperature=1",  # the anchor's probabilities as they are
    "data.windows_per_record=5",
)
SKIPS_TOLD = 20  # reasons why something was skipped, before they are only counted
INTERRUPTED = 130  # the shell's exit status for Ctrl-C


@app.callback(invoke_without_command=True)
def _main(
    context: typer.Context, show_version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False
) -> None:
    if show_version:
        console.say(__version__)
        raise typer.Exit


@app.command()
def train(
    config: Annotated[Path | None, typer.Option(help="Settings as JSON, such as the repository's config.json.")] = None,
    data: Annotated[str | None, typer.Option(help="SeisBench class, folder or name; several joined by +; or 'synthetic'.")] = None,
    teacher: Annotated[
        str | None, typer.Option(help="PhaseNet weights of SeisBench, 'bundled', a local file; several joined by +; or 'none'.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the run; runs/DATE-TIME by default.")] = None,
    resume: Annotated[Path | None, typer.Option(help="Go on with the run in this folder.")] = None,
    assignments: Annotated[list[str] | None, typer.Option("--set", help="A setting, such as training.epochs=5; repeatable.")] = None,
    students: Annotated[int, typer.Option(min=1, help="How many to train, each with a seed of its own; they can be averaged.")] = 1,
    note: Annotated[str, typer.Option(help="Why the settings differ from the defaults; kept in notes.md.")] = "",
) -> None:
    """Train a XiaoNet on labelled records and on what a frozen PhaseNet says of them."""
    with _errors_told():
        from xiaonet.config.schema import Config

        if resume is not None:
            if any(option is not None for option in (config, data, teacher, out)):
                raise ConfigError("--resume takes its settings from the run; leave out --config, --data, --teacher and --out")
            from xiaonet.training.run import resume_run

            resume_run(resume, assignments=assignments, note=note)
            return
        settings = (Config.read(config) if config else Config()).override(assignments or [])
        chosen = {"data": {"name": data}, "distillation": {"teacher": teacher}}
        settings = settings.override(
            f"{section}.{key}={json.dumps(value)}" for section, pair in chosen.items() for key, value in pair.items() if value is not None
        )
        folder, reason = out or _new_folder(), _reason(settings, note)
        if students == 1:
            _train(settings, folder, reason)
        else:
            _train_several(settings, folder, reason, students)


@app.command()
def finetune(
    model: Annotated[str, typer.Argument(help="The model to start from: xiaonet, xiaonet-nano, or a .pth file.")],
    data: Annotated[str, typer.Option(help="SeisBench class, folder or name of labelled records; several joined by +.")],
    out: Annotated[Path | None, typer.Option(help="Folder of the run; runs/DATE-TIME by default.")] = None,
    assignments: Annotated[list[str] | None, typer.Option("--set", help="A setting, such as training.epochs=5; repeatable.")] = None,
    note: Annotated[str, typer.Option(help="What for; kept in notes.md.")] = "",
) -> None:
    """Adapt a model to records of your own; the unchanged model is its teacher, so that it keeps what it knew."""
    with _errors_told():
        from xiaonet.config.schema import Config
        from xiaonet.nn.checkpoint import load_float
        from xiaonet.nn.model import PLAIN
        from xiaonet.shipped import model_path

        arguments = load_float(model_path(model, ".pth")).arguments
        context = "plain" if arguments["dilations"] == PLAIN else "wide"
        kept = [f"model.base_channels={arguments['base_channels']}", f"model.dilations={context}", f"data.name={json.dumps(data)}"]
        start = [f"training.start={json.dumps(model)}", "distillation.teacher=start"]
        settings = Config().override([*FINETUNE, *kept, *start, *(assignments or [])])
        _train(settings, out or _new_folder(), note or f"xiaonet finetune {model}")


@app.command()
def pick(
    paths: Annotated[list[str], typer.Argument(metavar="PATH...", help="miniSEED files, globs, folders or SDS archives.")],
    model: Annotated[
        str, typer.Option(help="xiaonet, xiaonet-nano, either with -int8, or a model file; several joined by + are averaged.")
    ] = "xiaonet",
    threshold: Annotated[float | None, typer.Option(help="Least probability of a pick, P or S; the model's own two by default.")] = None,
    out: Annotated[Path, typer.Option(help="Where the picks go: .csv, .xml (QuakeML) or .parquet.")] = Path("picks.csv"),
    first: Annotated[str | None, typer.Option("--from", help="Pick from this UTC time on, such as 2014-05-01T06:00.")] = None,
    last: Annotated[str | None, typer.Option("--to", help="Pick up to this UTC time.")] = None,
    stations: Annotated[list[str] | None, typer.Option(help="CX.PB01, 'PB*' or CX.PB01..HH; repeatable or joined by commas.")] = None,
    plot: Annotated[bool, typer.Option("--plot", help="Draw every day of every instrument, in a folder beside the picks.")] = False,
    workers: Annotated[int | None, typer.Option(min=1, help="Days picked at the same time; as many as there are cores by default.")] = None,
    runtime: Annotated[
        Runtime, typer.Option(help="What runs the model; auto: torch for .pth, OpenVINO for .xml, else onnxruntime.")
    ] = "auto",
    scout: Annotated[str | None, typer.Option(help="A smaller model that looks first, such as xiaonet-nano: faster.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on where a run of the same command was stopped.")] = False,
) -> None:
    """Pick P and S in continuous records."""
    with _errors_told():
        from xiaonet.apps.archive import pick_archive, plan
        from xiaonet.io.archive import Archive
        from xiaonet.io.picks import check_format
        from xiaonet.picker import Picker

        check_format(out)
        wanted = [name.strip() for name in ",".join(stations).split(",")] if stations else ()
        with console.busy("Reading headers"):
            archive = Archive(paths, _time_ns("--from", first), _time_ns("--to", last), wanted)
            tasks = plan(archive)
        if not tasks:
            _tell_skipped(archive)
            raise WaveformError(
                f"nothing to pick in {', '.join(paths)}; wanted miniSEED of E, N, Z or 1, 2, Z components at 20 Hz or more, "
                "in the time and of the stations that were asked for"
            )
        workers = workers or _cores()
        picker = Picker(model, threshold, runtime=runtime, prefilter=scout, threads=max(1, workers // len(tasks)))
        sketch = _gallery(out, picker) if plot else None
        console.ok(
            "Model", picker.predictor.description, ", ".join(f"{phase} from {height:g}" for phase, height in picker.thresholds.items())
        )
        started = time.monotonic()
        try:
            with console.DataProgress(sum(task.seconds for task in tasks)) as progress:
                summary = pick_archive(archive, picker, out, workers=workers, resume=resume, watch=progress.update, sketch=sketch)
        except KeyboardInterrupt:
            console.warn("Picking", "stopped", "what is done is kept; the same command with --resume goes on")
            raise
        _tell_skipped(archive)
        length = f"{summary.hours:.1f} hours" if summary.hours >= 1 else f"{summary.hours * 60:.1f} minutes"
        console.ok("Data", length, f"{summary.stations} stations, {summary.instruments} instruments, {summary.gaps} gaps")
        console.ok("Picks", f"{summary.picks['P']} P, {summary.picks['S']} S", f"{out}, in {time.monotonic() - started:.1f} s")


@app.command()
def evaluate(
    models: Annotated[
        list[str], typer.Argument(metavar="MODEL...", help="xiaonet, a model file, seisbench:PhaseNet/stead and the like, or stalta.")
    ],
    data: Annotated[str, typer.Option(help="SeisBench class, folder or name with labels; several joined by +.")],
    split: Annotated[str, typer.Option(help="train, dev or test.")] = "test",
    out: Annotated[Path, typer.Option(help="Folder of report.html and metrics.json.")] = Path("report"),
    threshold: Annotated[
        str | None, typer.Option(help="Least probability of a pick, or the metrics.json of --tune; each model's own by default.")
    ] = None,
    tune: Annotated[bool, typer.Option("--tune", help="Choose thresholds on this split, which must not be test.")] = False,
    noise: Annotated[list[str] | None, typer.Option(help="miniSEED without earthquakes, to count false picks; repeatable.")] = None,
    teacher: Annotated[str, typer.Option(help="For the distillation loss, as in train; or 'none'.")] = "none",
    targets: Annotated[Path | None, typer.Option(help="The pick benchmark's task1.csv and task23.csv; drawn by default.")] = None,
    windows: Annotated[int, typer.Option(min=1, help="Windows of each record, at random places around its picks.")] = 5,
    seed: Annotated[int, typer.Option(min=0, help="Random seed of windows, targets and intervals.")] = 0,
    config: Annotated[Path | None, typer.Option(help="Settings as JSON: peak distance, temperature, alpha, statuses.")] = None,
    runtime: Annotated[
        Runtime, typer.Option(help="What runs our models; auto: torch for .pth, OpenVINO for .xml, else onnxruntime.")
    ] = "auto",
) -> None:
    """Score models on the same windows, with intervals, and draw a report."""
    with _errors_told("evaluate"):
        from xiaonet.config.schema import Config
        from xiaonet.evaluation.evaluator import KEPT, Evaluator, read_thresholds
        from xiaonet.evaluation.evaluator import evaluate as judge
        from xiaonet.evaluation.models import load_models
        from xiaonet.evaluation.report import table, write_report
        from xiaonet.io.archive import Archive
        from xiaonet.training.setup import load_teacher

        if tune and threshold is not None:
            raise ConfigError(f"--tune chooses thresholds, so --threshold {threshold} has no use; leave one of them out")
        contestants = load_models(models, runtime=runtime, threads=_cores())
        for contestant in contestants:
            console.ok("Model", contestant.name, contestant.description)
        thresholds = read_thresholds(threshold, contestants) if threshold is not None else None
        settings = Config.read(config) if config else Config()
        evaluator = Evaluator(
            data, split, tune=tune, windows_per_record=windows, seed=seed, targets=targets, keep=out / KEPT, config=settings
        )
        console.ok("Data", f"{evaluator.name}, split {split}", f"{len(evaluator.windows)} windows of {len(evaluator.records)} records")
        distillation = settings.distillation.model_copy(update={"teacher": teacher})
        archive = Archive(noise) if noise else None
        try:
            with console.WindowProgress("Scoring", len(contestants) * evaluator.total) as progress:
                found = judge(
                    evaluator,
                    contestants,
                    thresholds=thresholds,
                    teacher=load_teacher(distillation),
                    archive=archive,
                    watch=progress.update,
                )
        except KeyboardInterrupt:
            console.warn("Scoring", "stopped", f"what models gave is kept in {out / KEPT}; the same command goes on")
            raise
        if archive is not None:
            _tell_skipped(archive)
        page = write_report(found, out)
        console.table(*table(found.metrics))
        console.ok("Report", "written", f"{page} and {out / 'metrics.json'}")


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Folder for the run and the pictures.")] = Path("runs/demo"),
    teacher: Annotated[str, typer.Option(help="As in train; 'bundled' where it cannot be had.")] = "stead",
) -> None:
    """Train for two minutes on made-up records, then pick a real one."""
    with _errors_told():
        from xiaonet.config.schema import Config
        from xiaonet.errors import TeacherError
        from xiaonet.nn.teacher import BUNDLED
        from xiaonet.training.setup import load_teacher

        settings = Config().override([*DEMO, f"distillation.teacher={json.dumps(teacher)}"])
        try:
            load_teacher(settings.distillation)
        except TeacherError as error:
            console.fail("Teacher", "not to be had", str(error))
            console.warn("Teacher", BUNDLED, "this demo goes on with the teacher that comes with XiaoNet")
            settings = settings.override([f"distillation.teacher={BUNDLED}"])
        folder = _fresh(out)
        _train(settings, folder, "xiaonet demo: short, to see it work")
        picture = _pick_example(folder)
        console.ok("Demo", "done", f"look at {folder / 'history.png'} and {picture}")


@app.command()
def quantize(
    model: Annotated[str, typer.Argument(help="A model file of `xiaonet train`, such as saved_model_fp32.pth, or a shipped name.")],
    data: Annotated[str, typer.Option(help="SeisBench class, folder or name; windows of its split train calibrate; joined by +.")],
    out: Annotated[Path, typer.Option(help="Folder of the four model files and quantization.md.")] = Path("quantized"),
    judge: Annotated[str | None, typer.Option(help="Labelled records to compare on, split test; split dev of --data by default.")] = None,
    qat: Annotated[int, typer.Option("--qat", min=0, help="Epochs of training with the rounding in place; 0 for none.")] = 0,
    windows: Annotated[int, typer.Option(min=1, help="Windows that calibrate, and of an epoch of --qat.")] = 512,
    seed: Annotated[int, typer.Option(min=0, help="Random seed of the choice of windows.")] = 0,
) -> None:
    """Quantize a model to INT8, for torch and as ONNX, and report what that cost and brought."""
    with _errors_told("evaluate,export"):
        from xiaonet.deploy.comparison import compare, to_markdown
        from xiaonet.deploy.quantize import Calibration
        from xiaonet.deploy.quantize import quantize as round_down
        from xiaonet.evaluation.evaluator import Evaluator
        from xiaonet.shipped import model_path

        with console.busy("Calibrating"):
            files = round_down(
                model_path(model, ".pth"),
                data,
                out,
                Calibration(windows, seed, qat),
                watch=lambda epoch, loss: console.say(f"Epoch {epoch}/{qat}  loss: {loss:.6f}"),
            )
        for name, path in files.items():
            console.ok("Written", name, f"{path.stat().st_size / 1000:.0f} KB")
        evaluator = Evaluator(judge or data, "test" if judge else "dev", seed=seed)
        with console.WindowProgress("Comparing", 2 * evaluator.total) as progress:
            found = compare(out, evaluator, progress.update)
        console.say(to_markdown(found))
        console.ok("Comparison", "written", f"{out / 'quantization.md'} and .json")


@app.command()
def export(
    model: Annotated[str, typer.Argument(help="A model file such as saved_model_fp32.pth or saved_model_int8.pth, or a shipped name.")],
    kind: Annotated[str, typer.Option("--format", help="onnx, openvino or executorch.")] = "onnx",
    out: Annotated[Path | None, typer.Option(help="The new file; by default beside the model, or here for a shipped one.")] = None,
) -> None:
    """Write a model for runtimes that pick without torch."""
    with _errors_told("train,export"):
        from xiaonet.deploy.export import export as write
        from xiaonet.deploy.export import suffix
        from xiaonet.files import make_folder
        from xiaonet.shipped import WEIGHTS, model_path

        source = model_path(model, ".pth")
        target = out or (Path(model) if source.parent == WEIGHTS else source).with_suffix(suffix(kind))
        make_folder(target.parent)
        for path in write(source, kind, target):
            console.ok("Export", "written", f"{path}, {path.stat().st_size / 1000:.0f} KB")


@app.command()
def recipe(
    file: Annotated[Path, typer.Argument(help="A recipe, such as recipes/xiaonet-nano.json; its name becomes the model's.")],
    data: Annotated[Path, typer.Option(help="Folder in which the recipe's data are looked for first.")] = Path(),
    out: Annotated[Path, typer.Option(help="Folder of the model; an interrupted run there goes on.")] = Path("runs/recipes"),
) -> None:
    """Make a model as the shipped ones were made: fused teachers, many crops, and files ready to ship, INT8 among them."""
    with _errors_told("train,export"):
        from xiaonet.deploy.onnx import check_packages, export_onnx
        from xiaonet.deploy.quantize import round_down
        from xiaonet.training.recipe import Recipe, cook

        chosen = Recipe.read(file)
        if chosen.network == "xiaonet":
            check_packages()  # before an hour of training rather than after it
        done = cook(chosen, file.stem, data, out)
        files = [done.model]
        if chosen.network == "xiaonet":
            rounded = done.model.with_name(f"{file.stem}-int8.pth")
            with console.busy("Quantizing"):
                round_down(done.model, done.data, rounded)
                for model in (done.model, rounded):
                    export_onnx(model, model.with_suffix(".onnx"))
                    files += [model, model.with_suffix(".onnx")]
        for phase, scores in done.dev.items():
            console.ok(f"Dev {phase}", ", ".join(f"{name} {value:g}" for name, value in scores.items()))
            if not scores["F1"]:
                console.warn(f"Dev {phase}", "nothing is found", "it has not learnt yet: give the recipe more steps or minutes")
        console.ok("Recipe", f"{done.windows} windows seen", ", ".join(map(str, dict.fromkeys(files))))


@app.command()
def info(
    model: Annotated[str | None, typer.Argument(help="A shipped name or a .pth file; a fresh XiaoNet by default.")] = None,
) -> None:
    """Size, cost, context, contract and provenance of a model, beside PhaseNet."""
    with _errors_told():
        from seisbench.models import PhaseNet

        from xiaonet.constants import input_specification
        from xiaonet.nn.checkpoint import load_model, read_model_file
        from xiaonet.nn.model import XiaoNet, count_multiply_adds
        from xiaonet.shipped import model_path

        path = model_path(model, ".pth") if model else None
        shape: dict[str, Any] = load_model(path).arguments if path else {}  # a quantized one has fewer numbers, but the same shape
        ours, theirs = XiaoNet(**shape), PhaseNet()
        rows = {
            "parameters": lambda m: f"{sum(p.numel() for p in m.parameters()):,}",
            "multiply-adds a window": lambda m: f"{count_multiply_adds(m) / 1e6:.1f} million",
        }
        console.say(f"{'':24}{'XiaoNet':>16}{'PhaseNet':>16}")
        for name, measure in rows.items():
            console.say(f"{name:24}{measure(ours):>16}{measure(theirs):>16}")
        console.say(f"{'receptive field':24}{f'{ours.receptive_field} samples':>16}")
        console.info("Model", ours.arguments)
        console.info("Contract", input_specification())
        if path:
            content = read_model_file(path)
            console.say(f"Precision: {content['precision']}")
            console.info("Thresholds", content["thresholds"])
            console.info("Provenance", content["provenance"])


def _train(settings: Any, folder: Path, note: str) -> None:
    from xiaonet.training.run import start_run

    start_run(settings, folder, note=note)


def _train_several(settings: Any, folder: Path, note: str, students: int) -> None:
    """A run for each seed from the configured one on; those that are finished are left, others gone on with."""
    from xiaonet.training.run import resume_run
    from xiaonet.training.run_folder import read_manifest

    for number in range(students):
        own = folder / f"student-{number + 1}"
        if not (own / "manifest.json").exists():
            _train(settings.override([f"training.seed={settings.training.seed + number}"]), own, note)
        elif "best_dev_loss" not in read_manifest(own):
            resume_run(own)
    models = "+".join(str(folder / f"student-{number + 1}" / "saved_model_fp32.pth") for number in range(students))
    console.ok("Students", f"{students} trained", f"averaged by: xiaonet pick FOLDER --model {models}")


def _new_folder() -> Path:
    return Path("runs") / datetime.now().strftime("%Y%m%d-%H%M%S")


def _reason(settings: Any, note: str) -> str:
    """The reason for what was changed; asked for where there is a terminal and none was given."""
    changed = [key for key in settings.changes() if not key.startswith(NEEDS_NO_REASON)]
    if not changed or note or os.environ.get("RANK", "0") != "0":
        return note
    note = console.ask(f"Why {', '.join(changed)}? (one line, for notes.md)")
    if not note:
        console.warn("Settings", "changed without a reason", f"{', '.join(changed)}; give one with --note for notes.md")
    return note


def _pick_example(folder: Path) -> Path:
    """Pick ObsPy's example record, 30 s of a local earthquake in Bavaria, and draw the result."""
    import obspy

    from xiaonet.files import write_atomically
    from xiaonet.picker import Picker
    from xiaonet.plots.record import to_png

    picker, stream = Picker(folder / "saved_model_fp32.pth"), obspy.read()
    picks = picker.pick(stream)
    for phase, height in picker.thresholds.items():
        found = ", ".join(f"{pick.time} ({pick.probability:.2f})" for pick in picks if pick.phase == phase)
        console.ok(f"Pick {phase}", found or "none", f"probability at least {height:g}")
    picture = folder / "picks.png"
    write_atomically(picture, lambda file: file.write(to_png(picker.plot(stream))))
    return picture


def _gallery(out: Path, picker: Any) -> Any:
    from xiaonet.apps.day_plots import DayPlots

    return DayPlots(out.with_name(f"{out.stem}_plots"), picker.thresholds)


def _time_ns(option: str, text: str | None) -> int | None:
    """Nanoseconds since 1970-01-01 of a UTC time on the command line."""
    if text is None:
        return None
    try:
        time_utc = datetime.fromisoformat(text)
    except ValueError as error:
        raise ConfigError(f"{option} is {text!r}; wanted a UTC time such as 2014-05-01 or 2014-05-01T06:00:00") from error
    return round((time_utc if time_utc.tzinfo else time_utc.replace(tzinfo=UTC)).timestamp() * 1e6) * 1000


def _cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _tell_skipped(archive: Any) -> None:
    """Say what could not be used; all of a few, the first of many."""
    problems = list(archive.problems)
    for problem in problems[:SKIPS_TOLD]:
        console.warn("Skipped", problem)
    if len(problems) > SKIPS_TOLD:
        console.warn("Skipped", f"and {len(problems) - SKIPS_TOLD} more")


def _fresh(folder: Path) -> Path:
    """The folder itself, or the first of folder-2, folder-3, … that holds no run."""
    number, candidate = 1, folder
    while (candidate / "manifest.json").exists():
        number += 1
        candidate = folder.with_name(f"{folder.name}-{number}")
    return candidate


@contextmanager
def _errors_told(extras: str = "train,plots") -> Iterator[None]:
    """Turn our errors into a line and an exit status, a missing package into what installs it; let surprises keep their trace."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a terminal without ✓ shows ?
    try:
        yield
    except XiaoNetError as error:
        console.fail(type(error).__name__.removesuffix("Error"), "stopped", str(error))
        raise typer.Exit(1) from error
    except ModuleNotFoundError as error:
        console.fail("Install", f"{error.name} is missing", f"pip install 'xiaonet[{extras}]'")
        raise typer.Exit(1) from error
    except KeyboardInterrupt as error:
        console.warn("Stopped", "by Ctrl-C")
        raise typer.Exit(INTERRUPTED) from error
