"""The student: a one-dimensional U-Net with three levels and a receptive field of ten seconds."""

from collections.abc import Sequence
from operator import index

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from xiaonet.constants import BASE_CHANNELS, COMPONENTS, LEVELS, PHASES, STRIDE, WINDOW_SAMPLES
from xiaonet.errors import ConfigError, WaveformError
from xiaonet.nn.layers import BatchNorm, Conv, MaxPool, Upsample

Dilations = Sequence[Sequence[int]]

# One pair for each of the seven blocks, from the first encoder block through the bottleneck to the last decoder block.
WIDE: Dilations = ((1, 1), (1, 2), (4, 8), (16, 32), (8, 4), (2, 1), (1, 1))
PLAIN: Dilations = ((1, 1),) * (2 * LEVELS + 1)


class ConvBlock(nn.Sequential):
    """Convolution, batch normalisation and ReLU, twice; the length stays the same."""

    def __init__(self, in_channels: int, out_channels: int, dilations: Sequence[int], dropout: float) -> None:
        layers: list[nn.Module] = []
        for channels, dilation in zip((in_channels, out_channels), dilations, strict=True):
            convolution = Conv(channels, out_channels, dilation)
            layers += [convolution, BatchNorm(out_channels), nn.ReLU()]
            # Normalisation removes the bias again, so the gradient of the bias is only rounding error, which
            # Adam would scale up to full steps.
            if convolution.bias is not None:
                convolution.bias.register_hook(torch.zeros_like)  # type: ignore[no-untyped-call]
        super().__init__(*layers, nn.Dropout(dropout))


