"""SIGKILL at any moment: no file is half written, and the command repeated ends as if nothing had happened."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from zipfile import ZipFile

import numpy as np
import pytest
import torch
from commands import Ended, Moment, call
from seisbench.models import PhaseNet

from conftest import LONG, dice, is_long, rounds
from stand_in import record, write_days
from xiaonet import XiaoNet, save_model
from xiaonet.nn.checkpoint import digest
from xiaonet.runtime.checksum import read_checked

PICK_KILLS = rounds("PICK_KILLS", 12)
COMMAND_KILLS = rounds("COMMAND_KILLS", 1)
IS_LONG = is_long("COMMAND_KILLS")
SMALL = ["training.batch_size=16", "training.num_workers=0", "training.precision=32-true", "training.epochs=1", "device.use_cuda=false"]
SETTINGS = [word for setting in SMALL for word in ("--set", setting)]
RECIPE = {
    "objective": {"kind": "drawn_windows", "steps": 4},
    "data": {"name": "records"},
    "distillation": {"teacher": "teacher.pt", "temperature": 1.0},
    "training": {"batch_size": 2, "precision": "32-true"},
    "model": {"base_channels": 2} if IS_LONG else {"network": "phasenet"},  # which is not exported, and so takes seconds
}
COMMANDS = {
    "train": ["train", "--data", "records", "--teacher", "teacher.pt", "--out", "out", "--set", "model.base_channels=2", *SETTINGS],
    "finetune": ["finetune", "small.pth", "--data", "records", "--out", "out", "--set", "data.windows_per_record=1", *SETTINGS],
    "recipe": ["recipe", "tiny.json", "--out", "out"],
    "evaluate": ["evaluate", "small.pth", "--data", "records", "--split", "dev", "--windows", "1", "--out", "out"],
    "quantize": ["quantize", "small.pth", "--data", "records", "--windows", "16", "--out", "out"],
}


def a_moment(rng: np.random.Generator, undisturbed: Ended) -> Moment:
    """Half of the kills are at a random time, half before a random file event, where files are most in danger."""
    if rng.random() < 0.5:
        return Moment(seconds=float(rng.uniform(0, undisturbed.seconds)))
    return Moment(file_event=int(rng.integers(1, undisturbed.file_events + 1)))


# pick


@pytest.fixture(scope="module")
def days(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three instruments around a midnight: six tasks."""
    names = {"XX.ABC..HH": [-120.5, 0.0, 100.0], "XX.DEF.00.HH": [-0.01, 102.0], "YY.ABC..EH": [99.0]}
    folder = tmp_path_factory.mktemp("days")
    for name, seconds in names.items():
        write_days(record(onsets={"Z": seconds, "N": [second + 4 for second in seconds]}, instrument=name), folder)
    return folder


@pytest.mark.parametrize("workers", ["1", "3"])
def test_pick_killed_at_any_moment_ends_with_the_same_file(days: Path, tmp_path: Path, workers: str) -> None:
    words = ["pick", days, "--workers", workers]
    (tmp_path / "whole").mkdir()
    undisturbed = call(words, tmp_path / "whole", stand_in=True)
    assert 0 == undisturbed.status, undisturbed.told
    expected = files_in(tmp_path / "whole")
    assert 12 == expected["picks.csv"].count(b"\n") - 1
    number = PICK_KILLS // 2
    for trial in range(number):
        rng, folder = dice(1, int(workers), trial), tmp_path / "killed"
        folder.mkdir()
        for _ in range(rng.integers(1, 4)):  # a resumed run may be killed too
            moment = a_moment(rng, undisturbed)
            call([*words, *resumed(folder)], folder, kill=moment, stand_in=True)
            assert files_in(folder).get("picks.csv") in (None, expected["picks.csv"]), (trial, moment)
        last = call([*words, *resumed(folder)], folder, stand_in=True)
        assert (0, expected) == (last.status, files_in(folder)), (trial, moment, last.told)
        shutil.rmtree(folder)
    print(f"pick --workers {workers}: {number} runs killed, all ended with the same file")


def resumed(folder: Path) -> list[str]:
    return ["--resume"] if (folder / "picks.csv.journal").exists() else []


def files_in(folder: Path) -> dict[str, bytes]:
    """The content of each file of a folder by name, hidden files included."""
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


