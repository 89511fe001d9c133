"""A run that starts from a model of ours, with that model as its teacher."""

import csv

import numpy as np
import pytest
import torch
from seisbench.data import WaveformDataset
from torch.utils.data import default_collate

from xiaonet import load_model, save_model
from xiaonet.config.schema import Config, DistillationSettings
from xiaonet.data.pipeline import Windows
from xiaonet.data.sets import open_data
from xiaonet.errors import CheckpointError, ConfigError, DataError, TrainingError
from xiaonet.nn.checkpoint import read_model_file
from xiaonet.shipped import WEIGHTS
from xiaonet.training.losses import task_loss
from xiaonet.training.setup import load_teacher, make_student
from xiaonet.training.trainer import resume, train

NANO = ["training.initial_model=xiaonet-nano", "distillation.teacher=initial", "model.base_channels=5"]
SHORT = ["training.num_workers=0", "training.precision=32-true", "training.batch_size=8", "distillation.temperature=1"]


def settings(*more: str) -> Config:
    return Config().override([*NANO, *SHORT, *more])


@pytest.fixture
def iceland(labelled, write_set):
    """Real records of one region: 48 to train on and 24 to develop on, with automatic picks."""
    data = WaveformDataset(labelled, component_order="ENZ", dimension_order="NCW")
    data.filter((data.metadata["trace_dataset"] == "iceland").to_numpy())
    split = data.metadata["split"]
    rows = [*np.flatnonzero(split == "train")[::5][:48], *np.flatnonzero(split == "dev")[:24]]
    metadata = data.metadata.iloc[rows]
    columns = ["split", "source_id", *metadata.filter(regex="arrival|status").columns]
    return write_set([data.get_waveforms(int(row)) for row in rows], "iceland", **{name: metadata[name].tolist() for name in columns})


def test_the_student_starts_as_the_model_it_starts_from():
    start = load_model(WEIGHTS / "xiaonet-nano.pth")
    windows = torch.rand(2, 3, 3001) - 0.5
    torch.testing.assert_close(start.logits(windows), make_student(settings()).eval().logits(windows))


def test_the_start_is_the_teacher_and_stays_as_it_was():
    teacher = load_teacher(DistillationSettings(teacher="initial"), "xiaonet-nano")
    windows = torch.rand(2, 3, 3001) - 0.5
    torch.testing.assert_close(load_model(WEIGHTS / "xiaonet-nano.pth")(windows), teacher(windows))
    teacher.train()
    teacher.requires_grad_()
    assert not teacher.model.training
    assert not any(weight.requires_grad for weight in teacher.parameters())
    assert not teacher.logits(windows).requires_grad
    assert {"weights": "xiaonet-nano", "parameters": "16,578"} == teacher.describe()


def test_fine_tuning_on_a_region_is_better_there_and_does_not_forget(iceland, labelled, tmp_path):
    config = settings(f"data.name={iceland}", "training.epochs=4", "training.learning_rate=1e-3", "data.windows_per_record=2")
    result = train(config, tmp_path / "run")
    before, after = load_model(WEIGHTS / "xiaonet-nano.pth"), load_model(tmp_path / "run" / "saved_model_fp32.pth")

    def loss(model, data):
        windows = Windows(data, incomplete_statuses=config.data.incomplete_statuses)
        batch = default_collate([windows[row] for row in range(len(windows))])
        with torch.no_grad():
            return float(task_loss(model.logits(batch["X"]), batch["y"], batch["incomplete"]))

    assert loss(after, open_data(str(iceland)).dev()) < loss(before, open_data(str(iceland)).dev())
    elsewhere = open_data(str(labelled)).dev()
    elsewhere = elsewhere.filter((elsewhere.metadata["trace_dataset"] == "ncedc").to_numpy(), inplace=False)
    assert loss(after, elsewhere) < 1.1 * loss(before, elsewhere)
    assert 1 <= result.best_epoch <= 4
    thresholds = [read_model_file(path)["thresholds"] for path in (WEIGHTS / "xiaonet-nano.pth", tmp_path / "run" / "saved_model_fp32.pth")]
    assert thresholds[0] == thresholds[1]


def test_a_model_that_is_worse_than_the_start_is_not_saved(tmp_path, made_up):
    config = settings(f"data.name={made_up}", "training.epochs=2", "training.learning_rate=10")
    with pytest.raises(TrainingError, match=r"no epoch was better on dev than xiaonet-nano, whose loss is 0\.\d+; no model is saved"):
        train(config, tmp_path / "run")
    assert [] == list((tmp_path / "run").glob("*.pth"))
    with (tmp_path / "run" / "history.csv").open() as file:
        assert 2 == len(list(csv.DictReader(file)))
    with pytest.raises(TrainingError, match="no epoch was better"):  # a resumed run knows the loss of the initial model
        resume(tmp_path / "run")


def test_a_run_is_not_gone_on_with_when_its_start_has_changed(tmp_path, made_up):
    start = tmp_path / "start.pth"
    start.write_bytes((WEIGHTS / "xiaonet-nano.pth").read_bytes())
    own = [f"data.name={made_up}", "training.epochs=1", f"training.initial_model={start}", "training.learning_rate=1e-3"]
    train(settings(*own), tmp_path / "run")
    model = load_model(start)
    with torch.no_grad():
        model.head.bias += 0.1
    save_model(model, start)
    with pytest.raises(CheckpointError, match=r"was taught by other weights than initial \(.*start\.pth\) has now: restore the file"):
        resume(tmp_path / "run", assignments=["training.epochs=2"])


@pytest.mark.parametrize(
    ("assignments", "error", "message"),
    [
        (["model.base_channels=4"], ConfigError, "xiaonet-nano has base_channels 5; wanted base_channels 4, as the settings"),
        (["model.dilations=plain"], ConfigError, "xiaonet-nano has dilations"),
        (["training.initial_model=xiaonet-nan"], CheckpointError, "there is no model 'xiaonet-nan'; did you mean xiaonet-nano"),
    ],
)
def test_a_start_that_does_not_fit(assignments, error, message):
    with pytest.raises(error) as caught:
        make_student(settings(*assignments))
    assert message in str(caught.value)


def test_a_teacher_that_is_the_start_needs_one():
    with pytest.raises(ConfigError, match=r"distillation.teacher is initial, and training.initial_model is none"):
        load_teacher(DistillationSettings(teacher="initial"), "none")


def test_records_that_cannot_be_adapted_to(write_set, tmp_path):
    noise = np.random.default_rng(0).normal(size=(3, 6000))
    unlabelled = write_set([noise] * 4, "unlabelled", split=["train", "dev"] * 2)
    with pytest.raises(DataError, match="no column of P or S picks"):
        train(settings(f"data.name={unlabelled}"), tmp_path / "one")
    single = write_set([noise], "single", trace_p_arrival_sample=[3000.0])
    with pytest.raises(DataError, match="split is empty: the column split holds"):
        train(settings(f"data.name={single}"), tmp_path / "two")
    assert not (tmp_path / "one").exists()


@pytest.mark.parametrize(("split", "picked"), [("train", [None, 3000.0]), ("dev", [3000.0, None])])
def test_records_whose_picks_are_all_missing_are_nothing_to_adapt_to(split, picked, write_set, tmp_path):
    noise = np.random.default_rng(0).normal(size=(3, 6000))
    data = write_set([noise] * 4, split=["train", "dev"] * 2, trace_p_arrival_sample=picked * 2)
    with pytest.raises(DataError, match=f"none of the 2 records of split {split} has a pick; wanted P or S picks in train and dev"):
        train(settings(f"data.name={data}"), tmp_path / "run")
