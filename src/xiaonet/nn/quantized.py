"""XiaoNet in INT8, computed in torch exactly as the integer kernels of other runtimes compute it.

Between convolutions, a sample is an integer from 0 to 255, in units of a step (Jacob et al. 2018; the zero point is
0, because nothing is negative after ReLU). Sums of products of such integers stay below 2^24, so float32 represents
them exactly, and torch gives the results of integer arithmetic.
"""

from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from xiaonet.constants import LEVELS
from xiaonet.errors import ConfigError
from xiaonet.nn.layers import convolve
from xiaonet.nn.model import XiaoNet

FLOAT = ("encoder.0.0", "head")  # 0.4 % of the weights; stored as float32, but they are 16-bit multiples of a power of two
LARGEST_WEIGHT = 63  # 7 bits, because two products of 255 and a larger weight overflow the 16 bits of AVX2's multiplier
LARGEST_SAMPLE = 255
LARGEST_BIAS = 2**22  # so that a sum of products plus a bias stays below 2^24
PEAK = 2**11  # windows are rounded to integers of this unit; their peak is 1
TINY = torch.finfo(torch.float32).tiny
SCALE_BITS = 14
UNIT = 2.0**-SCALE_BITS  # scales are multiples of it, so that a sum times its scale is exact in float32 up to 2^10
EXACT = 2**24  # float32 represents all smaller integers
FINEST_LOGIT_BITS = 24  # the unit of the logits is at least 2^-24


class QuantizedConv(nn.Module):
    """Convolution, batch normalisation, ReLU and rounding in one.

    `weight` is int8 and `bias` is int32; both are float32 in the convolutions in `FLOAT`. `scale` converts the sums of
    an output channel to samples.
    """

    def __init__(self, like: nn.Conv1d, *, precise: bool, first: bool = False, last: bool = False) -> None:
        super().__init__()
        self.dilation = like.dilation[0]
        self.precise, self.first, self.last = precise, first, last
        channels = len(like.weight)
        self.weight = _fixed(torch.zeros(like.weight.shape, dtype=torch.float32 if precise else torch.int8))
        self.bias = _fixed(torch.zeros(channels, dtype=torch.float32 if precise else torch.int32))
        self.scale = _fixed(torch.ones(channels)) if not precise else None

    def forward(self, x: Tensor) -> Tensor:
        """Compute integers from integers. The first convolution takes windows, and the last returns logits."""
        if self.first:
            x = (x * PEAK).round()
        sums = convolve(x, self.weight.to(x.dtype), self.bias.to(x.dtype), self.dilation)
        if self.last:
            return sums
        steps = sums if self.scale is None else sums * self.scale.view(-1, *(1,) * (x.ndim - 2))
        return steps.round().clamp(0, LARGEST_SAMPLE)


def _fixed(values: Tensor) -> nn.Parameter:
    return nn.Parameter(values, requires_grad=False)


class QuantizedXiaoNet(XiaoNet):
    """XiaoNet in INT8, made by `xiaonet quantize` or read from a model file. It cannot be trained.

    Arguments are those of `XiaoNet`.
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
            arguments: of the model.
            convolutions: with batch normalisation folded in, from `folded`.
            steps: output step of each convolution but the last, from `shared_steps`.

        Raises:
            ConfigError: the weights are too large for integers of 32 bits.
        """
        quantized = cls(**arguments)
        step_in = 1.0
        for (name, rounded), convolution in zip(quantized.convolutions(), convolutions, strict=True):
            step = steps.get(name, 1.0)  # logits are not rounded
            weight = convolution.weight.detach().double() * (step_in / step)
            bias = convolution.bias.detach().double() / step  # type: ignore[union-attr]
            if rounded.scale is not None:
                scale = weight_scale(weight)
                rounded.scale.copy_(scale)
                weight = (weight / scale[:, None, None]).round()
                bias = (bias / scale).round().clamp(-LARGEST_BIAS, LARGEST_BIAS)
                _check_products(name, weight, bias, scale)
            elif rounded.first:
                weight, bias = _exact(weight / PEAK, bias)
            elif rounded.last:
                bits, weight, bias = whole_head(weight, bias)
                weight, bias = weight / 2**bits, bias / 2**bits
            rounded.weight.copy_(weight)
            rounded.bias.copy_(bias)
            step_in = step
        return quantized

    def convolutions(self) -> Iterator[tuple[str, QuantizedConv]]:
        """All convolutions with their names, such as `decoder.0.1`, from the input to the output."""
        for name, module in self.named_modules():
            if isinstance(module, QuantizedConv):
                yield name, module


