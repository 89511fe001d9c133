"""Quantization-aware training: the rounded network learns to reproduce the probabilities of the precise one."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn
from torch.nn.functional import kl_div

from xiaonet.nn.layers import convolve
from xiaonet.nn.model import XiaoNet
from xiaonet.nn.quantized import FLOAT, LARGEST_SAMPLE, QuantizedXiaoNet, folded, weight_scale

LEARNING_RATE = 2e-5  # with ten times as much, the network moves away from the model
ADAPTATION_BATCH = 16  # windows

OnEpoch = Callable[[int, float], object]  # gets the number of an epoch, from 1 on, and its mean loss


def adapt(
    model: XiaoNet,
    steps: Mapping[str, float],
    epochs: int,
    windows_of: Callable[[int], Tensor],
    on_epoch: OnEpoch = lambda epoch, loss: None,
) -> list[nn.Conv1d]:
    """Fine-tune a copy of a model's convolutions so that rounding changes them less. No labels are needed.

    The loss is the Kullback-Leibler divergence of the rounded network's probabilities from the model's, in nats
    per sample. Gradients pass through the rounding unchanged (straight-through estimator, Bengio et al. 2013).

    Args:
        model: in float32 and evaluation mode.
        steps: output step of each convolution, from `shared_steps`; training does not change them.
        epochs: number of epochs.
        windows_of: returns the training windows `(windows, 3, 3001)` of an epoch.
        on_epoch: called after each epoch.

    Returns:
        The convolutions, from the input to the output.
    """
    student = _Rounding(model, steps)
    optimizer = torch.optim.Adam(student.parameters(), LEARNING_RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, max(epochs, 1))
    for epoch in range(1, epochs + 1):
        losses = [_step(model, student, optimizer, batch) for batch in torch.split(windows_of(epoch), ADAPTATION_BATCH)]
        schedule.step()
        on_epoch(epoch, sum(losses) / len(losses))
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
    """A trainable network that rounds weights and samples as it computes."""

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
        """Accept all windows: they come from the training pipeline."""


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
