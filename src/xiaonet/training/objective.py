"""What the two objectives of the trainer share, and the result of a run."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import nn

from xiaonet import console
from xiaonet.config.schema import Config
from xiaonet.nn.checkpoint import digest
from xiaonet.nn.model import XiaoNet
from xiaonet.nn.teacher import Teacher
from xiaonet.training.diagnostics import EpochRecord
from xiaonet.training.run_folder import RunFolder

AfterBatch = Callable[[], None]


@dataclass(frozen=True)
class TrainingResult:
    """A finished run.

    Attributes:
        folder: of the run.
        model: the model file.
        data: names of the data sets, as `open_data` takes them.
        windows: number of training windows seen.
        history: a row for each epoch; empty for drawn windows.
        best_epoch: the epoch that was kept; 0 for drawn windows.
        best_dev_loss: its dev loss.
        test_loss: its loss on the test split, if there is one.
        dev: for drawn windows, by phase: F1, threshold, and recall within 0.1 s on the dev split.
    """

    folder: Path
    model: Path
    data: str
    windows: int
    history: list[EpochRecord] = field(default_factory=list)
    best_epoch: int = 0
    best_dev_loss: float = float("nan")
    test_loss: float | None = None
    dev: dict[str, dict[str, float]] = field(default_factory=dict)


class Objective:
    """What both objectives share. Each also has `done`, `advance`, `state`, `restore`, `write_records` and `finish`.

    Args:
        config: all settings.
        fabric: device, precision and processes.
        run: files of the run. The objective adds `data` and `teacher` to its manifest.
        student: the network to train.
        teacher: frozen; None to learn from the labels alone.
    """

    optimizer: Any  # wrapped by Fabric
    scheduler: Any

    def __init__(self, config: Config, fabric: Fabric, run: RunFolder, student: nn.Module, teacher: Teacher | None) -> None:
        self.config, self.fabric, self.run, self.student, self.teacher = config, fabric, run, student, teacher
        self.teacher_digest = digest(teacher.state_dict()) if teacher is not None else ""
        run.manifest["teacher"] = teacher.describe() if teacher is not None else "none"

    def begin(self, resumed: bool) -> None:
        """Called before training, after a saved state has been restored if there is one."""

    def close(self) -> None:
        """Called after the run has ended in any way."""

    def seed_dropout(self, *place: int) -> None:
        """Seed torch for the next batch. Only dropout draws from torch while training."""
        numbers = (self.config.training.seed, *place, self.fabric.global_rank)
        torch.manual_seed(hash(numbers) % 2**63)  # hashes of integers are the same in every process

    def print_parts(self) -> None:
        """Print data, teacher and student, and settings outside the advised range."""
        console.info("Data", self.run.manifest["data"])
        if self.teacher is None:
            console.warn("Teacher", "none", "the student learns from the labels alone; nothing is distilled")
        else:
            console.info("Teacher", self.teacher.describe())
        described: dict[str, object] = {"parameters": f"{sum(p.numel() for p in self.student.parameters()):,}"}
        if isinstance(self.student, XiaoNet):
            described |= {"receptive field": f"{self.student.receptive_field} samples", **self.student.arguments}
        console.info("Student", described)
        for text in self.config.warnings():
            console.warn("Settings", "outside the advised range", text)
