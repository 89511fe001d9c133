import math

import numpy as np
import pytest
import torch
from torch import Tensor

from xiaonet.training.losses import distillation_loss, task_loss

P, S, N = range(3)
LN2 = math.log(2)


def random_case(seed: int, batch: int = 2, samples: int = 5) -> tuple[Tensor, Tensor, Tensor]:
    """Logits of student and teacher, and soft labels, in double precision."""
    generator = torch.Generator().manual_seed(seed)
    student, teacher = (3 * torch.randn(batch, 3, samples, dtype=torch.double, generator=generator) for _ in range(2))
    return student, teacher, torch.rand(batch, 3, samples, dtype=torch.double, generator=generator).softmax(dim=1)


def column(*values: float, dtype: torch.dtype = torch.double) -> Tensor:
    """One window of one sample."""
    return torch.tensor(values, dtype=dtype)[None, :, None]


@pytest.mark.parametrize(
    ("labels", "expected"),
    [((1, 0, 0), LN2), ((0, 1, 0), 2 * LN2), ((0.5, 0.5, 0), 1.5 * LN2), ((0.25, 0.25, 0.5), 1.75 * LN2)],
)
def test_task_loss_gives_the_worked_numbers(labels: tuple[float, ...], expected: float) -> None:
    assert pytest.approx(expected, rel=1e-12) == task_loss(column(0.5, 0.25, 0.25).log() + 7, column(*labels)).item()


@pytest.mark.parametrize(
    ("temperature", "expected"),
    [
        (1.0, LN2 / 4),  # (1/2 - 1/4)·ln 2
        (2.0, 2 * LN2 * (math.sqrt(2) + 1 / math.sqrt(2) - 2)),  # T²·(0.4142 - 0.2929)·ln √2
    ],
)
def test_distillation_loss_gives_the_worked_numbers(temperature: float, expected: float) -> None:
    student, teacher = column(0.25, 0.5, 0.25).log(), column(0.5, 0.25, 0.25).log()
    assert pytest.approx(expected, rel=1e-12) == distillation_loss(student - 3, teacher + 5, temperature).item()


def test_losses_average_over_time_and_batch_and_sum_over_phases() -> None:
    student, teacher, labels = random_case(0, batch=3, samples=4)
    p, q, y = (x.numpy() for x in (student.softmax(1), teacher.softmax(1), labels))
    task = distilled = 0.0
    for window in range(3):
        for sample in range(4):
            for phase in range(3):
                task -= y[window, phase, sample] * np.log(p[window, phase, sample]) / (3 * 4)
                distilled += q[window, phase, sample] * np.log(q[window, phase, sample] / p[window, phase, sample]) / (3 * 4)
    assert pytest.approx(task, rel=1e-12) == task_loss(student, labels).item()
    assert pytest.approx(distilled, rel=1e-12) == distillation_loss(student, teacher, 1.0).item()


@pytest.mark.parametrize("temperature", [1, 2, 3, 5])
def test_the_logits_form_equals_the_power_form(temperature: float) -> None:
    student, teacher, _ = random_case(temperature)

    def soften(logits: Tensor) -> Tensor:
        powers = logits.softmax(dim=1) ** (1 / temperature)
        return powers / powers.sum(dim=1, keepdim=True)

    p, q = soften(student), soften(teacher)
    expected = temperature**2 * (q * (q / p).log()).sum(dim=1).mean()
    assert pytest.approx(expected.item(), rel=1e-10) == distillation_loss(student, teacher, temperature).item()
    from_probabilities = distillation_loss(student.softmax(1).log(), teacher.softmax(1).log(), temperature)
    assert pytest.approx(expected.item(), rel=1e-10) == from_probabilities.item()


@pytest.mark.parametrize("temperature", [1.0, 2.0, 3.0, 5.0])
def test_distillation_loss_is_zero_for_equal_distributions(temperature: float) -> None:
    student, teacher, _ = random_case(1)
    assert pytest.approx(0, abs=1e-12) == distillation_loss(student, student + 4, temperature).item()
    assert 1e-3 < distillation_loss(student, teacher, temperature).item()


