import csv
import json
import os
import re
import shutil
import socket
import subprocess
import sys

import numpy as np
import pytest
import seisbench
import torch
from seisbench.models import PhaseNet

from stand_in import record, write
from xiaonet import XiaoNet, __version__, save_model
from xiaonet.cli import info
from xiaonet.cli import train as cli
from xiaonet.config.schema import Config
from xiaonet.deploy.quantize import quantize
from xiaonet.nn.checkpoint import read_model_file
from xiaonet.nn.model import count_multiply_adds
from xiaonet.runtime.loading import load_predictor
from xiaonet.shipped import model_path

SMALL = ["data.synthetic_records=40", "model.base_channels=2", "training.epochs=1", "training.num_workers=0", "training.batch_size=4"]


def sets(*assignments: str) -> list[str]:
    return [word for assignment in assignments for word in ("--set", assignment)]


def test_training_from_the_command_line(run, tmp_path):
    status, told = run("train", "--data", "synthetic", "--teacher", "none", "--out", "run", *sets(*SMALL), "--note", "a test")
    assert status == 0, told
    assert re.search(r"^Epoch 1/1  loss: \d\.\d{6}  task: \d\.\d{6}  dev: \d\.\d{6} \(best\)", told, re.MULTILINE)
    assert re.search(r"^loss: \d\.\d{6}  \[   \d\d/   \d\d\]", told, re.MULTILINE)
    assert "Reason\n\na test\n" in (tmp_path / "run" / "notes.md").read_text()
    assert Config.read(tmp_path / "run" / "config.json") == Config().override([*SMALL, "distillation.teacher=none"])


def test_a_run_gets_a_folder_of_its_own(run, tmp_path):
    assert run("train", "--teacher", "none", *sets(*SMALL))[0] == 0
    [folder] = (tmp_path / "runs").iterdir()
    assert re.fullmatch(r"\d{8}-\d{6}", folder.name)


def test_settings_come_from_the_file_then_from_the_options(run, tmp_path):
    (tmp_path / "mine.json").write_text(json.dumps({"training": {"epochs": 7, "batch_size": 4}, "data": {"name": "elsewhere"}}))
    options = ["--config", "mine.json", "--data", "synthetic", "--teacher", "none", "--out", "run"]
    assert run("train", *options, *sets("training.epochs=1", *SMALL[:2], "training.num_workers=0"))[0] == 0
    found = Config.read(tmp_path / "run" / "config.json")
    assert (1, 4, "synthetic") == (found.training.epochs, found.training.batch_size, found.data.name)


def test_changes_without_a_reason_are_asked_for(run):
    _status, told = run("train", "--teacher", "none", "--out", "run", *sets(*SMALL))
    assert "! Settings: changed without a reason - training.batch_size, training.epochs, model.base_channels; give one with --note" in told


def test_no_reason_is_asked_for_a_place(run, monkeypatch):
    monkeypatch.setattr(cli, "_train", lambda *words: None)
    status, told = run("train", "--data", "some/folder", "--teacher", "none", *sets("training.num_workers=0", "device.use_cuda=false"))
    assert (0, "") == (status, told)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--set", "training.epoch=5"], "✗ Config: stopped - --set: unknown setting training.epoch; did you mean training.epochs?"),
        (["--set", "training.epochs"], "✗ Config: stopped - --set 'training.epochs' has no '='; wanted e.g. --set training.epochs=5"),
        (["--config", "missing.json"], "✗ Config: stopped - missing.json cannot be read as JSON"),
        (["--data", "OKLA_1Mil_120s_Ver_3"], "✗ Data: stopped - data set 'OKLA_1Mil_120s_Ver_3' not found"),
        (["--teacher", "bundled+bundled"], "✗ Config: stopped - the teacher 'bundled+bundled' names bundled twice; name each once"),
        (["--teacher", "no/such.pth"], "✗ Checkpoint: stopped - there is no file no/such.pth"),
        (["--teacher", "no/such.pt"], "✗ Teacher: stopped - PhaseNet weights 'no/such.pt' could not be loaded"),
        (["--resume", "nowhere"], "✗ Checkpoint: stopped - there is no run in nowhere: manifest.json is missing"),
        (
            ["--resume", "a", "--data", "b"],
            "✗ Config: stopped - --resume and --data: these options exclude each other; --resume takes its settings from the run",
        ),
        (
            ["--resume", "a", "--students", "2", "--out", "b"],
            "✗ Config: stopped - --resume and --out, --students: these options exclude each other; --resume takes its settings from",
        ),
    ],
)
def test_what_cannot_be_done_is_one_line_and_status_1(run, words, message):
    status, told = run("train", *words)
    assert (1, True) == (status, message in told), told
    assert "Traceback" not in told


