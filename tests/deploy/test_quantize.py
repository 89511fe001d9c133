import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from torch import nn
from torch.nn.functional import conv1d

from xiaonet.data.sets import open_data, split_data
from xiaonet.deploy.adapt import adapt
from xiaonet.deploy.comparison import compare
from xiaonet.deploy.int8 import convolutions_in
from xiaonet.deploy.onnx import export_onnx
from xiaonet.deploy.quantize import RULES, Calibration, calibration_windows, largest_samples, quantize
from xiaonet.errors import CheckpointError, ConfigError, DataError, WaveformError
from xiaonet.evaluation.evaluator import Evaluator
from xiaonet.nn.checkpoint import load_model, read_model_file, save_model
from xiaonet.nn.model import XiaoNet
from xiaonet.nn.quantized import FLOAT, LARGEST_BIAS, QuantizedConv, QuantizedXiaoNet, folded, shared_steps, whole_head
from xiaonet.picker import Picker
from xiaonet.picking.picks import find_picks
from xiaonet.picking.windows import normalize
from xiaonet.runtime.loading import load_predictor
from xiaonet.shipped import model_path

KB = 1000
BLOCKS = ("encoder.0", "encoder.1", "encoder.2", "bottleneck", "decoder.0", "decoder.1", "decoder.2")
NAMES = [*(f"{block}.{number}" for block in BLOCKS for number in (0, 1)), "head"]
FILES = ["model_fp32.onnx", "model_int8.onnx", "saved_model_fp32.pth", "saved_model_int8.pth"]
THRESHOLDS = {"P": 0.25, "S": 0.5}


def model_like(seed: int, base_channels: int = 4) -> XiaoNet:
    """A model with running statistics that differ from the initial ones."""
    torch.manual_seed(seed)
    model = XiaoNet(base_channels=base_channels)
    with torch.no_grad():
        for _ in range(20):
            model(torch.randn(4, 3, 256) * 0.3)
    return model.eval()


def some_windows(number: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-1, 1, (number, 3, 3001)).astype(np.float32)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, made_up: Path) -> Path:
    """What `quantize` writes of a small model."""
    folder = tmp_path_factory.mktemp("quantized")
    save_model(model_like(0), folder / "trained.pth", {"note": "a test"}, THRESHOLDS)
    files = quantize(folder / "trained.pth", str(made_up), folder / "out", Calibration(windows=24))
    assert FILES == sorted(files)
    return folder / "out"


