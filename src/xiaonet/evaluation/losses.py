"""The prescribed losses of any model that gives probabilities."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from xiaonet.data.loaders import Batches, make_loader
from xiaonet.data.pipeline import Windows
from xiaonet.data.sets import WaveformData
from xiaonet.evaluation.metrics import Losses
from xiaonet.evaluation.models import EvaluatedModel
from xiaonet.nn.teacher import Teacher
from xiaonet.training.losses import distillation_loss, task_loss

SMALLEST = 1e-30  # in place of probabilities that float32 rounds to zero


def measure_losses(
    model: EvaluatedModel,
    data: WaveformData,
    teacher: Teacher | None,
    *,
    temperature: float,
    alpha: float,
    seed: int,
    incomplete_statuses: Sequence[str],
    batch_size: int = 64,
) -> Losses:
    """Task, distillation and combined loss over one prescribed window of each record.

    For a model of `xiaonet train`, the task loss on the test split is the final test loss of its run if seed
    and statuses are the same.

    Args:
        model: must give probabilities.
        data: the records of one split.
        teacher: for the distillation loss; None for the task loss alone.
        temperature: T of the distillation loss.
        alpha: weight of the distillation loss.
        seed: random seed of the windows.
        incomplete_statuses: statuses of phases that may be present without a pick.
        batch_size: number of windows at once.
    """
    windows = Windows(data, seed=seed, incomplete_statuses=incomplete_statuses)
    loader = make_loader(windows, Batches(len(data), batch_size, shuffle=False), num_workers=0, pin_memory=False)
    task, distilled = 0.0, 0.0
    for batch in loader:
        logits = _logits(model.annotate(batch["X"].numpy()))
        task += float(task_loss(logits, batch["y"], batch["incomplete"])) * len(logits)
        if teacher is not None:
            distilled += float(distillation_loss(logits, teacher.logits(batch["X"]), temperature)) * len(logits)
    task, distilled = task / len(data), distilled / len(data)
    if teacher is None:
        return Losses(task=task, distillation=None, combined=None)
    return Losses(task=task, distillation=distilled, combined=alpha * distilled + (1 - alpha) * task)


def _logits(probabilities: "np.ndarray[tuple[int, ...], np.dtype[np.floating]]") -> Tensor:
    """Log probabilities, which are logits up to a constant."""
    return torch.from_numpy(np.log(np.maximum(probabilities, SMALLEST)))
