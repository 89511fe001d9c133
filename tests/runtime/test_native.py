import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import obspy
import onnx
import pytest
import torch
from onnx import numpy_helper

from native_library import COMPILER, SOURCE, build, built_folder
from xiaonet.constants import AROUND_SAMPLES
from xiaonet.errors import CheckpointError, ConfigError, WaveformError
from xiaonet.nn.checkpoint import load_model
from xiaonet.nn.model import PLAIN, WIDE, XiaoNet
from xiaonet.nn.quantized import folded, whole_head
from xiaonet.picker import Picker
from xiaonet.runtime import native_runtime
from xiaonet.runtime.checksum import EMPTY_CHECKSUM, add_checksum
from xiaonet.runtime.header import HEADER
from xiaonet.runtime.native_runtime import NativePredictor
from xiaonet.runtime.predictor import RuntimePredictor, around_by_places
from xiaonet.shipped import WEIGHTS

pytestmark = pytest.mark.skipif(COMPILER is None, reason="needs gcc or clang")
NANO = WEIGHTS / "xiaonet-nano.onnx"
KINDS = ["portable", "avx2", "avxvnni", "avx512"]
FAR = ((1, 1), (1, 2), (4, 8), (32, 64), (8, 4), (2, 1), (1, 1))  # sees more than is cut around a candidate
ODD = ((1, 3), (2, 2), (5, 1), (7, 3), (3, 2), (1, 4), (2, 1))  # dilations; odd ones in decoders

Load = Callable[..., NativePredictor]


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch) -> Load:
    """Loads a model file with a set of instructions, if this processor has it."""

    def loaded(path: Path, kind: str, threads: int = 1) -> NativePredictor:
        monkeypatch.setenv("XIAONET_INSTRUCTIONS", kind)
        if NativePredictor.missing():
            pytest.skip(NativePredictor.missing())
        return NativePredictor(path, threads)

    return loaded


def record(count: int, samples: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-1, 1, (count, 3, samples)).astype(np.float32)


def by_torch(model: XiaoNet, windows: np.ndarray) -> np.ndarray:
    """Probabilities in float64, whose own rounding leaves the tolerance to the runtime."""
    with torch.inference_mode():
        return deepcopy(model).eval().double()(torch.from_numpy(windows).double()).numpy()


def random_model(base: int, dilations: Any) -> XiaoNet:
    """A model whose weights and normalisations are random, with a spread of probabilities."""
    torch.manual_seed(base)
    model = XiaoNet(base_channels=base, dilations=dilations).eval()
    for layer in model.modules():
        if isinstance(layer, torch.nn.BatchNorm1d):
            torch.nn.init.uniform_(layer.weight, 0.8, 1.4)
            torch.nn.init.normal_(layer.bias)
            torch.nn.init.uniform_(layer.running_var, 0.5, 1.5)
    return model


def write(path: Path, model: XiaoNet, **changes: Any) -> Path:
    """A model file with the weights and dilations of a model, which are all that the runtime native reads."""
    header = json.loads(onnx.load(NANO).metadata_props[0].value) | {"arguments": model.arguments, **changes}
    blocks = [*(f"encoder.{level}" for level in range(3)), "bottleneck", *(f"decoder.{level}" for level in range(3))]
    graph = onnx.GraphProto(name="weights")
    for name, layer in zip([*(f"{block}.{part}" for block in blocks for part in (0, 3)), "head"], folded(model.eval()), strict=True):
        graph.initializer.append(numpy_helper.from_array(layer.weight.detach().numpy()[:, :, None], f"{name}.weight"))
        graph.initializer.append(numpy_helper.from_array(layer.bias.detach().numpy(), f"{name}.bias"))
        graph.node.append(onnx.helper.make_node("Conv", ["", "", ""], [], dilations=[1, layer.dilation[0]]))
    file = onnx.helper.make_model(graph)
    file.metadata_props.add(key=HEADER, value=json.dumps(header))
    return sealed(path, file)


def sealed(path: Path, file: onnx.ModelProto) -> Path:
    (entry,) = file.metadata_props
    entry.value = json.dumps(json.loads(entry.value) | {"seal": EMPTY_CHECKSUM})
    path.write_bytes(add_checksum(file.SerializeToString()))
    return path


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["xiaonet", "xiaonet-nano"])
def test_float32_is_that_of_torch(windows: np.ndarray, load: Load, name: str, kind: str) -> None:
    found = load(WEIGHTS / f"{name}.onnx", kind)(windows)
    np.testing.assert_allclose(by_torch(load_model(WEIGHTS / f"{name}.pth"), windows), found, rtol=0, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["xiaonet-int8", "xiaonet-nano-int8"])