class XiaoNet(nn.Module):
    """Probabilities of P, S and noise for every sample of a three-component window.

    A U-Net (Ronneberger et al. 2015) along time, like PhaseNet (Zhu & Beroza 2019), in which all kernels have
    3 samples. Dilated convolutions (Yu & Koltun 2016) widen the receptive field from 100 to 1008 samples without
    additional parameters.

    Args:
        window_len: samples of a training window. The model accepts other lengths of at least 8 samples, too.
        in_channels: number of components; E, N, Z by default.
        num_phases: number of output channels; P, S, noise by default.
        base_channels: channels of the first level. Levels 2 to 4 have 2, 4 and 8 times as many.
        dropout: fraction of activations set to zero after each block in training.
        dilations: a pair for each of the seven blocks. `PLAIN` gives ordinary convolutions.

    Raises:
        ConfigError: a size is not a positive integer, the dropout is not in [0, 1), or the dilations are not
            seven pairs of positive integers.

    Example:
        >>> import torch
        >>> from xiaonet import XiaoNet
        >>> XiaoNet().eval()(torch.zeros(1, 3, 3001)).shape
        torch.Size([1, 3, 3001])
    """

    def __init__(
        self,
        window_len: int = WINDOW_SAMPLES,
        in_channels: int = len(COMPONENTS),
        num_phases: int = len(PHASES),
        base_channels: int = BASE_CHANNELS,
        *,
        dropout: float = 0.0,
        dilations: Dilations = WIDE,
    ) -> None:
        super().__init__()
        pairs = _checked_dilations(dilations)
        for name, value, least in (
            ("window_len", window_len, STRIDE),
            ("in_channels", in_channels, 1),
            ("num_phases", num_phases, 1),
            ("base_channels", base_channels, 1),
        ):
            if not hasattr(value, "__index__") or value < least:
                raise ConfigError(f"{name} is {value!r}; wanted an integer of at least {least}")
        if not hasattr(dropout, "__float__") or not 0 <= dropout < 1:
            raise ConfigError(f"dropout is {dropout!r}; wanted a number from 0 to less than 1")
        self.arguments: dict[str, object] = {
            "window_len": window_len,
            "in_channels": in_channels,
            "num_phases": num_phases,
            "base_channels": base_channels,
            "dropout": dropout,
            "dilations": pairs,
        }
        self.in_channels = in_channels
        self.dilations = pairs
        widths = [base_channels * 2**level for level in range(LEVELS + 1)]  # 16, 32, 64, 128
        down, bottom, up = pairs[:LEVELS], pairs[LEVELS], pairs[LEVELS + 1 :]
        self.encoder = nn.ModuleList(
            ConvBlock(channels, width, pair, dropout)
            for channels, width, pair in zip([in_channels, *widths], widths[:-1], down, strict=False)
        )
        self.bottleneck = ConvBlock(widths[-2], widths[-1], bottom, dropout)
        self.decoder = nn.ModuleList(
            ConvBlock(below + skip, skip, pair, dropout) for below, skip, pair in zip(widths[:0:-1], widths[-2::-1], up, strict=True)
        )
        self.pool = MaxPool()
        self.upsample = Upsample()
        self.head = Conv(base_channels, num_phases)

    def forward(self, windows: Tensor, planar: bool = False) -> Tensor:
        """Compute probabilities, which sum to 1 over the phases.

        Args:
            windows: `(batch, 3, samples)`, floating, normalised, in E, N, Z order, 100 Hz.
            planar: compute with images one sample high (see `xiaonet.nn.layers`).

        Returns:
            `(batch, 3, samples)` in P, S, noise order.

        Raises:
            WaveformError: the windows have a wrong shape or type.
        """
        return self.logits(windows, planar).float().softmax(dim=1)

    def logits(self, windows: Tensor, planar: bool = False) -> Tensor:
        """Compute the input of the softmax, which the losses need. Arguments and errors are those of `forward`."""
        self._check(windows)
        whole = windows.shape[-1] // STRIDE * STRIDE  # 3001 -> 3000
        x = windows.narrow(-1, 0, whole)
        if planar:
            x = x.unsqueeze(2).contiguous(memory_format=torch.channels_last)
        skips: list[Tensor] = []
        for block in self.encoder:
            skips.append(block(x))
            x = self.pool(skips[-1])
        x = self.bottleneck(x)
        for block in self.decoder:
            x = block(torch.cat([self.upsample(x), skips.pop()], dim=1))
        x = self.head(x)
        if planar:
            x = x.squeeze(2)
        last = x[..., -1:].expand(-1, -1, windows.shape[-1] - whole)
        return torch.cat([x, last], dim=-1)  # 3000 -> 3001; after a softmax, padding with zeros would not sum to 1

    @property
    def receptive_field(self) -> int:
        """The largest number of input samples that an output sample can depend on.

        An output sample is traced back to the input, interval by interval. Upsampling repeats samples, so the
        eight positions in a stride differ by a few samples.
        """
        reach = 4 * sum(map(sum, self.dilations)) * STRIDE  # more than the receptive field
        spans = (self._span(reach * STRIDE + position) for position in range(STRIDE))
        return max(last - first + 1 for first, last in spans)

    def _span(self, position: int) -> tuple[int, int]:
        first, last = position - 1, position + 1  # the head
        skips: list[tuple[int, int]] = []
        for pair in reversed(self.dilations[LEVELS + 1 :]):
            first, last = first - sum(pair), last + sum(pair)
            skips.append((first, last))
            first, last = first // 2, last // 2
        first, last = first - sum(self.dilations[LEVELS]), last + sum(self.dilations[LEVELS])
        for pair in reversed(self.dilations[:LEVELS]):
            skip_first, skip_last = skips.pop()
            first, last = min(2 * first, skip_first) - sum(pair), max(2 * last + 1, skip_last) + sum(pair)
        return first, last

    def _check(self, windows: Tensor) -> None:
        if windows.ndim != 3 or windows.shape[1] != self.in_channels or windows.shape[2] < STRIDE:
            raise WaveformError(
                f"windows have shape {tuple(windows.shape)}; wanted (batch, {self.in_channels}, samples) with "
                f"at least {STRIDE} samples, e.g. (1, {self.in_channels}, {WINDOW_SAMPLES}); "
                "for a single window use windows[None]"
            )
        weights = self.head.weight.dtype
        cast = windows.is_floating_point() and windows.dtype != torch.float64 and torch.is_autocast_enabled(windows.device.type)
        if windows.dtype != weights and not cast:
            raise WaveformError(f"windows are {windows.dtype}; this model takes {weights}: use windows.to({weights})")


def count_multiply_adds(model: nn.Module, samples: int = WINDOW_SAMPLES) -> int:
    """Count the multiply-adds of a three-component model for one window, as torch counts them."""
    training = model.training
    model.eval()  # keep the running statistics
    try:
        with FlopCounterMode(display=False) as counter, torch.inference_mode():
            model(torch.zeros(1, len(COMPONENTS), samples, device=next(model.parameters()).device))
    finally:
        model.train(training)
    return int(counter.get_total_flops()) // 2


def _checked_dilations(dilations: Dilations) -> tuple[tuple[int, int], ...]:
    blocks = 2 * LEVELS + 1
    try:
        pairs = tuple((index(first), index(second)) for first, second in dilations)
    except (TypeError, ValueError):
        pairs = ()
    if len(pairs) != blocks or min(map(min, pairs)) < 1:
        raise ConfigError(f"dilations are {dilations}; wanted {blocks} pairs of integers of at least 1, e.g. {tuple(WIDE)}")
    return pairs
