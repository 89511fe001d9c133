from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from xiaonet import XiaoNet
from xiaonet.nn.quantized import QuantizedXiaoNet, folded
from xiaonet.training.distributed import GlobalBatchNorm1d, share_batch_norm


def by_functions(model: XiaoNet, windows: Tensor) -> Tensor:
    """The network on images one sample high, channels last, written out with torch's functions."""

    def block(layers: nn.Module, x: Tensor) -> Tensor:
        for layer in layers.children():
            if isinstance(layer, nn.Conv1d):
                (dilation,) = layer.dilation
                x = F.conv2d(x, layer.weight[:, :, None], layer.bias, padding=(0, dilation), dilation=(1, dilation))
            elif isinstance(layer, nn.BatchNorm1d):
                x = F.batch_norm(x, layer.running_mean, layer.running_var, layer.weight, layer.bias, layer.training, 0.1, layer.eps)
            else:
                x = layer(x)
        return x

    x = windows[..., None, : windows.shape[-1] // 8 * 8].contiguous(memory_format=torch.channels_last)
    skips = []
    for encoder in model.encoder:
        skips.append(block(encoder, x))
        x = F.max_pool2d(skips[-1], (1, 2))
    x = block(model.bottleneck, x)
    for decoder in model.decoder:
        x = block(decoder, torch.cat([F.interpolate(x, scale_factor=(1.0, 2.0)), skips.pop()], dim=1))
    x = F.conv2d(x, model.head.weight[:, :, None], model.head.bias, padding=(0, 1))[:, :, 0]
    return torch.cat([x, x[..., -1:].expand(-1, -1, windows.shape[-1] % 8)], dim=-1)


def twins(double: bool = False) -> list[XiaoNet]:
    """Two equal models, ready to train."""
    torch.manual_seed(0)
    models = [XiaoNet(base_channels=3).train() for _ in range(2)]
    models[1].load_state_dict(models[0].state_dict())
    return [model.double() for model in models] if double else models


def test_planar_logits_are_the_models_own() -> None:
    torch.manual_seed(0)
    model = XiaoNet(base_channels=3).eval()
    windows = torch.randn(2, 3, 3001)
    torch.testing.assert_close(model.logits(windows), model.logits(windows, planar=True), rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(model(windows), model(windows, planar=True))


def test_gradients_and_running_statistics_are_the_models_own() -> None:
    models = twins(double=True)
    windows = torch.randn(2, 3, 808, dtype=torch.float64)
    models[0].logits(windows).square().mean().backward()
    models[1].logits(windows, planar=True).square().mean().backward()
    for (name, one), (_, other) in zip(models[0].named_parameters(), models[1].named_parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad, msg=name)
    torch.testing.assert_close(models[0].bottleneck[1].running_mean, models[1].bottleneck[1].running_mean)
    torch.testing.assert_close(models[0].bottleneck[1].running_var, models[1].bottleneck[1].running_var)


def test_planar_logits_gradients_and_statistics_have_the_bits_of_torchs_functions() -> None:
    models, windows = twins(), torch.randn(2, 3, 811)
    logits = by_functions(models[0], windows), models[1].logits(windows, planar=True)
    assert torch.equal(*logits)
    for one in logits:
        one.square().mean().backward()
    for (name, one), (_, other) in zip(models[0].named_parameters(), models[1].named_parameters(), strict=True):
        assert torch.equal(one.grad, other.grad), name
    for (name, one), (_, other) in zip(models[0].named_buffers(), models[1].named_buffers(), strict=True):
        assert torch.equal(one, other), name
    assert torch.equal(by_functions(models[0].eval(), windows), models[1].eval().logits(windows, planar=True))


def test_a_length_that_is_no_multiple_of_eight_repeats_the_last_sample() -> None:
    logits = XiaoNet(base_channels=2).eval().logits(torch.randn(1, 3, 19), planar=True)
    assert (1, 3, 19) == logits.shape
    assert torch.equal(logits[..., 15:16].expand(-1, -1, 3), logits[..., 16:])


def test_a_quantized_model_computes_alike_in_both_layouts() -> None:
    torch.manual_seed(0)
    model = XiaoNet(base_channels=3).eval()
    steps = {name: 1 / 64 for name, _ in QuantizedXiaoNet(base_channels=1).convolutions()}
    quantized = QuantizedXiaoNet.from_convolutions(model.arguments, folded(model), steps | {"head": 1.0})
    windows = torch.randn(2, 3, 811).clamp(-1, 1)
    hidden = quantized.encoder[0](windows), quantized.encoder[0](windows[:, :, None])[:, :, 0]
    assert hidden[0].max() > 0
    assert torch.equal(*hidden)
    torch.testing.assert_close(quantized.logits(windows), quantized.logits(windows, planar=True))


def test_statistics_of_all_processes_are_the_models_own_where_there_is_one(tmp_path: Path) -> None:
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    try:
        for planar in (False, True):
            models, windows = twins(), torch.randn(4, 3, 808)
            share_batch_norm(models[1])
            assert 14 == sum(isinstance(layer, GlobalBatchNorm1d) for layer in models[1].modules())
            expected, found = (model.logits(windows, planar=planar) for model in models)
            torch.testing.assert_close(expected, found, rtol=1e-3, atol=1e-4)
            torch.testing.assert_close(models[0].bottleneck[1].running_var, models[1].bottleneck[1].running_var)
    finally:
        torch.distributed.destroy_process_group()
