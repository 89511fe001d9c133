import contextlib
import csv
import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from seisbench.models import PhaseNet
from torch.utils.data import default_collate

from xiaonet import files
from xiaonet.config.schema import Config, DistillationSettings
from xiaonet.data.pipeline import Windows
from xiaonet.data.sets import open_data
from xiaonet.errors import CheckpointError, DataError, OutputError, TrainingError
from xiaonet.nn.checkpoint import load_model, read_model_file, without_folders
from xiaonet.training.losses import task_loss
from xiaonet.training.setup import load_teacher
from xiaonet.training.trainer import Trainer, resume, train

FILES = [
    "best_model.pth",
    "checkpoint.pt",
    "config.json",
    "final_model.pth",
    "history.csv",
    "history.png",
    "manifest.json",
    "notes.md",
    "resume.pt",
    "saved_model_fp32.pth",
]


def losses(folder):
    """The loss history as text, with every digit."""
    with (folder / "history.csv").open() as file:
        return [(row["train_loss"], row["train_task_loss"], row["dev_loss"], row["learning_rate"]) for row in csv.DictReader(file)]


@pytest.fixture(scope="module")
def finished(tmp_path_factory, teacher_file):
    """A run that nobody disturbed; not to be changed."""
    folder = tmp_path_factory.mktemp("runs") / "whole"
    settings = [
        "data.synthetic_records=40",
        f"distillation.teacher={teacher_file}",
        "model.base_channels=2",
        "model.dropout=0.1",
        "training.batch_size=4",
        "training.epochs=3",
        "training.num_workers=0",
        "training.precision=32-true",
        "training.checkpoint_minutes=1e-6",
    ]
    config = Config().override(settings)
    return config, train(config, folder, note="to see what a run leaves behind")


def test_a_run_leaves_the_prescribed_files_and_nothing_half_written(finished):
    _, result = finished
    assert FILES == sorted(path.name for path in result.folder.iterdir() if path.name != "events")


def test_the_best_student_is_the_one_kept_and_tested(finished):
    _config, result = finished
    best = min(result.history, key=lambda row: row.dev_loss)
    assert (best.epoch, best.dev_loss) == (result.best_epoch, result.best_dev_loss)
    student = load_model(result.folder / "saved_model_fp32.pth")
    windows = Windows(open_data("synthetic", synthetic_records=40).test())
    batch = default_collate([windows[row] for row in range(len(windows))])
    with torch.no_grad():
        expected = task_loss(student.logits(batch["X"]), batch["y"]).item()
    assert expected == pytest.approx(result.test_loss, rel=1e-5)


def test_a_model_file_says_where_it_comes_from(finished):
    config, result = finished
    provenance = read_model_file(result.folder / "saved_model_fp32.pth")["provenance"]
    manifest = json.loads((result.folder / "manifest.json").read_text())
    assert without_folders(config.model_dump(mode="json")) == provenance["config"]
    commit = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
    assert commit == provenance["git_commit"].removesuffix("+changes")
    assert torch.__version__ == provenance["versions"]["torch"]
    assert without_folders(manifest["data"]) == provenance["data"]
    assert (result.test_loss, result.best_epoch) == (manifest["test_loss"], manifest["best_epoch"])


def test_the_notes_hold_every_change_and_its_reason(finished):
    _, result = finished
    notes = (result.folder / "notes.md").read_text()
    assert "| model.base_channels | 16 | 2 |" in notes
    assert "| training.epochs | 50 | 3 |" in notes
    assert "to see what a run leaves behind" in notes
    assert f"- best_epoch: {result.best_epoch}" in notes


def test_the_same_seed_gives_the_same_history(finished, tmp_path):
    config, result = finished
    train(config, tmp_path / "again")
    assert losses(result.folder) == losses(tmp_path / "again")


def test_a_run_stopped_by_ctrl_c_and_killed_resumes_to_the_same_history(finished, tmp_path):
    config, result = finished
    folder, file = tmp_path / "run", tmp_path / "config.json"
    file.write_text(config.to_json())
    command = [sys.executable, "-m", "xiaonet", "train"]

    stopped = _start([*command, "--config", str(file), "--out", str(folder)])
    _after_saves(folder, stopped, saves=3)  # within the first epoch
    stopped.send_signal(signal.SIGINT)
    told = stopped.communicate(timeout=60)[0]
    assert stopped.returncode == 130, told
    assert f"resume with: xiaonet train --resume {folder}" in told.replace("\n", " ")

    killed = _start([*command, "--resume", str(folder)])
    _after_saves(folder, killed, saves=12)  # within the second
    killed.kill()
    assert -signal.SIGKILL == killed.wait(timeout=60)
    assert len(losses(folder)) < 3

    resume(folder)
    assert losses(result.folder) == losses(folder)
    assert FILES == sorted(path.name for path in folder.iterdir() if path.name != "events" and not path.name.startswith("."))


