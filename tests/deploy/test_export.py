import json
import re
import shutil
from pathlib import Path

import numpy as np
import obspy
import pytest
import torch

from xiaonet.constants import input_specification
from xiaonet.deploy.export import export
from xiaonet.deploy.onnx import check
from xiaonet.deploy.quantize import largest_samples
from xiaonet.errors import CheckpointError, ConfigError, OutputError
from xiaonet.nn.checkpoint import load_model, save_model
from xiaonet.nn.model import XiaoNet
from xiaonet.nn.quantized import QuantizedXiaoNet, folded, shared_steps
from xiaonet.picker import Picker
from xiaonet.picking.windows import normalize
from xiaonet.runtime.checksum import add_checksum
from xiaonet.runtime.loading import load_predictor
from xiaonet.runtime.openvino_runtime import open_core


@pytest.fixture(scope="module")
def real() -> np.ndarray:
    """A real window, ObsPy's example record, `(1, 3, 3001)`."""
    stream = obspy.read()
    traces = np.stack([stream.select(component=component)[0].data for component in "ENZ"])[None, :, :3000]
    return normalize(np.concatenate([traces, traces[..., -1:]], axis=-1))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, real: np.ndarray) -> Path:
    """`fp32.pth` and `int8.pth` of one small model, and each as OpenVINO's files."""
    folder = tmp_path_factory.mktemp("exports")
    torch.manual_seed(0)
    model, thresholds = XiaoNet(base_channels=3).eval(), {"P": 0.25, "S": 0.5}
    steps = shared_steps(largest_samples(model, torch.from_numpy(real)))
    save_model(model, folder / "fp32.pth", {"note": "a test"}, thresholds)
    save_model(QuantizedXiaoNet.from_convolutions(model.arguments, folded(model), steps), folder / "int8.pth", thresholds=thresholds)
    for precision in ("fp32", "int8"):
        written = export(folder / f"{precision}.pth", "openvino", folder / f"{precision}.xml")
        assert [folder / f"{precision}.xml", folder / f"{precision}.bin"] == written
    return folder


@pytest.mark.parametrize("precision", ["fp32", "int8"])
@pytest.mark.parametrize("samples", [8, 2400, 3001])
def test_openvino_files_give_what_torch_gives_on_a_real_window(folder: Path, real: np.ndarray, precision: str, samples: int) -> None:
    windows = np.ascontiguousarray(np.concatenate([real, real[:, ::-1]])[..., :samples])
    found = open_core().compile_model(folder / f"{precision}.xml", "CPU", {"INFERENCE_PRECISION_HINT": "f32"})([windows])[0]
    with torch.inference_mode():
        expected = load_model(folder / f"{precision}.pth")(torch.from_numpy(windows)).numpy()
    np.testing.assert_allclose(expected, found, rtol=0, atol=1e-5)


def test_openvino_files_carry_the_input_specification(folder: Path) -> None:
    header = json.loads(open_core().read_model(folder / "int8.xml").get_rt_info(["framework", "xiaonet"]).value)
    assert (input_specification(), {"P": 0.25, "S": 0.5}, "int8") == (header["contract"], header["thresholds"], header["precision"])


def test_nothing_else_is_left_in_the_folder(folder: Path) -> None:
    assert sorted(f"{precision}.{kind}" for precision in ("fp32", "int8") for kind in ("bin", "pth", "xml")) == sorted(
        path.name for path in folder.iterdir()
    )


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_the_picker_reads_openvino_files(folder: Path, precision: str) -> None:
    picker = Picker(folder / f"{precision}.xml")
    assert ("openvino", {"P": 0.25, "S": 0.5}) == (picker.predictor.runtime, picker.thresholds)
    assert f"{precision}.xml, 6,150 parameters, openvino " in picker.predictor.description
    expected = load_predictor(folder / f"{precision}.pth")
    found, windows = load_predictor(folder / f"{precision}.xml", "openvino"), np.random.default_rng(0).normal(size=(3, 3, 3001))
    np.testing.assert_allclose(expected(normalize(windows)), found(normalize(windows)), rtol=0, atol=1e-5)


def test_openvino_files_upsample_as_openvino_likes_it(folder: Path) -> None:
    kinds = [node.get_type_name() for node in open_core().read_model(folder / "int8.xml").get_ops()]
    assert (3, 0) == (kinds.count("Interpolate"), kinds.count("Transpose"))


@pytest.fixture
def pair(folder: Path, tmp_path: Path) -> Path:
    """A copy of OpenVINO's files, to spoil."""
    for kind in ("xml", "bin"):
        shutil.copy(folder / f"int8.{kind}", tmp_path / f"int8.{kind}")
    return tmp_path / "int8.xml"


def refused(path: Path) -> str:
    with pytest.raises(CheckpointError) as caught:
        Picker(path)
    return str(caught.value)


