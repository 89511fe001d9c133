"""The student as a network of images one sample high, channels last: the same numbers, trained faster on a CPU."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from xiaonet.constants import STRIDE
from xiaonet.nn.model import XiaoNet


def planar_logits(model: XiaoNet, windows: Tensor) -> Tensor:
    """What `model.logits` gives for windows `(batch, 3, samples)`, gradients and running statistics included."""
    samples = windows.shape[-1]
    x = windows[..., : samples - samples % STRIDE, None].transpose(2, 3).contiguous(memory_format=torch.channels_last)
    skips: list[Tensor] = []
    for block in model.encoder:
        skips.append(_block(block, x))
        x = F.max_pool2d(skips[-1], (1, 2))
    x = _block(model.bottleneck, x)
    for block in model.decoder:
        x = _block(block, torch.cat([F.interpolate(x, scale_factor=(1.0, 2.0)), skips.pop()], dim=1))
    x = _convolution(model.head, x).squeeze(2)
    return torch.cat([x, x[..., -1:].expand(-1, -1, samples % STRIDE)], dim=-1)


def _block(block: nn.Module, x: Tensor) -> Tensor:
    for layer in block.children():
        if isinstance(layer, nn.Conv1d):
            x = _convolution(layer, x)
        elif isinstance(layer, nn.BatchNorm1d):
            momentum = 0.0 if layer.momentum is None else layer.momentum
            x = F.batch_norm(x, layer.running_mean, layer.running_var, layer.weight, layer.bias, layer.training, momentum, layer.eps)
        else:  # ReLU and dropout are the same for both
            x = layer(x)
    return x


def _convolution(layer: nn.Conv1d, x: Tensor) -> Tensor:
    dilation = layer.dilation[0]  # and as much padding, which keeps the length
    return F.conv2d(x, layer.weight.unsqueeze(2), layer.bias, padding=(0, dilation), dilation=(1, dilation))
