"""What a run's folder says to those who read it: manifest, history, notes and picture."""

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from xiaonet.config.schema import Config
from xiaonet.errors import CheckpointError
from xiaonet.plots.history import draw_history
from xiaonet.plots.style import to_png
from xiaonet.training.diagnostics import Advice, EpochRecord

RESULTS = ("best_epoch", "best_dev_loss", "test_loss", "times_tested")


def notes(name: str, config: Config, manifest: Mapping[str, Any], history: Sequence[EpochRecord], advice: Sequence[Advice]) -> str:
    """The text of `notes.md`: what was changed and why, what happened, what is advised, what came out."""
    changes = [f"| {key} | {old} | {new} |" for key, (old, new) in config.changes().items()]
    rates = [row.learning_rate for row in history]
    reductions = [f"- epoch {i + 2}: {rates[i]:g} to {rates[i + 1]:g}" for i in range(len(rates) - 1) if rates[i + 1] < rates[i]]
    sections = {
        "Changes from the defaults": ["| setting | default | here |", "|---|---|---|", *changes] if changes else ["None."],
        "Reason": [manifest["note"] or ("Not given." if changes else "Nothing was changed.")],
        "Learning rate": reductions or ["Not reduced so far."],
        "Advice": [f"- {item}" for item in advice] or ["None: nothing in the history calls for it."],
        "Results": [f"- {key}: {manifest[key]}" for key in RESULTS] if "best_epoch" in manifest else ["Not finished."],
    }
    body = "\n\n".join(f"## {title}\n\n" + "\n".join(lines) for title, lines in sections.items())
    return f"# Run {name}\n\nStarted {manifest['started']}.\n\n{body}\n"


def history_csv(history: Sequence[EpochRecord]) -> str:
    """The text of `history.csv`, a line an epoch."""
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, [f.name for f in fields(EpochRecord)], lineterminator="\n")
    writer.writeheader()
    writer.writerows(asdict(row) for row in history)
    return buffer.getvalue()


def history_png(history: Sequence[EpochRecord], title: str) -> bytes:
    """The picture `history.png`."""
    columns = {f.name: [getattr(row, f.name) for row in history] for f in fields(EpochRecord)}
    return to_png(draw_history(columns, title))


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of the run in a folder.

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
