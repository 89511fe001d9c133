"""What several commands share: the types of their options, with one help text each."""

import os
from pathlib import Path
from typing import Annotated

import typer

DATA = "SeisBench class, folder or name; join several with +."
RUNTIME = "What runs the model. auto: torch for .pth, OpenVINO for .xml, onnxruntime otherwise."

RunFolder = Annotated[Path | None, typer.Option("--out", help="Folder of the run.", show_default="runs/DATE-TIME")]
Assignments = Annotated[
    list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="Change a setting, such as training.epochs=5; repeatable.")
]


def usable_cores() -> int:
    """Number of CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
