import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import obspy
import onnx
import pytest
import torch

import xiaonet
from xiaonet.deploy import onnx as export
from xiaonet.deploy.onnx import export_onnx
from xiaonet.errors import CheckpointError, ConfigError, OutputError
from xiaonet.nn.checkpoint import load_model, save_model
from xiaonet.nn.model import XiaoNet
from xiaonet.picking.windows import normalize
from xiaonet.runtime.loading import load_predictor
from xiaonet.shipped import WEIGHTS

BASE = 3
THRESHOLDS = {"P": 0.25, "S": 0.5}
PROVENANCE = {
    "note": 'seen at /home/someone/notes.txt; "seal": "' + "0" * 64 + '"',
    "seal": "0" * 64,
    "data": {"name": "/home/someone/data/quakes+~/more/quakes"},
    "losses": [0.5, None],
}


def model_like(seed: int, **arguments: int) -> XiaoNet:
    torch.manual_seed(seed)
    model = XiaoNet(**{"base_channels": BASE, **arguments})
    with torch.no_grad():  # running statistics that differ from the initial ones
        for _ in range(20):
            model(torch.randn(4, 3, 64) * 0.3)
    return model.eval()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `model.pth`, exported as `model.onnx` by a Python of its own, which said `said.txt`."""
    folder = tmp_path_factory.mktemp("exported")
    save_model(model_like(0), folder / "model.pth", PROVENANCE, THRESHOLDS)
    code = "from pathlib import Path; from xiaonet.deploy.onnx import export_onnx; export_onnx(Path('model.pth'), Path('model.onnx'))"
    done = subprocess.run([sys.executable, "-W", "default", "-c", code], cwd=folder, capture_output=True, text=True, check=False)
    (folder / "said.txt").write_text(done.stdout + done.stderr)
    return folder


@pytest.fixture(scope="module")
def graph(folder: Path) -> onnx.ModelProto:
    return onnx.load(folder / "model.onnx", load_external_data=False)


@pytest.mark.parametrize("shape", [(1, 3, 3001), (2, 3, 3001), (7, 3, 3001), (1, 3, 8), (3, 3, 23), (2, 3, 3000), (1, 3, 6005)])
def test_onnxruntime_gives_the_probabilities_of_torch_at_any_batch_and_length(folder: Path, shape: tuple[int, ...]) -> None:
    windows = np.random.default_rng(1).uniform(-1, 1, shape).astype(np.float32)
    session = load_predictor(folder / "model.onnx", "onnxruntime")._session  # type: ignore[attr-defined]
    (probabilities,) = session.run(["probabilities"], {"windows": windows})
    with torch.inference_mode():
        expected = load_model(folder / "model.pth")(torch.from_numpy(windows)).numpy()
    np.testing.assert_allclose(expected, probabilities, rtol=0, atol=1e-5)
    np.testing.assert_allclose(1, probabilities.sum(axis=1), rtol=0, atol=1e-6)


def test_the_export_says_nothing(folder: Path) -> None:
    assert "" == (folder / "said.txt").read_text()
    assert ["model.onnx", "model.pth", "said.txt"] == sorted(path.name for path in folder.iterdir())


def test_the_graph_is_valid_and_its_ends_have_names(graph: onnx.ModelProto) -> None:
    onnx.checker.check_model(graph, full_check=True)
    ends = {
        end.name: (end.type.tensor_type.elem_type, [size.dim_param or size.dim_value for size in end.type.tensor_type.shape.dim])
        for end in (*graph.graph.input, *graph.graph.output)
    }
    shape = (onnx.TensorProto.FLOAT, ["batch", 3, "samples"])
    assert {"windows": shape, "probabilities": shape} == ends


def test_weights_are_there_once_and_normalisation_is_folded_into_them(folder: Path, graph: onnx.ModelProto) -> None:
    assert {"BatchNormalization"}.isdisjoint(node.op_type for node in graph.graph.node)
    assert 15 + 2 == sum(node.op_type == "Conv" for node in graph.graph.node)  # two decoders convolve before they upsample
    convolutions = [module for module in load_model(folder / "model.pth").modules() if isinstance(module, torch.nn.Conv1d)]
    weights = sum(parameter.numel() for module in convolutions for parameter in module.parameters())
    assert weights == sum(np.prod(tensor.dims) for tensor in graph.graph.initializer if tensor.name.endswith(("weight", "bias")))
    assert (folder / "model.onnx").stat().st_size < 4 * weights + 10_000


def test_the_shipped_models_stay_small() -> None:
    weights = Path(xiaonet.__file__).parent / "weights"
    assert (weights / "xiaonet.onnx").stat().st_size < 700_000
    assert (weights / "xiaonet-nano.onnx").stat().st_size < 80_000


def test_nothing_in_the_file_tells_of_this_machine(folder: Path, graph: onnx.ModelProto) -> None:
    raw = (folder / "model.onnx").read_bytes()
    for place in (Path(xiaonet.__file__).parent, Path(sys.prefix), Path(torch.__file__).parent, folder, Path.home() / ""):
        assert str(place).encode() not in raw
    for word in (b".py", b"someone", b"site-packages", b"stack_trace"):
        assert word not in raw
    assert ["xiaonet"] == [entry.key for entry in graph.metadata_props]
    for part in (graph.graph, *graph.graph.node, *graph.graph.initializer):
        assert (0, "") == (len(part.metadata_props), part.doc_string)


def test_the_header_carries_what_the_model_file_carries(graph: onnx.ModelProto) -> None:
    (entry,) = graph.metadata_props
    header = json.loads(entry.value)
    assert 64 == len(header.pop("seal"))
    expected = {
        "format": "xiaonet-onnx",
        "version": 1,
        "contract": {
            "sampling_rate": 100.0,
            "window_samples": 3001,
            "component_order": "ENZ",
            "phases": "PSN",
            "normalisation": "demean, linear detrend, peak of each component",
        },
        "thresholds": THRESHOLDS,
        "stacking": "waveforms",
        "arguments": {
            "window_len": 3001,
            "in_channels": 3,
            "num_phases": 3,
            "base_channels": BASE,
            "dropout": 0.0,
            "dilations": [[1, 1], [1, 2], [4, 8], [16, 32], [8, 4], [2, 1], [1, 1]],
        },
        "precision": "fp32",
        "parameters": sum(parameter.numel() for parameter in model_like(0).parameters()),
        "provenance": {
            "note": 'seen at notes.txt; "seal": "' + "0" * 64 + '"',
            "seal": "0" * 64,
            "data": {"name": "quakes+quakes"},
            "losses": [0.5, None],
        },
    }
    assert expected == header


def test_every_runtime_takes_the_file_for_its_own(folder: Path) -> None:
    windows = np.random.default_rng(2).uniform(-1, 1, (3, 3, 3001)).astype(np.float32)
    expected = load_predictor(folder / "model.pth")(windows)
    for runtime in ("onnxruntime", "openvino"):
        predictor = load_predictor(folder / "model.onnx", runtime)  # type: ignore[arg-type]
        assert THRESHOLDS == predictor.thresholds
        np.testing.assert_allclose(expected, predictor(windows), rtol=0, atol=1e-5)


def test_the_same_model_gives_the_same_file(folder: Path, tmp_path: Path) -> None:
    export_onnx(folder / "model.pth", tmp_path / "again.onnx")
    assert (folder / "model.onnx").read_bytes() == (tmp_path / "again.onnx").read_bytes()


def test_weights_in_half_precision_are_exported_in_float32(tmp_path: Path) -> None:
    model = model_like(1, base_channels=2).bfloat16()
    save_model(model, tmp_path / "half.pth")
    export_onnx(tmp_path / "half.pth", tmp_path / "half.onnx")
    windows = np.random.default_rng(3).uniform(-1, 1, (2, 3, 3001)).astype(np.float32)
    with torch.inference_mode():
        expected = model.float()(torch.from_numpy(windows)).numpy()
    np.testing.assert_allclose(expected, load_predictor(tmp_path / "half.onnx", "onnxruntime")(windows), rtol=0, atol=1e-5)


def test_a_graph_that_gives_other_probabilities_is_not_written(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = onnx.load(folder / "model.onnx")
    del other.metadata_props[:]
    monkeypatch.setattr(export, "_to_onnx", lambda model: other)
    save_model(model_like(5), tmp_path / "model.pth")
    (tmp_path / "model.onnx").write_bytes(b"older")
    with pytest.raises(
        OutputError,
        match=r"model\.onnx was not written: probabilities of 1 windows of 3001 samples differ from torch's in float64 by 0\.\d+; wanted",
    ):
        export_onnx(tmp_path / "model.pth", tmp_path / "model.onnx")
    assert b"older" == (tmp_path / "model.onnx").read_bytes()
    assert ["model.onnx", "model.pth"] == sorted(path.name for path in tmp_path.iterdir())


@pytest.mark.parametrize("name", ["xiaonet", "xiaonet-nano", "xiaonet-int8", "xiaonet-nano-int8"])
def test_an_export_of_a_shipped_model_gives_the_bits_of_the_shipped_file(name: str, tmp_path: Path) -> None:
    export_onnx(WEIGHTS / f"{name}.pth", tmp_path / "model.onnx")
    stream = obspy.read()  # a local earthquake
    record = np.stack([stream.select(component=component)[0].data for component in "ENZ"])
    windows = normalize(np.stack([np.roll(record, 173 * shift, axis=1) for shift in range(12)]))
    windows = np.pad(windows, ((0, 0), (0, 0), (0, 1)), mode="edge")
    expected, found = (load_predictor(path, "onnxruntime")(windows) for path in (name, tmp_path / "model.onnx"))
    assert expected[:, :2].max() > 0.5
    np.testing.assert_array_equal(expected, found)


@pytest.mark.parametrize("missing", ["onnx", "onnxscript"])
def test_a_missing_package_comes_with_its_command(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, missing: str) -> None:
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(ConfigError) as caught:
        export_onnx(folder / "model.pth", tmp_path / "model.onnx")
    assert f"export needs {missing}: pip install 'xiaonet[export]'" == str(caught.value)


def test_a_damaged_model_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "model.pth").write_bytes(b"no model")
    with pytest.raises(CheckpointError, match=r"model\.pth is damaged"):
        export_onnx(tmp_path / "model.pth", tmp_path / "model.onnx")
    assert not (tmp_path / "model.onnx").exists()


def test_a_folder_that_is_not_there_is_named(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export, "_to_onnx", lambda model: onnx.load(folder / "model.onnx"))  # that takes seconds
    with pytest.raises(OutputError, match=r"missing/model\.onnx could not be written: .*No such file"):
        export_onnx(folder / "model.pth", tmp_path / "missing" / "model.onnx")