@pytest.mark.parametrize("temperature", [1.0, 2.0, 3.0, 5.0, 50.0])
def test_gradients_of_the_distillation_loss_are_those_of_the_closed_form(temperature: float) -> None:
    student, teacher, _ = random_case(2, batch=2, samples=5)
    student.requires_grad_()
    (gradient,) = torch.autograd.grad(distillation_loss(student, teacher, temperature), student)
    expected = temperature * ((student / temperature).softmax(1) - (teacher / temperature).softmax(1)) / (2 * 5)
    torch.testing.assert_close(gradient, expected.detach())


def test_gradients_keep_their_size_at_high_temperature() -> None:
    student, teacher, _ = random_case(3, batch=1, samples=1)
    student, teacher = student - student.mean(1, keepdim=True), teacher - teacher.mean(1, keepdim=True)
    student.requires_grad_()
    (gradient,) = torch.autograd.grad(distillation_loss(student, teacher, 1e4), student)
    torch.testing.assert_close(gradient, (student - teacher).detach() / 3, rtol=1e-3, atol=1e-3)  # Hinton et al. 2015, eq. 4


@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_gradients_of_the_distillation_loss_pass_gradcheck(temperature: float) -> None:
    student, teacher, _ = random_case(4)
    assert torch.autograd.gradcheck(lambda logits: distillation_loss(logits, teacher, temperature), student.requires_grad_())


@pytest.mark.parametrize("incomplete", [None, [[False] * 3] * 2, [[False, True, False], [True, True, False]]])
def test_gradients_of_the_task_loss_pass_gradcheck(incomplete: list[list[bool]] | None) -> None:
    student, _, labels = random_case(5)
    mask = None if incomplete is None else torch.tensor(incomplete)
    assert torch.autograd.gradcheck(lambda logits: task_loss(logits, labels, mask), student.requires_grad_())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("temperature", [1.0, 3.0, 5.0])
