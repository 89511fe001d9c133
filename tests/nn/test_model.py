import importlib.util
import math
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from xiaonet.errors import ConfigError, WaveformError
from xiaonet.nn import model as home
from xiaonet.nn.layers import BatchNorm, Conv, MaxPool
from xiaonet.nn.model import PLAIN, WIDE, XiaoNet, count_multiply_adds

STRIDE = 8  # three halvings


@pytest.fixture(scope="module")
def small() -> XiaoNet:
    torch.manual_seed(0)
    return XiaoNet(base_channels=2).eval()


def parameters(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


def convolutions(model: nn.Module) -> list[nn.Conv1d]:
    return [module for module in model.modules() if isinstance(module, nn.Conv1d)]


def spans_by_gradient(dilations: home.Dilations, samples: int) -> list[int]:
    """Samples from the first to the last that have a gradient, for each position in a stride.

    With weights and input above 0 nothing is cut by a ReLU or cancelled; over 48 random inputs
    each sample wins its max pooling at least once.
    """
    torch.manual_seed(0)
    model = XiaoNet(base_channels=1, dilations=dilations).eval().double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.abs_()
    windows = torch.rand(48, 3, samples, dtype=torch.double, requires_grad=True)
    curve = model.logits(windows).sum((0, 1))
    middle = samples // 2 // STRIDE * STRIDE
    spans = []
    for position in range(middle, middle + STRIDE):
        (gradient,) = torch.autograd.grad(curve[position], windows, retain_graph=True)
        seen = gradient.abs().sum((0, 1)).nonzero().flatten()
        assert seen[0] > 0
        assert seen[-1] < samples - 1
        spans.append(int(seen[-1] - seen[0]) + 1)
    return spans


@pytest.mark.parametrize(("base_channels", "expected"), [(4, 10_731), (5, 16_578), (8, 41_715), (16, 164_451)])
def test_parameters_are_as_many_as_the_design_says(base_channels: int, expected: int) -> None:
    assert expected == parameters(XiaoNet(base_channels=base_channels))


@pytest.mark.parametrize("dilations", [PLAIN, WIDE, ((3, 2),) * 7])
def test_dilations_change_no_parameter_count(dilations: home.Dilations) -> None:
    assert 164_451 == parameters(XiaoNet(dilations=dilations))


def test_the_prescribed_path_gives_the_same_class() -> None:
    path = Path(__file__).parents[2] / "models" / "xn_xiao_net.py"
    spec = importlib.util.spec_from_file_location("xn_xiao_net", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert XiaoNet is module.XiaoNet


def test_layers_are_those_of_the_design() -> None:
    model = XiaoNet()
    assert [(3,)] * 15 == [convolution.kernel_size for convolution in convolutions(model)]
    assert [(3, 16), (16, 32), (32, 64)] == [(block[0].in_channels, block[0].out_channels) for block in model.encoder]
    assert (64, 128) == (model.bottleneck[0].in_channels, model.bottleneck[0].out_channels)
    assert [(192, 64), (96, 32), (48, 16)] == [(block[0].in_channels, block[0].out_channels) for block in model.decoder]
    assert (16, 3) == (model.head.in_channels, model.head.out_channels)
    expected = ["Conv", "BatchNorm", "ReLU", "Conv", "BatchNorm", "ReLU", "Dropout"]
    assert [expected] * 7 == [[type(layer).__name__ for layer in block] for block in [*model.encoder, model.bottleneck, *model.decoder]]
    assert (nn.Conv1d, nn.BatchNorm1d, nn.MaxPool1d) == (Conv.__base__, BatchNorm.__base__, MaxPool.__base__)


def test_three_poolings_halve_the_window_to_375_samples() -> None:
    model = XiaoNet(base_channels=2).eval()
    lengths = []
    model.pool.register_forward_hook(lambda pool, arguments, pooled: lengths.append(pooled.shape[-1]))
    model(torch.zeros(1, 3, 3001))
    assert (MaxPool, 2, 2) == (type(model.pool), model.pool.kernel_size, model.pool.stride)
    assert [1500, 750, 375] == lengths


@pytest.mark.parametrize(
    ("dilations", "expected"),
    [(PLAIN, [1] * 14), (WIDE, [1, 1, 1, 2, 4, 8, 16, 32, 8, 4, 2, 1, 1, 1]), (((3, 5),) * 7, [3, 5] * 7)],
)
def test_dilations_go_to_the_fourteen_convolutions_in_order(dilations: home.Dilations, expected: list[int]) -> None:
    assert [*expected, 1] == [convolution.dilation[0] for convolution in convolutions(XiaoNet(base_channels=1, dilations=dilations))]


def test_every_sample_of_a_window_has_probabilities_that_sum_to_one(small: XiaoNet) -> None:
    windows = torch.randn(2, 3, 3001, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        probabilities, logits = small(windows), small.logits(windows)
    assert (2, 3, 3001) == tuple(probabilities.shape)
    torch.testing.assert_close(probabilities.sum(dim=1), torch.ones(2, 3001))
    assert torch.equal(logits[..., 2999], logits[..., 3000])
    torch.testing.assert_close(probabilities[..., 2999], probabilities[..., 3000])


@settings(max_examples=25, deadline=None)
@given(samples=st.integers(8, 400), batch=st.integers(1, 3))
def test_any_length_of_at_least_eight_samples_works(small: XiaoNet, samples: int, batch: int) -> None:
    windows = torch.randn(batch, 3, samples, generator=torch.Generator().manual_seed(samples))
    with torch.inference_mode():
        whole = samples // STRIDE * STRIDE
        probabilities, trimmed = small(windows), small(windows[..., :whole])
    assert (batch, 3, samples) == tuple(probabilities.shape)
    torch.testing.assert_close(probabilities.sum(dim=1), torch.ones(batch, samples))
    torch.testing.assert_close(probabilities[..., :whole], trimmed)
    torch.testing.assert_close(probabilities[..., whole:], trimmed[..., -1:].expand(-1, -1, samples - whole))


def test_probabilities_are_the_softmax_of_the_logits(small: XiaoNet) -> None:
    windows = torch.randn(1, 3, 100, generator=torch.Generator().manual_seed(2))
    powers = torch.exp(small.logits(windows).double())
    torch.testing.assert_close(small(windows).double(), powers / powers.sum(dim=1, keepdim=True), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(("dilations", "expected", "samples"), [(WIDE, 1008, 2400), (PLAIN, 100, 400)])
def test_the_receptive_field_is_what_the_gradient_sees(dilations: home.Dilations, expected: int, samples: int) -> None:
    assert expected == max(spans_by_gradient(dilations, samples))
    assert expected == XiaoNet(base_channels=1, dilations=dilations).receptive_field


@settings(max_examples=6, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 6), st.integers(1, 6)), min_size=7, max_size=7))
def test_the_receptive_field_follows_any_dilations(dilations: list[tuple[int, int]]) -> None:
    assert max(spans_by_gradient(dilations, 1200)) == XiaoNet(base_channels=1, dilations=dilations).receptive_field


def test_every_position_sees_at_least_990_samples_by_default() -> None:
    assert [1000, 1008] == sorted(set(spans_by_gradient(WIDE, 2400)))


@pytest.mark.parametrize("shape", [(3, 3001), (3001,), (1, 1, 3, 3001), (2, 1, 3001), (2, 4, 3001), (2, 3, 7), (2, 3, 0)])
def test_windows_of_another_shape_are_refused_with_the_shape_wanted(small: XiaoNet, shape: tuple[int, ...]) -> None:
    with pytest.raises(WaveformError) as caught:
        small(torch.zeros(shape))
    assert f"windows have shape {shape}; wanted (batch, 3, samples) with at least 8 samples" in str(caught.value)
    assert "for a single window use windows[None]" in str(caught.value)


@pytest.mark.parametrize("dtype", [torch.int64, torch.int32, torch.float64, torch.float16, torch.bfloat16, torch.bool])
def test_windows_of_another_type_are_refused_with_the_type_wanted(small: XiaoNet, dtype: torch.dtype) -> None:
    with pytest.raises(WaveformError) as caught:
        small(torch.zeros(1, 3, 64, dtype=dtype))
    assert f"windows are {dtype}; this model takes torch.float32: use windows.to(torch.float32)" == str(caught.value)


def test_a_model_in_double_precision_takes_double_precision() -> None:
    model = XiaoNet(base_channels=2).eval().double()
    with pytest.raises(WaveformError, match=r"torch\.float32; this model takes torch\.float64"):
        model(torch.zeros(1, 3, 64))
    assert torch.float64 == model.logits(torch.zeros(1, 3, 64, dtype=torch.double)).dtype


def test_windows_in_float32_work_under_bfloat16_autocast(small: XiaoNet) -> None:
    windows = torch.randn(2, 3, 256, generator=torch.Generator().manual_seed(3))
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        logits, probabilities = small.logits(windows), small(windows)
    assert (torch.bfloat16, torch.float32) == (logits.dtype, probabilities.dtype)
    torch.testing.assert_close(probabilities, small(windows).detach(), rtol=0, atol=0.03)
    torch.testing.assert_close(probabilities.sum(dim=1), torch.ones(2, 256))


@pytest.mark.parametrize("dtype", [torch.float64, torch.int32])
def test_windows_that_autocast_does_not_convert_are_refused(small: XiaoNet, dtype: torch.dtype) -> None:
    with torch.autocast("cpu", torch.bfloat16), pytest.raises(WaveformError, match=f"windows are {dtype}.*takes torch.float32"):
        small(torch.zeros(1, 3, 64, dtype=dtype))


def test_there_is_no_dropout_by_default() -> None:
    assert [0.0] * 7 == [module.p for module in XiaoNet(base_channels=1).modules() if isinstance(module, nn.Dropout)]


@pytest.mark.parametrize(("dropout", "training", "same"), [(0.3, True, False), (0.3, False, True), (0.0, True, True)])
def test_dropout_acts_only_while_training(dropout: float, training: bool, same: bool) -> None:
    torch.manual_seed(4)
    model = XiaoNet(base_channels=2, dropout=dropout).train(training)
    assert [dropout] * 7 == [module.p for module in model.modules() if isinstance(module, nn.Dropout)]
    windows = torch.randn(2, 3, 64)
    assert same is torch.equal(model(windows), model(windows))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"window_len": 7}, "window_len is 7; wanted an integer of at least 8"),
        ({"in_channels": 0}, "in_channels is 0; wanted an integer of at least 1"),
        ({"num_phases": -1}, "num_phases is -1; wanted an integer of at least 1"),
        ({"base_channels": 0}, "base_channels is 0; wanted an integer of at least 1"),
        ({"dropout": 1.0}, "dropout is 1.0; wanted a number from 0 to less than 1"),
        ({"dropout": -0.1}, "dropout is -0.1; wanted a number from 0 to less than 1"),
        ({"dropout": math.nan}, "dropout is nan; wanted a number from 0 to less than 1"),
        ({"dropout": "0.1"}, "dropout is '0.1'; wanted a number from 0 to less than 1"),
        ({"base_channels": "16"}, "base_channels is '16'; wanted an integer of at least 1"),
        ({"base_channels": 1.5}, "base_channels is 1.5; wanted an integer of at least 1"),
        ({"window_len": None}, "window_len is None; wanted an integer of at least 8"),
    ],
)
def test_sizes_out_of_range_are_refused(arguments: dict[str, float], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        XiaoNet(**arguments)
    assert message == str(caught.value)


@pytest.mark.parametrize(
    "dilations",
    [
        PLAIN[:6],
        (*PLAIN, (1, 1)),
        ((0, 1), *PLAIN[1:]),
        ((1, -2), *PLAIN[1:]),
        ((1,), *PLAIN[1:]),
        ((1, 1, 1), *PLAIN[1:]),
        ((1.5, 1), *PLAIN[1:]),
        (1,) * 7,
        "wide",
    ],
)
def test_dilations_other_than_seven_pairs_of_positive_integers_are_refused(dilations: home.Dilations) -> None:
    with pytest.raises(ConfigError, match=r"dilations are .*; wanted 7 pairs of integers of at least 1, e\.g\. \(\(1, 1\), \(1, 2\)"):
        XiaoNet(base_channels=1, dilations=dilations)


def test_arguments_rebuild_the_model() -> None:
    model = XiaoNet(3001, 1, 2, 5, dropout=0.25, dilations=[[2, 1]] * 7)
    expected = {
        "window_len": 3001,
        "in_channels": 1,
        "num_phases": 2,
        "base_channels": 5,
        "dropout": 0.25,
        "dilations": ((2, 1),) * 7,
    }
    assert expected == model.arguments
    shapes = {name: tensor.shape for name, tensor in model.state_dict().items()}
    assert shapes == {name: tensor.shape for name, tensor in XiaoNet(**model.arguments).state_dict().items()}


def multiply_adds_by_hand(model: XiaoNet, samples: int) -> int:
    """Kernel x inputs x outputs x samples of each convolution; each level has half the samples."""
    halvings = [0, 0, 1, 1, 2, 2, 3, 3, 2, 2, 1, 1, 0, 0, 0]
    length = samples // STRIDE * STRIDE
    return sum(
        3 * convolution.in_channels * convolution.out_channels * length // 2**level
        for convolution, level in zip(convolutions(model), halvings, strict=True)
    )


@pytest.mark.parametrize(("base_channels", "samples", "expected"), [(16, 3001, 116_064_000), (4, 3001, 7_416_000), (4, 100, 237_312)])
def test_multiply_adds_are_those_of_the_convolutions(base_channels: int, samples: int, expected: int) -> None:
    model = XiaoNet(base_channels=base_channels)
    assert expected == multiply_adds_by_hand(model, samples)
    assert expected == count_multiply_adds(model, samples)


def test_counting_multiply_adds_leaves_the_model_as_it_was() -> None:
    model = XiaoNet(base_channels=1)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    count_multiply_adds(model, 64)
    changed = [name for name, tensor in model.state_dict().items() if not torch.equal(before[name], tensor)]
    assert ([], True) == (changed, model.training)
