import json
import multiprocessing
import os
import re
import shutil
import signal
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal

from xiaonet import XiaoNet, load_model
from xiaonet.config.schema import Config
from xiaonet.data.augmentation import draw_batch
from xiaonet.data.pool import Pool, TrainingRecord
from xiaonet.errors import CheckpointError, ConfigError, DataError, TeacherError, TrainingError
from xiaonet.nn.checkpoint import load_tensors, read_model_file, without_folders
from xiaonet.nn.teacher import FusedTeacher, PhaseNetTeacher, Teacher, new_phasenet
from xiaonet.shipped import WEIGHTS
from xiaonet.training.drawn_windows import (
    DrawnWindows,
    learning_rate_factor,
    load_online_teachers,
    load_teachers,
    make_average,
    make_network,
    mix_online_targets,
    open_drawn_windows,
)
from xiaonet.training.interruption import StopRequest
from xiaonet.training.losses import soft_target_loss
from xiaonet.training.objective import TrainingResult
from xiaonet.training.targets import find_records
from xiaonet.training.trainer import resume, train, train_or_resume

ROOT = Path(__file__).parents[2]


@pytest.fixture
def small(write_set, teacher_file: Path) -> Config:
    """Three steps on three records, with an untrained teacher."""
    rng = np.random.default_rng(0)
    waveforms = [rng.normal(size=(3, 6000)).astype(np.float32) for _ in range(4)]
    labelled = write_set(
        waveforms,
        split=["train", "train", "train", "dev"],
        trace_p_arrival_sample=[3000.0] * 4,
        trace_s_arrival_sample=[3300.0] * 4,
        trace_p_status=["manual"] * 4,
        trace_s_status=["manual"] * 4,
    )
    values = {
        "note": "tiny",
        "objective": {"kind": "drawn_windows", "steps": 3},
        "data": {"name": labelled.name},
        "distillation": {"teacher": str(teacher_file), "temperature": 1.0},
        "training": {"batch_size": 2, "learning_rate": 3e-3, "precision": "32-true", "num_workers": 0},
        "model": {"base_channels": 2},
    }
    return Config.parse(values)


def train_recipe(config: Config, name: str, root: Path, folder: Path) -> TrainingResult:
    """As `xiaonet recipe` does it."""
    return train_or_resume(config.override([f"data.root={root}"]), folder / name, records=folder / "records.npz")


def records_of(config: Config, root: Path, folder: Path) -> list[TrainingRecord]:
    return find_records(config.override([f"data.root={root}"]), load_teachers(config), folder / "records.npz")


def _weights(path: Path) -> dict[str, torch.Tensor]:
    return load_model(path).state_dict()


@pytest.mark.parametrize(
    ("name", "network", "channels"),
    [
        ("xiaonet", "xiaonet", 16),
        ("xiaonet-nano", "xiaonet", 5),
        ("first/xiaonet", "xiaonet", 16),
        ("first/xiaonet-nano", "xiaonet", 5),
        ("teacher", "phasenet", 16),
    ],
)
def test_shipped_recipes_are_valid_and_keep_the_quiet_hour_out(name: str, network: str, channels: int) -> None:
    recipe = Config.read(ROOT / "recipes" / f"{name}.json")
    assert (network, channels) == (recipe.model.network, recipe.model.base_channels)
    assert 1.0 == pytest.approx(sum(recipe.data.source_weights.values()))
    assert not [path for path in recipe.data.continuous if path.endswith("2014.060") or path in ("sds", "sds/2014")]


@pytest.mark.parametrize("name", ["xiaonet", "xiaonet-nano", "teacher"])
def test_shipped_weights_were_made_by_their_recipes(name: str) -> None:
    content = load_tensors(WEIGHTS / f"{name}.pth", "xiaonet-phasenet" if name == "teacher" else "xiaonet-model")
    provenance = content["provenance"]
    made_by = Config.parse(provenance["config"] if "config" in provenance else provenance["recipe"])
    root = [f"data.root={made_by.data.root}"]  # where the records were
    assert Config.read(ROOT / "recipes" / f"{name}.json").override(root) == made_by