def test_info_sets_a_model_beside_phasenet(run, tmp_path):
    save_model(XiaoNet(base_channels=5), tmp_path / "five.pth", {"note": "made for a test"})
    status, told = run("info", "five.pth")
    assert status == 0
    assert re.search(r"parameters +16,578 +268,443", told)
    assert re.search(r"multiply-adds a window +11\.5 million +19\.5 million", told)
    assert re.search(r"receptive field +1008 samples", told)
    assert "  component_order: ENZ" in told
    assert "  note: made for a test" in told


def test_info_of_a_quantized_model_tells_the_size_of_the_network(run):
    status, told = run("info", "xiaonet-int8")
    assert status == 0, told
    assert re.search(r"parameters +164,451 +268,443", told)
    assert re.search(r"multiply-adds a window +116\.1 million", told)
    assert re.search(r"^Precision: int8$", told, re.MULTILINE)
    assert "by recipes/xiaonet.json, in INT8" in told


@pytest.mark.parametrize("words", [["finetune", "xiaonet-int8", "--data", "synthetic"], ["quantize", "int8.pth", "--data", "synthetic"]])
def test_a_quantized_model_is_the_end_of_the_road(run, words):
    shutil.copy(model_path("xiaonet-nano-int8", ".pth"), "int8.pth")
    status, told = run(*words)
    assert (1, True) == (status, "is quantized already; wanted the model in float32 that it was made from" in told), told


def test_info_on_a_file_that_is_no_model(run, tmp_path):
    (tmp_path / "notes.txt").write_text("hello")
    status, told = run("info", "notes.txt")
    assert status == 1
    assert "✗ Checkpoint: stopped - notes.txt is damaged or not a XiaoNet file" in told


@pytest.fixture
def offline(monkeypatch, tmp_path):
    """No network, and nothing in SeisBench's cache."""

    def refused(*_, **__):
        raise OSError("no network in this test")

    monkeypatch.setattr(socket, "getaddrinfo", refused)
    monkeypatch.setattr(socket.socket, "connect", refused)
    monkeypatch.setattr(seisbench, "cache_model_root", tmp_path / "empty")


def distilled(folder):
    """The teacher that a run had, and its loss and task loss in the first epoch; without a teacher these are the same."""
    with (folder / "history.csv").open() as file:
        row = next(csv.DictReader(file))
    return json.loads((folder / "manifest.json").read_text())["teacher"]["weights"], float(row["train_loss"]), float(row["train_task_loss"])


def test_the_demo_distils_offline_and_says_from_what(run, offline, monkeypatch, tmp_path):
    monkeypatch.setattr(cli, "DEMO", tuple(SMALL))
    for folder in ("demo", "demo-2"):  # a second demo does not write over the first
        status, told = run("demo")
        assert status == 0, told
        assert "✗ Teacher: could not be loaded - PhaseNet weights 'stead' could not be loaded" in told
        assert "! Teacher: bundled - the demo continues with the teacher that comes with XiaoNet" in told
        assert re.search(r"^✓ Pick P: ", told, re.MULTILINE)
        assert b"\x89PNG" == (tmp_path / "runs" / folder / "picks.png").read_bytes()[:4]
        teacher, loss, task = distilled(tmp_path / "runs" / folder)
        assert ("bundled", True) == (teacher, abs(loss - task) > 1e-3 * task)


def test_training_offline_names_the_bundled_teacher_which_then_teaches(run, offline, tmp_path):
    words = ["train", "--out", "run", *sets(*SMALL), "--note", "a test"]
    status, told = run(*words)
    assert (1, True) == (status, "Use --teacher bundled, which comes with XiaoNet" in told), told
    assert not (tmp_path / "run").exists()
    status, told = run(*words, "--teacher", "bundled", "--set", "distillation.alpha=1")
    assert status == 0, told
    assert "✓ Teacher: validated - bundled, frozen" in told
    teacher, loss, task = distilled(tmp_path / "run")
    assert ("bundled", True) == (teacher, abs(loss - task) > 1e-3 * task)


