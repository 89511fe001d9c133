"""One epoch of distillation, and one pass over the dev split."""

import math
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from xiaonet.errors import TrainingError
from xiaonet.training.losses import distillation_loss, task_loss

Batch = dict[str, Any]


@dataclass
class Totals:
    """Sums over the batches of an epoch so far. A resumed epoch continues from them."""

    loss: float = 0.0
    task_loss: float = 0.0
    batches: int = 0

    def means(self) -> tuple[float, float]:
        """Return the mean loss and the mean task loss of the batches so far. All batches have the same number of windows."""
        return self.loss / max(self.batches, 1), self.task_loss / max(self.batches, 1)


def train_one_epoch_distillation(
    train_loader: Iterable[Batch],
    student_model: Any,
    teacher_model: Any,
    optimizer: torch.optim.Optimizer,
    device: torch.device | str,
    temperature: float = 3.0,
    alpha: float = 0.5,
    *,
    fabric: Fabric | None = None,
    gradient_clip: float = 1.0,
    totals: Totals | None = None,
    on_batch: Callable[[Totals], None] | None = None,
) -> tuple[float, float]:
    """Train the student for one epoch on alpha · distillation loss + (1 − alpha) · task loss.

    Args:
        train_loader: batches with `X`, `y`, `incomplete` and `name`, as `make_loader` gives them.
        student_model: a `XiaoNet`, on its own or wrapped by Fabric.
        teacher_model: a `PhaseNetTeacher`, or None to learn from the labels alone.
        optimizer: holds the student's parameters.
        device: where the models are.
        temperature: softens the probabilities of both models.
        alpha: weight of the distillation loss.
        fabric: sets precision and processes; None computes in float32 in one process.
        gradient_clip: largest norm of the gradient.
        totals: sums of an interrupted epoch.
        on_batch: called after each step.

    Returns:
        Mean combined loss and mean task loss, over all processes.

    Raises:
        TrainingError: the loss or the gradient is not finite. The message names the batch and its records.
    """
    totals = totals or Totals()
    student_model.train()
    for batch in train_loader:
        optimizer.zero_grad()
        loss, task = _losses(batch, student_model, teacher_model, device, temperature, alpha, fabric)
        if fabric:
            fabric.backward(loss)
        else:
            loss.backward()  # type: ignore[no-untyped-call]
        norm = nn.utils.clip_grad_norm_(student_model.parameters(), gradient_clip)
        values = torch.stack([loss.detach(), task.detach(), norm])
        _require_finite(values, totals.batches, batch)
        optimizer.step()
        mean: Any = fabric.all_reduce(values, reduce_op="mean") if fabric else values
        loss_value, task_value, _ = mean.tolist()
        totals.loss += loss_value
        totals.task_loss += task_value
        totals.batches += 1
        if on_batch:
            on_batch(totals)
    return totals.means()


@torch.no_grad()
def evaluate_student_model(
    val_loader: Iterable[Batch], student_model: Any, device: torch.device | str, *, fabric: Fabric | None = None
) -> float:
    """Compute the mean task loss of the student in full precision, over all windows and processes.

    Raises:
        TrainingError: there are no windows, or the loss is not finite.
    """
    student_model.eval()
    total = torch.zeros(2, dtype=torch.float64)
    for batch in val_loader:
        labels = batch["y"].to(device, non_blocking=True)
        logits = student_model.logits(batch["X"].to(device, non_blocking=True))
        loss = task_loss(logits, labels, batch["incomplete"].to(device))
        total += torch.tensor([float(loss) * len(labels), len(labels)], dtype=torch.float64)
    summed: Any = fabric.all_reduce(total.to(fabric.device), reduce_op="sum") if fabric else total
    loss, windows = summed.tolist()
    if not windows or not math.isfinite(loss):
        raise TrainingError(
            f"the loss over {windows:g} windows is {loss}; wanted a finite number over at least one window: check the data set"
        )
    return float(loss / windows)


def _losses(
    batch: Batch,
    student: Any,
    teacher: Any,
    device: torch.device | str,
    temperature: float,
    alpha: float,
    fabric: Fabric | None,
) -> tuple[Tensor, Tensor]:
    windows, labels, incomplete = (batch[key].to(device, non_blocking=True) for key in ("X", "y", "incomplete"))
    # Fabric applies the precision to `forward` only, and this is `logits`.
    with fabric.autocast() if fabric else nullcontext():
        logits = student.logits(windows)
        teacher_logits = teacher.logits(windows) if teacher is not None else None
    task = task_loss(logits, labels, incomplete)
    if teacher_logits is None:
        return task, task
    return alpha * distillation_loss(logits, teacher_logits, temperature) + (1 - alpha) * task, task


def _require_finite(values: Tensor, number: int, batch: Batch) -> None:
    if not torch.isfinite(values).all():
        loss, task, norm = values.tolist()
        broken = [name for name, window in zip(batch["name"], batch["X"], strict=True) if not torch.isfinite(window).all()]
        names = broken or batch["name"]
        raise TrainingError(
            f"batch {number} gave loss {loss}, task loss {task} and gradient norm {norm}; all must be finite. "
            f"{'Not finite' if broken else 'Its records'}: {', '.join(names[:8])}{' …' if len(names) > 8 else ''}. "
            "Try --set training.learning_rate=1e-4 or --set training.precision=32-true"
        )
