"""Several students of one configuration."""

import json
import re
from pathlib import Path

import pytest

from xiaonet.config.schema import Config
from xiaonet.errors import ConfigError
from xiaonet.training.students import train_students


def test_other_settings_over_finished_students_are_refused_with_what_differs(small: Config, tmp_path: Path) -> None:
    short = small.override(["training.epochs=1", "distillation.teacher=none"])
    models = train_students(short, tmp_path, 1)
    before = models[0].read_bytes()
    message = re.escape(f"{tmp_path / 'student-1'} holds a run with other settings: training.epochs 1, wanted 2, model.dropout 0.0, wanted")
    with pytest.raises(ConfigError, match=message):
        train_students(short.override(["training.epochs=2", "model.dropout=0.1"]), tmp_path, 2)
    assert before == models[0].read_bytes()
    assert not (tmp_path / "student-2").exists()
    with pytest.raises(ConfigError, match=r"training\.seed 0, wanted 5"):
        train_students(short.override(["training.seed=5"]), tmp_path, 1)


def test_more_students_can_be_added_on_another_device(small: Config, made_up: Path, tmp_path: Path) -> None:
    short = small.override(["training.epochs=1", "distillation.teacher=none", f"data.name={made_up}"])
    first = train_students(short, tmp_path, 1)[0]
    before = first.read_bytes()
    elsewhere = short.override(["device.use_cuda=false", "training.num_workers=1", "training.checkpoint_minutes=1"])
    models = train_students(elsewhere, tmp_path, 2)
    assert [tmp_path / f"student-{number}" / "saved_model_fp32.pth" for number in (1, 2)] == models
    assert before == first.read_bytes() != models[1].read_bytes()
    assert 1 == json.loads((tmp_path / "student-2" / "config.json").read_text())["training"]["seed"]
