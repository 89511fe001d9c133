"""An INT8 model in whole numbers: what every layer gives, to the bit, in NumPy.

The C that `xiaonet export --format c` writes computes the same in another order.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from xiaonet.constants import STRIDE, WINDOW_SAMPLES
from xiaonet.errors import ConfigError
from xiaonet.nn.quantized import LARGEST_SAMPLE, PEAK, SCALE_BITS, QuantizedConv, QuantizedXiaoNet, whole_head

Whole = NDArray[np.int64]

LARGEST_COUNT = 2**23 - 1  # of a digitizer of 24 bits
MOST_BITS = 30  # of a unit in the first layer; what is smaller rounds to 0 anyway
SOURCES = ((), (0,), (1,), (2,), (3,), (4,), (5,), (6,), (7, 5), (8,), (9, 3), (10,), (11, 1), (12,), (13,))
LEVEL = (0, 0, 1, 1, 2, 2, 3, 3, 2, 2, 1, 1, 0, 0, 0)  # a layer has 3000 >> level columns


class Layer(NamedTuple):
    """A convolution whose sums, times `scale` and divided by 2^`bits`, are rounded to 0 to 255. The last one gives its sums.

    Attributes:
        name: such as `decoder.0.1`.
        sources: layers that it reads; none for the first, which reads the window.
        level: number of times that the length is halved.
        dilation: columns between two samples of the kernel.
        weight: `(out, in, 3)`.
        bias: `(out,)`.
        scale: `(out,)`.
        bits: `(out,)`; in the last layer, logits are in units of 2^-bits.
    """

    name: str
    sources: tuple[int, ...]
    level: int
    dilation: int
    weight: Whole
    bias: Whole
    scale: Whole
    bits: Whole


def layers_of(model: QuantizedXiaoNet) -> list[Layer]:
    """The layers of a model, from the window to the logits. The head is rounded if that of the model is not.

    Raises:
        ConfigError: the model has another window length, other components or phases, or a wide first kernel.
    """
    arguments = model.arguments
    wanted = {"window_len": WINDOW_SAMPLES, "in_channels": 3, "num_phases": 3}
    if wrong := {name: arguments[name] for name, value in wanted.items() if arguments[name] != value}:
        raise ConfigError(f"the model has {wrong}; format c wants { ({name: wanted[name] for name in wrong}) }")
    if model.dilations[0][0] != 1:
        raise ConfigError(f"the first convolution has a dilation of {model.dilations[0][0]}; format c wants 1")
    return [
        Layer(name, sources, level, convolution.dilation, *_whole(convolution))
        for (name, convolution), sources, level in zip(model.convolutions(), SOURCES, LEVEL, strict=True)
    ]


def _whole(convolution: QuantizedConv) -> tuple[Whole, Whole, Whole, Whole]:
    """Weights, biases, scales and bits as whole numbers."""
    channels = len(convolution.bias)
    ones, weight, bias = np.ones(channels, np.int64), convolution.weight, convolution.bias
    if convolution.last:
        bits, whole, offset = whole_head(weight, bias)
        return whole.numpy().astype(np.int64), offset.numpy().astype(np.int64), ones, bits * ones
    if convolution.scale is not None:
        scale = (convolution.scale.double() * 2**SCALE_BITS).numpy().astype(np.int64)
        return weight.numpy().astype(np.int64), bias.numpy().astype(np.int64), scale, SCALE_BITS * ones
    found = [_first_channel(one, float(offset)) for one, offset in zip(weight.double().numpy(), bias, strict=True)]
    return np.stack([one[0] for one in found]), np.array([one[1] for one in found]), ones, np.array([one[2] for one in found])


def _first_channel(weight: NDArray[np.float64], bias: float) -> tuple[Whole, int, int]:
    """A channel of the first layer in the coarsest unit in which it is whole; zeros if its largest sum is below 1/2."""
    for bits in range(1, MOST_BITS + 1):
        whole, offset = weight * 2**bits, bias * 2**bits
        if (whole == whole.round()).all() and offset == round(offset):
            return whole.astype(np.int64), int(offset), bits
    return np.zeros(weight.shape, np.int64), 0, 1


def normalize_counts(raw: NDArray[np.integer]) -> Whole:
    """Demean, detrend and scale counts `(3, 3001)` to integers of up to ±2048, exactly, with halves to even.

    Counts beyond 24 bits are clipped. A component that is constant or a straight line becomes zeros.
    """
    counts = np.clip(raw.astype(np.int64), -LARGEST_COUNT - 1, LARGEST_COUNT)
    time = np.arange(WINDOW_SAMPLES) - WINDOW_SAMPLES // 2
    squares = int(time @ time)
    mean, slope = counts.sum(axis=1, keepdims=True) * (squares // WINDOW_SAMPLES), (counts @ time)[:, None]
    y = squares * counts - mean - slope * time  # in units of 1 / squares; below 2^56, see the C
    return np.stack([_scaled([int(value) for value in row]) for row in y])


def _scaled(y: Sequence[int]) -> Whole:
    """Round `2048 · y / peak`, halves to even, in Python's integers of any size."""
    peak = max(map(abs, y)) or 1
    scaled = []
    for value in y:
        whole, rest = divmod(PEAK * value, peak)
        scaled.append(whole + (2 * rest > peak or (2 * rest == peak and whole % 2 == 1)))
    return np.array(scaled, np.int64)


def outputs(layers: Sequence[Layer], window: Whole) -> list[Whole]:
    """What every layer gives, `(channels, 3000 >> level)`, for a normalized window `(3, 3001)` of integers up to ±2048."""
    found: list[Whole] = []
    for layer in layers:
        parts = [_at_level(found[source], layer.level - layers[source].level) for source in layer.sources]
        x = np.concatenate(parts) if parts else window[:, : WINDOW_SAMPLES - WINDOW_SAMPLES % STRIDE]
        samples, padded = x.shape[1], np.pad(x, ((0, 0), (layer.dilation, layer.dilation)))
        seen = [padded[:, tap * layer.dilation : tap * layer.dilation + samples] for tap in range(3)]
        sums = sum(layer.weight[..., tap] @ seen[tap] for tap in range(3)) + layer.bias[:, None]
        found.append(
            sums if layer is layers[-1] else np.clip(_rounded(sums * layer.scale[:, None], layer.bits[:, None]), 0, LARGEST_SAMPLE)
        )
    return found


def logits(layers: Sequence[Layer], raw: NDArray[np.integer]) -> Whole:
    """Logits `(3, 3001)` of counts `(3, 3001)`, in units of 2^-bits of the last layer."""
    return np.pad(outputs(layers, normalize_counts(raw))[-1], ((0, 0), (0, WINDOW_SAMPLES % STRIDE)), mode="edge")


def _at_level(x: Whole, halvings: int) -> Whole:
    """The larger of every two samples, the same samples, or every sample twice."""
    if halvings > 0:
        return np.maximum(x[:, 0::2], x[:, 1::2])
    return x.repeat(2, axis=1) if halvings else x


def _rounded(value: Whole, bits: Whole) -> Whole:
    """`value / 2^bits`, halves to even."""
    return np.asarray((value + (1 << (bits - 1)) - 1 + (value >> bits & 1)) >> bits)