@pytest.mark.parametrize("interrupt", [False, True])
def test_a_run_with_loader_processes_ends(finished, tmp_path, interrupt):
    """The loader processes ignore signals. Python must not wait for them when it exits."""
    config, _ = finished
    file, folder = tmp_path / "config.json", tmp_path / "run"
    file.write_text(config.override(["training.num_workers=1", "training.epochs=1"]).to_json())
    process = _start([sys.executable, "-m", "xiaonet", "train", "--config", str(file), "--out", str(folder)])
    if interrupt:
        _after_saves(folder, process, saves=2)
        process.send_signal(signal.SIGINT)
    told = process.communicate(timeout=120)[0]
    assert process.returncode == (130 if interrupt else 0), told


def test_a_full_disk_stops_the_run_which_resumes_when_there_is_room(finished, tmp_path, monkeypatch):
    config, result = finished
    folder, real, calls = tmp_path / "run", os.fsync, []

    def full(descriptor):
        calls.append(descriptor)
        if len(calls) > 15:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(descriptor)

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(OutputError, match=rf"No space left on device.*--resume {folder}"):
        train(config, folder)
    monkeypatch.setattr(files.os, "fsync", real)
    resume(folder)
    assert losses(result.folder) == losses(folder)


def test_two_processes_stopped_by_ctrl_c_give_the_losses_of_one(finished, tmp_path):
    """Started by torchrun, resumed by `fabric run`."""
    config, _ = finished
    # Each process draws its own dropout; and with every step, rounding drifts further apart.
    config = config.override(["model.dropout=0", "training.batch_size=14"])
    one = train(config, tmp_path / "one")
    file, folder = tmp_path / "config.json", tmp_path / "two"
    file.write_text(config.to_json())

    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "xiaonet"]
    stopped = _start([*torchrun, "train", "--config", str(file), "--out", str(folder)])
    _after_saves(folder, stopped, saves=1)
    os.killpg(stopped.pid, signal.SIGINT)  # as a terminal does
    told = stopped.communicate(timeout=120)[0]
    assert "! Training: interrupted - nothing is lost" in told, told
    assert len(losses(folder)) < 3

    launcher = [str(Path(sys.executable).with_name(name)) for name in ("fabric", "xiaonet")]
    resumed = _start([launcher[0], "run", "--accelerator", "cpu", "--devices", "2", launcher[1], "train", "--resume", str(folder)])
    told = resumed.communicate(timeout=300)[0]
    assert resumed.returncode == 0, told
    assert told.count("✓ Training: finished") == 1
    expected = [float(value) for row in losses(one.folder) for value in row]
    assert expected == pytest.approx([float(value) for row in losses(folder) for value in row], abs=1e-4)
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["processes"] == 2
    assert one.test_loss == pytest.approx(manifest["test_loss"], abs=1e-4)


def test_a_folder_with_a_run_is_not_written_over(finished):
    config, result = finished
    with pytest.raises(OutputError, match=rf"holds a run already: resume it with --resume {result.folder}, or choose another --out"):
        train(config, result.folder)


def test_a_folder_that_cannot_be_made(small, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match=r"cannot be made or written to: .*choose another --out"):
        train(small, tmp_path / "file" / "run")


@pytest.mark.parametrize("assignments", [[], ["training.num_workers=1"], ["training.epochs=2"]])
def test_a_finished_run_resumes_only_for_more_epochs(finished, assignments):
    _config, result = finished
    before = {path.name: path.read_bytes() for path in result.folder.iterdir() if path.is_file()}
    with pytest.raises(CheckpointError, match=r"is finished after 3 epochs; train on with --set training\.epochs=N, N above 3"):
        resume(result.folder, assignments=assignments)
    assert before == {path.name: path.read_bytes() for path in result.folder.iterdir() if path.is_file()}


