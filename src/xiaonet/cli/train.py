"""`xiaonet train`, `finetune`, `recipe` and `demo`."""

import json
import os
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from xiaonet import console
from xiaonet.cli.options import DATA, Assignments, RunFolder
from xiaonet.errors import CheckpointError, ConfigError

# Settings of the place rather than of the experiment. Changing them needs no reason.
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
    "distillation.alpha=0.3",  # the teacher knows real earthquakes better than synthetic ones
)
FINETUNE = (
    "training.epochs=20",
    "training.patience=5",
    "training.learning_rate=1e-4",
    "distillation.temperature=1",  # the initial model's probabilities as they are
    "data.windows_per_record=5",
)


def train(
    config: Annotated[Path | None, typer.Option(help="JSON file of settings, such as the repository's config.json.")] = None,
    data: Annotated[str | None, typer.Option(help=f"Labelled records: {DATA} Or 'synthetic'.")] = None,
    teacher: Annotated[
        str | None, typer.Option(help="PhaseNet weights of SeisBench, 'bundled' or a local file; join several with +. Or 'none'.")
    ] = None,
    out: RunFolder = None,
    resume: Annotated[Path | None, typer.Option(help="Resume the run in this folder.")] = None,
    assignments: Assignments = None,
    students: Annotated[int, typer.Option(min=1, help="Number of models to train, each with its own seed. You can average them.")] = 1,
    note: Annotated[str, typer.Option(help="Why the settings differ from the defaults. Kept in notes.md.")] = "",
) -> None:
    """Train a model on labelled records and on the predictions of a frozen PhaseNet."""
    from xiaonet.config.schema import Config

    if resume is not None:
        given = {"--config": config, "--data": data, "--teacher": teacher, "--out": out, "--students": students if students > 1 else None}
        excluded = [option for option, value in given.items() if value is not None]
        if excluded:
            raise ConfigError(
                f"--resume and {', '.join(excluded)}: these options exclude each other; --resume takes its settings from the run"
            )
        from xiaonet.training.trainer import resume as resume_run

        resume_run(resume, assignments=assignments or (), note=note)
        return
    settings = (Config.read(config) if config else Config()).override(assignments or [])
    chosen = {"data.name": data, "distillation.teacher": teacher}
    settings = settings.override(f"{name}={json.dumps(value)}" for name, value in chosen.items() if value is not None)
    folder, reason = out or _new_folder(), _reason(settings, note)
    if students == 1:
        _train(settings, folder, reason)
    else:
        from xiaonet.training.students import train_students

        models = train_students(settings, folder, students, note=reason)
        console.ok("Students", f"{students} ready", f"average them with: xiaonet pick FOLDER --model {'+'.join(map(str, models))}")


def finetune(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="Model to start from: xiaonet, xiaonet-nano or a .pth file.")],
    data: Annotated[str, typer.Option(help=f"Labelled records: {DATA}")],
    out: RunFolder = None,
    assignments: Assignments = None,
    note: Annotated[str, typer.Option(help="Purpose of the run. Kept in notes.md.")] = "",
) -> None:
    """Adapt a model to your own records.

    The unchanged model is the teacher, so that the new one keeps what it learnt.
    """
    from xiaonet.config.schema import Config
    from xiaonet.nn.checkpoint import load_float
    from xiaonet.nn.model import PLAIN
    from xiaonet.shipped import model_path

    arguments = load_float(model_path(model, ".pth")).arguments
    context = "plain" if arguments["dilations"] == PLAIN else "wide"
    shape = [f"model.base_channels={arguments['base_channels']}", f"model.dilations={context}"]
    start = [f"data.name={json.dumps(data)}", f"training.initial_model={json.dumps(model)}", "distillation.teacher=initial"]
    settings = Config().override([*FINETUNE, *shape, *start, *(assignments or [])])
    _train(settings, out or _new_folder(), note or f"xiaonet finetune {model}")


