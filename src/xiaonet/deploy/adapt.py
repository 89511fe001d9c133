"""Training with the rounding in place: the rounded network learns to give what the precise one gives."""

from collections.abc import Callable, Mapping
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn.functional import kl_div

from xiaonet.nn.layers import convolve
from xiaonet.nn.model import XiaoNet
from xiaonet.nn.quantized import FLOAT, LARGEST_SAMPLE, QuantizedXiaoNet, folded, weight_scale

LEARNING_RATE = 2e-5  # ten times that moved the network away from the model rather than nearer
BATCH = 16


class Watch(Protocol):
    """Is told of an epoch."""

    def __call__(self, epoch: int, loss: float) -> None:
        """Epoch `epoch`, from 1 on, had this mean loss."""


def adapt(
    model: XiaoNet, steps: Mapping[str, float], epochs: int, windows_of: Callable[[int], Tensor], watch: Watch = lambda epoch, loss: None
) -> list[nn.Conv1d]:
    """Fine-tune a copy of a model's convolutions for being rounded; labels have no part in it.

    The loss is the Kullback-Leibler divergence of the rounded network's probabilities from the model's, in
    nats a sample. Gradients pass through rounding as if it were not there (Bengio et al. 2013).

    Args:
        model: in float32 and evaluation mode.
        steps: of samples, by convolution, as `shared_steps` gives them; they stay.
        epochs: how often new windows are drawn.
        windows_of: an epoch's training windows `(windows, 3, 3001)`.
        watch: is told of each epoch.

    Returns:
        The convolutions, from the windows to the logits.
    """
    student = _Rounding(model, steps)
    optimizer = torch.optim.Adam(student.parameters(), LEARNING_RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, max(epochs, 1))
    for epoch in range(1, epochs + 1):
        losses = [_step(model, student, optimizer, batch) for batch in torch.split(windows_of(epoch), BATCH)]
        schedule.step()
        watch(epoch, sum(losses) / len(losses))
    return [one.convolution for one in student.modules() if isinstance(one, _RoundingConv)]


def _step(model: XiaoNet, student: XiaoNet, optimizer: torch.optim.Optimizer, batch: Tensor) -> float:
    with torch.no_grad():
        wanted = model.logits(batch).log_softmax(dim=1)
    given = student.logits(batch).log_softmax(dim=1)
    loss = kl_div(given, wanted, reduction="sum", log_target=True) / (len(batch) * batch.shape[-1])
    optimizer.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    optimizer.step()
    return float(loss.detach())


class _Rounding(XiaoNet):
    """A network whose weights and samples are rounded as it computes, and which can learn."""

    def __init__(self, model: XiaoNet, steps: Mapping[str, float]) -> None:
        super().__init__(**model.arguments)  # type: ignore[arg-type]
        names = [name for name, _ in QuantizedXiaoNet(base_channels=1).convolutions()]
        taken = [1.0, *(steps[name] for name in names[:-1])]
        own = iter(
            _RoundingConv(one, name not in FLOAT, step_in, steps.get(name))
            for name, step_in, one in zip(names, taken, folded(model), strict=True)
        )

        def block() -> nn.Sequential:
            return nn.Sequential(next(own), next(own))

        self.encoder = nn.ModuleList(block() for _ in self.encoder)
        self.bottleneck = block()  # type: ignore[assignment]
        self.decoder = nn.ModuleList(block() for _ in self.decoder)
        self.head = next(own)  # type: ignore[assignment]

    def _check(self, windows: Tensor) -> None:
        """Windows come from our own pipeline."""


class _RoundingConv(nn.Module):
    def __init__(self, convolution: nn.Conv1d, rounded: bool, step_in: float, step: float | None) -> None:
        super().__init__()
        self.convolution, self.rounded, self.step_in, self.step = convolution, rounded, step_in, step

    def forward(self, x: Tensor) -> Tensor:
        own = self.convolution
        weight = own.weight
        if self.rounded and self.step is not None:
            gain = self.step_in / self.step
            weight = _round(weight, weight_scale(weight.detach() * gain)[:, None, None] / gain)
        x = convolve(x, weight, own.bias, own.dilation[0])
        if self.step is None:
            return x
        return _round(x.clamp(0, LARGEST_SAMPLE * self.step), self.step)


def _round(x: Tensor, step: Tensor | float) -> Tensor:
    return x + ((x.detach() / step).round() * step - x.detach())
