"""The student: a one-dimensional U-Net of three levels that sees ten seconds at once."""

from collections.abc import Sequence
from operator import index

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from xiaonet.constants import BASE_CHANNELS, COMPONENTS, LEVELS, PHASES, STRIDE, WINDOW_SAMPLES
from xiaonet.errors import ConfigError, WaveformError
from xiaonet.nn.layers import BatchNorm, Conv, MaxPool, Upsample

Dilations = Sequence[Sequence[int]]

# One pair for each of the seven blocks, from the input through the bottleneck to the last decoder.
WIDE: Dilations = ((1, 1), (1, 2), (4, 8), (16, 32), (8, 4), (2, 1), (1, 1))
PLAIN: Dilations = ((1, 1),) * (2 * LEVELS + 1)


class ConvBlock(nn.Sequential):
    """Two rounds of convolution, batch normalisation and ReLU that keep the length."""

    def __init__(self, in_channels: int, out_channels: int, dilations: Sequence[int], dropout: float) -> None:
        layers: list[nn.Module] = []
        for channels, dilation in zip((in_channels, out_channels), dilations, strict=True):
            convolution = Conv(channels, out_channels, dilation)
            layers += [convolution, BatchNorm(out_channels), nn.ReLU()]
            # Normalisation takes the bias out again, so its gradient is nothing but rounding, which
            # Adam would blow up to steps of full size.
            if convolution.bias is not None:
                convolution.bias.register_hook(torch.zeros_like)  # type: ignore[no-untyped-call]
        super().__init__(*layers, nn.Dropout(dropout))


class XiaoNet(nn.Module):
    """Probabilities of P, S and noise for every sample of a three-component window.

    A U-Net (Ronneberger et al. 2015) along time, as PhaseNet (Zhu & Beroza 2019) is one, with
    kernels of 3 samples throughout. Dilated convolutions (Yu & Koltun 2016) widen what it sees
    from 100 to 1008 samples at no cost in parameters.

    Args:
        window_len: samples of a training window; other lengths of at least 8 samples work too.
        in_channels: components, E, N, Z by default.
        num_phases: output channels, P, S, noise by default.
        base_channels: channels of the first level; levels 2 to 4 have 2, 4 and 8 times as many.
        dropout: share of activations zeroed after each block while training.
        dilations: a pair for each of the seven blocks; `PLAIN` gives ordinary convolutions.

    Raises:
        ConfigError: a size is below 1, the dropout is not in [0, 1), or the dilations are not
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
            if value < least:
                raise ConfigError(f"{name} is {value}; it must be at least {least}")
        if not 0 <= dropout < 1:
            raise ConfigError(f"dropout is {dropout}; it must lie in [0, 1)")
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
        """Probabilities that sum to 1 over the phases.

        Args:
            windows: `(batch, 3, samples)`, floating, normalised, in E, N, Z order, 100 Hz.
            planar: compute with images one sample high, channels last.

        Returns:
            `(batch, 3, samples)` in P, S, noise order.

        Raises:
            WaveformError: the rank, the channels, the length or the type do not fit.
        """
        return self.logits(windows, planar).float().softmax(dim=1)

    def logits(self, windows: Tensor, planar: bool = False) -> Tensor:
        """Compute what goes into the softmax, which the losses take. Arguments and errors are those of `forward`."""
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
        return torch.cat([x, last], dim=-1)  # 3000 -> 3001; zeros would not sum to 1 after a softmax

    @property
    def receptive_field(self) -> int:
        """Samples of input that one output sample can depend on, the largest over positions.

        Follows one output sample back to the input, interval by interval. Upsampling repeats
        samples, so the answer differs by a few samples between the eight positions in a stride.
        """
        reach = 4 * sum(map(sum, self.dilations)) * STRIDE  # more than any path spreads
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
                "a single window needs windows[None]"
            )
        weights = self.head.weight.dtype
        cast = windows.is_floating_point() and windows.dtype != torch.float64 and torch.is_autocast_enabled(windows.device.type)
        if windows.dtype != weights and not cast:
            raise WaveformError(f"windows are {windows.dtype}; this model takes {weights}: use windows.to({weights})")


def count_multiply_adds(model: nn.Module, samples: int = WINDOW_SAMPLES) -> int:
    """Multiply-adds that a model of three components spends on one window, counted by torch as it runs."""
    training = model.training
    model.eval()  # running statistics are not to move
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
