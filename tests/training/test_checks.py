import pytest
import torch
from seisbench.models import PhaseNet
from torch.utils.data import default_collate

from xiaonet.data.pipeline import Windows
from xiaonet.data.sets import open_data
from xiaonet.errors import TrainingError
from xiaonet.nn.model import XiaoNet
from xiaonet.nn.teacher import PhaseNetTeacher
from xiaonet.training.checks import validate_setup


@pytest.fixture(scope="module")
def clean_batch(made_up):
    windows = Windows(open_data(str(made_up)))
    return default_collate([windows[row] for row in range(4)])


@pytest.fixture
def batch(clean_batch):
    return {key: value.clone() if isinstance(value, torch.Tensor) else value for key, value in clean_batch.items()}


@pytest.fixture
def student():
    return XiaoNet(base_channels=2)


@pytest.fixture
def teacher():
    return PhaseNetTeacher(PhaseNet(phases="PSN", component_order="ENZ"))


def adam(*modules):
    return torch.optim.Adam([p for module in modules for p in module.parameters()])


def test_four_lines_are_said_when_all_is_well(batch, student, teacher, capsys):
    before = {name: tensor.clone() for name, tensor in student.state_dict().items()}
    validate_setup(batch, student, teacher, adam(student), "cpu")
    lines = capsys.readouterr().out.splitlines()
    assert ["✓ Data: validated", "✓ Teacher: validated", "✓ Student: validated", "✓ Losses: validated"] == [
        line.split(" - ")[0] for line in lines
    ]
    assert all(torch.equal(tensor, before[name]) for name, tensor in student.state_dict().items())


def test_no_teacher_is_said(batch, student, capsys):
    validate_setup(batch, student, None, adam(student), "cpu")
    assert "✓ Teacher: validated - none; the student learns from the labels alone" in capsys.readouterr().out


def test_windows_of_another_length(batch, student, teacher, capsys):
    batch["X"] = batch["X"][..., :3000]
    with pytest.raises(TrainingError, match=r"windows \(4, 3, 3000\).*wanted \(batch, 3, 3001\)"):
        validate_setup(batch, student, teacher, adam(student), "cpu")
    assert "✗ Data: not ready - windows (4, 3, 3000)" in capsys.readouterr().out


def test_windows_with_nan(batch, student, teacher):
    batch["X"][0, 0, 0] = torch.nan
    with pytest.raises(TrainingError, match="NaN or infinities"):
        validate_setup(batch, student, teacher, adam(student), "cpu")


def test_labels_that_do_not_sum_to_one(batch, student, teacher):
    batch["y"][:, 2] += 0.5
    with pytest.raises(TrainingError, match=r"labels sum to between 1\.5000 and 1\.5000.*wanted 1"):
        validate_setup(batch, student, teacher, adam(student), "cpu")


def test_a_teacher_that_is_not_frozen(batch, student, teacher):
    next(teacher.model.parameters()).requires_grad = True
    with pytest.raises(TrainingError, match="not frozen: wrap it in"):
        validate_setup(batch, student, teacher, adam(student), "cpu")


def test_a_teacher_in_the_optimizer(batch, student, teacher):
    with pytest.raises(TrainingError, match=r"optimizer holds the teacher's parameters: build it from student\.parameters\(\)"):
        validate_setup(batch, student, teacher, adam(student, teacher), "cpu")


def test_a_student_missing_from_the_optimizer(batch, student, teacher):
    with pytest.raises(TrainingError, match=r"optimizer lacks the student's encoder\.0\.0\.weight"):
        validate_setup(batch, student, teacher, adam(student.head), "cpu")


def test_a_student_whose_weights_are_no_numbers(batch, student, teacher):
    with torch.no_grad():
        student.head.bias[0] = torch.nan
    with pytest.raises(TrainingError, match=r"task loss nan.*start from fresh weights|sum to 1 only within nan"):
        validate_setup(batch, student, teacher, adam(student), "cpu")


def test_a_layer_that_nothing_flows_through(batch, student, teacher):
    student.extra = torch.nn.Linear(1, 1)
    with pytest.raises(TrainingError, match=r"no gradient reaches extra\.weight, extra\.bias"):
        validate_setup(batch, student, teacher, adam(student), "cpu")