def test_a_recipe_makes_a_model_with_thresholds_and_provenance(small: Config, tmp_path: Path) -> None:
    done = train_recipe(small, "mine", tmp_path, tmp_path / "out")
    assert 6 == done.windows
    content = read_model_file(done.model)
    assert 2 == content["arguments"]["base_channels"]
    assert {phase: done.dev[phase]["threshold"] for phase in "PS"} == content["thresholds"]
    expected = json.loads(small.override([f"data.root={tmp_path}"]).to_json())
    assert without_folders(expected) == content["provenance"]["config"]
    assert "untrained.pt" == content["provenance"]["config"]["distillation"]["teacher"]
    assert ("tiny", 3, 6, {"manual": 3}) == tuple(content["provenance"][key] for key in ("note", "steps", "windows", "records"))


@pytest.mark.parametrize("dropout", [0, 0.2])
def test_an_interrupted_run_ends_where_an_unbroken_one_does(
    small: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dropout: float
) -> None:
    small = small.override([f"model.dropout={dropout}"])
    whole = train_recipe(small, "mine", tmp_path, tmp_path / "whole").model
    with monkeypatch.context() as patch:
        count = iter(range(9))

        def stop(*_: object) -> torch.Tensor:
            if next(count) == 1:
                os.kill(os.getpid(), signal.SIGINT)  # in the middle of a step
            return soft_target_loss(*_)  # type: ignore[arg-type]

        patch.setattr("xiaonet.training.drawn_windows.soft_target_loss", stop)
        with pytest.raises(KeyboardInterrupt):
            train_recipe(small, "mine", tmp_path, tmp_path / "broken")
    broken = train_recipe(small, "mine", tmp_path, tmp_path / "broken").model
    for name, weight in _weights(whole).items():
        assert torch.equal(weight, _weights(broken)[name]), name


def test_loader_processes_change_no_weight_and_are_gone_at_the_end(small: Config, tmp_path: Path) -> None:
    small = small.override(["augmentation.filtered=0.5", "augmentation.synthetic_noise=0.5"])
    alone = train_recipe(small, "mine", tmp_path, tmp_path / "alone").model
    beside = train_recipe(small.override(["training.num_workers=2"]), "mine", tmp_path, tmp_path / "beside").model
    assert [] == multiprocessing.active_children()
    for name, weight in _weights(alone).items():
        assert torch.equal(weight, _weights(beside)[name]), name