@pytest.fixture(scope="module")
def full_size(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of 16 channels with weights drawn at random, in both precisions, as `.pth` and as `.onnx`."""
    folder = tmp_path_factory.mktemp("full_size")
    model = model_like(1, base_channels=16)
    steps = shared_steps(largest_samples(model, torch.from_numpy(some_windows(2))))
    provenance = read_model_file(model_path("xiaonet", ".pth"))["provenance"]  # as long as one becomes
    for name, own in (("fp32", model), ("int8", QuantizedXiaoNet.from_convolutions(model.arguments, folded(model), steps))):
        save_model(own, folder / f"{name}.pth", provenance)
        export_onnx(folder / f"{name}.pth", folder / f"{name}.onnx")
    return folder


@pytest.mark.parametrize("kind", ["pth", "onnx"])
def test_a_model_of_full_size_is_at_most_185_kb_and_3_3_times_smaller(full_size: Path, kind: str) -> None:
    sizes = {precision: (full_size / f"{precision}.{kind}").stat().st_size for precision in ("fp32", "int8")}
    assert sizes["int8"] <= 185 * KB
    assert sizes["fp32"] >= 3.3 * sizes["int8"]


def test_every_convolution_but_the_listed_ones_has_weights_of_eight_bits_in_the_onnx_file(full_size: Path) -> None:
    graph = onnx.load(full_size / "int8.onnx")
    assert [name not in FLOAT for name in NAMES] == [eight for _, eight in convolutions_in(graph)]
    onnx.checker.check_model(graph, full_check=True)
    floats = [tensor.name for tensor in graph.graph.initializer if tensor.data_type == onnx.TensorProto.FLOAT and len(tensor.dims) > 1]
    assert ["e0.0w", "hw"] == floats  # and no other weights hide anywhere


def test_the_guard_sees_convolutions_that_stayed_float(full_size: Path) -> None:
    assert [False] * 17 == [eight for _, eight in convolutions_in(onnx.load(full_size / "fp32.onnx"))]  # two decoders have two each


def test_every_convolution_but_the_listed_ones_has_weights_of_eight_bits_in_the_torch_file(full_size: Path) -> None:
    weights = read_model_file(full_size / "int8.pth")["weights"]
    expected = {f"{name}.weight": torch.float32 if name in FLOAT else torch.int8 for name in NAMES}
    assert expected == {name: tensor.dtype for name, tensor in weights.items() if tensor.ndim == 3}


def test_between_the_first_and_the_last_convolution_all_is_bytes(full_size: Path) -> None:
    """What onnxruntime makes of the graph: integer kernels, and no rounding but at the two ends."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(full_size / "optimized.onnx")
    options.log_severity_level = 3
    onnxruntime.InferenceSession(full_size / "int8.onnx", options, providers=["CPUExecutionProvider"])
    operators = [node.op_type for node in onnx.load(full_size / "optimized.onnx").graph.node]
    assert 13 == operators.count("QLinearConv")
    assert 2 == sum("Conv" in operator for operator in operators) - 13
    first, last = operators.index("QLinearConv"), len(operators) - operators[::-1].index("QLinearConv")
    assert {"QLinearConv", "NhwcMaxPool", "MaxPool", "Concat", "Reshape", "Transpose"} >= set(operators[first:last])


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_runtimes_give_what_torch_gives(full_size: Path, runtime: Any) -> None:
    windows = some_windows(6)
    expected = load_predictor(full_size / "int8.pth")(windows)
    found = load_predictor(full_size / "int8.onnx", runtime)(windows)
    np.testing.assert_allclose(expected, found, rtol=0, atol=1e-6)  # the same whole numbers in all of them
    np.testing.assert_allclose(1, found.sum(axis=1), rtol=0, atol=1e-5)


@pytest.mark.parametrize("samples", [8, 23, 3000, 3001, 6008])
def test_any_length_and_batch(full_size: Path, samples: int) -> None:
    windows = some_windows(3)[..., :samples] if samples <= 3001 else np.tile(some_windows(3), 3)[..., :samples]
    session = load_predictor(full_size / "int8.onnx", "onnxruntime")._session  # type: ignore[attr-defined]
    (found,) = session.run(["probabilities"], {"windows": np.ascontiguousarray(windows)})
    with torch.inference_mode():
        expected = load_model(full_size / "int8.pth")(torch.from_numpy(windows.copy())).numpy()
    np.testing.assert_allclose(expected, found, rtol=0, atol=1e-6)


def test_both_precisions_load_and_give_nearly_the_same(folder: Path) -> None:
    windows = torch.from_numpy(some_windows(4))
    with torch.inference_mode():
        precise, rounded = (load_model(folder / f"saved_model_{precision}.pth")(windows) for precision in ("fp32", "int8"))
    assert isinstance(load_model(folder / "saved_model_int8.pth"), QuantizedXiaoNet)
    assert 0 < float((precise - rounded).abs().max()) < 0.05


def test_the_picker_takes_all_four_files(folder: Path) -> None:
    import obspy

    for name in FILES:
        picker = Picker(folder / name)
        assert THRESHOLDS == picker.thresholds
        picker.pick(obspy.read())
    parameters = sum(parameter.numel() for parameter in model_like(0).parameters())
    for name in FILES:
        assert f"{name}, {parameters:,} parameters" in Picker(folder / name).predictor.description


def test_a_convolution_computes_in_whole_numbers_what_it_says() -> None:
    own = QuantizedConv(nn.Conv1d(1, 1, 3, padding=1), precise=False)
    own.weight.copy_(torch.tensor([[[2, 1, -3]]]))
    own.bias.fill_(40)
    own.scale.fill_(0.25)
    # (2 · 100 + 10 − 3 · 20 + 40) / 4 = 47.5, and half goes to even; ends count as zeros
    assert [28, 48, 20] == own(torch.tensor([[[100.0, 10.0, 20.0]]]))[0, 0].tolist()
    assert [0, 0, 201] == own(torch.tensor([[[0.0, 255.0, 255.0]]]))[0, 0].tolist()  # as ReLU has it


def test_sums_of_products_are_whole_numbers_that_float32_holds() -> None:
    channels = 128 + 64  # of the widest convolution
    assert 3 * channels * 255 * 63 + LARGEST_BIAS < 2**24
    assert 2 * 255 * 63 < 2**15  # and two products fit into the 16 bits of AVX2's multiplier


def test_scales_have_few_digits_so_that_no_order_of_multiplying_can_round_otherwise(full_size: Path) -> None:
    scales = [conv.scale for _, conv in load_model(full_size / "int8.pth").convolutions() if conv.scale is not None]  # type: ignore[operator]
    assert 13 == len(scales)
    for scale in scales:
        units = scale * 2**14
        assert torch.equal(units.round(), units)
        assert 1 <= units.min()


def test_the_first_convolution_gives_the_same_in_any_order_of_adding(full_size: Path) -> None:
    first = load_model(full_size / "int8.pth").encoder[0][0]
    windows = torch.from_numpy(some_windows(2))
    given = conv1d((windows * 2048).round(), first.weight, first.bias, padding=1)
    exact = conv1d((windows * 2048).round().double(), first.weight.double(), first.bias.double(), padding=1)
    assert torch.equal(exact.float().double(), exact)
    assert torch.equal(exact.float(), given)


def test_logits_are_whole_multiples_of_a_power_of_two(full_size: Path) -> None:
    """So float32 gives them exactly, and integers of 16 and 32 bits give the same."""
    model = load_model(full_size / "int8.pth")
    bits, weight, _ = whole_head(model.head.weight, model.head.bias)
    assert torch.equal(weight / 2**bits, model.head.weight.double())  # rounded already
    assert weight.abs().max() < 2**15
    with torch.inference_mode():
        logits = model.logits(torch.from_numpy(some_windows(2))).double() * 2**bits
    assert torch.equal(logits.round(), logits)
    assert logits.abs().max() < 2**24


def test_the_unit_of_the_head_is_the_finest_that_16_bits_and_float32_hold() -> None:
    channel = torch.tensor([[[0.25, 0.0, -0.125]]])
    # 2^-16: the weight is 16384, 2^15 is too much. 255 · 16384 + 6.5 · 65536 < 2^24
    bits, weight, bias = whole_head(channel, torch.tensor([6.5]))
    assert (16, [16384.0, 0.0, -8192.0], [425984.0]) == (bits, weight[0, 0].tolist(), bias.tolist())
    # 255 · 4096 + 4100 · 4096 > 2^24 and half of it is not
    assert 11 == whole_head(channel, torch.tensor([4100.0]))[0]


def test_weights_that_32_bits_cannot_hold_are_refused() -> None:
    with pytest.raises(ConfigError, match="head: a weight is 40000 logits per step; wanted less than 32768; keep the model in float32"):
        whole_head(torch.full((3, 2, 3), 40000.0), torch.zeros(3))
    model = model_like(0)
    with torch.no_grad():
        model.bottleneck[0].weight *= 1000
    steps = dict.fromkeys(NAMES[:-1], 1e-4)
    with pytest.raises(ConfigError, match=r"a sum times its scale can reach .*; wanted less than 2\^31; keep the model in float32"):
        QuantizedXiaoNet.from_convolutions(model.arguments, folded(model), steps)


def test_picks_are_the_same_in_all_runtimes_on_real_windows(labelled: Path) -> None:
    evaluator = Evaluator(str(labelled), "dev", windows_per_record=1)
    windows = np.concatenate([normalize(batch) for batch in evaluator.windows.batches()])
    curves = {runtime: load_predictor("xiaonet-int8", runtime)(windows) for runtime in ("torch", "onnxruntime", "openvino")}
    picks = {
        runtime: [
            [
                find_picks(window[row], height, 100)[0].tolist()
                for row, height in enumerate(load_predictor("xiaonet-int8").thresholds.values())
            ]
            for window in own
        ]
        for runtime, own in curves.items()
    }
    assert 74 == len(windows)
    assert 30 < sum(bool(own[0]) for own in picks["torch"])
    for runtime in ("onnxruntime", "openvino"):
        np.testing.assert_allclose(curves["torch"], curves[runtime], rtol=0, atol=1e-5)
        same = [one == other for one, other in zip(picks["torch"], picks[runtime], strict=True)]
        assert 0.99 <= np.mean(same)


@pytest.mark.parametrize("kind", ["pth", "onnx"])
def test_the_shipped_model_is_at_most_185_kb_and_3_3_times_smaller(kind: str) -> None:
    precise, rounded = (model_path(name, f".{kind}").stat().st_size for name in ("xiaonet", "xiaonet-int8"))
    assert rounded <= 185 * KB
    assert precise >= 3.3 * rounded


@pytest.mark.parametrize("name", ["xiaonet", "xiaonet-nano"])
def test_shipped_int8_files_are_of_the_shipped_model_and_calibrated_on_training_windows(name: str) -> None:
    precise, rounded = (read_model_file(model_path(own, ".pth")) for own in (name, f"{name}-int8"))
    assert ("fp32", "int8") == (precise["precision"], rounded["precision"])
    for key in ("arguments", "thresholds", "contract"):
        assert precise[key] == rounded[key]
    own = dict(rounded["provenance"])
    calibration = own.pop("quantization")
    assert ("labelled+labelled_more+unlabelled+unlabelled_more", 512, "least squares", 0) == tuple(
        calibration[key] for key in ("data", "windows", "rule", "epochs")
    )
    assert {**precise["provenance"], "note": f"{precise['provenance']['note']}, in INT8"} == own
    assert [name not in FLOAT for name in NAMES] == [eight for _, eight in convolutions_in(onnx.load(model_path(f"{name}-int8", ".onnx")))]


def test_samples_that_are_concatenated_share_a_step() -> None:
    largest = {name: float(number + 1) for number, name in enumerate(NAMES[:-1])}
    steps = shared_steps(largest)
    for one, other in (("encoder.0.1", "decoder.1.1"), ("encoder.1.1", "decoder.0.1"), ("encoder.2.1", "bottleneck.1")):
        assert max(largest[one], largest[other]) / 255 == steps[one] == steps[other]


def test_folding_changes_nothing() -> None:
    model, windows = model_like(2), torch.from_numpy(some_windows(1))
    first = folded(model)[0]
    with torch.inference_mode():
        convolution, normalisation, *_ = model.encoder[0]
        torch.testing.assert_close(first(windows), normalisation(convolution(windows)), rtol=0, atol=1e-5)


@pytest.mark.parametrize(("rule", "expected"), [("min-max", 8.0), ("99.999 %", 8.0), ("99.99 %", 4.0), ("99.9 %", 3.998)])
def test_rules_tell_the_largest_sample(rule: str, expected: float) -> None:
    histogram = torch.zeros(4096)
    histogram[:2048], histogram[-1] = 10, 1  # one outlier in twenty thousand
    assert expected == pytest.approx(RULES[rule](histogram, 8.0), abs=0.003)


def test_the_rule_of_least_squares_gives_up_what_costs_less_than_finer_steps_bring() -> None:
    histogram = torch.zeros(4096)
    histogram[:2048], histogram[-1] = 1e6, 1
    assert 4.0 == pytest.approx(RULES["least squares"](histogram, 8.0), abs=0.1)


def test_training_with_the_rounding_in_place_brings_it_nearer_to_the_model() -> None:
    model, windows = model_like(3), torch.from_numpy(some_windows(16))
    steps, losses = shared_steps(largest_samples(model, windows)), []
    convolutions = adapt(model, steps, 8, lambda epoch: windows, lambda epoch, loss: losses.append(loss))
    assert 8 == len(losses)
    assert losses[-1] < losses[0]
    with torch.inference_mode():
        wanted = model(windows)
        before, after = (
            (QuantizedXiaoNet.from_convolutions(model.arguments, own, steps)(windows) - wanted).abs().mean()
            for own in (folded(model), convolutions)
        )
    assert after < before


def test_the_comparison_stands_beside_the_files(folder: Path, made_up: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(folder, tmp_path / "copy"))
    told = compare(copy, Evaluator(str(made_up), "dev"))
    assert told == json.loads((copy / "quantization.json").read_text())
    assert {"torch", "onnxruntime", "openvino"} == set(told["milliseconds"])
    assert list(FLOAT) == told["float_convolutions"]
    assert {name: (copy / name).stat().st_size for name in FILES} == told["bytes"]
    difference = told["int8_less_fp32"]["all"]["P"]["f1 0.5"]["value"]
    scores = [told["scores"][name]["all"]["P"]["f1 0.5"]["value"] for name in ("model_int8", "model_fp32")]
    assert scores[0] - scores[1] == pytest.approx(difference)
    page = (copy / "quantization.md").read_text()
    assert "Calibrated on 24 training windows" in page
    assert f"| onnx | {told['bytes']['model_fp32.onnx']:,} | {told['bytes']['model_int8.onnx']:,} |" in page


def test_a_model_that_is_quantized_already_is_refused(folder: Path, made_up: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"saved_model_int8\.pth is quantized already; wanted the model in float32"):
        quantize(folder / "saved_model_int8.pth", str(made_up), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_data_at_another_rate_calibrate_as_if_at_100_hz(write_set: Any) -> None:
    rng = np.random.default_rng(0)
    waveforms = [rng.normal(size=(3, 1700)) for _ in range(20)]
    splits = ["train"] * 18 + ["dev"] * 2
    own = write_set(waveforms, trace_p_arrival_sample=[800] * 20, trace_sampling_rate_hz=[50.0] * 20, split=splits)
    assert (18, 3, 3001) == calibration_windows(split_data(open_data(str(own)))[0], 18).shape


def test_data_without_a_rate_are_named(write_set: Any) -> None:
    own = write_set([np.ones((3, 4000))] * 2, trace_p_arrival_sample=[800] * 2, trace_sampling_rate_hz=[0.0] * 2, split=["train", "dev"])
    with pytest.raises(DataError, match="no sampling rate above 0"):
        open_data(str(own))


@pytest.mark.parametrize("shape", [(4, 3, 1501), (4, 1, 3001), (0, 3, 3001), (3, 3001)])
def test_windows_of_another_rate_or_none_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(WaveformError, match=rf"calibration windows are {re.escape(str(shape))}; wanted \(windows, 3, 3001\)"):
        largest_samples(model_like(0), torch.zeros(shape))


def test_records_in_which_nothing_moves_do_not_calibrate(write_set: Any) -> None:
    own = write_set([np.zeros((3, 4000))] * 30, trace_p_arrival_sample=[800] * 30, split=["train"] * 29 + ["dev"])
    with pytest.raises(DataError, match="calibration has 0 windows that are not constant; wanted at least 16"):
        calibration_windows(split_data(open_data(str(own)))[0], 29)


def test_an_empty_train_split_is_named(folder: Path, write_set: Any, tmp_path: Path) -> None:
    own = write_set([np.ones((3, 4000))] * 2, trace_p_arrival_sample=[800] * 2, split=["dev"] * 2)
    with pytest.raises(DataError, match="the train split is empty"):
        quantize(folder / "saved_model_fp32.pth", str(own), tmp_path / "out")


@pytest.mark.parametrize("name", FILES)
def test_a_truncated_file_is_named(folder: Path, tmp_path: Path, name: str) -> None:
    cut = tmp_path / name
    cut.write_bytes((folder / name).read_bytes()[:-100])
    with pytest.raises(CheckpointError, match=rf"{re.escape(name)} is damaged"):
        load_predictor(cut)


def test_an_onnx_file_without_its_header_is_refused(folder: Path, tmp_path: Path) -> None:
    graph = onnx.load(folder / "model_int8.onnx")
    del graph.metadata_props[:]
    onnx.save(graph, tmp_path / "bare.onnx")
    with pytest.raises(CheckpointError, match=r"bare\.onnx is damaged or not a XiaoNet model: it has no checksum"):
        load_predictor(tmp_path / "bare.onnx")


def test_a_precision_of_a_later_xiaonet_is_named(folder: Path, tmp_path: Path) -> None:
    content = torch.load(folder / "saved_model_int8.pth", weights_only=True)
    torch.save({**content, "precision": "int4"}, tmp_path / "later.pth")
    with pytest.raises(CheckpointError, match=r"later\.pth holds weights in 'int4'; wanted fp32 or int8"):
        load_model(tmp_path / "later.pth")