def test_a_one_hot_teacher_gives_finite_losses_and_gradients(dtype: torch.dtype, temperature: float) -> None:
    teacher = torch.tensor([[0, -torch.inf, -torch.inf], [-torch.inf, -torch.inf, 0]], dtype=dtype).T[None]
    student = torch.zeros(1, 3, 2, dtype=dtype, requires_grad=True)
    loss = distillation_loss(student, teacher, temperature)
    loss.backward()
    assert torch.float32 == loss.dtype
    assert pytest.approx(temperature**2 * math.log(3), rel=1e-5) == loss.item()
    expected = temperature / 2 * torch.tensor([[1 / 3 - 1, 1 / 3, 1 / 3], [1 / 3, 1 / 3, 1 / 3 - 1]]).T[None]
    torch.testing.assert_close(student.grad.float(), expected, rtol=1e-2, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("temperature", [1.0, 2.0, 3.0, 5.0])
def test_extreme_logits_give_finite_losses_and_gradients(dtype: torch.dtype, temperature: float) -> None:
    student = column(1e4, -1e4, 0, dtype=dtype).requires_grad_()
    teacher = column(-1e4, 1e4, 0, dtype=dtype)
    extreme = student.detach().float().max().item()  # 9984 in bfloat16
    loss = distillation_loss(student, teacher, temperature)
    loss.backward()
    assert pytest.approx(2 * extreme * temperature, rel=1e-5) == loss.item()
    torch.testing.assert_close(student.grad.float(), temperature * column(1, -1, 0, dtype=torch.float32), rtol=1e-2, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("incomplete", "expected"), [((False, False), 2.0), ((True, False), 2.0), ((True, True), 2.0)])
def test_task_loss_is_finite_for_extreme_logits(dtype: torch.dtype, incomplete: tuple[bool, bool], expected: float) -> None:
    student = column(-1e4, 1e4, 0, dtype=dtype).requires_grad_()
    loss = task_loss(student, column(1, 0, 0, dtype=torch.float32), torch.tensor([[*incomplete, False]]))
    loss.backward()
    assert pytest.approx(expected * student.detach().float().max().item(), rel=1e-5) == loss.item()
    torch.testing.assert_close(student.grad.float(), column(-1, 1, 0, dtype=torch.float32), rtol=1e-2, atol=1e-5)


@pytest.mark.parametrize(
    ("labels", "incomplete", "expected"),
    [
        ((0, 0, 1), (False, False), -math.log(0.2)),
        ((0, 0, 1), (False, True), -math.log(0.2 + 0.3)),
        ((0, 0, 1), (True, False), -math.log(0.2 + 0.5)),
        ((0, 0, 1), (True, True), 0.0),
        ((1, 0, 0), (True, True), -math.log(0.5)),
        ((0, 1, 0), (False, True), -math.log(0.3)),
        ((0, 0.4, 0.6), (False, True), -0.4 * math.log(0.3) - 0.6 * math.log(0.2 + 0.3)),
        ((0.4, 0, 0.6), (False, True), -0.4 * math.log(0.5) - 0.6 * math.log(0.2 + 0.3)),
    ],
)
def test_task_loss_with_incomplete_phases_gives_the_worked_numbers(
    labels: tuple[float, ...], incomplete: tuple[bool, bool], expected: float
) -> None:
    loss = task_loss(column(0.5, 0.3, 0.2).log(), column(*labels), torch.tensor([[*incomplete, False]]))
    assert pytest.approx(expected, abs=1e-12) == loss.item()


def noise_labels(student: Tensor) -> Tensor:
    labels = torch.zeros_like(student)
    labels[:, N] = 1
    return labels


@pytest.mark.parametrize("phase", [P, S])
def test_an_incomplete_phase_is_not_distinguished_from_noise(phase: int) -> None:
    student, _, _ = random_case(6)
    order = [P, S, N]
    order[phase], order[N] = N, phase
    labels = noise_labels(student)
    mask = torch.zeros(2, 3, dtype=torch.bool)
    assert task_loss(student, labels, mask).item() != pytest.approx(task_loss(student[:, order], labels, mask).item())
    mask[:, phase] = True
    assert pytest.approx(task_loss(student, labels, mask).item(), rel=1e-12) == task_loss(student[:, order], labels, mask).item()


def test_gradients_do_not_push_an_incomplete_phase_towards_noise() -> None:
    logits = column(0.5, 0.3, 0.2).log().requires_grad_()
    task_loss(logits, column(0, 0, 1), torch.tensor([[False, True, False]])).backward()
    expected = column(0.5, 0.3 - 0.6, 0.2 - 0.4)  # p minus p given "S or noise": the ratio of S to noise stays
    torch.testing.assert_close(logits.grad, expected)


def test_records_with_every_phase_incomplete_and_no_pick_teach_nothing() -> None:
    student, _, _ = random_case(7)
    student.requires_grad_()
    loss = task_loss(student, noise_labels(student), torch.tensor([[True, True, False]] * 2))
    loss.backward()
    assert pytest.approx(0, abs=1e-12) == loss.item()
    torch.testing.assert_close(student.grad, torch.zeros_like(student))


def test_complete_records_in_the_same_batch_are_taught_as_usual() -> None:
    student, _, labels = random_case(8)
    mask = torch.tensor([[False, False, False], [False, True, False]])
    apart = [task_loss(student[row : row + 1], labels[row : row + 1], mask[row : row + 1]).item() for row in range(2)]
    assert pytest.approx(apart[0], rel=1e-12) == task_loss(student[:1], labels[:1]).item()
    assert pytest.approx(sum(apart) / 2, rel=1e-12) == task_loss(student, labels, mask).item()
    assert apart[1] < task_loss(student[1:], labels[1:]).item()


def test_a_mask_without_incomplete_phases_changes_nothing_and_is_left_as_it_was() -> None:
    student, _, labels = random_case(9)
    mask = torch.zeros(2, 3, dtype=torch.bool)
    assert pytest.approx(task_loss(student, labels).item(), rel=1e-14) == task_loss(student, labels, mask).item()
    assert not mask.any()
