import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from xiaonet import PLAIN, WIDE
from xiaonet.config.schema import Config, DataSettings, DistillationSettings
from xiaonet.errors import ConfigError, DataError, TeacherError
from xiaonet.training import setup as parts


def test_the_student_has_the_configured_width_dropout_and_context():
    student = parts.make_student(Config().override(["model.base_channels=5", "model.dropout=0.2", "model.dilations=plain"]))
    assert (5, 0.2, tuple(PLAIN)) == tuple(student.arguments[key] for key in ("base_channels", "dropout", "dilations"))
    assert tuple(WIDE) == parts.make_student(Config()).arguments["dilations"]


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_a_chosen_precision_is_used(precision):
    assert precision == parts.resolve_precision(Config().override([f"training.precision={precision}"]))


@pytest.mark.parametrize(
    ("capabilities", "expected"), [({"avx512_bf16": True}, "bf16-mixed"), ({"avx512_bf16": False, "avx2": True}, "32-true")]
)
def test_auto_is_bf16_where_the_processor_computes_in_it(monkeypatch, capabilities, expected):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)
    assert expected == parts.resolve_precision(Config().override(["device.use_cuda=false"]))


def test_an_installed_copy_within_a_foreign_checkout_has_no_commit(tmp_path):
    package = tmp_path / "venv" / "xiaonet"
    shutil.copytree(Path(parts.__file__).parents[1], package)
    prepare = "git init -q && git -c user.name=a -c user.email=b commit -q --allow-empty -m x"
    subprocess.run(prepare, shell=True, cwd=tmp_path, check=True)
    code = "from xiaonet.training import setup as parts; print(parts.__file__, parts.git_commit())"
    told = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": str(package.parent)}, capture_output=True, text=True, check=True
    ).stdout.split()
    assert [str(package / "training" / "setup.py"), "None"] == told


def test_versions_of_what_decides_a_result():
    found = parts.versions()
    assert ["python", "xiaonet", "torch", "seisbench", "lightning-fabric", "numpy"] == list(found)
    assert torch.__version__ == found["torch"]


def test_teachers_joined_by_plus_are_fused(teacher_file, other_teacher_file):
    one, two = str(teacher_file), str(other_teacher_file)
    settings = DistillationSettings(teacher=f"{one} + {two}", teacher_weights={two: 3, one: 1}, delays={one: 2})
    teacher = parts.load_teacher(settings)
    assert (f"{one}+{two}", {one: 0.25, two: 0.75}, {one: 2, two: 0}) == (teacher.name, teacher.weights, teacher.delays)
    assert {one: 0.5, two: 0.5} == parts.load_teacher(DistillationSettings(teacher=f"{one}+{two}")).weights


def test_the_known_teachers_are_shifted_to_agree_by_default(teachers):
    assert {"stead": -1, "original": 2, "okla": -1} == parts.load_teacher(DistillationSettings(teacher="stead+original+okla")).delays


def test_a_file_whose_name_holds_a_plus_is_one_teacher(teacher_file, tmp_path):
    for kind in (".pt", ".json"):
        shutil.copy(teacher_file.with_suffix(kind), tmp_path / f"one+two{kind}")
    assert "one+two.pt" == parts.load_teacher(DistillationSettings(teacher=str(tmp_path / "one+two.pt"))).name


@pytest.mark.parametrize(
    ("values", "error", "message"),
    [
        ({"teacher": "bundled+bundled"}, ConfigError, "the teacher 'bundled+bundled' names bundled twice; name each once"),
        ({"teacher": "bundled+no/such.pt"}, TeacherError, "PhaseNet weights 'no/such.pt' could not be loaded"),
        ({"teacher": "bundled+none"}, TeacherError, "PhaseNet weights 'none' could not be loaded"),
        ({"teacher": "bundled+"}, ConfigError, "the teacher 'bundled+' names nothing before or after a +; wanted e.g. stead+original"),
        ({"teacher": "bundled+initial"}, ConfigError, "distillation.teacher is initial, and training.initial_model is none"),
        ({"teacher": "bundled", "teacher_weights": {"bundled": 1}}, ConfigError, "the teacher is 'bundled' alone; join several with +"),
        ({"teacher": "bundled+FILE", "teacher_weights": {"bundled": 1}}, ConfigError, "do not fit the teachers bundled+"),
        (
            {"teacher": "bundled+FILE", "teacher_weights": {"bundled": 1, "FILE": 1, "okla": 1}},
            ConfigError,
            "do not fit the teachers bundled+",
        ),
    ],
)
def test_teachers_that_cannot_be_fused(values, error, message, teacher_file):
    text = json.dumps(values).replace("FILE", str(teacher_file))
    with pytest.raises(error) as caught:
        parts.load_teacher(DistillationSettings(**json.loads(text)))
    assert message in str(caught.value)


def test_data_are_looked_up_below_the_root_first(tmp_path, monkeypatch):
    (tmp_path / "root" / "here").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    settings = DataSettings(name="here+STEAD", unlabelled="here", continuous=("sds/2014", "/sds"), root="root")
    assert ("root/here+STEAD", "root/here", ["root/sds/2014", "/sds"]) == parts.locate_data(settings)
    assert ("here+STEAD", "", ["sds"]) == parts.locate_data(DataSettings(name="here+STEAD", continuous=("sds",)))


@pytest.mark.parametrize(
    ("root", "message"),
    [("nowhere", "data.root is nowhere, and there is no such folder; wanted the one that holds synthetic"), ("a+b", "joins data sets")],
)
def test_a_root_that_cannot_be_used(root, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a+b").mkdir()
    with pytest.raises(DataError, match=message):
        parts.locate_data(DataSettings(root=root))
