import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from xiaonet import PLAIN, WIDE
from xiaonet.config import Config
from xiaonet.training import parts


def test_the_student_has_the_configured_width_dropout_and_context():
    student = parts.make_student(Config().override(["model.base_channels=5", "model.dropout=0.2", "model.dilations=plain"]))
    assert (5, 0.2, tuple(PLAIN)) == tuple(student.arguments[key] for key in ("base_channels", "dropout", "dilations"))
    assert tuple(WIDE) == parts.make_student(Config()).arguments["dilations"]


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_a_precision_that_is_asked_for_is_taken(precision):
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
    code = "from xiaonet.training import parts; print(parts.__file__, parts.git_commit())"
    told = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": str(package.parent)}, capture_output=True, text=True, check=True
    ).stdout.split()
    assert [str(package / "training" / "parts.py"), "None"] == told


def test_versions_of_what_decides_a_result():
    found = parts.versions()
    assert ["python", "xiaonet", "torch", "seisbench", "lightning-fabric", "numpy"] == list(found)
    assert torch.__version__ == found["torch"]
