import json
import shutil
from pathlib import Path

import numpy as np
import obspy
import pytest

from xiaonet import Picker
from xiaonet.deploy.stacking import set_stacking
from xiaonet.errors import CheckpointError, ConfigError
from xiaonet.nn.checkpoint import load_model, read_model_file
from xiaonet.runtime.loading import load_predictor
from xiaonet.shipped import WEIGHTS


@pytest.fixture(params=["xiaonet-nano.onnx", "xiaonet-nano-int8.onnx", "xiaonet-nano.pth", "xiaonet-nano-int8.pth"])
def model_file(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return Path(shutil.copy(WEIGHTS / request.param, tmp_path / request.param))


def test_a_model_file_gets_another_stacking_and_nothing_else_changes(model_file: Path) -> None:
    before, windows = load_predictor(model_file), np.random.default_rng(0).uniform(-1, 1, (2, 3, 3001)).astype(np.float32)
    for stacking in ("waveforms", "probabilities"):
        set_stacking(model_file, stacking)  # type: ignore[arg-type]
        after = load_predictor(model_file)
        assert stacking == after.stacking
        np.testing.assert_array_equal(before(windows), after(windows))
        assert before.thresholds == after.thresholds
        assert before.header["provenance"] == after.header["provenance"]  # type: ignore[attr-defined]
    if model_file.suffix == ".pth":
        assert "probabilities" == read_model_file(model_file)["stacking"]
        assert load_model(model_file).arguments == load_model(WEIGHTS / model_file.name).arguments


def test_the_picker_gives_a_model_of_waveforms_whole_records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = Path(shutil.copy(WEIGHTS / "xiaonet.onnx", tmp_path))
    set_stacking(path, "probabilities")
    expected = Picker(path, centred=False).pick(obspy.read())
    set_stacking(path, "waveforms")
    as_before = Picker(path, centred=False, stacking="probabilities").pick(obspy.read())
    assert expected == as_before
    assert ("grid, probabilities averaged", "grid, probabilities averaged") == (
        expected.provenance["windows"],
        as_before.provenance["windows"],
    )
    monkeypatch.setattr("xiaonet.runtime.predictor.RuntimePredictor.__call__", None)  # it must not be called
    found = Picker(path, centred=False).pick(obspy.read())
    assert "grid, waveforms averaged" == found.provenance["windows"]
    assert [pick.phase for pick in expected] == [pick.phase for pick in found]
    assert all(abs(one.time_ns - other.time_ns) < 2e7 for one, other in zip(expected, found, strict=True))


def test_what_is_no_model_file_or_no_stacking_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="stacking is 'logits'; wanted probabilities or waveforms"):
        set_stacking(tmp_path / "model.onnx", "logits")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="stacking is 'logits'; wanted probabilities or waveforms"):
        Picker(stacking="logits")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"model.xml is neither a .pth nor a .onnx file"):
        set_stacking(tmp_path / "model.xml", "waveforms")
    (tmp_path / "model.onnx").write_text(json.dumps({}))
    with pytest.raises(CheckpointError, match=r"model.onnx is damaged"):
        set_stacking(tmp_path / "model.onnx", "waveforms")
