"""Early stopping: stop when the dev loss no longer falls, and keep the best student."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from xiaonet.nn.checkpoint import save_model
from xiaonet.nn.model import XiaoNet


class EarlyStopping:
    """Counts epochs without a better dev loss, and writes each better student to a file.

    Args:
        patience: epochs without improvement after which `stop` becomes true.
        path: file of the best student.
        save: called with the student and the path when the dev loss is the best so far.
    """

    def __init__(self, patience: int, path: Path = Path("checkpoint.pt"), save: Callable[[XiaoNet, Path], None] = save_model) -> None:
        self.patience, self.path, self.save = patience, path, save
        self.best_loss = float("inf")
        self.best_epoch = 0
        self.epochs = 0

    def __call__(self, val_loss: float, model: XiaoNet) -> bool:
        """Count an epoch with its dev loss. Returns whether it is the best so far."""
        self.epochs += 1
        if not val_loss < self.best_loss:
            return False
        self.save(model, self.path)
        self.best_loss, self.best_epoch = val_loss, self.epochs
        return True

    @property
    def stop(self) -> bool:
        """Whether there was no better dev loss for `patience` epochs."""
        return self.epochs - self.best_epoch >= self.patience

    def state_dict(self) -> dict[str, Any]:
        """Return the counts for `load_state_dict`."""
        return {"best_loss": self.best_loss, "best_epoch": self.best_epoch, "epochs": self.epochs}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from saved counts."""
        self.best_loss, self.best_epoch, self.epochs = state["best_loss"], state["best_epoch"], state["epochs"]
