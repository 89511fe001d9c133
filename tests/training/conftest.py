"""A teacher and settings small enough to train within a second."""

from pathlib import Path

import pytest
import torch
from seisbench.models import PhaseNet

from xiaonet.config.schema import Config


@pytest.fixture(scope="session")
def teacher_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained PhaseNet in SeisBench's file format; needs no network."""
    torch.manual_seed(1)
    path = tmp_path_factory.mktemp("teacher") / "untrained"
    PhaseNet(phases="NPS", component_order="ZNE", norm="std").save(path)
    return path.with_suffix(".pt")


@pytest.fixture(scope="session")
def other_teacher_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Another, of other orders and another normalisation."""
    torch.manual_seed(2)
    path = tmp_path_factory.mktemp("teacher") / "other"
    PhaseNet(phases="PSN", component_order="ENZ", norm="peak").save(path)
    return path.with_suffix(".pt")


@pytest.fixture
def small(teacher_file: Path) -> Config:
    """Settings of a run of two epochs, eight batches each, on made-up records."""
    return Config().override(
        [
            "data.synthetic_records=40",
            f"distillation.teacher={teacher_file}",
            "model.base_channels=2",
            "training.batch_size=4",
            "training.epochs=2",
            "training.num_workers=0",
            "training.precision=32-true",
        ]
    )