def _block(block: nn.Module, name: str) -> nn.Sequential:
    convolutions = [layer for layer in block.modules() if isinstance(layer, nn.Conv1d)]
    names = [f"{name}.{number}" for number in range(len(convolutions))]
    return nn.Sequential(
        *(QuantizedConv(layer, precise=own in FLOAT, first=own == "encoder.0.0") for layer, own in zip(convolutions, names, strict=True))
    )


def _exact(weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    """Round both to multiples of a power of two, so that float32 represents all sums for a window exactly."""
    largest = PEAK * weight.abs().sum(dim=(1, 2)) + bias.abs()
    unit = torch.exp2(torch.ceil(torch.log2(largest.clamp(min=TINY))) - 23)
    return (weight / unit[:, None, None]).round() * unit[:, None, None], (bias / unit).round() * unit


def whole_head(weight: Tensor, bias: Tensor) -> tuple[int, Tensor, Tensor]:
    """Round the head to whole multiples of 2^-bits, the finest unit with 16-bit weights and logits exact in float32.

    A head that is already rounded keeps its values.

    Args:
        weight: `(3, channels, 3)`, logits per input step.
        bias: `(3,)`, in logits.

    Returns:
        Bits of the unit, and weights and biases in that unit.

    Raises:
        ConfigError: a weight is too large.
    """
    for bits in range(FINEST_LOGIT_BITS, -1, -1):
        whole, offset = (weight.double() * 2**bits).round(), (bias.double() * 2**bits).round()
        if whole.abs().max() < 2**15 and largest_sums(whole, offset).max() < EXACT:
            return bits, whole, offset
    raise ConfigError(
        f"head: a weight is {float(weight.abs().max()):g} logits per step; wanted less than {2**15}; keep the model in float32"
    )


def largest_sums(weight: Tensor, bias: Tensor) -> Tensor:
    """The largest absolute sum of each output channel, for samples from 0 to 255 that are added in any order."""
    rising, falling = (sign.clamp(min=0).sum(dim=(1, 2)) for sign in (weight, -weight))
    return LARGEST_SAMPLE * torch.maximum(rising, falling) + bias.abs()


def _check_products(name: str, weight: Tensor, bias: Tensor, scale: Tensor) -> None:
    """Make sure that a sum times its scale, in units of 2^-14 and with one half for rounding, is an integer of 32 bits."""
    largest = float((largest_sums(weight, bias) * scale / UNIT).max()) + 0.5 / UNIT
    if largest >= 2**31:
        raise ConfigError(f"{name}: a sum times its scale can reach {largest:.3g}; wanted less than 2^31; keep the model in float32")


def weight_scale(weight: Tensor) -> Tensor:
    """The unit of the weights of each output channel, in output steps per input step."""
    return (weight.abs().amax(dim=(1, 2)) / LARGEST_WEIGHT / UNIT).ceil().clamp(min=1) * UNIT


def folded(model: XiaoNet) -> list[nn.Conv1d]:
    """The convolutions of a model with their batch normalisation folded in."""
    blocks = [list(block) for block in (*model.encoder, model.bottleneck, *model.decoder)]  # convolution, normalisation, ReLU, …
    pairs = [pair for block in blocks for pair in zip(block[0::3], block[1::3], strict=False)]
    return [*(fuse_conv_bn_eval(convolution, normalisation) for convolution, normalisation in pairs), deepcopy(model.head)]


def shared_steps(largest: Mapping[str, float]) -> dict[str, float]:
    """The output step of each convolution, from the largest sample that it must represent.

    Convolutions whose outputs are concatenated share a step, so that they need no further rounding.
    """
    steps = {name: max(value, 1e-6) / LARGEST_SAMPLE for name, value in largest.items()}
    below = ["bottleneck.1", *(f"decoder.{level}.1" for level in range(LEVELS - 1))]
    for level, name in zip(reversed(range(LEVELS)), below, strict=True):
        steps[name] = steps[f"encoder.{level}.1"] = max(steps[name], steps[f"encoder.{level}.1"])
    return steps
