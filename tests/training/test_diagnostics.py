import pytest

from xiaonet.config.schema import Config
from xiaonet.training.diagnostics import Advice, EpochRecord, diagnose

HEALTHY = [0.9 * 0.85**epoch for epoch in range(20)]
STANDING = [1.0, 0.99, 1.01, 0.995, 1.0]
SETTLING = [1.0, 0.8, 0.6, 0.5, 0.45, *[0.448] * 5]
Remedies = list[tuple[tuple[str, object], ...]]


def history(train: list[float], task: list[float] | float = 0.3, dev: list[float] | float = 0.3) -> list[EpochRecord]:
    """Epochs with these losses; a single number stands for all epochs."""
    tasks, devs = ([loss] * len(train) if isinstance(loss, float) else loss for loss in (task, dev))
    return [
        EpochRecord(epoch, 1e-3, train_loss, task_loss, dev_loss, 60.0)
        for epoch, (train_loss, task_loss, dev_loss) in enumerate(zip(train, tasks, devs, strict=True), start=1)
    ]


def healthy(epochs: int) -> list[EpochRecord]:
    return history(HEALTHY[:epochs], [0.7 * loss for loss in HEALTHY[:epochs]], [0.75 * loss for loss in HEALTHY[:epochs]])


def remedies(epochs: list[EpochRecord], *assignments: str) -> Remedies:
    return [advice.remedies for advice in diagnose(epochs, Config().override(assignments))]


@pytest.mark.parametrize("epochs", range(21))
def test_a_healthy_history_gives_no_advice(epochs: int) -> None:
    assert [] == diagnose(healthy(epochs), Config())


@pytest.mark.parametrize("epochs", range(5))
def test_a_short_history_gives_no_advice(epochs: int) -> None:
    assert [] == diagnose(history([1.0] * epochs, 3.0, 9.0), Config())


def test_a_loss_that_does_not_fall_calls_for_a_lower_rate() -> None:
    (advice,) = diagnose(history(STANDING), Config())
    hint = "check that the teacher is reported as frozen, and look at the data"
    assert Advice("the loss is not falling", (("training.learning_rate", 1e-4),), hint) == advice
    assert f"the loss is not falling: try --set training.learning_rate=0.0001; {hint}" == str(advice)


@pytest.mark.parametrize(("lowest", "expected"), [(0.99, [(("training.learning_rate", 1e-4),)]), (0.97, [])])
def test_a_loss_falls_when_one_epoch_is_two_percent_below_the_first(lowest: float, expected: Remedies) -> None:
    assert expected == remedies(history([1.0, 1.0, 1.0, lowest, 1.0]))


@pytest.mark.parametrize(
    ("epochs", "task", "expected"), [(10, 0.51, [(("distillation.alpha", 0.3),)]), (9, 0.51, []), (10, 0.5, []), (12, 0.49, [])]
)
def test_a_task_loss_above_a_half_after_ten_epochs_calls_for_a_lower_alpha(epochs: int, task: float, expected: Remedies) -> None:
    assert expected == remedies(history(HEALTHY[:epochs], task, task))


@pytest.mark.parametrize(("task", "dev", "expected"), [(0.31, 0.2, [(("distillation.alpha", 0.3),)]), (0.29, 0.2, [])])
def test_a_task_loss_far_above_the_dev_loss_calls_for_a_lower_alpha(task: float, dev: float, expected: Remedies) -> None:
    assert expected == remedies(history(HEALTHY[:5], task, dev))


@pytest.mark.parametrize(("task", "dev", "expected"), [(0.2, 0.31, [(("distillation.alpha", 0.7),)]), (0.2, 0.29, [])])
def test_a_dev_loss_far_above_the_task_loss_calls_for_a_higher_alpha(task: float, dev: float, expected: Remedies) -> None:
    assert expected == remedies(history(HEALTHY[:5], task, dev))


@pytest.mark.parametrize(("task", "dev"), [(0.4, 0.2), (0.2, 0.4)])
def test_task_and_dev_loss_are_not_compared_where_they_may_not_be(task: float, dev: float) -> None:
    assert [] == diagnose(history(HEALTHY[:5], task, dev), Config(), comparable=False)


def test_a_rising_dev_loss_under_a_falling_training_loss_is_overfitting() -> None:
    dev = [0.4, 0.35, 0.3, 0.31, 0.32, 0.33, 0.34, 0.35]
    (advice,) = diagnose(history(HEALTHY[:8], 0.25, dev), Config())
    assert (("model.dropout", 0.2), ("model.base_channels", 12)) == advice.remedies
    assert "the student is overfitting: the dev loss rises while the training loss falls" == advice.problem
    assert "more records or more augmentation help too" == advice.hint
    assert str(advice).startswith(f"{advice.problem}: try --set model.dropout=0.2 or --set model.base_channels=12; more records")