def test_ctrl_c_is_status_130(run, monkeypatch):
    def interrupted(*words):
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "_train", interrupted)
    assert 130 == run("train", "--teacher", "none")[0]


LEAN = """
import sys
from importlib.machinery import PathFinder

class Hide(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name.partition(".")[0] in {missing} else PathFinder.find_spec(name, path, target)

sys.meta_path[sys.meta_path.index(PathFinder)] = Hide
from xiaonet.cli.main import app
app({words})
"""


def lean(words, missing, folder):
    """Status and output of the command line without some packages."""
    done = subprocess.run(
        [sys.executable, "-c", LEAN.format(missing=missing, words=words)],
        capture_output=True,
        text=True,
        check=False,
        cwd=folder,
        env={**os.environ, "COLUMNS": "250"},
    )
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("missing", "words", "extra"),
    [
        (["torch"], ["quantize", "xiaonet", "--data", "synthetic"], "train"),
        (["torch"], ["pick", "data", "--model", str(model_path("xiaonet-nano", ".pth")), "--runtime", "torch"], "train"),
        (["seisbench", "pandas", "jinja2"], ["evaluate", "stalta", "--data", "synthetic"], "evaluate"),
        (["jinja2"], ["evaluate", "stalta", "--data", "synthetic"], "evaluate"),
        (["matplotlib", "torch", "seisbench"], ["pick", "data", "--plot"], "plots"),
        (["pyarrow"], ["pick", "data", "--out", "picks.parquet"], "parquet"),
        (["openvino"], ["pick", "data", "--runtime", "openvino"], "openvino"),
        (["onnx", "onnxscript"], ["export", "xiaonet-nano"], "export"),
        (["onnx"], ["quantize", "xiaonet-nano", "--data", "synthetic"], "export"),
    ],
)
def test_a_missing_package_is_named_with_the_extra_that_brings_it(tmp_path, missing, words, extra):
    write(record(seconds=60), tmp_path / "data")
    status, told = lean(words, missing, tmp_path)
    assert (1, 1) == (status, told.count("pip install ")), told
    assert f"pip install 'xiaonet[{extra}]'" in told
    assert "Traceback" not in told


def test_a_missing_package_that_no_extra_brings_keeps_its_traceback(tmp_path):
    write(record(seconds=60), tmp_path / "data")
    status, told = lean(["pick", "data"], ["pymseed"], tmp_path)
    assert (1, True, False) == (status, "ModuleNotFoundError" in told, "pip install" in told), told


def test_info_of_a_shipped_model_needs_no_seisbench(tmp_path):
    status, told = lean(["info", "xiaonet"], ["seisbench", "pandas", "matplotlib", "lightning_fabric"], tmp_path)
    assert status == 0, told
    assert re.search(r"parameters +164,451 +268,443", told)


def test_info_without_torch_tells_what_the_file_says(tmp_path):
    status, told = lean(["info", "xiaonet-int8"], ["torch", "seisbench", "pandas", "matplotlib", "lightning_fabric"], tmp_path)
    assert status == 0, told
    assert re.search(r"^parameters +164,451 +268,443$", told, re.MULTILINE)
    assert re.search(
        r"^Precision: int8\nThresholds information:\n  P: 0\.\d+\n  S: 0\.\d+\nProvenance information:\n(.*\n)*?  note: ",
        told,
        re.MULTILINE,
    )
    assert "  base_channels: 16\n" in told
    status, told = lean(["info"], ["torch"], tmp_path)
    assert (1, "✗ Install: torch is missing - pip install 'xiaonet[train]'\n") == (status, told)


@pytest.mark.parametrize("suffix", [".pth", ".onnx"])
def test_info_of_a_file_of_any_kind(run, suffix):
    status, told = run("info", str(model_path("xiaonet-nano", suffix)))
    assert status == 0, told
    assert re.search(r"multiply-adds a window +11\.5 million", told)
    assert "Precision: fp32" in told


def test_the_size_of_phasenet_is_that_of_seisbench():
    network = PhaseNet()
    assert info.PHASENET_PARAMETERS == sum(parameter.numel() for parameter in network.parameters())
    assert info.PHASENET_MULTIPLY_ADDS == count_multiply_adds(network)