def test_a_run_that_died_continues_from_its_last_save(small: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = small.override(["training.checkpoint_minutes=1e-9", "objective.steps=5"])
    whole = train_recipe(config, "mine", tmp_path, tmp_path / "whole").model
    with monkeypatch.context() as patch:
        count = iter(range(9))

        def die(*words: torch.Tensor) -> torch.Tensor:
            if next(count) == 3:
                raise MemoryError
            return soft_target_loss(*words)  # type: ignore[arg-type]

        patch.setattr("xiaonet.training.drawn_windows.soft_target_loss", die)
        with pytest.raises(MemoryError):
            train_recipe(config, "mine", tmp_path, tmp_path / "broken")
    seen: list[tuple[int, ...]] = []
    monkeypatch.setattr(
        "xiaonet.training.drawn_windows.draw_batch",
        lambda pool, size, seed, *words: seen.append(seed) or draw_batch(pool, size, seed, *words),
    )
    broken = resume(tmp_path / "broken" / "mine").model  # as `xiaonet train --resume` does it
    assert [(0, 3), (0, 4)] == seen
    for name, weight in _weights(whole).items():
        assert torch.equal(weight, _weights(broken)[name]), name


def test_a_run_of_drawn_windows_leaves_the_files_of_a_run(small: Config, tmp_path: Path) -> None:
    done = train(small.override([f"data.root={tmp_path}"]), tmp_path / "run", note="to see what is left")
    files = ["config.json", "manifest.json", "notes.md", "records-untrained.pt.npz", "records.npz", "resume.pt", "saved_model_fp32.pth"]
    assert files == sorted(path.name for path in done.folder.iterdir())
    notes = (done.folder / "notes.md").read_text()
    assert "| objective.steps | 0 | 3 |" in notes
    assert "## Reason\n\nto see what is left\n" in notes
    assert "- windows: 6\n" in notes
    assert "Not finished" not in notes


def test_drawn_windows_need_one_process(small: Config) -> None:
    fabric = SimpleNamespace(world_size=2)
    with pytest.raises(ConfigError, match="there are 2 processes, but drawn windows are trained by one"):
        open_drawn_windows(small, fabric, None, Path())  # type: ignore[arg-type]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("network", ["xiaonet", "phasenet"])
def test_a_gpu_trains_nearly_the_same(small: Config, tmp_path: Path, network: str) -> None:
    config = small.override([f"model.network={network}", "distillation.online_weight=0.5"])
    results = []
    for use_cuda in ("false", "true"):
        done = train_recipe(config.override([f"device.use_cuda={use_cuda}"]), use_cuda, tmp_path, tmp_path / "out")
        kind = "xiaonet-phasenet" if network == "phasenet" else "xiaonet-model"
        results.append(load_tensors(done.model, kind)["weights"])
    for name, weight in results[0].items():
        assert_allclose(weight.float(), results[1][name].float(), atol=5e-3, err_msg=name)


def test_a_recipe_makes_a_teacher_and_resumes_after_a_stop(small: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = small.override(["model.network=phasenet", "objective.steps=2"])
    whole = train_recipe(recipe, "mine", tmp_path, tmp_path / "whole")
    with monkeypatch.context() as patch:
        patch.setattr(
            "xiaonet.training.drawn_windows.soft_target_loss",
            lambda *words: os.kill(os.getpid(), signal.SIGINT) or soft_target_loss(*words),
        )
        with pytest.raises(KeyboardInterrupt):
            train_recipe(recipe, "mine", tmp_path, tmp_path / "broken")
    broken = train_recipe(recipe, "mine", tmp_path, tmp_path / "broken")
    one, other = (PhaseNetTeacher.from_pretrained(str(done.model)) for done in (whole, broken))
    torch.manual_seed(recipe.training.seed)
    fresh = new_phasenet().half().float().state_dict()
    for name, weight in one.model.state_dict().items():
        assert torch.equal(weight, other.model.state_dict()[name]), name
    assert not torch.equal(one.model.state_dict()["inc.weight"], fresh["inc.weight"])
    content = load_tensors(whole.model, "xiaonet-phasenet")
    assert (whole.dev, "phasenet") == (content["provenance"]["dev"], content["provenance"]["config"]["model"]["network"])


def test_a_run_with_other_settings_is_not_resumed(small: Config, tmp_path: Path) -> None:
    train_recipe(small, "mine", tmp_path, tmp_path / "out")
    with pytest.raises(ConfigError, match=r"mine holds a run with other settings: training\.seed 0, wanted 1; choose another --out"):
        train_recipe(small.override(["training.seed=1"]), "mine", tmp_path, tmp_path / "out")


def test_records_and_a_run_of_other_data_are_not_resumed(small: Config, write_set, tmp_path: Path) -> None:
    """Sets of one name and the same picks, in two folders, whose samples differ."""
    first = train_recipe(small, "mine", tmp_path, tmp_path / "out").folder.parent / "records.npz"
    seen = np.load(first)["waveforms"]
    other = tmp_path / "other"
    (other / small.data.name).mkdir(parents=True)
    for file in (tmp_path / small.data.name).iterdir():
        (other / small.data.name / file.name).write_bytes(file.read_bytes())
    with h5py.File(other / small.data.name / "waveforms.hdf5", "r+") as file:
        for data in file["data"].values():
            data[...] = 2 * data[...]
    with pytest.raises(
        CheckpointError,
        match=r"resume\.pt was trained on data [0-9a-f]{64}, set is now [0-9a-f]{64}: restore the data set, or choose",
    ):
        train_recipe(small, "mine", other, tmp_path / "out")
    assert_allclose(2 * seen, np.load(first)["waveforms"], rtol=1e-5)


def test_records_of_another_teacher_file_of_the_same_name_and_size_are_computed_again(
    small: Config, teacher_file: Path, tmp_path: Path
) -> None:
    mine = tmp_path / "untrained.pt"
    for suffix in (".pt", ".json"):
        mine.with_suffix(suffix).write_bytes(teacher_file.with_suffix(suffix).read_bytes())
    recipe = small.override([f"distillation.teacher={mine}"])
    first = records_of(recipe, tmp_path, tmp_path / "out")
    size = mine.stat().st_size
    weights = torch.load(mine)
    weights["out.bias"] = weights["out.bias"] + torch.tensor([0.0, 3.0, 0.0])
    torch.save(weights, mine)
    assert size == mine.stat().st_size
    second = records_of(recipe, tmp_path, tmp_path / "out")
    assert np.abs(first[0].target.astype(float) - second[0].target).max() > 0.1
    assert_array_equal(second[0].target, records_of(recipe, tmp_path, tmp_path / "out")[0].target)


def test_a_run_that_diverges_is_stopped_and_leaves_no_model(small: Config, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"step \d gave loss .*; both must be finite\. Choose a training\.learning_rate below 1e\+30"):
        train_recipe(small.override(["training.learning_rate=1e30", "objective.steps=9"]), "mine", tmp_path, tmp_path / "out")
    assert ["config.json", "manifest.json", "notes.md"] == sorted(path.name for path in (tmp_path / "out" / "mine").iterdir())


def test_ctrl_c_twice_stops_at_once() -> None:
    with StopRequest("xiaonet train --resume here") as stop:
        assert not stop.asked
        os.kill(os.getpid(), signal.SIGINT)
        assert stop.asked
        signal.raise_signal(signal.SIGINT)  # at once: a launcher passes on what the terminal sent already
        time.sleep(1.1)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


def test_minutes_end_on_time(small: Config, tmp_path: Path) -> None:
    train_recipe(small, "first", tmp_path, tmp_path)  # keeps the records
    done = train_recipe(small.override(["objective.steps=0", "objective.minutes=0.01"]), "mine", tmp_path, tmp_path)
    assert read_model_file(done.model)["provenance"]["minutes"] <= 0.1
    assert done.windows >= 2


def test_a_model_can_be_the_initial_model(small: Config, tmp_path: Path) -> None:
    first = train_recipe(small, "first", tmp_path, tmp_path).model
    still = small.override([f"training.initial_model={first}", "training.learning_rate=1e-12", "objective.steps=1"])
    second = _weights(train_recipe(still, "second", tmp_path, tmp_path).model)
    assert_allclose(_weights(first)["head.weight"], second["head.weight"], atol=1e-6)


def test_the_initial_model_has_its_share_in_what_is_kept(small: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("xiaonet.training.drawn_windows.NORMALIZING_WINDOWS", 10)
    first = train_recipe(small, "first", tmp_path, tmp_path).model
    further = small.override([f"training.initial_model={first}"])
    trained = _weights(train_recipe(further, "all", tmp_path, tmp_path).model)
    share = further.override(["objective.initial_share=0.25"])
    model = train_recipe(share, "mixed", tmp_path, tmp_path).model
    mixed = _weights(model)
    for name, before in _weights(first).items():
        if not name.endswith(("running_mean", "running_var", "num_batches_tracked")):
            assert_allclose(0.25 * before + 0.75 * trained[name], mixed[name], atol=1e-6, err_msg=name)
    assert abs(_weights(first)["head.weight"] - trained["head.weight"]).max() > 1e-3

    # The first layer is normalized by what it gives for the windows of the five steps that would follow.
    pool = Pool(records_of(share, tmp_path, tmp_path), share.data.source_weights)
    batches = [draw_batch(pool, 2, (share.training.seed, step), share.augmentation, share.labels) for step in range(3, 8)]
    layer = load_model(model).encoder[0][0].requires_grad_(False)
    found = [layer(torch.from_numpy(windows * given)[..., :3000]).transpose(0, 1).flatten(1) for windows, _, given in batches]
    assert_allclose(torch.stack([one.mean(1) for one in found]).mean(0), mixed["encoder.0.1.running_mean"], atol=1e-6)
    assert_allclose(torch.stack([one.var(1) for one in found]).mean(0), mixed["encoder.0.1.running_var"], rtol=1e-5)


def test_a_missing_initial_model_is_named(small: Config, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="there is no model 'xiaonet-nanno'; did you mean xiaonet-nano"):
        train_recipe(small.override(["training.initial_model=xiaonet-nanno"]), "mine", tmp_path, tmp_path)


def test_an_initial_model_of_another_width_is_refused_before_the_teachers_predict(small: Config, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="xiaonet-nano has base_channels 5; wanted base_channels 2"):
        train_recipe(small.override(["training.initial_model=xiaonet-nano"]), "mine", tmp_path, tmp_path)
    assert not (tmp_path / "records.npz").exists()


def test_a_quantized_initial_model_is_refused(small: Config, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"xiaonet-int8\.pth is quantized already; wanted the model in float32"):
        train_recipe(small.override(["training.initial_model=xiaonet-int8"]), "mine", tmp_path, tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"objective": {"steps": 5, "minutes": 1.0}}, "objective.steps is 5 and objective.minutes is 1; wanted one of them"),
        ({"augmentation": {"vertical_only": 2}}, "augmentation.vertical_only is 2"),
        ({"augmentation": {"horizontal": 0.5}}, "augmentation.horizontal"),
        ({"epochs": 5}, "unknown setting epochs; did you mean training.epochs?"),
        ({"distillation": {"online_weight": 1.5}}, "distillation.online_weight is 1.5"),
        ({"distillation": {"teacher": "none"}}, "distillation.teacher is 'none', but drawn windows need a teacher"),
        ({"training": {"precision": "16-mixed"}}, "training.precision is '16-mixed'"),
        ({"distillation": {"teacher_weights": {"a": 1.5, "b": -0.5}}}, "distillation.teacher_weights.b is -0.5"),
        ({"data": {"source_weights": {"manual": 0}}}, "data.source_weights.manual is 0"),
        ({"data": {"source_weights": {}}}, "data.source_weights is {}"),
        ({"model": {"network": "unet"}}, "model.network is 'unet'"),
        ({"objective": {"initial_share": 0.5}}, "objective.initial_share is 0.5, but training.initial_model is 'none'; name a model"),
        ({"objective": {"initial_share": 1}}, "objective.initial_share is 1"),
        (
            {"model": {"network": "phasenet"}, "training": {"initial_model": "xiaonet"}},
            "training.initial_model is 'xiaonet', but a phasenet starts from fresh weights; wanted 'none'",
        ),
    ],
)
def test_bad_recipes(change: dict[str, Any], message: str) -> None:
    objective = {"kind": "drawn_windows", "steps": 1} | change.pop("objective", {})
    with pytest.raises(ConfigError, match=re.escape(message)):
        Config.parse({**change, "objective": objective})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"steps": 5, "minutes": 1.0}, "objective.steps is 5 and objective.minutes is 1; wanted one of them"),
        ({"teachers": {"stead": 0.5}}, "do not sum to 1"),
        ({"chances": {"vertical": 2}}, "augmentation.vertical_only is 2"),
        ({"chances": {"horizontal": 0.5}}, "augmentation.horizontal"),
        ({"epochs": 5}, "unknown setting epochs; did you mean training.epochs?"),
        ({"anew": 1.5}, "distillation.online_weight is 1.5"),
        ({"precision": "16-mixed"}, "training.precision is '16-mixed'"),
        ({"teachers": {"a": 1.5, "b": -0.5}}, "distillation.teacher_weights.b is -0.5"),
        ({"shares": {"manual": 0}}, "data.source_weights.manual is 0"),
        ({"network": "unet"}, "model.network is 'unet'"),
        ({"network": "phasenet", "start": "xiaonet"}, "training.initial_model is 'xiaonet', but a phasenet starts from fresh weights"),
    ],
)
def test_bad_recipes_of_the_previous_release(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        Config.parse({"steps": 0 if "minutes" in change else 1, "seed": 0} | change)


def test_older_names_of_augmentations_are_understood() -> None:
    old = {"aimed": 0.01, "silent": 0.02, "padded": 0.03, "stretched": 0.04, "doubled": 0.05, "noisy": 0.06, "filtered": 0.07}
    old |= {"coloured": 0.08, "vertical": 0.09, "one_horizontal": 0.1, "rotated": 0.11, "swapped": 0.12, "flipped": 0.13}
    old |= {"gap": 0.14, "artefact": 0.15}
    assert {
        "onset_centred": 0.01,
        "noise_only": 0.02,
        "beyond_ends": 0.03,
        "time_stretched": 0.04,
        "superposed": 0.05,
        "real_noise": 0.06,
        "filtered": 0.07,
        "synthetic_noise": 0.08,
        "vertical_only": 0.09,
        "missing_horizontal": 0.1,
        "rotated": 0.11,
        "swapped": 0.12,
        "polarity_reversed": 0.13,
        "gap": 0.14,
        "artefact": 0.15,
        "largest_stretch": 1.1,
        "simulated": 0.0,
    } == Config.parse({"chances": old, "steps": 1}).augmentation.model_dump()


def test_a_recipe_must_say_how_long(small: Config) -> None:
    with pytest.raises(ConfigError, match=r"objective\.steps is 0 and objective\.minutes is 0; wanted one of them above 0"):
        small.override(["objective.steps=0"])


def test_a_missing_data_folder_is_named(small: Config, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"data\.root is .*nowhere, and there is no such folder; wanted the one that holds set"):
        train_recipe(small, "mine", tmp_path / "nowhere", tmp_path)


def test_online_targets_have_their_weight_but_windows_of_noise_keep_theirs(small: Config) -> None:
    teachers = load_teachers(small)
    windows = torch.randn(2, 3, 3001)
    target = torch.zeros(2, 3, 3001)
    target[:, 2] = 1
    target[0, :, 700] = torch.tensor([0.5, 0.25, 0.25])
    mixed = mix_online_targets(teachers, windows, target, 0.25, 0.5)
    assert_allclose(0.75 * target[0] + 0.25 * teachers(windows)[0], mixed[0], atol=1e-6)
    assert_array_equal(target[1], mixed[1])


@pytest.mark.parametrize(
    ("size", "draw", "seen"),
    [
        (8, 0.0, "aabbbbcc"),
        (8, 0.9, "aabbbbcc"),
        (4, 0.5, "abbc"),
        (2, 0.4, "bc"),
        (2, 0.6, "ab"),
        (1, 0.2, "c"),
        (1, 0.3, "b"),
        (1, 0.8, "a"),
    ],
)
def test_each_window_goes_to_one_teacher_by_weight_and_without_delay(size: int, draw: float, seen: str) -> None:
    """Teachers that predict P at sample 1000, 1150 or 1200; the second has a delay of 100 samples."""

    class Predicts(Teacher):
        def __init__(self, sample: int) -> None:
            super().__init__()
            self.sample = sample

        def logits(self, windows: torch.Tensor) -> torch.Tensor:
            logits = torch.zeros(len(windows), 3, 3001)
            logits[:, 0, self.sample] = 9
            return logits

        def describe(self) -> dict[str, str]:
            return {}

    teachers = FusedTeacher({"a": Predicts(1000), "b": Predicts(1150), "c": Predicts(1200)}, {"a": 0.25, "b": 0.5, "c": 0.25}, {"b": 100})
    target = torch.full((size, 3, 3001), 1 / 3)
    target[:, 0, 5] = 0.4
    answers = mix_online_targets(teachers, torch.zeros(size, 3, 3001), target, 1.0, draw)[:, 0]
    logits = {"a": 1000, "b": 1050, "c": 1200}
    assert [logits[name] for name in seen] == answers.argmax(dim=1).tolist()


@pytest.mark.parametrize("share", [0.0, 0.5])
def test_online_teachers_predict_the_windows_that_were_drawn(small: Config, share: float, tmp_path: Path, monkeypatch) -> None:
    seen: list[torch.Tensor] = []
    logits = PhaseNetTeacher.logits
    recipe = small.override([f"distillation.online_weight={share}", "augmentation.filtered=1"])
    train_recipe(recipe, "first", tmp_path, tmp_path)  # keeps the records
    monkeypatch.setattr(PhaseNetTeacher, "logits", lambda self, windows: seen.append(windows) or logits(self, windows))
    train_recipe(recipe, "mine", tmp_path, tmp_path)
    if not share:
        assert not seen
        return
    pool = Pool(records_of(recipe, tmp_path, tmp_path), recipe.data.source_weights)
    assert 3 == len(seen)
    for step, windows in enumerate(seen):
        assert_array_equal(draw_batch(pool, 2, (recipe.training.seed, step), recipe.augmentation, recipe.labels)[0], windows)


def test_a_student_of_the_vertical_alone_learns_what_teachers_see_in_three_components(
    small: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    taught, learnt = [], []
    by_teacher, by_student = PhaseNetTeacher.logits, XiaoNet.logits
    monkeypatch.setattr(PhaseNetTeacher, "logits", lambda self, windows: taught.append(windows) or by_teacher(self, windows))
    monkeypatch.setattr(XiaoNet, "logits", lambda self, windows, planar: learnt.append(windows) or by_student(self, windows, planar=planar))
    recipe = small.override(["distillation.online_weight=0.5", "augmentation.vertical_only=1"])
    monkeypatch.setattr(DrawnWindows, "finish", lambda self: None)
    train(recipe.override([f"data.root={tmp_path}"]), tmp_path / "run")
    for whole, windows in zip(taught[-3:], learnt, strict=True):
        assert_array_equal(whole[:, 2], windows[:, 2])
        assert whole[:, :2].any()
        assert not windows[:, :2].any()


def test_p_and_s_can_have_online_weights_of_their_own(small: Config) -> None:
    teachers = load_teachers(small)
    windows, target = torch.randn(1, 3, 3001), torch.zeros(1, 3, 3001)
    target[:, 2] = 1
    target[0, :, 700] = torch.tensor([0.5, 0.25, 0.25])
    p, s, noise = mix_online_targets(teachers, windows, target, (0.5, 0.0), 0.5)[0]
    predicted = teachers(windows)[0]
    assert_allclose(0.5 * target[0, 0] + 0.5 * predicted[0], p, atol=1e-6)
    assert_allclose(target[0, 1], s, atol=1e-6)
    assert_allclose(1, p + s + noise, atol=1e-6)


def test_online_teachers_may_be_others_than_those_of_the_records(small: Config, teacher_file: Path) -> None:
    config = small.override(['distillation.online_teachers={"bundled": 1}', "distillation.online_weight=0.5"])
    assert ["bundled"] == list(load_online_teachers(config, load_teachers(config)).members)
    assert [str(teacher_file)] == list(load_online_teachers(small, load_teachers(small)).members)


def test_a_teacher_of_whole_records_is_not_asked_about_a_window(small: Config, teachers: Path, tmp_path: Path) -> None:
    config = small.override(["distillation.teacher=EQTransformer/volpick+ustc_cses@50+volpick", "distillation.online_weight=0.5"])
    with pytest.raises(TeacherError) as caught:
        load_online_teachers(config, load_teachers(config))
    assert "online_weight is above 0, but EQTransformer/volpick, ustc_cses@50 cannot predict single windows of 3001" in str(caught.value)
    assert 'Name those that can in distillation.online_teachers, such as {"volpick": 1}' in str(caught.value)


def test_online_targets_change_the_student(small: Config, tmp_path: Path) -> None:
    plain = train_recipe(small, "plain", tmp_path, tmp_path).model
    online = train_recipe(small.override(["distillation.online_weight=0.5"]), "online", tmp_path, tmp_path).model
    assert not torch.equal(_weights(plain)["head.weight"], _weights(online)["head.weight"])


@pytest.mark.skipif(shutil.which("c++") is None and shutil.which("g++") is None, reason="torch compiles with a C++ compiler")
def test_a_compiled_student_learns_the_same(small: Config, tmp_path: Path) -> None:
    plain = _weights(train_recipe(small, "plain", tmp_path, tmp_path).model)
    compiled = _weights(train_recipe(small.override(["training.compile=true"]), "compiled", tmp_path, tmp_path).model)
    for name, weight in plain.items():
        assert_allclose(weight, compiled[name], atol=1e-3, err_msg=name)


def test_compiling_takes_none_of_the_minutes(small: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A compiler that takes a second, and a run of 0.6 s."""

    def slow(forward):
        pauses = iter([1.0])
        return lambda windows: time.sleep(next(pauses, 0.0)) or forward(windows)

    train_recipe(small, "first", tmp_path, tmp_path)  # keeps the records
    monkeypatch.setattr(torch, "compile", slow)
    done = train_recipe(
        small.override(["objective.steps=0", "objective.minutes=0.01", "training.compile=true"]), "mine", tmp_path, tmp_path
    )
    assert done.windows > 2  # more than the step that compiled


def test_bf16_trains_nearly_as_float32_does_and_is_kept_in_float32(small: Config, tmp_path: Path) -> None:
    exact = _weights(train_recipe(small, "exact", tmp_path, tmp_path).model)
    rough = _weights(train_recipe(small.override(["training.precision=bf16-mixed"]), "rough", tmp_path, tmp_path).model)
    assert not torch.equal(exact["head.weight"], rough["head.weight"])
    for name, weight in exact.items():
        assert rough[name].dtype == weight.dtype
        assert_allclose(weight, rough[name], atol=0.02, err_msg=name)


def test_missing_parts_of_a_recipe_are_named(small: Config, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"A recipe names its data itself, here nothing; --data is their folder"):
        train_recipe(small.override(["data.name=nothing"]), "mine", tmp_path, tmp_path / "out")
    with pytest.raises(TeacherError, match=r'A recipe names its teachers itself, such as "distillation": \{"teacher": "bundled"\}'):
        train_recipe(small.override(["distillation.teacher=/nowhere/mine.pt"]), "mine", tmp_path, tmp_path / "out")


def test_learning_rate_rises_to_its_peak_and_falls_to_a_hundredth() -> None:
    assert_allclose(
        [3e-5, 1.5e-3, 3e-3, 3e-3 * 0.505, 3e-5], [3e-3 * learning_rate_factor(share) for share in (0, 0.015, 0.03, 0.515, 1.0)]
    )


def test_loss_is_the_divergence_at_temperature_one() -> None:
    target = torch.tensor([[[0.5], [0.25], [0.25]]])
    student = torch.tensor([[[0.25], [0.25], [0.5]]])
    assert_allclose(0.5 * np.log(2) - 0.25 * np.log(2), soft_target_loss(student.log(), target).item(), rtol=1e-5)
    assert_allclose(0, soft_target_loss(target.log(), target).item(), atol=1e-6)


def test_loss_at_another_temperature_by_hand() -> None:
    target = torch.tensor([[[0.64], [0.32], [0.04]]])
    student = torch.tensor([[[0.25], [0.25], [0.25]]])
    soft = np.sqrt([0.64, 0.32, 0.04]) / np.sqrt([0.64, 0.32, 0.04]).sum()
    assert_allclose(4 * (soft * np.log(soft * 3)).sum(), soft_target_loss(student.log(), target, 2.0).item(), rtol=1e-5)


def test_the_average_of_two_models() -> None:
    one, other = XiaoNet(base_channels=2), XiaoNet(base_channels=2)
    other.encoder[0][1].num_batches_tracked += 3
    average = make_average(one, 0.75)
    average.n_averaged.fill_(1000)
    average.update_parameters(other)
    assert_allclose((0.75 * one.head.weight + 0.25 * other.head.weight).detach(), average.module.head.weight.detach(), atol=1e-6)
    assert 3 == average.module.encoder[0][1].num_batches_tracked
    average = make_average(one, 0.999)
    average.update_parameters(other)  # at the start it forgets: 2/11 of the old
    assert_allclose((2 / 11 * one.head.bias + 9 / 11 * other.head.bias).detach(), average.module.head.bias.detach(), atol=1e-6)


def test_a_fresh_student_predicts_noise() -> None:
    """The bias alone: with weights of zero the probabilities are the usual ones."""
    model = make_network(Config().override(["model.base_channels=3"]))
    with torch.no_grad():
        model.head.weight.zero_()
        probabilities = model.eval()(torch.randn(2, 3, 3001))
    assert_allclose(np.broadcast_to(np.reshape([0.015, 0.015, 0.97], (1, 3, 1)), (2, 3, 3001)), probabilities, rtol=1e-5)