def test_a_missing_bin_is_named(pair: Path) -> None:
    pair.with_suffix(".bin").unlink()
    assert f"there is no file {pair.with_suffix('.bin')}; copy it too, an OpenVINO model is two files" == refused(pair)


@pytest.mark.parametrize("left", [0, 100, -1])
def test_a_truncated_bin_is_found_out(pair: Path, left: int) -> None:
    weights = pair.with_suffix(".bin")
    weights.write_bytes(weights.read_bytes()[:left])
    assert f"{pair} or its .bin is damaged: its content does not match its checksum; copy it again" == refused(pair)


def test_a_stripped_header_is_refused(pair: Path) -> None:
    pair.write_text(re.sub(r"<xiaonet value=.*?/>", "", pair.read_text()))
    assert (
        f"{pair} is damaged or not a XiaoNet model: it has no checksum; copy it again, or take one as xiaonet export writes it"
        == refused(pair)
    )


def test_another_input_specification_in_openvino_files_is_named(pair: Path) -> None:
    raw = re.sub(rb"seal&quot;: &quot;[0-9a-f]{64}", b"seal&quot;: &quot;" + b"0" * 64, pair.read_bytes())
    pair.write_bytes(add_checksum(raw.replace(b"&quot;ENZ&quot;", b"&quot;ZNE&quot;"), pair.with_suffix(".bin").read_bytes()))
    assert f"{pair} has another input specification: {{'component_order': 'ZNE'}}" in refused(pair)


def test_other_runtimes_do_not_read_openvino_files(folder: Path) -> None:
    with pytest.raises(ConfigError, match=r"onnxruntime cannot read .*int8\.xml; wanted a \.onnx file, as xiaonet export writes it"):
        Picker(folder / "int8.xml", runtime="onnxruntime")


def test_executorch_gives_what_torch_gives_and_carries_the_input_specification(folder: Path, tmp_path: Path, real: np.ndarray) -> None:
    pytest.importorskip("executorch", reason="ExecuTorch is not installed: pip install executorch, 280 MB with what it needs")
    from executorch.runtime import Runtime

    assert [tmp_path / "model.pte"] == export(folder / "fp32.pth", "executorch", tmp_path / "model.pte")
    program = Runtime.get().load_program(tmp_path / "model.pte")
    (header,) = program.load_method("xiaonet").execute([])
    assert (input_specification(), {"P": 0.25, "S": 0.5}) == tuple(json.loads(header)[key] for key in ("contract", "thresholds"))
    method, model = program.load_method("forward"), load_model(folder / "fp32.pth")
    for windows in (real, np.concatenate([real, real[:, ::-1], -real])):
        with torch.inference_mode():
            expected = model(torch.from_numpy(windows.copy())).numpy()
        np.testing.assert_allclose(expected, method.execute([torch.from_numpy(windows.copy())])[0].numpy(), rtol=0, atol=1e-5)


def test_executorch_refuses_a_quantized_model(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("xiaonet.deploy.export.find_spec", lambda name: True)
    with pytest.raises(ConfigError, match=r"int8\.pth is quantized, and ExecuTorch would take seconds for a window"):
        export(folder / "int8.pth", "executorch", tmp_path / "model.pte")


def test_a_missing_executorch_is_told(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("xiaonet.deploy.export.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="format executorch needs ExecuTorch: pip install executorch"):
        export(folder / "fp32.pth", "executorch", tmp_path / "model.pte")


def test_a_format_that_cannot_be_had_says_why(folder: Path, tmp_path: Path) -> None:
    message = "format litert is not available, because .*torch.*; use one of onnx, openvino, executorch, c"
    with pytest.raises(ConfigError, match=message):
        export(folder / "fp32.pth", "litert", tmp_path / "model")


def test_an_unknown_format_gets_the_list(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        export(folder / "fp32.pth", "tflite", tmp_path / "model")
    assert "format is 'tflite'; wanted one of onnx, openvino, executorch, c, litert" == str(caught.value)


def test_a_missing_openvino_comes_with_its_command(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("xiaonet.deploy.export.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"pip install 'xiaonet\[openvino\]'"):
        export(folder / "fp32.pth", "openvino", tmp_path / "model.xml")


def test_a_folder_that_is_not_there_is_named(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"missing/model\.xml could not be written: .*No such file"):
        export(folder / "fp32.pth", "openvino", tmp_path / "missing" / "model.xml")


def test_a_runtime_that_gives_something_else_is_found_out(folder: Path) -> None:
    with pytest.raises(
        OutputError, match=r"model\.xml was not written: probabilities of 1 windows of 3001 samples differ from torch's in float64 by"
    ):
        check(folder / "fp32.pth", lambda windows: np.full_like(windows, 1 / 3), Path("model.xml"))
    with pytest.raises(OutputError, match="differ from torch's in float64 by inf"):
        check(folder / "fp32.pth", lambda windows: windows[..., :-1], Path("model.xml"))