def test_the_module_is_the_command():
    told = subprocess.run([sys.executable, "-m", "xiaonet", "--version"], capture_output=True, text=True, check=True).stdout
    assert f"{__version__}\n" == told


def recipe_set(write_set, folder):
    """Records and a teacher for a recipe."""
    write_set(
        list(np.random.default_rng(0).normal(size=(3, 3, 4000))),
        name="records",
        split=["train", "train", "dev"],
        trace_p_arrival_sample=[1000.0] * 3,
        trace_s_arrival_sample=[1300.0] * 3,
        trace_p_status=["manual"] * 3,
        trace_s_status=["manual"] * 3,
    )
    torch.manual_seed(0)
    PhaseNet(phases="PSN", norm="peak").save(folder / "untrained")


def test_a_recipe_from_the_command_line(run, tmp_path, write_set):
    recipe_set(write_set, tmp_path)
    recipe = {"labelled": "records", "teachers": {"untrained.pt": 1.0}, "base_channels": 2, "steps": 1, "batch_size": 2}
    (tmp_path / "tiny.json").write_text(json.dumps(recipe))
    status, told = run("recipe", "tiny.json", "--out", "out")
    assert status == 0, told
    assert "✓ Recipe: 2 windows seen - out/tiny.pth, out/tiny.onnx, out/tiny-int8.pth, out/tiny-int8.onnx" in told
    assert re.search(r"^✓ Dev P: F1 \d", told, re.MULTILINE)
    files = [tmp_path / "out" / name for name in ("tiny.pth", "tiny.onnx", "tiny-int8.pth", "tiny-int8.onnx")]
    assert 1 == len({tuple(load_predictor(file).thresholds.items()) for file in files})
    content = read_model_file(files[2])
    assert ("int8", "records") == (content["precision"], content["provenance"]["quantization"]["data"])
    again = quantize(files[0], "records", tmp_path / "again")["saved_model_int8.pth"]  # the same as `xiaonet quantize` makes
    assert content["digest"] == read_model_file(again)["digest"]


def test_a_recipe_begun_by_an_older_release_is_refused(run, tmp_path, write_set):
    recipe_set(write_set, tmp_path)
    (tmp_path / "tiny.json").write_text('{"objective": {"kind": "drawn_windows", "steps": 1}, "data": {"name": "records"}}')
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "tiny.state").write_text("")
    status, told = run("recipe", "tiny.json", "--out", "out")
    assert (1, True) == (status, "✗ Checkpoint: stopped - out/tiny.state was begun by an older release; finish it with that" in told), told


def test_a_recipe_of_a_teacher_makes_what_teacher_takes(run, tmp_path, write_set):
    recipe_set(write_set, tmp_path)
    recipe = {"labelled": "records", "teachers": {"untrained.pt": 1.0}, "network": "phasenet", "steps": 1, "batch_size": 2}
    (tmp_path / "mine.json").write_text(json.dumps(recipe))
    status, told = run("recipe", "mine.json", "--out", "out")
    assert (0, True) == (status, told.endswith("✓ Recipe: 2 windows seen - out/mine.pth\n")), told
    status, told = run("train", "--teacher", "out/mine.pth", *sets(*SMALL), "--note", "a test")
    assert (0, True) == (status, "✓ Teacher: validated - mine.pth, frozen" in told), told


def test_a_recipe_that_is_no_recipe(run, tmp_path):
    (tmp_path / "bad.json").write_text('{"learning_rte": 1}')
    status, told = run("recipe", "bad.json")
    assert (1, True) == (status, "bad.json: unknown setting learning_rte; did you mean training.learning_rate?" in told), told


