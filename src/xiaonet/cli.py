"""The command line: one command for each thing that XiaoNet can do."""

import io
import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from xiaonet import __version__, console
from xiaonet.errors import XiaoNetError

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
    teacher: Annotated[str | None, typer.Option(help="PhaseNet weights of SeisBench, a local .pt file, or 'none'.")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the run; runs/DATE-TIME by default.")] = None,
    resume: Annotated[Path | None, typer.Option(help="Go on with the run in this folder.")] = None,
    assignments: Annotated[list[str] | None, typer.Option("--set", help="A setting, such as training.epochs=5; repeatable.")] = None,
    note: Annotated[str, typer.Option(help="Why the settings differ from the defaults; kept in notes.md.")] = "",
) -> None:
    """Teach a XiaoNet what a frozen PhaseNet and the labels know."""
    with _errors_told():
        from xiaonet.config import Config
        from xiaonet.errors import ConfigError

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
        _train(settings, out or Path("runs") / datetime.now().strftime("%Y%m%d-%H%M%S"), _reason(settings, note))


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Folder for the run and the pictures.")] = Path("runs/demo"),
    teacher: Annotated[str, typer.Option(help="PhaseNet weights of SeisBench, a local .pt file, or 'none'.")] = "stead",
) -> None:
    """Train for two minutes on made-up records, then pick a real one."""
    with _errors_told():
        from xiaonet.config import Config
        from xiaonet.errors import TeacherError
        from xiaonet.training.parts import load_teacher

        try:
            load_teacher(teacher)
        except TeacherError as error:
            console.fail("Teacher", "not to be had", str(error))
            console.warn("Teacher", "none", "this demo goes on without one: the student learns from the labels alone")
            teacher = "none"
        folder = _fresh(out)
        _train(Config().override([*DEMO, f"distillation.teacher={json.dumps(teacher)}"]), folder, "xiaonet demo: short, to see it work")
        picture = _pick_example(folder)
        console.ok("Demo", "done", f"look at {folder / 'history.png'} and {picture}")


@app.command()
def info(model: Annotated[Path | None, typer.Argument(help="A model file; a fresh XiaoNet by default.")] = None) -> None:
    """Size, cost, context, contract and provenance of a model, beside PhaseNet."""
    with _errors_told():
        from seisbench.models import PhaseNet

        from xiaonet.checkpoint import load_model, read_model_file
        from xiaonet.model import XiaoNet, count_multiply_adds
        from xiaonet.spec import contract

        ours, theirs = load_model(model) if model else XiaoNet(), PhaseNet()
        rows = {
            "parameters": lambda m: f"{sum(p.numel() for p in m.parameters()):,}",
            "multiply-adds a window": lambda m: f"{count_multiply_adds(m) / 1e6:.1f} million",
        }
        console.say(f"{'':24}{'XiaoNet':>16}{'PhaseNet':>16}")
        for name, measure in rows.items():
            console.say(f"{name:24}{measure(ours):>16}{measure(theirs):>16}")
        console.say(f"{'receptive field':24}{f'{ours.receptive_field} samples':>16}")
        console.info("Model", ours.arguments)
        console.info("Contract", contract())
        if model:
            console.info("Provenance", read_model_file(model)["provenance"])


def _train(settings: Any, folder: Path, note: str) -> None:
    from xiaonet.training.run import start_run

    start_run(settings, folder, note=note)


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
    import numpy as np
    import obspy
    import torch

    from xiaonet import plots
    from xiaonet.checkpoint import load_model, write_atomically
    from xiaonet.config import Config
    from xiaonet.picking.picks import find_picks
    from xiaonet.picking.windows import normalize
    from xiaonet.spec import COMPONENTS, PHASES

    stream = obspy.read()
    waveform = np.stack([stream.select(component=component)[0].data for component in COMPONENTS])
    with torch.inference_mode():
        probabilities = load_model(folder / "saved_model_fp32.pth")(torch.from_numpy(normalize(waveform))[None])[0].numpy()
    settings = Config().peak_detection
    picks = {phase: find_picks(probabilities[PHASES.index(phase)], settings.height, settings.distance) for phase in "PS"}
    start = stream[0].stats.starttime
    for phase, (samples, heights) in picks.items():
        found = ", ".join(f"{start + s * stream[0].stats.delta} ({h:.2f})" for s, h in zip(samples, heights, strict=True))
        console.ok(f"Pick {phase}", found or "none", f"probability at least {settings.height}")
    picture = folder / "picks.png"
    figure = plots.draw_picks(waveform, probabilities, picks, f"{stream[0].id[:-1]}?  {start}")
    write_atomically(picture, lambda file: file.write(plots.to_png(figure)))
    return picture


def _fresh(folder: Path) -> Path:
    """The folder itself, or the first of folder-2, folder-3, … that holds no run."""
    number, candidate = 1, folder
    while (candidate / "manifest.json").exists():
        number += 1
        candidate = folder.with_name(f"{folder.name}-{number}")
    return candidate


@contextmanager
def _errors_told() -> Iterator[None]:
    """Turn our errors into a line and an exit status; let surprises keep their trace."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a terminal without ✓ shows ?
    try:
        yield
    except XiaoNetError as error:
        console.fail(type(error).__name__.removesuffix("Error"), "stopped", str(error))
        raise typer.Exit(1) from error
    except ModuleNotFoundError as error:
        console.fail("Install", f"{error.name} is missing", "pip install 'xiaonet[train,plots]'")
        raise typer.Exit(1) from error
    except KeyboardInterrupt as error:
        console.warn("Stopped", "by Ctrl-C")
        raise typer.Exit(INTERRUPTED) from error