def test_logits_in_int8_are_those_of_torch_to_the_bit(tmp_path: Path, windows: np.ndarray, load: Load, name: str, kind: str) -> None:
    model, file = load_model(WEIGHTS / f"{name}.pth"), onnx.load(WEIGHTS / f"{name}.onnx")
    bits, weight, bias = whole_head(model.head.weight, model.head.bias)  # the heads of the shipped models have more bits
    model.head.weight.copy_(weight / 2**bits)
    model.head.bias.copy_(bias / 2**bits)
    for tensor in file.graph.initializer:
        if tensor.name in ("hw", "hb"):
            own = model.head.weight.numpy()[:, :, None] if tensor.name == "hw" else model.head.bias.numpy()
            tensor.CopyFrom(numpy_helper.from_array(own, tensor.name))
    found = load(sealed(tmp_path / "own.onnx", file), kind).logits(windows)
    with torch.inference_mode():
        np.testing.assert_array_equal(model.logits(torch.from_numpy(windows)).numpy(), found)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["xiaonet-int8", "xiaonet-nano-int8"])
def test_probabilities_in_int8_are_those_of_torch(windows: np.ndarray, load: Load, name: str, kind: str) -> None:
    found = load(WEIGHTS / f"{name}.onnx", kind)(windows)
    np.testing.assert_allclose(by_torch(load_model(WEIGHTS / f"{name}.pth"), windows), found, rtol=0, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("samples", [8, 9, 16, 56, 64, 264, 1000, 3000, 3001, 12_345])
def test_windows_may_have_any_length(load: Load, samples: int, kind: str) -> None:
    windows = record(3, samples)
    for name in ("xiaonet-nano", "xiaonet-nano-int8"):
        found = load(WEIGHTS / f"{name}.onnx", kind).infer(windows)
        np.testing.assert_allclose(by_torch(load_model(WEIGHTS / f"{name}.pth"), windows), found, rtol=0, atol=1e-5)


def test_windows_without_a_stride_are_refused() -> None:
    with pytest.raises(WaveformError, match="windows have 7 samples; wanted at least 8"):
        NativePredictor(NANO).infer(record(1, 7))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("base", "dilations"), [(1, WIDE), (3, PLAIN), (7, ODD), (8, ODD), (13, WIDE), (20, PLAIN)])
def test_models_may_have_other_widths_and_dilations(tmp_path: Path, load: Load, base: int, dilations: Any, kind: str) -> None:
    model, windows = random_model(base, dilations), record(3, 3001)
    expected = by_torch(model, windows)
    assert expected.std() > 0.005
    np.testing.assert_allclose(expected, load(write(tmp_path / "own.onnx", model), kind)(windows), rtol=0, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["xiaonet-nano", "xiaonet-nano-int8"])
@pytest.mark.parametrize("batch", [1, 2, 3, 7])
def test_a_window_gives_the_same_bits_in_any_batch(windows: np.ndarray, load: Load, name: str, kind: str, batch: int) -> None:
    predictor = load(WEIGHTS / f"{name}.onnx", kind)
    parts = [predictor(windows[start : start + batch]) for start in range(0, len(windows), batch)]
    np.testing.assert_array_equal(predictor(windows), np.concatenate(parts))
    np.testing.assert_array_equal(predictor(windows), load(WEIGHTS / f"{name}.onnx", kind, 3)(windows))


@pytest.mark.parametrize("name", ["xiaonet", "xiaonet-int8"])
@pytest.mark.parametrize("kind", ["avxvnni", "avx512"])
def test_two_sets_of_instructions_give_the_same_bits(windows: np.ndarray, load: Load, name: str, kind: str) -> None:
    path = WEIGHTS / f"{name}.onnx"
    np.testing.assert_array_equal(load(path, "avx2")(windows), load(path, kind)(windows))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["xiaonet", "xiaonet-int8", "xiaonet-nano", "xiaonet-nano-int8"])
