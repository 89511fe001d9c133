"""Advice from a training history. It names settings and values, and changes nothing by itself."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from xiaonet.config.schema import Config

SETTLED = 5  # epochs before a trend is meaningful
LEARNT_BY = 10  # epochs after which the labels should be learnt
HIGH_TASK_LOSS = 0.5
FAR = 1.5  # ratio from which one loss is far above another


@dataclass(frozen=True)
class EpochRecord:
    """One row of `history.csv`. Losses are means over the epoch's windows."""

    epoch: int
    learning_rate: float
    train_loss: float
    train_task_loss: float
    dev_loss: float
    seconds: float


@dataclass(frozen=True)
class Advice:
    """A problem, and the settings and values that may solve it."""

    problem: str
    remedies: tuple[tuple[str, Any], ...]
    hint: str = ""

    def __str__(self) -> str:
        settings = " or ".join(f"--set {key}={value}" for key, value in self.remedies)
        return f"{self.problem}: " + "; ".join(part for part in (settings and f"try {settings}", self.hint) if part)


History = Sequence[EpochRecord]


def diagnose(history: History, config: Config, *, comparable: bool = True) -> list[Advice]:
    """Advise on the history so far. Remedies that are already in use are left out.

    Args:
        history: epochs so far.
        config: settings of the run.
        comparable: whether task loss and dev loss can be compared. They cannot where phases are unpicked, because
            each split then leaves out a different part of its task loss.
    """
    settings = config.model_dump()
    found: list[Advice] = []
    for rule, advice, ways in RULES:
        if history and rule(history) and (comparable or rule not in COMPARISONS):
            advised = {key for earlier in found for key, _ in earlier.remedies}
            remedies = tuple(
                (key, value)
                for (key, value), way in zip(advice.remedies, ways, strict=True)
                if key not in advised
                and way(value, _get(settings, key)) != _get(settings, key)
                and not (key.startswith("distillation.") and config.distillation.teacher == "none")
            )
            if remedies or advice.hint:
                found.append(Advice(advice.problem, remedies, advice.hint))
    return found


def _not_falling(history: History) -> bool:
    """No epoch after the first few is more than 2 % below the first."""
    return len(history) >= SETTLED and min(row.train_loss for row in history[1:]) > 0.98 * history[0].train_loss


def _labels_not_learnt(history: History) -> bool:
    return len(history) >= LEARNT_BY and history[-1].train_task_loss > HIGH_TASK_LOSS


def _task_above_dev(history: History) -> bool:
    return len(history) >= SETTLED and history[-1].train_task_loss > FAR * history[-1].dev_loss


def _dev_above_task(history: History) -> bool:
    return len(history) >= SETTLED and history[-1].dev_loss > FAR * history[-1].train_task_loss


def _overfitting(history: History) -> bool:
    """The dev loss has been above its best for five epochs while the training loss still fell."""
    best = min(range(len(history)), key=lambda i: history[i].dev_loss)
    since = history[best + 1 :]
    return len(since) >= SETTLED and since[-1].train_loss < history[best].train_loss and since[-1].dev_loss > 1.05 * history[best].dev_loss


def _early_plateau(history: History) -> bool:
    """It fell at first, but by less than 1 % over the last five epochs, within the first twenty."""
    if not 2 * SETTLED <= len(history) <= 20 or _not_falling(history):
        return False
    before, after = history[-SETTLED - 1], history[-SETTLED:]
    return min(row.train_loss for row in after) > 0.99 * before.train_loss


# Each remedy lowers its setting to the value (min) or raises it (max). A setting beyond that value stays.
RULES: tuple[tuple[Callable[[History], bool], Advice, tuple[Callable[..., Any], ...]], ...] = (
    (
        _not_falling,
        Advice(
            "the loss is not falling",
            (("training.learning_rate", 1e-4),),
            "check that the teacher is reported as frozen, and look at the data",
        ),
        (min,),
    ),
    (
        _labels_not_learnt,
        Advice(
            f"the task loss is above {HIGH_TASK_LOSS} after {LEARNT_BY} epochs, the labels are not learnt", (("distillation.alpha", 0.3),)
        ),
        (min,),
    ),
    (_task_above_dev, Advice("the task loss is far above the dev loss", (("distillation.alpha", 0.3),)), (min,)),
    (_dev_above_task, Advice("the dev loss is far above the task loss", (("distillation.alpha", 0.7),)), (max,)),
    (
        _overfitting,
        Advice(
            "the student is overfitting: the dev loss rises while the training loss falls",
            (("model.dropout", 0.2), ("model.base_channels", 12)),
            "more records or more augmentation help too",
        ),
        (max, min),
    ),
    (
        _early_plateau,
        Advice(
            "the loss reached a plateau early",
            (("training.learning_rate", 1e-3), ("model.base_channels", 24), ("distillation.temperature", 2.0)),
        ),
        (max, max, min),
    ),
)


COMPARISONS = (_task_above_dev, _dev_above_task)


def _get(settings: dict[str, Any], key: str) -> Any:
    section, name = key.split(".")
    return settings[section][name]
