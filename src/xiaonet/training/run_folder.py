"""The folder of one run: settings, manifest, state, models, and what people read: history, notes and picture."""

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

from seisbench.models import PhaseNet
from torch import nn

from xiaonet import console
from xiaonet.config.schema import Config
from xiaonet.errors import CheckpointError, OutputError
from xiaonet.files import write_atomically
from xiaonet.nn.checkpoint import load_tensors, save_model, save_tensors
from xiaonet.nn.model import XiaoNet
from xiaonet.nn.teacher import save_phasenet
from xiaonet.plots.history import draw_history
from xiaonet.plots.style import to_png
from xiaonet.training.diagnostics import Advice, EpochRecord

STATE_KIND = "xiaonet-run"
RESULTS = ("best_epoch", "best_dev_loss", "test_loss", "times_tested", "steps", "windows", "minutes", "dev")
FINISHED = ("best_dev_loss", "dev")  # one of them is in the manifest of a finished run


class RunFolder:
    """Writes and reads the files of a run. Of several processes, only the first writes.

    Args:
        path: the folder.
        config: all settings.
        manifest: what is known of the run; the objective adds to it.
        writes: whether this process writes.
        earlier: the manifest that the folder held when a run is resumed.
    """

    def __init__(self, path: Path, config: Config, manifest: dict[str, Any], *, writes: bool, earlier: Mapping[str, Any] | None) -> None:
        self.path, self.config, self.manifest, self.writes = path, config, manifest, writes
        self.earlier: Mapping[str, Any] = earlier or {}
        self.state_file = path / "resume.pt"
        self.resume_command = f"xiaonet train --resume {path}"

    def write(self, name: str, content: str | bytes) -> None:
        """Write a file whole or not at all."""
        if self.writes:
            data = content.encode() if isinstance(content, str) else content
            write_atomically(self.path / name, lambda file: file.write(data))

    def write_manifest(self) -> None:
        """Write `manifest.json`."""
        self.write("manifest.json", json.dumps(self.manifest, indent=2) + "\n")

    def save_model(self, model: nn.Module, path: Path, thresholds: Mapping[str, float] | None = None) -> None:
        """Write a student, or a PhaseNet without thresholds, with the manifest and the settings as its provenance."""
        if not self.writes:
            return
        provenance = {**self.manifest, "config": self.config.model_dump(mode="json")}
        if isinstance(model, XiaoNet):
            save_model(model, path, provenance, thresholds)
        elif isinstance(model, PhaseNet):
            save_phasenet(model, path, provenance)

    def save_state(self, state: Mapping[str, Any]) -> None:
        """Write `resume.pt`."""
        if self.writes:
            save_tensors(self.state_file, STATE_KIND, state)

    def load_state(self) -> dict[str, Any] | None:
        """Read `resume.pt`; None if there is none. Removes what a kill during a save has left behind."""
        if not self.state_file.exists():
            return None
        state = load_tensors(self.state_file, STATE_KIND)
        for leftover in self.path.glob(".resume.pt.*"):
            leftover.unlink(missing_ok=True)
        return state


def make_run_folder(path: Path) -> None:
    """Make a folder for a new run.

    Raises:
        OutputError: it holds a run already, or cannot be written to.
    """
    try:
        if (path / "manifest.json").exists():
            raise OutputError(f"{path} holds a run already: resume it with --resume {path}, or choose another --out")
        path.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=path):
            pass  # it can be written to
    except OSError as error:
        raise OutputError(f"{path} cannot be made or written to: {error}; choose another --out") from error


def read_manifest(folder: Path) -> dict[str, Any]:
    """Read the manifest of the run in a folder.

    Raises:
        CheckpointError: there is none, or it is damaged.
    """
    path = folder / "manifest.json"
    try:
        manifest: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise CheckpointError(f"there is no run in {folder}: {path.name} is missing") from error
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} is damaged: {error}") from error
    if not isinstance(manifest, dict) or not {"started", "note"} <= set(manifest):
        raise CheckpointError(f"{path} is damaged: it lacks what a run writes, 'started' and 'note'")
    return manifest


def is_finished(manifest: Mapping[str, Any]) -> bool:
    """Whether a run has finished, from its manifest."""
    return any(key in manifest for key in FINISHED)


def notes(name: str, config: Config, manifest: Mapping[str, Any], history: Sequence[EpochRecord], advice: Sequence[Advice]) -> str:
    """Return the text of `notes.md`: changed settings and the reason, learning rate, advice and results."""
    changes = [f"| {key} | {old} | {new} |" for key, (old, new) in config.changes().items()]
    rates = [row.learning_rate for row in history]
    reductions = [f"- epoch {i + 2}: {rates[i]:g} to {rates[i + 1]:g}" for i in range(len(rates) - 1) if rates[i + 1] < rates[i]]
    results = [f"- {key}: {manifest[key]}" for key in RESULTS if key in manifest]
    sections = {
        "Changes from the defaults": ["| setting | default | here |", "|---|---|---|", *changes] if changes else ["None."],
        "Reason": [manifest["note"] or ("Not given." if changes else "Nothing was changed.")],
        "Learning rate": reductions or ["Not reduced so far."],
        "Advice": [f"- {item}" for item in advice] or ["None: nothing in the history calls for it."],
        "Results": results if is_finished(manifest) else ["Not finished."],
    }
    if config.objective.kind == "drawn_windows":
        del sections["Learning rate"], sections["Advice"]
    body = "\n\n".join(f"## {title}\n\n" + "\n".join(lines) for title, lines in sections.items())
    return f"# Run {name}\n\nStarted {manifest['started']}.\n\n{body}\n"


def history_csv(history: Sequence[EpochRecord]) -> str:
    """Return the text of `history.csv`, a line for each epoch."""
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, [f.name for f in fields(EpochRecord)], lineterminator="\n")
    writer.writeheader()
    writer.writerows(asdict(row) for row in history)
    return buffer.getvalue()


def history_png(history: Sequence[EpochRecord], title: str) -> bytes | None:
    """Return the picture `history.png`; None without epochs or without matplotlib."""
    if not history:
        return None
    if find_spec("matplotlib") is None:
        console.warn("History", "no picture", "pip install 'xiaonet[plots]' for history.png")
        return None
    columns = {f.name: [getattr(row, f.name) for row in history] for f in fields(EpochRecord)}
    return to_png(draw_history(columns, title))
