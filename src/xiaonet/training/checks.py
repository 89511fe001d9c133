"""Four checks before training. They find in a second what would spoil a night of training."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from xiaonet import console
from xiaonet.constants import COMPONENTS, PHASES, WINDOW_SAMPLES
from xiaonet.errors import TrainingError
from xiaonet.nn.model import XiaoNet
from xiaonet.nn.teacher import Teacher
from xiaonet.training.losses import distillation_loss, task_loss

WINDOW_SHAPE = (len(COMPONENTS), WINDOW_SAMPLES)
LABEL_SHAPE = (len(PHASES), WINDOW_SAMPLES)


def validate_setup(
    batch: dict[str, Any],
    student: XiaoNet,
    teacher: Teacher | None,
    optimizer: torch.optim.Optimizer,
    device: torch.device | str,
) -> None:
    """Check data, teacher, student and losses on one batch, and print a line for each.

    Raises:
        TrainingError: a check failed. The message names the fix.
    """
    windows, labels, incomplete = (batch[key].to(device) for key in ("X", "y", "incomplete"))
    checks: dict[str, Callable[[], str]] = {
        "Data": lambda: _check_data(windows, labels),
        "Teacher": lambda: _check_teacher(windows, teacher, optimizer),
        "Student": lambda: _check_student(windows, student, optimizer),
        "Losses": lambda: _check_losses(windows, labels, incomplete, student, teacher),
    }
    for component, check in checks.items():
        try:
            console.ok(component, "validated", check())
        except TrainingError as error:
            console.fail(component, "not ready", str(error))
            raise


def _check_data(windows: Tensor, labels: Tensor) -> str:
    _require(
        tuple(windows.shape[1:]) == WINDOW_SHAPE and tuple(labels.shape[1:]) == LABEL_SHAPE,
        f"windows {tuple(windows.shape)} and labels {tuple(labels.shape)}; wanted (batch, 3, {WINDOW_SAMPLES}) twice: "
        "build the windows with xiaonet.data.pipeline.Windows",
    )
    _require(bool(torch.isfinite(windows).all()), "windows hold NaN or infinities: build them with xiaonet.data.pipeline.Windows")
    _require(bool(windows.any()), f"all of the first {len(windows)} windows are zero: these records hold no signal")
    total = labels.sum(dim=1)
    _require(
        bool((total - 1).abs().max() < 1e-4),
        f"labels sum to between {total.min():.4f} and {total.max():.4f} over P, S and noise; wanted 1: check the pick columns",
    )
    return f"windows {tuple(windows.shape)}, peak {windows.abs().max():.3f}, labels sum to 1"


def _check_teacher(windows: Tensor, teacher: Teacher | None, optimizer: torch.optim.Optimizer) -> str:
    if teacher is None:
        return "none; the student learns from the labels alone"
    _require(
        not any(module.training for module in teacher.modules()) and not any(p.requires_grad for p in teacher.parameters()),
        "the teacher is not frozen: wrap it in xiaonet.nn.teacher.PhaseNetTeacher",
    )
    trained = {id(p) for group in optimizer.param_groups for p in group["params"]}
    _require(
        not any(id(p) in trained for p in teacher.parameters()),
        "the optimizer holds the teacher's parameters: build it from student.parameters() alone",
    )
    return f"{teacher.name}, frozen, {_check_probabilities('teacher', teacher(windows))}"


def _check_student(windows: Tensor, student: XiaoNet, optimizer: torch.optim.Optimizer) -> str:
    trained = {id(p) for group in optimizer.param_groups for p in group["params"]}
    missing = [name for name, p in student.named_parameters() if id(p) not in trained]
    _require(not missing, f"the optimizer lacks the student's {', '.join(missing[:3])}: build it from student.parameters()")
    student.eval()
    with torch.no_grad():
        probabilities = student(windows)
    return f"{sum(p.numel() for p in student.parameters()):,} parameters, {_check_probabilities('student', probabilities)}"


def _check_losses(windows: Tensor, labels: Tensor, incomplete: Tensor, student: XiaoNet, teacher: Teacher | None) -> str:
    student.eval()  # keeps the running statistics unchanged
    logits = student.logits(windows)
    task = task_loss(logits, labels, incomplete)
    distilled = distillation_loss(logits, teacher.logits(windows), 1.0) if teacher else torch.zeros(())
    total = task + distilled
    task_value, distilled_value = task.item(), distilled.item()
    _require(
        bool(torch.isfinite(total)),
        f"task loss {task_value}, distillation loss {distilled_value}; wanted finite numbers: start from fresh weights",
    )
    gradients = torch.autograd.grad(total, list(student.parameters()), allow_unused=True)
    idle = [name for (name, _), g in zip(student.named_parameters(), gradients, strict=True) if g is None]
    _require(not idle, f"no gradient reaches {', '.join(idle[:3])}: a layer of the student is not used")
    return f"task {task_value:.6f}, distillation {distilled_value:.6f} at temperature 1, gradients reach every layer"


def _check_probabilities(who: str, probabilities: Tensor) -> str:
    shape = tuple(probabilities.shape)
    _require(shape[1:] == LABEL_SHAPE, f"the {who} gives {shape}; wanted (batch, 3, {WINDOW_SAMPLES})")
    off = float((probabilities.sum(dim=1) - 1).abs().max())
    _require(off < 1e-3, f"the {who}'s probabilities sum to 1 only within {off:.2g}; wanted 0.001: reload its weights")
    return f"probabilities {shape} sum to 1"


def _require(holds: bool, remedy: str) -> None:
    if not holds:
        raise TrainingError(remedy)