def test_around_a_candidate_it_is_the_mean_of_the_eight_places(load: Load, name: str, kind: str) -> None:
    predictor, cuts = load(WEIGHTS / f"{name}.onnx", kind), record(3, AROUND_SAMPLES)
    np.testing.assert_allclose(around_by_places(predictor, cuts), predictor.around(cuts), rtol=0, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("int8", ["", "-int8"])
def test_a_candidate_gives_the_same_bits_among_any_others(load: Load, int8: str, kind: str) -> None:
    predictor, cuts = load(WEIGHTS / f"xiaonet-nano{int8}.onnx", kind), record(26, AROUND_SAMPLES)
    expected = predictor.around(cuts)  # of 26, AVX-512 computes 16, and 10 of the next 16
    assert (0, 3, 201) == predictor.around(cuts[:0]).shape
    for batch in (1, 5, 8, 9, 17):
        parts = [predictor.around(cuts[start : start + batch]) for start in range(0, len(cuts), batch)]
        np.testing.assert_array_equal(expected, np.concatenate(parts))
    np.testing.assert_array_equal(expected, load(WEIGHTS / f"xiaonet-nano{int8}.onnx", kind, 3).around(cuts))


@pytest.mark.parametrize("name", ["xiaonet", "xiaonet-int8"])
@pytest.mark.parametrize("kind", ["avxvnni", "avx512"])
def test_around_a_candidate_two_sets_of_instructions_give_the_same_bits(load: Load, name: str, kind: str) -> None:
    path, cuts = WEIGHTS / f"{name}.onnx", record(11, AROUND_SAMPLES)
    np.testing.assert_array_equal(load(path, "avx2").around(cuts), load(path, kind).around(cuts))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("base", "dilations", "enough"), [(1, WIDE, True), (3, PLAIN, True), (13, WIDE, True), (7, ODD, True), (4, FAR, False)]
)
def test_around_a_candidate_models_may_have_other_widths_and_dilations(
    tmp_path: Path, load: Load, base: int, dilations: Any, enough: bool, kind: str
) -> None:
    predictor, cuts = load(write(tmp_path / "own.onnx", random_model(base, dilations)), kind), record(3, AROUND_SAMPLES)
    expected = around_by_places(predictor, cuts)
    assert expected.std() > 0.005
    np.testing.assert_allclose(expected, predictor.around(cuts), rtol=0, atol=2e-6)
    assert enough == predictor._model.fits_around  # otherwise places are computed one by one


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_nan_near_a_candidate_is_nan_there_and_at_no_other(load: Load, kind: str, value: float) -> None:
    for name in ("xiaonet-nano", "xiaonet-nano-int8"):
        predictor, cuts = load(WEIGHTS / f"{name}.onnx", kind), record(11, AROUND_SAMPLES)
        expected = predictor.around(cuts)
        cuts[3, 2, 600] = value
        found = predictor.around(cuts)
        assert np.isnan(found[3]).all()
        np.testing.assert_array_equal(np.delete(expected, 3, axis=0), np.delete(found, 3, axis=0))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_nan_reaches_the_samples_that_it_reaches_in_torch_and_no_other_window(load: Load, kind: str, value: float) -> None:
    predictor, windows = load(NANO, kind), record(3, 3001)
    others = predictor(windows)[[0, 2]]
    windows[1, 2, 700] = value
    reached = np.isnan(by_torch(load_model(WEIGHTS / "xiaonet-nano.pth"), windows)[1])
    found = predictor(windows)
    assert 0 < reached.sum() < reached.size
    assert np.isnan(found[1][reached]).all()
    assert not np.isnan(found[1][:, 2400:]).any()  # products of four samples spread it, but not far
    np.testing.assert_array_equal(others, found[[0, 2]])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("value", [np.nan, -np.inf])
def test_nan_in_int8_is_nan_in_the_whole_window_and_no_other(load: Load, kind: str, value: float) -> None:
    predictor, windows = load(WEIGHTS / "xiaonet-nano-int8.onnx", kind), record(3, 3001)
    expected = predictor(windows)
    windows[1, 0, -2] = value
    found = predictor(windows)
    assert np.isnan(found[1]).all()
    np.testing.assert_array_equal(expected[[0, 2]], found[[0, 2]])


@pytest.mark.parametrize("kind", KINDS)
def test_several_threads_at_once_get_what_one_gets(load: Load, kind: str) -> None:
    predictor = load(WEIGHTS / "xiaonet-nano-int8.onnx", kind)
    batches = [record(1 + number % 5, 3001, number) for number in range(20)]
    expected = [predictor(batch) for batch in batches]
    with ThreadPoolExecutor(4) as pool:
        for one, other in zip(expected, pool.map(predictor, batches), strict=True):
            np.testing.assert_array_equal(one, other)


def test_a_model_of_other_components_or_another_network_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "own.onnx", XiaoNet(base_channels=2, num_phases=2))
    with pytest.raises(CheckpointError, match=r"native cannot read .*head\.weight is \(2, 2, 1, 3\).*use --runtime onnxruntime"):
        NativePredictor(path)
    file = onnx.load(path)
    del file.graph.node[3]
    with pytest.raises(CheckpointError, match=r"the dilations of its convolutions are \[1, 1, 1, 4, 8, 16, 32, 8, 4, 2, 1, 1, 1, 1\]"):
        NativePredictor(sealed(path, file))
    del file.graph.initializer[:]
    file.graph.node.insert(3, onnx.helper.make_node("Conv", ["", "", ""], []))
    with pytest.raises(CheckpointError, match=r"KeyError\('encoder\.0\.0\.weight'\)"):
        NativePredictor(sealed(path, file))
    path.write_bytes(add_checksum(b'"seal": "' + EMPTY_CHECKSUM.encode() + b'"'))
    with pytest.raises(CheckpointError, match="is not an ONNX file"):
        NativePredictor(path)


