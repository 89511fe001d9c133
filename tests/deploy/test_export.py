import json
from pathlib import Path

import numpy as np
import obspy
import openvino
import pytest
import torch

from xiaonet.checkpoint import load_model, save_model
from xiaonet.deploy.export import check, export
from xiaonet.deploy.quantize import largest_samples
from xiaonet.errors import CheckpointError, ConfigError
from xiaonet.model import XiaoNet
from xiaonet.picking.windows import normalize
from xiaonet.quantized import QuantizedXiaoNet, folded, shared_steps
from xiaonet.spec import contract


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
    model = XiaoNet(base_channels=3).eval()
    steps = shared_steps(largest_samples(model, torch.from_numpy(real)))
    save_model(model, folder / "fp32.pth", {"note": "a test"})
    save_model(QuantizedXiaoNet.from_convolutions(model.arguments, folded(model), steps), folder / "int8.pth")
    for precision in ("fp32", "int8"):
        written = export(folder / f"{precision}.pth", "openvino", folder / f"{precision}.xml")
        assert [folder / f"{precision}.xml", folder / f"{precision}.bin"] == written
    return folder


@pytest.mark.parametrize(("precision", "tolerance"), [("fp32", 1e-5), ("int8", 0.02)])
@pytest.mark.parametrize("samples", [8, 2400, 3001])
def test_openvino_files_give_what_torch_gives_on_a_real_window(
    folder: Path, real: np.ndarray, precision: str, tolerance: float, samples: int
) -> None:
    windows = np.ascontiguousarray(np.concatenate([real, real[:, ::-1]])[..., :samples])
    found = openvino.Core().compile_model(folder / f"{precision}.xml", "CPU", {"INFERENCE_PRECISION_HINT": "f32"})([windows])[0]
    with torch.inference_mode():
        expected = load_model(folder / f"{precision}.pth")(torch.from_numpy(windows)).numpy()
    np.testing.assert_allclose(expected, found, rtol=0, atol=tolerance)


def test_openvino_files_carry_the_contract(folder: Path) -> None:
    header = json.loads(openvino.Core().read_model(folder / "int8.xml").get_rt_info(["framework", "xiaonet"]).value)
    assert (contract(), {"P": 0.3, "S": 0.3}, "int8") == (header["contract"], header["thresholds"], header["precision"])


def test_nothing_else_is_left_in_the_folder(folder: Path) -> None:
    assert sorted(f"{precision}.{kind}" for precision in ("fp32", "int8") for kind in ("bin", "pth", "xml")) == sorted(
        path.name for path in folder.iterdir()
    )


@pytest.mark.parametrize("kind", ["executorch", "litert"])
def test_a_format_that_cannot_be_had_says_why(folder: Path, tmp_path: Path, kind: str) -> None:
    with pytest.raises(ConfigError, match=rf"format {kind} is not available here, because .*torch.*; take one of onnx, openvino"):
        export(folder / "fp32.pth", kind, tmp_path / "model")


def test_an_unknown_format_gets_the_list(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        export(folder / "fp32.pth", "tflite", tmp_path / "model")
    assert "format is 'tflite'; wanted one of onnx, openvino, litert, executorch" == str(caught.value)


def test_a_missing_openvino_comes_with_its_command(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("xiaonet.deploy.export.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"pip install 'xiaonet\[openvino\]'"):
        export(folder / "fp32.pth", "openvino", tmp_path / "model.xml")


def test_a_folder_that_is_not_there_is_named(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"missing/model\.xml could not be written: .*No such file"):
        export(folder / "fp32.pth", "openvino", tmp_path / "missing" / "model.xml")


def test_a_runtime_that_gives_something_else_is_found_out(folder: Path) -> None:
    with pytest.raises(
        CheckpointError, match=r"model\.xml was not written: probabilities of 1 windows of 3001 samples differ from torch's by"
    ):
        check(folder / "fp32.pth", lambda windows: np.full_like(windows, 1 / 3), Path("model.xml"))
    with pytest.raises(CheckpointError, match="differ from torch's by inf"):
        check(folder / "fp32.pth", lambda windows: windows[..., :-1], Path("model.xml"))
