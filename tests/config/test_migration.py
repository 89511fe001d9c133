"""Settings as the previous release spelt them."""

from pathlib import Path
from typing import Any

import pytest

from xiaonet.config.schema import Config
from xiaonet.errors import ConfigError


def test_settings_of_an_older_run_are_read_with_one_warning(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "config.json"
    path.write_text(
        '{"training": {"start": "xiaonet-nano", "epochs": 3}, "model": {"base_channels": 5},'
        ' "distillation": {"teacher": "stead+start", "shares": {"stead": 1, "initial": 2}, "late": {"stead": 4}}}'
    )
    found = Config.read(path)
    assert ("xiaonet-nano", 3) == (found.training.initial_model, found.training.epochs)
    assert ("stead+initial", {"stead": 1, "initial": 2}, {"stead": 4}) == (
        found.distillation.teacher,
        found.distillation.teacher_weights,
        found.distillation.delays,
    )
    told = " ".join(capsys.readouterr().out.split())
    assert (
        f"! Settings: old spelling - {path}: training.start is now training.initial_model, "
        "distillation.shares is now distillation.teacher_weights, distillation.late is now distillation.delays, "
        "the teacher start is now the teacher initial; the next release will not accept the old ones"
    ) == told


def test_older_spellings_on_the_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    before = {"stead": -1, "original": 2, "okla": -1}
    one = Config().override(["distillation.late.original=3", "distillation.shares.stead=1"])
    assert {
        "distillation.delays": (before, {**before, "original": 3}),
        "distillation.teacher_weights": ({}, {"stead": 1}),
    } == one.changes()
    assert 1 == capsys.readouterr().out.count("old spelling")
    assert {"bundled": 1} == Config().override(['distillation.late={"bundled": 1}']).distillation.delays
    section = Config().override(['training={"start": "xiaonet"}', "distillation.teacher=start"])
    assert {"training.initial_model": ("none", "xiaonet"), "distillation.teacher": ("stead", "initial")} == section.changes()


def test_an_old_and_a_new_spelling_of_one_setting_exclude_each_other() -> None:
    with pytest.raises(ConfigError, match=r"training\.start and training\.initial_model are both given, but they are one setting"):
        Config.parse({"training": {"start": "xiaonet", "initial_model": "xiaonet"}})


def test_new_settings_cause_no_warning(capsys: pytest.CaptureFixture[str]) -> None:
    Config.parse({"training": {"epochs": 3}, "note": "mine", "labels": {"weight": 0.3}}).override(["training.initial_model=none"])
    assert "" == capsys.readouterr().out


def test_an_old_recipe_with_every_setting() -> None:
    """By hand, from the words of the previous release."""
    recipe = {
        "note": "mine",
        "labelled": "here",
        "unlabelled": "there",
        "continuous": ["sds/2014"],
        "teachers": {"stead": 0.5, "original": 0.5},
        "late": {"stead": -3},
        "shares": {"manual": 0.6, "continuous": 0.4},
        "temperature": 2.0,
        "labels": {"weight": 0.7},
        "chances": {"aimed": 0.1},
        "network": "xiaonet",
        "base_channels": 5,
        "start": "xiaonet-nano",
        "steps": 0,
        "minutes": 3.5,
        "batch_size": 8,
        "learning_rate": 1e-4,
        "average": 0.9,
        "anew": 0.25,
        "precision": "bf16-mixed",
        "compile": True,
        "seed": 4,
    }
    expected: dict[str, Any] = {
        "note": "mine",
        "data": {
            "name": "here",
            "unlabelled": "there",
            "continuous": ["sds/2014"],
            "source_weights": {"manual": 0.6, "continuous": 0.4},
        },
        "distillation": {
            "teacher": "stead+original",
            "teacher_weights": {"stead": 0.5, "original": 0.5},
            "delays": {"stead": -3},
            "temperature": 2.0,
            "online_weight": 0.25,
        },
        "labels": {"weight": 0.7},
        "augmentation": {"onset_centred": 0.1},
        "model": {"network": "xiaonet", "base_channels": 5},
        "training": {
            "initial_model": "xiaonet-nano",
            "batch_size": 8,
            "learning_rate": 1e-4,
            "precision": "bf16-mixed",
            "compile": True,
            "seed": 4,
        },
        "objective": {"kind": "drawn_windows", "steps": 0, "minutes": 3.5, "averaging_decay": 0.9},
    }
    assert Config.parse(expected) == Config.parse(recipe)


def test_an_old_recipe_keeps_the_defaults_that_recipes_had() -> None:
    found = Config.parse({"steps": 5, "start": ""})
    assert ("drawn_windows", 5, "labelled", "stead", {}) == (
        found.objective.kind,
        found.objective.steps,
        found.data.name,
        found.distillation.teacher,
        found.distillation.delays,
    )
    assert (32, 3e-3, "32-true", "none", 1.0) == (
        found.training.batch_size,
        found.training.learning_rate,
        found.training.precision,
        found.training.initial_model,
        found.distillation.temperature,
    )