# The other commands


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory, made_up: Path) -> Path:
    """A folder with records, a teacher, a small model and a recipe."""
    folder = tmp_path_factory.mktemp("start")
    shutil.copytree(made_up, folder / "records")
    torch.manual_seed(1)
    PhaseNet(phases="NPS", component_order="ZNE", norm="std").save(folder / "teacher")
    save_model(XiaoNet(base_channels=2), folder / "small.pth")
    (folder / "tiny.json").write_text(json.dumps(RECIPE))
    return folder


@pytest.mark.parametrize("name", COMMANDS)
def test_a_killed_command_leaves_no_half_file_and_can_be_repeated(start: Path, tmp_path: Path, name: str) -> None:
    if name == "quantize" and not IS_LONG:
        pytest.skip(LONG)
    words = COMMANDS[name]
    shutil.copytree(start, tmp_path / "whole")
    undisturbed = call(words, tmp_path / "whole")
    assert 0 == undisturbed.status, undisturbed.told
    expected = results(tmp_path / "whole" / "out")
    for trial in range(COMMAND_KILLS):
        moment = a_moment(dice(2, *name.encode(), trial), undisturbed)
        if trial == 0 and name in ("train", "finetune"):
            moment = Moment(file_event=undisturbed.file_events - 4)  # while it writes notes, history and manifest for the last time
        folder = tmp_path / "killed"
        shutil.copytree(start, folder)
        call(words, folder, kill=moment)
        check_whole(folder / "out")
        if not is_finished(folder):
            last = call(repeated(words, folder), folder)
            assert 0 == last.status, (trial, moment, last.told)
        check_whole(folder / "out")
        assert expected == results(folder / "out"), (trial, moment)
        assert [] == [path for path in (folder / "out").rglob(".*") if path.is_file()], (trial, moment)
        shutil.rmtree(folder)
    print(f"{name}: {COMMAND_KILLS} runs killed, all ended with the same result")


def is_finished(folder: Path) -> bool:
    """Whether a run of `train` or `finetune` was killed after its end, so that there is nothing to resume."""
    manifest = folder / "out" / "manifest.json"
    return manifest.exists() and "best_dev_loss" in json.loads(manifest.read_text())


def repeated(words: list[str], folder: Path) -> list[str]:
    """The command itself, or for a run of `train` and `finetune` that has begun, `train --resume`."""
    begun = words[0] in ("train", "finetune") and (folder / "out" / "manifest.json").exists()
    return ["train", "--resume", "out"] if begun else words


def visible(folder: Path) -> Iterator[Path]:
    """Files that a user sees, without the log of TensorBoard, which grows line by line."""
    for path in sorted(folder.rglob("*")) if folder.exists() else ():
        if path.is_file() and not path.name.startswith(".") and path.parent.name != "events":
            yield path


def check_whole(folder: Path) -> None:
    """Read every file of a folder to its end."""
    for path in visible(folder):
        content = path.read_bytes()
        if path.suffix in (".pth", ".pt", ".npz"):
            with ZipFile(path) as archive:
                assert archive.testzip() is None, path
        elif path.suffix == ".onnx":
            read_checked(path)
        elif path.suffix == ".json":
            json.loads(content)
        else:
            ends = {".html": b"</html>", ".csv": b"\n", ".md": b"\n", ".png": b"IEND\xaeB`\x82"}
            assert content.rstrip(b"\n" if path.suffix == ".html" else b"").endswith(ends[path.suffix]), path


def results(folder: Path) -> dict[str, object]:
    """What a command made: names of files, and of models and scores the content that does not depend on time."""
    found: dict[str, object] = {}
    for path in visible(folder):
        found[str(path.relative_to(folder))] = None
        if path.suffix == ".pth" and path.name != "checkpoint.pt":
            found[path.name] = digest(torch.load(path, weights_only=True)["weights"])
        elif path.name == "notes.md":
            lines = path.read_text().partition("## Results")[2].splitlines()
            found[path.name] = [line for line in lines if not line.startswith("- minutes:")]
        elif path.name == "metrics.json":
            metrics = json.loads(path.read_text())
            found[path.name] = [model["subsets"] for model in metrics["models"]], metrics["fingerprint"]
    return found
