from pathlib import Path

import pytest
import torch

from xiaonet.errors import OutputError
from xiaonet.nn.checkpoint import load_model
from xiaonet.nn.model import XiaoNet
from xiaonet.training.stopping import EarlyStopping


@pytest.fixture(scope="module")
def student() -> XiaoNet:
    return XiaoNet(base_channels=1)


def stopping(patience: int) -> tuple[EarlyStopping, list[Path]]:
    """Early stopping that writes nothing, and the paths that it would have written."""
    written: list[Path] = []
    return EarlyStopping(patience, save=lambda model, path: written.append(path)), written


def test_each_better_loss_is_saved(student: XiaoNet) -> None:
    stop, written = stopping(3)
    assert [True, False, True, False, True] == [stop(loss, student) for loss in (0.5, 0.5, 0.4, 0.6, 0.3)]
    assert [Path("checkpoint.pt")] * 3 == written
    assert (0.3, 5, 5) == (stop.best_loss, stop.best_epoch, stop.epochs)


@pytest.mark.parametrize(
    ("patience", "losses", "expected"),
    [
        (2, [0.5, 0.6, 0.7, 0.8], [False, False, True, True]),
        (2, [0.5, 0.6, 0.4, 0.4, 0.4], [False, False, False, False, True]),
        (1, [0.5, 0.5], [False, True]),
        (3, [0.5, 0.4, 0.3, 0.2], [False] * 4),
    ],
)
def test_it_stops_after_so_many_epochs_without_a_better_loss(
    student: XiaoNet, patience: int, losses: list[float], expected: list[bool]
) -> None:
    stop, _ = stopping(patience)
    assert not stop.stop
    stops = []
    for loss in losses:
        stop(loss, student)
        stops.append(stop.stop)
    assert expected == stops


def test_a_loss_that_is_no_number_is_never_better(student: XiaoNet) -> None:
    stop, written = stopping(3)
    assert [False, True, False, False] == [stop(loss, student) for loss in (float("nan"), 0.5, float("nan"), float("inf"))]
    assert 1 == len(written)
    assert (0.5, 2) == (stop.best_loss, stop.best_epoch)


def test_the_best_student_lies_in_the_file(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    stop, students = EarlyStopping(5, path), [XiaoNet(base_channels=1) for _ in range(3)]
    for loss, model in zip((0.5, 0.3, 0.4), students, strict=True):
        stop(loss, model)
    assert torch.equal(students[1].head.weight, load_model(path).head.weight)


def test_a_student_that_could_not_be_saved_does_not_count_as_the_best(tmp_path: Path, student: XiaoNet) -> None:
    stop = EarlyStopping(2, tmp_path / "missing" / "checkpoint.pt")
    with pytest.raises(OutputError, match="could not be written"):
        stop(0.5, student)
    assert (float("inf"), 0) == (stop.best_loss, stop.best_epoch)


@pytest.mark.parametrize("interrupted_after", range(6))
def test_it_goes_on_counting_from_a_saved_state(student: XiaoNet, interrupted_after: int) -> None:
    losses = [0.5, 0.4, 0.6, 0.45, 0.41, 0.42]
    whole, _ = stopping(3)
    expected = [(whole(loss, student), whole.stop) for loss in losses]
    first, _ = stopping(3)
    seen = [(first(loss, student), first.stop) for loss in losses[:interrupted_after]]
    second, _ = stopping(3)
    second.load_state_dict(first.state_dict())
    seen += [(second(loss, student), second.stop) for loss in losses[interrupted_after:]]
    assert expected == seen
    assert {"best_loss": 0.4, "best_epoch": 2, "epochs": 6} == second.state_dict()