def test_models_are_scored_from_the_command_line(run, tmp_path, made_up):
    save_model(XiaoNet(base_channels=2), tmp_path / "two.pth")
    status, told = run("evaluate", "two.pth", "stalta", "--data", str(made_up), "--split", "dev", "--tune", "--out", "tuned")
    assert status == 0, told
    assert "✓ Report: written - tuned/report.html and tuned/metrics.json" in told
    assert re.search(r"^all records\n  two +\d\.\d\d", told, re.MULTILINE)
    status, told = run("evaluate", "two.pth", "stalta", "--data", str(made_up), "--threshold", "tuned/metrics.json", "--windows", "2")
    assert status == 0, told
    tuned, final = (json.loads((tmp_path / name / "metrics.json").read_text()) for name in ("tuned", "report"))
    assert [model["thresholds"] for model in tuned["models"]] == [model["thresholds"] for model in final["models"]]
    assert ("test", False, "given") == (final["split"], final["tuned"], final["models"][0]["threshold_from"])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--tune"], "✗ Config: stopped - thresholds cannot be tuned on split 'test'"),
        (
            ["--tune", "--split", "dev", "--threshold", "0.3"],
            "✗ Config: stopped - --tune and --threshold 0.3: these options exclude each other; --tune chooses the thresholds",
        ),
        (["--split", "tset"], "✗ Data: stopped - split 'tset' is empty: the column split holds"),
        (["--targets", "none"], "✗ Data: stopped - none/task1.csv cannot be read"),
        (["--noise", "none", "--split", "dev"], "✗ Data: stopped - no continuous records to look for false picks in"),
    ],
)
def test_what_cannot_be_scored_is_one_line(run, made_up, words, message):
    status, told = run("evaluate", "stalta", "--data", str(made_up), *words)
    assert (1, True) == (status, message in told), told


def test_ctrl_c_while_scoring_keeps_what_models_gave(run, made_up, monkeypatch, tmp_path):
    from xiaonet.evaluation.models import StaLtaModel

    save_model(XiaoNet(base_channels=2), tmp_path / "two.pth")

    def interrupted(self, windows):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(StaLtaModel, "annotate", interrupted)
        status, told = run("evaluate", "two.pth", "stalta", "--data", str(made_up), "--out", "report")
    assert (130, True) == (
        status,
        "! Scoring: stopped - finished predictions are kept in report/kept; repeat the command to continue" in told,
    ), told
    assert 1 == len(list((tmp_path / "report" / "kept").iterdir()))
    assert 0 == run("evaluate", "two.pth", "stalta", "--data", str(made_up), "--out", "report")[0]


def test_several_students_are_trained_and_a_repeat_goes_on(run, tmp_path, made_up):
    words = ["train", "--data", str(made_up), "--teacher", "none", "--out", "runs", "--students", "2", *sets(*SMALL), "--note", "a test"]
    status, told = run(*words)
    assert status == 0, told
    models = "runs/student-1/saved_model_fp32.pth+runs/student-2/saved_model_fp32.pth"
    assert f"✓ Students: 2 ready - average them with: xiaonet pick FOLDER --model {models}" in told
    assert [0, 1] == [Config.read(tmp_path / "runs" / f"student-{number}" / "config.json").training.seed for number in (1, 2)]
    status, told = run(*words)
    assert (0, False) == (status, "Epoch" in told)
    assert "✓ Student: kept - runs/student-1 is finished\n✓ Student: kept - runs/student-2 is finished\n" in told
    for name, found in (("training.batch_size", "4, wanted 2"), ("training.seed", "0, wanted 2")):
        status, told = run(*words, "--set", f"{name}=2")
        assert (1, False) == (status, "Epoch" in told)
        assert f"✗ Config: stopped - runs/student-1 holds a run with other settings: {name} {found}; choose another --out" in told
    shutil.rmtree(tmp_path / "runs" / "student-2")
    status, told = run(*words)  # only the missing one is trained
    assert (0, 1, 1) == (status, told.count("Epoch 1/1"), told.count("✓ Student: kept")), told


def test_a_start_that_does_not_exist_is_told_with_near_ones(run):
    status, told = run("finetune", "xiaonet-nan", "--data", "synthetic")
    assert (1, True) == (status, "✗ Checkpoint: stopped - there is no model 'xiaonet-nan'; did you mean xiaonet-nano" in told), told


def test_a_model_is_adapted_from_the_command_line(run, tmp_path, made_up):
    options = ["--set", "training.epochs=1", "--set", "training.num_workers=0", "--set", "training.learning_rate=1e-3"]
    status, told = run("finetune", "xiaonet-nano", "--data", str(made_up), "--out", "run", *options)
    assert status == 0, told
    assert re.search(r"^✓ Initial model: xiaonet-nano - dev loss 0\.\d{6}", told, re.MULTILINE)
    found = Config.read(tmp_path / "run" / "config.json")
    assert ("initial", "xiaonet-nano", 5, 1.0) == (
        found.distillation.teacher,
        found.training.initial_model,
        found.model.base_channels,
        found.distillation.temperature,
    )
