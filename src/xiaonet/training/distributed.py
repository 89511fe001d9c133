"""Batch normalisation over the windows of all processes, on a CPU too.

torch's `SyncBatchNorm` works on GPUs only. With statistics of a part of the batch, the loss would depend on the
number of processes.
"""

from typing import Any

import torch
import torch.distributed
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx

from xiaonet.nn.layers import BatchNorm


class GlobalBatchNorm1d(BatchNorm):
    """`BatchNorm` with the statistics of the global batch, of which every process has an equal share."""

    def forward(self, input: Tensor) -> Tensor:
        """Normalise `(batch, channels, …, samples)` as `BatchNorm` would normalise the global batch."""
        if not self.training:
            return super().forward(input)
        x = input.float()
        others = (0, *range(2, x.ndim))  # all dimensions but the channels
        shape = (-1, *(1,) * (x.ndim - 2))
        count = x.numel() // x.shape[1] * torch.distributed.get_world_size()
        mean = _sum_over_processes(x.sum(dim=others)) / count
        centred = x - mean.view(shape)
        variance = _sum_over_processes(centred.square().sum(dim=others)) / count
        self._track(mean.detach(), variance.detach() * count / (count - 1))
        scale = self.weight * torch.rsqrt(variance + self.eps)
        return (centred * scale.view(shape) + self.bias.view(shape)).to(input.dtype)

    @torch.no_grad()
    def _track(self, mean: Tensor, variance: Tensor) -> None:
        for running, value in ((self.running_mean, mean), (self.running_var, variance)):
            if running is not None and self.momentum is not None:
                running.lerp_(value, self.momentum)
        if self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(1)


def share_batch_norm(module: nn.Module) -> None:
    """Replace every batch normalisation in `module` by one over all processes, in place."""
    for child in module.modules():
        if isinstance(child, nn.BatchNorm1d):
            child.__class__ = GlobalBatchNorm1d


def _sum_over_processes(value: Tensor) -> Tensor:
    total: Tensor = _SumOverProcesses.apply(value)  # type: ignore[no-untyped-call]
    return total


class _SumOverProcesses(torch.autograd.Function):
    """The sum over processes; its gradient is the sum of the processes' gradients."""

    @staticmethod
    def forward(ctx: FunctionCtx, value: Tensor) -> Tensor:
        total = value.clone()
        torch.distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: FunctionCtx, *gradients: Any) -> Tensor:
        total: Tensor = gradients[0].clone()
        torch.distributed.all_reduce(total)
        return total