@pytest.mark.parametrize("compiler", ["false", "no-such-compiler"])
def test_an_installation_goes_on_where_the_compiler_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, compiler: str) -> None:
    done = build(tmp_path, CC=compiler)
    assert (0, []) == (done.returncode, [*tmp_path.rglob("_native*")])
    monkeypatch.setattr(native_runtime, "FOLDER", built_folder(tmp_path))
    with pytest.raises(
        ConfigError, match="the runtime native was not built, because there was no C compiler or it failed: install XiaoNet"
    ):
        native_runtime.load_library()


def test_a_library_of_another_version_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native_runtime, "FOLDER", tmp_path)
    source = SOURCE / "src" / "xiaonet" / "runtime" / "native.c"
    subprocess.run([str(COMPILER), "-O0", "-DINTERFACE=99", "-shared", "-fPIC", source, "-o", tmp_path / "_native.so"], check=True)
    with pytest.raises(
        ConfigError,
        match=rf"_native\.so was built from another version of XiaoNet: its interface is 99, wanted {native_runtime.INTERFACE}; install",
    ):
        native_runtime.load_library()


def test_a_damaged_library_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native_runtime, "FOLDER", tmp_path)
    (tmp_path / "_native.so").write_bytes(b"nothing")
    with pytest.raises(ConfigError, match=r"native cannot be loaded from .*_native\.so: .*; install XiaoNet again"):
        native_runtime.load_library()


def test_instructions_that_the_processor_lacks_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XIAONET_INSTRUCTIONS", "mmx")
    with pytest.raises(ConfigError, match=r"XIAONET_INSTRUCTIONS is 'mmx'; this processor has portable"):
        NativePredictor(NANO)


def test_a_set_of_instructions_that_the_processor_lacks_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its number is still that of the library, also where a set before it is missing."""
    library = native_runtime.load_library()
    names = native_runtime._known_instructions(library)
    monkeypatch.setattr(native_runtime, "usable_instructions", lambda library: [names[0], names[-1]])
    monkeypatch.setenv("XIAONET_INSTRUCTIONS", names[-1])
    assert (len(names) - 1, names[-1]) == native_runtime.instructions(library)


@pytest.mark.parametrize("name", ["xiaonet", "xiaonet-nano-int8"])
def test_a_run_may_continue_on_a_processor_with_other_vectors(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    sets = [kind for kind in native_runtime.usable_instructions(native_runtime.load_library()) if kind.startswith("avx")]
    if len(sets) < 2:
        pytest.skip(f"this processor has {', '.join(sets) or 'no AVX2'}; needs AVX2 and another")
    found = []
    for kind in sets:
        monkeypatch.setenv("XIAONET_INSTRUCTIONS", kind)
        picker = Picker(name, runtime="native")
        assert kind == picker.predictor.note
        found.append((picker.provenance, list(picker.pick(obspy.read()))))
    assert 2 == len(found[0][1])
    assert [found[0]] * len(sets) == found


def test_it_needs_no_onnx_and_no_onnxruntime(tmp_path: Path) -> None:
    code = f"""
import sys
sys.modules["onnx"] = sys.modules["onnxruntime"] = sys.modules["torch"] = None
from pathlib import Path
from xiaonet.runtime import native_runtime
native_runtime.FOLDER = Path({str(native_runtime.FOLDER)!r})
from xiaonet.runtime.loading import load_predictor
predictor = load_predictor("xiaonet-nano", "native")
print(predictor.description, *([f"({{predictor.note}})"] if predictor.note else []))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, env={**os.environ})
    assert "" == done.stderr
    assert re.fullmatch(r"xiaonet-nano\.onnx, 16,578 parameters, native \d+\.\d+\.\d+ \(\w+\)\n", done.stdout)


@pytest.mark.parametrize("name", ["xiaonet-nano", "xiaonet-nano-int8"])
@pytest.mark.parametrize("kind", KINDS)
def test_parts_of_a_record_are_computed_in_place(load: Load, kind: str, name: str) -> None:
    """The record may be a part of a larger array. Parts get the bits of windows that were cut, and nothing else is written."""
    predictor = load(WEIGHTS / f"{name}.onnx", kind)
    whole = record(1, 12 * 512 + 100)[0][:, 30 : 30 + 12 * 512]
    wanted, curves = np.full((2, *whole.shape), 7, np.float32)
    for starts, samples in (([512, 4 * 512], 2 * 512), ([8 * 512], 3 * 512)):
        predictor.infer_parts(whole, curves, starts, samples)
        RuntimePredictor.infer_parts(predictor, whole, wanted, starts, samples)
    np.testing.assert_array_equal(wanted, curves)
    assert 7 == curves[0, 3 * 512] == curves[2, -1]
