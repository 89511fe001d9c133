import json

import pytest
import torch

from xiaonet import XiaoNet, load_model, save_model


@pytest.fixture
def run(run):
    """The same in a folder that holds `small.pth`."""
    torch.manual_seed(0)  # with weights of some other seeds, sums do not fit into INT8
    save_model(XiaoNet(base_channels=2), "small.pth")
    return run


def test_quantizing_from_the_command_line(run, tmp_path, made_up):
    status, told = run("quantize", "small.pth", "--data", str(made_up), "--windows", "16", "--qat", "1", "--out", "out")
    assert status == 0, told
    assert "Epoch 1/1  loss: " in told
    assert "✓ Written: saved_model_int8.pth - " in told
    assert "thresholds P 0.3, S 0.3" in told
    assert 1 == json.loads((tmp_path / "out" / "quantization.json").read_text())["calibration"]["epochs"]
    assert 2 == load_model("out/saved_model_int8.pth").arguments["base_channels"]
    status, told = run("quantize", "out/saved_model_int8.pth", "--data", str(made_up))
    assert (1, True) == (status, "✗ Config: stopped - out/saved_model_int8.pth is quantized already" in told)


def test_exporting_from_the_command_line(run, tmp_path):
    status, told = run("export", "small.pth", "--format", "openvino")
    assert status == 0, told
    assert ["small.bin", "small.pth", "small.xml"] == sorted(path.name for path in tmp_path.iterdir())
    status, told = run("export", "small.pth", "--format", "openvino", "--out", "new/folder/model.xml")
    assert (0, True) == (status, (tmp_path / "new" / "folder" / "model.bin").is_file()), told
    status, told = run("export", "small.pth", "--format", "litert")
    assert (1, True) == (status, "format litert is not available, because its converter, litert-torch" in told)


def test_shipped_models_are_exported_and_quantized_by_name(run, tmp_path, made_up):
    status, told = run("export", "xiaonet-nano")
    assert (0, True) == (status, (tmp_path / "xiaonet-nano.onnx").is_file()), told
    status, told = run("export", "xiaonet-nan")
    assert (1, True) == (status, "there is no model 'xiaonet-nan'; did you mean xiaonet-nano" in told), told
    status, told = run("quantize", "xiaonet-nano", "--data", str(made_up), "--windows", "16", "--out", "out")
    assert (0, True) == (status, (tmp_path / "out" / "model_int8.onnx").is_file()), told


def test_a_recipe_does_not_begin_where_its_files_could_not_be_written(run, tmp_path, monkeypatch):
    (tmp_path / "mine.json").write_text('{"steps": 1}')
    monkeypatch.setattr("xiaonet.deploy.onnx.find_spec", lambda name: None)
    status, told = run("recipe", "mine.json")
    assert (1, True) == (status, "export needs onnx and onnxscript: pip install 'xiaonet[export]'" in told), told
    assert not (tmp_path / "runs").exists()