def test_a_run_that_stopped_early_needs_more_patience_to_resume(small, tmp_path):
    settings = ["training.learning_rate=3", "training.epochs=9", "training.patience=1"]  # a rate that ruins the student
    train(small.override(settings), tmp_path / "run")
    assert len(losses(tmp_path / "run")) < 9
    with pytest.raises(CheckpointError, match=r"no better dev loss for 1 epochs.*--set training\.patience=M, M above 1"):
        resume(tmp_path / "run", assignments=["training.epochs=12"])


def test_the_events_hold_the_history(finished):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    _, result = finished
    events = EventAccumulator(str(result.folder / "events"))
    events.Reload()
    expected = [(row.epoch, pytest.approx(row.dev_loss, rel=1e-6)) for row in result.history]
    assert expected == [(event.step, event.value) for event in events.Scalars("dev_loss")]


def test_a_failed_start_leaves_no_folder(small, tmp_path):
    with pytest.raises(DataError, match="not found"):
        train(small.override(["data.name=nowhere"]), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_records_without_any_signal_are_refused(small, write_set, tmp_path):
    data = write_set([np.ones((3, 4000))] * 4, trace_p_arrival_sample=[1500] * 4, split=["train"] * 2 + ["dev"] * 2)
    with pytest.raises(TrainingError, match="all of the first 2 windows are zero: these records hold no signal"):
        train(small.override([f"data.name={data}"]), tmp_path / "run")


def test_more_epochs_can_be_added_to_a_finished_run(finished, tmp_path):
    config, result = finished
    train(config.override(["training.epochs=2"]), tmp_path / "run")
    resume(tmp_path / "run", assignments=["training.epochs=3"], note="not done yet")
    assert "not done yet" in (tmp_path / "run" / "notes.md").read_text()
    assert "- times_tested: 2" in (tmp_path / "run" / "notes.md").read_text()
    assert losses(result.folder) == losses(tmp_path / "run")


def test_a_run_of_the_previous_release_is_resumed(finished, tmp_path):
    """Its config.json has the old names and lacks the new settings; its manifest lacks nothing that is needed."""
    config, result = finished
    folder = tmp_path / "run"
    train(config.override(["training.epochs=2"]), folder)
    values = json.loads((folder / "config.json").read_text())
    values["training"]["start"] = values["training"].pop("initial_model")
    values["distillation"]["shares"] = values["distillation"].pop("teacher_weights")
    values["distillation"]["late"] = values["distillation"].pop("delays")
    for section, name in [("training", "compile"), ("distillation", "online_weight"), ("model", "network")]:
        del values[section][name]
    for name in ("unlabelled", "continuous", "root", "source_weights"):
        del values["data"][name]
    for name in ("objective", "labels", "augmentation", "note"):
        del values[name]
    (folder / "config.json").write_text(json.dumps(values))
    manifest = json.loads((folder / "manifest.json").read_text())
    del manifest["data"]["with unpicked phases"]
    (folder / "manifest.json").write_text(json.dumps(manifest))
    resume(folder, assignments=["training.epochs=3"])
    assert losses(result.folder) == losses(folder)


def test_uses_of_the_test_split_are_counted_across_interruptions(small, tmp_path, monkeypatch):
    folder = tmp_path / "run"
    train(small.override(["training.epochs=1"]), folder)

    def interrupted(*words, **options):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("xiaonet.training.epochs.train_one_epoch_distillation", interrupted)
        with pytest.raises(KeyboardInterrupt):
            resume(folder, assignments=["training.epochs=2"])
    resume(folder)
    assert json.loads((folder / "manifest.json").read_text())["times_tested"] == 2


def test_settings_that_change_the_result_cannot_change_within_a_run(finished):
    _, result = finished
    with pytest.raises(CheckpointError, match=r"training\.learning_rate cannot change within a run; start a new one with --out"):
        resume(result.folder, assignments=["training.learning_rate=0.1", "training.epochs=9"])


def test_nothing_to_resume(tmp_path):
    with pytest.raises(CheckpointError, match=r"there is no run in .*: manifest\.json is missing"):
        resume(tmp_path)


def test_a_damaged_state_is_named(small, tmp_path):
    folder = tmp_path / "run"
    train(small, folder)
    (folder / "resume.pt").write_bytes((folder / "resume.pt").read_bytes()[:1000])
    with pytest.raises(CheckpointError, match=r"resume\.pt is damaged"):
        resume(folder, assignments=["training.epochs=5"])


def test_changed_data_is_refused(small, made_up, tmp_path):
    data = tmp_path / "data"
    shutil.copytree(made_up, data)
    folder = tmp_path / "run"
    train(small.override([f"data.name={data}"]), folder)
    lines = (data / "metadata.csv").read_text().splitlines(keepends=True)
    (data / "metadata.csv").write_text("".join(lines[:-1]))
    with pytest.raises(CheckpointError, match=r"was trained on data [0-9a-f]{16}, .* is now [0-9a-f]{16}: restore the data set"):
        resume(folder, assignments=["training.epochs=3"])


def test_without_a_test_split_there_is_no_test_loss(small, write_set, tmp_path, capsys):
    rng = np.random.default_rng(0)
    waveforms = [rng.standard_normal((3, 4000)) for _ in range(6)]
    data = write_set(waveforms, trace_p_arrival_sample=[1500] * 6, split=["train"] * 4 + ["dev"] * 2)
    result = train(small.override([f"data.name={data}", "training.epochs=1"]), tmp_path / "run")
    assert result.test_loss is None
    assert "! Test: no final test loss - " in capsys.readouterr().out


def test_an_empty_dev_split_is_refused(small, write_set, tmp_path):
    data = write_set([np.zeros((3, 4000))] * 2, trace_p_arrival_sample=[1500] * 2, split=["train"] * 2)
    with pytest.raises(DataError, match=r"the dev split is empty: the column split holds \{'train': 2\}"):
        train(small.override([f"data.name={data}"]), tmp_path / "run")


def test_no_teacher_is_said_loudly(small, tmp_path, capsys):
    train(small.override(["distillation.teacher=none", "training.epochs=1"]), tmp_path / "run")
    assert "! Teacher: none - the student learns from the labels alone; nothing is distilled" in capsys.readouterr().out
    assert load_teacher(DistillationSettings(teacher="none")) is None
    rows = [[float(value) for value in row] for row in losses(tmp_path / "run")]
    assert rows[0][0] == rows[0][1]


def test_several_teachers_are_named_wherever_a_teacher_is(small, teacher_file, other_teacher_file, tmp_path, capsys):
    both = f"{teacher_file}+{other_teacher_file}"
    shares = json.dumps({str(teacher_file): 1, str(other_teacher_file): 3})
    settings = [f"distillation.teacher={both}", f"distillation.teacher_weights={shares}", "training.epochs=1"]
    (tmp_path / "run").mkdir()
    trainer = Trainer(small.override(settings), tmp_path / "run")
    run = trainer.objective
    trained = {id(weight) for group in run.optimizer.param_groups for weight in group["params"]}
    assert 2 * len(list(PhaseNet().parameters())) == len({id(weight) for weight in run.teacher.parameters()} - trained)
    before = {name: weight.clone() for name, weight in run.teacher.state_dict().items()}
    trainer.run()
    assert [] == [name for name, weight in run.teacher.state_dict().items() if not torch.equal(before[name], weight)]
    told = capsys.readouterr().out
    assert f"✓ Teacher: validated - {both}, frozen" in told
    assert f"{other_teacher_file}: weights {other_teacher_file.name}, parameters 268,443, component order ENZ" in told
    manifest = json.loads((tmp_path / "run" / "manifest.json").read_text())
    assert ["weights", str(teacher_file), str(other_teacher_file)] == list(manifest["teacher"])
    assert manifest["teacher"][str(teacher_file)].endswith("weight 0.25, delay 0 samples")
    assert f"| distillation.teacher | stead | {both} |" in (tmp_path / "run" / "notes.md").read_text()
    distilled, task = (float(value) for value in losses(tmp_path / "run")[0][:2])
    assert distilled != pytest.approx(task)


def test_reductions_of_the_learning_rate_are_reported(small, tmp_path, capsys):
    # A rate that ruins the student: the dev loss stands still and the scheduler steps in.
    train(small.override(["training.learning_rate=3", "training.epochs=20"]), tmp_path / "run")
    rates = [float(row[3]) for row in losses(tmp_path / "run")]
    assert rates[-1] < rates[0]
    assert "✓ Scheduler: learning rate reduced - 3 to 1.5" in capsys.readouterr().out
    assert ": 3 to 1.5" in (tmp_path / "run" / "notes.md").read_text()


def _start(command):
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "400"}
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment, start_new_session=True)


def _after_saves(folder, process, saves):
    """Wait until the state has been written that many times; it is written after each batch."""
    seen, deadline = set(), time.monotonic() + 120
    while len(seen) < saves and process.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(FileNotFoundError):
            seen.add((folder / "resume.pt").stat().st_mtime_ns)
        time.sleep(0.001)
    assert process.poll() is None, process.communicate()[0]
