"""XiaoNet in eight-bit integers, computed in torch step by step as the integer kernels of other runtimes do.

Between convolutions a sample is a whole number from 0 to 255, and its value that many steps (Jacob et
al. 2018, with the zero at 0 since nothing is negative after ReLU). Sums of products of such numbers
stay below 2^24, so float32 holds them exactly and torch gives what integer arithmetic gives.
"""

from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import conv1d
from torch.nn.utils.fusion import fuse_conv_bn_eval

from xiaonet.model import XiaoNet
from xiaonet.spec import LEVELS

FLOAT = ("encoder.0.0", "head")  # 0.4 % of the weights: the windows themselves, and the logits, are no whole numbers
LARGEST_WEIGHT = 63  # 7 bits: two products of 255 times more than that overflow the 16 bits of AVX2's multiplier
LARGEST_SAMPLE = 255
LARGEST_BIAS = 2**31 - 1
TINY = torch.finfo(torch.float32).tiny


class QuantizedConv(nn.Module):
    """A convolution with batch normalisation, ReLU and rounding in one.

    Buffers: `weight` in int8, or in float32 for those of `FLOAT`; `bias`, in int32 as a number of
    `step_in * scale`, or in float32; `scale`, the value of a weight's unit for each output channel;
    `step_in` and `step`, those of the samples it takes and gives.
    """

    def __init__(self, like: nn.Conv1d, *, precise: bool, first: bool = False, last: bool = False) -> None:
        super().__init__()
        self.padding, self.dilation = like.padding, like.dilation
        self.precise, self.first, self.last = precise, first, last
        channels = len(like.weight)
        self.register_buffer("weight", torch.zeros(like.weight.shape, dtype=torch.float32 if precise else torch.int8))
        self.register_buffer("bias", torch.zeros(channels, dtype=torch.float32 if precise else torch.int32))
        if not precise:
            self.register_buffer("scale", torch.ones(channels))
        if not first:
            self.register_buffer("step_in", torch.ones(()))
        if not last:
            self.register_buffer("step", torch.ones(()))
        self.weight: Tensor
        self.bias: Tensor
        self.scale: Tensor
        self.step_in: Tensor
        self.step: Tensor

    def forward(self, x: Tensor) -> Tensor:
        """Whole numbers to whole numbers; the first takes windows, and the last gives logits."""
        if self.precise and not self.first:
            x = x * self.step_in
        sums = conv1d(x, self.weight.to(x.dtype), self.bias.to(x.dtype), padding=self.padding, dilation=self.dilation)
        if self.last:
            return sums
        steps = sums / self.step if self.precise else sums * (self.step_in * self.scale / self.step)[:, None]
        return steps.round().clamp(0, LARGEST_SAMPLE)


class QuantizedXiaoNet(XiaoNet):
    """The same network in eight-bit integers; made by `xiaonet quantize`, or filled from a model file.

    It cannot be trained further. Arguments are those of `XiaoNet`.
    """

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.encoder = nn.ModuleList(_block(block, f"encoder.{level}") for level, block in enumerate(self.encoder))
        self.bottleneck = _block(self.bottleneck, "bottleneck")  # type: ignore[assignment]
        self.decoder = nn.ModuleList(_block(block, f"decoder.{level}") for level, block in enumerate(self.decoder))
        self.head = QuantizedConv(self.head, precise="head" in FLOAT, last=True)  # type: ignore[assignment]
        self.eval()

    @classmethod
    def from_convolutions(
        cls, arguments: Mapping[str, Any], convolutions: Sequence[nn.Conv1d], steps: Mapping[str, float]
    ) -> "QuantizedXiaoNet":
        """Round a network.

        Args:
            arguments: of its model.
            convolutions: with batch normalisation folded in, as `folded` gives them.
            steps: of the samples that each convolution but the last gives, as `shared_steps` gives them.
        """
        quantized = cls(**arguments)
        step_in = torch.ones(())
        for (name, rounded), convolution in zip(quantized.convolutions(), convolutions, strict=True):
            weight, bias = convolution.weight.detach(), convolution.bias.detach()  # type: ignore[union-attr]
            if not rounded.precise:
                scale = weight_scale(weight)
                rounded.scale.copy_(scale)
                weight = (weight / scale[:, None, None]).round()
                bias = (bias.double() / (step_in * scale).clamp(min=TINY)).round().clamp(-LARGEST_BIAS, LARGEST_BIAS)
            rounded.weight.copy_(weight)
            rounded.bias.copy_(bias)
            if not rounded.first:
                rounded.step_in.copy_(step_in)
            if not rounded.last:
                rounded.step.copy_(torch.tensor(steps[name]))
                step_in = rounded.step
        return quantized

    def convolutions(self) -> Iterator[tuple[str, QuantizedConv]]:
        """All of them by name, such as `decoder.0.1`, from the windows to the logits."""
        for name, module in self.named_modules():
            if isinstance(module, QuantizedConv):
                yield name, module


def _block(block: nn.Module, name: str) -> nn.Sequential:
    convolutions = [layer for layer in block.modules() if isinstance(layer, nn.Conv1d)]
    names = [f"{name}.{number}" for number in range(len(convolutions))]
    return nn.Sequential(
        *(QuantizedConv(layer, precise=own in FLOAT, first=own == "encoder.0.0") for layer, own in zip(convolutions, names, strict=True))
    )


def weight_scale(weight: Tensor) -> Tensor:
    """For each output channel the value of a weight's unit."""
    return (weight.abs().amax(dim=(1, 2)) / LARGEST_WEIGHT).clamp(min=TINY)


def folded(model: XiaoNet) -> list[nn.Conv1d]:
    """A model's convolutions with their batch normalisation folded in."""
    blocks = [list(block) for block in (*model.encoder, model.bottleneck, *model.decoder)]  # convolution, normalisation, ReLU, …
    pairs = [pair for block in blocks for pair in zip(block[0::3], block[1::3], strict=False)]
    return [*(fuse_conv_bn_eval(convolution, normalisation) for convolution, normalisation in pairs), deepcopy(model.head)]


def shared_steps(largest: Mapping[str, float]) -> dict[str, float]:
    """A step for each convolution, from the largest sample that is worth telling from larger ones.

    Those whose samples are concatenated share one, so that they need no new rounding.
    """
    steps = {name: max(value, 1e-6) / LARGEST_SAMPLE for name, value in largest.items()}
    below = ["bottleneck.1", *(f"decoder.{level}.1" for level in range(LEVELS - 1))]
    for level, name in zip(reversed(range(LEVELS)), below, strict=True):
        steps[name] = steps[f"encoder.{level}.1"] = max(steps[name], steps[f"encoder.{level}.1"])
    return steps