@pytest.mark.parametrize(
    ("train", "dev"),
    [
        (HEALTHY[:7], [0.4, 0.35, 0.3, 0.31, 0.32, 0.33, 0.34]),  # four epochs only
        (HEALTHY[:8], [0.4, 0.35, 0.3, 0.31, 0.31, 0.31, 0.31, 0.31]),  # hardly above its best
        ([1.0, 0.9, 0.8, 0.8, 0.8, 0.8, 0.8, 0.8], [0.4, 0.35, 0.3, 0.31, 0.32, 0.33, 0.34, 0.35]),  # nothing falls
    ],
)
def test_other_rises_of_the_dev_loss_are_no_overfitting(train: list[float], dev: list[float]) -> None:
    assert [] == diagnose(history(train, 0.25, dev), Config())


def test_an_early_plateau_calls_for_a_wider_student_or_a_lower_temperature() -> None:
    assert [(("model.base_channels", 24), ("distillation.temperature", 2.0))] == remedies(history(SETTLING))
    (advice,) = diagnose(history(SETTLING), Config().override(["training.learning_rate=1e-4"]))
    assert (("training.learning_rate", 1e-3), ("model.base_channels", 24), ("distillation.temperature", 2.0)) == advice.remedies
    expected = "the loss reached a plateau early: try --set training.learning_rate=0.001 or --set model.base_channels=24 "
    assert expected + "or --set distillation.temperature=2.0" == str(advice)


@pytest.mark.parametrize(
    "train",
    [
        SETTLING[:9],  # too soon
        [1.0, 0.8, 0.6, 0.5, 0.45, 0.448, 0.446, 0.444, 0.442, 0.44],  # falls by 2 %
        [*HEALTHY[:15], *[HEALTHY[14]] * 6],  # not early
    ],
)
def test_other_histories_are_no_early_plateau(train: list[float]) -> None:
    assert [] == diagnose(history(train), Config())


@pytest.mark.parametrize(
    ("epochs", "assignments", "expected"),
    [
        (history(STANDING), ["training.learning_rate=1e-4"], [()]),  # the hint stays
        (history(HEALTHY[:10], 0.6, 0.6), ["distillation.alpha=0.3"], []),
        (history(HEALTHY[:5], 0.4, 0.2), ["distillation.alpha=0.3"], []),
        (history(HEALTHY[:5], 0.2, 0.4), ["distillation.alpha=0.7"], []),
        (history(SETTLING), ["model.base_channels=24"], [(("distillation.temperature", 2.0),)]),
        (history(SETTLING), ["model.base_channels=24", "distillation.temperature=2"], []),
        (history(HEALTHY[:8], 0.25, [0.3, *[0.35] * 7]), ["model.dropout=0.2"], [(("model.base_channels", 12),)]),
        (history(HEALTHY[:8], 0.25, [0.3, *[0.35] * 7]), ["model.dropout=0.2", "model.base_channels=12"], [()]),
    ],
)
def test_remedies_in_force_are_left_out(epochs: list[EpochRecord], assignments: list[str], expected: Remedies) -> None:
    assert expected == remedies(epochs, *assignments)


@pytest.mark.parametrize(
    ("epochs", "assignments"),
    [
        (history(STANDING), ["training.learning_rate=1e-5"]),
        (history(HEALTHY[:10], 0.6, 0.6), ["distillation.alpha=0.2"]),
        (history(HEALTHY[:5], 0.4, 0.2), ["distillation.alpha=0.2"]),
        (history(HEALTHY[:5], 0.2, 0.4), ["distillation.alpha=0.8"]),
        (history(SETTLING), ["model.base_channels=32", "distillation.temperature=1.5"]),
        (history(HEALTHY[:8], 0.25, [0.3, *[0.35] * 7]), ["model.dropout=0.3", "model.base_channels=8"]),
    ],
)
def test_advice_never_goes_back_from_a_setting_that_is_further_still(epochs: list[EpochRecord], assignments: list[str]) -> None:
    assert [] == [remedy for advice in remedies(epochs, *assignments) for remedy in advice]


def test_without_a_teacher_nothing_is_advised_of_distillation() -> None:
    assert [] == remedies(history(HEALTHY[:10], 0.6, 1.0), "distillation.teacher=none")


def test_advice_does_not_contradict_itself() -> None:
    advised = [key for remedy in remedies(history(HEALTHY[:10], 0.6, 1.0)) for key, _ in remedy]
    assert sorted(set(advised)) == sorted(advised)


def test_several_problems_are_reported_at_once() -> None:
    expected = [(("training.learning_rate", 1e-4),), (("distillation.alpha", 0.3),)]
    assert expected == remedies(history([1.0] * 10, 0.6, 0.6))


def test_advice_changes_nothing_by_itself() -> None:
    config = Config()
    diagnose(history([1.0] * 10, 0.6, 0.2), config)
    assert Config() == config