def recipe(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="Recipe, such as recipes/xiaonet-nano.json. Its name becomes the model's name.")
    ],
    data: Annotated[Path, typer.Option(help="Folder in which the recipe's data sets are looked up first.")] = Path(),
    out: Annotated[Path, typer.Option(help="Folder of the model. The same command resumes an interrupted run.")] = Path("runs/recipes"),
) -> None:
    """Train a model in the way the shipped ones were trained.

    The model is written as .pth and .onnx, in float32 and INT8.
    """
    from xiaonet.config.schema import Config
    from xiaonet.deploy.onnx import check_packages, export_onnx
    from xiaonet.deploy.quantize import quantize_for_torch
    from xiaonet.files import write_atomically
    from xiaonet.training.trainer import train_or_resume

    settings = Config.read(file)
    settings = settings.override([f"data.root={json.dumps(str(data))}"])
    if settings.model.network == "xiaonet":
        check_packages()  # before an hour of training rather than after it
    if (old := out / f"{file.stem}.state").exists():
        raise CheckpointError(f"{old} was begun by an older release; finish it with that release, or delete it to start again")
    done = train_or_resume(settings, out / file.stem, records=out / "records.npz")
    model = out / f"{file.stem}.pth"
    write_atomically(model, lambda target: target.write(done.model.read_bytes()))
    files = [model]
    if settings.model.network == "xiaonet":
        quantized = model.with_name(f"{file.stem}-int8.pth")
        with console.busy("Quantizing"):
            quantize_for_torch(model, done.data, quantized)
            for path in (model, quantized):
                export_onnx(path, path.with_suffix(".onnx"))
        files = [path.with_suffix(suffix) for path in (model, quantized) for suffix in (".pth", ".onnx")]
    for phase, scores in done.dev.items():
        console.ok(f"Dev {phase}", ", ".join(f"{name} {value:g}" for name, value in scores.items()))
        if not scores["F1"]:
            console.warn(f"Dev {phase}", "no picks found", "the model has not learnt yet: give the recipe more steps or minutes")
    console.ok("Recipe", f"{done.windows} windows seen", ", ".join(map(str, files)))


def demo(
    out: Annotated[Path, typer.Option(help="Folder of the run and its pictures.")] = Path("runs/demo"),
    teacher: Annotated[str, typer.Option(help="Teacher, as in train. If it cannot be loaded, 'bundled' is used.")] = "stead",
) -> None:
    """Train for two minutes on synthetic records, then pick a real one."""
    from xiaonet.config.schema import Config
    from xiaonet.errors import TeacherError
    from xiaonet.nn.teacher import BUNDLED
    from xiaonet.training.setup import load_teacher

    settings = Config().override([*DEMO, f"distillation.teacher={json.dumps(teacher)}"])
    try:
        load_teacher(settings.distillation)
    except TeacherError as error:
        console.fail("Teacher", "could not be loaded", str(error))
        console.warn("Teacher", BUNDLED, "the demo continues with the teacher that comes with XiaoNet")
        settings = settings.override([f"distillation.teacher={BUNDLED}"])
    folder = _unused(out)
    _train(settings, folder, "xiaonet demo: a short run to see it work")
    picture = _pick_example(folder)
    console.ok("Demo", "done", f"see {folder / 'history.png'} and {picture}")


def _train(settings: Any, folder: Path, note: str) -> None:
    from xiaonet.training.trainer import train as train_in_folder

    train_in_folder(settings, folder, note=note)


def _new_folder() -> Path:
    return Path("runs") / datetime.now().strftime("%Y%m%d-%H%M%S")


def _unused(folder: Path) -> Path:
    """The folder itself, or the first of folder-2, folder-3, … that holds no run."""
    number, candidate = 1, folder
    while (candidate / "manifest.json").exists():
        number += 1
        candidate = folder.with_name(f"{folder.name}-{number}")
    return candidate


def _reason(settings: Any, note: str) -> str:
    """Why settings were changed. Without a note, the person at the terminal is asked."""
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
    from xiaonet.plots.style import to_png

    picker, stream = Picker(folder / "saved_model_fp32.pth"), obspy.read()
    picks = picker.pick(stream)
    for phase, threshold in picker.thresholds.items():
        found = ", ".join(f"{pick.time} ({pick.probability:.2f})" for pick in picks if pick.phase == phase)
        console.ok(f"Pick {phase}", found or "none", f"probability at least {threshold:g}")
    picture = folder / "picks.png"
    write_atomically(picture, lambda file: file.write(to_png(picker.plot(stream))))
    return picture
