import math
import re

import numpy as np
import pytest
import torch
from torch.utils.data import default_collate

from xiaonet.config.schema import Config
from xiaonet.data.loaders import Batches, make_loader
from xiaonet.data.pipeline import Windows
from xiaonet.data.sets import open_data
from xiaonet.errors import TrainingError
from xiaonet.nn.model import XiaoNet
from xiaonet.nn.teacher import PhaseNetTeacher
from xiaonet.training.loop import Totals, evaluate_student_model, train_one_epoch_distillation
from xiaonet.training.losses import distillation_loss, task_loss
from xiaonet.training.setup import make_fabric


@pytest.fixture(scope="module")
def windows(made_up):
    return Windows(open_data(str(made_up)))


@pytest.fixture(scope="module")
def teacher(teacher_file):
    return PhaseNetTeacher.from_pretrained(str(teacher_file))


@pytest.fixture
def student():
    torch.manual_seed(0)
    return XiaoNet(base_channels=2)


def batches_of(windows, size, count):
    return [default_collate([windows[i] for i in range(size * b, size * (b + 1))]) for b in range(count)]


def test_an_epoch_returns_the_means_of_both_losses(windows, teacher, student):
    loader = batches_of(windows, 4, 2)
    still = torch.optim.SGD(student.parameters(), lr=0.0)
    found = train_one_epoch_distillation(loader, student, teacher, still, "cpu", temperature=2.0, alpha=0.25)
    combined, tasks = [], []
    for batch in loader:
        logits = student.logits(batch["X"])
        tasks.append(task_loss(logits, batch["y"], batch["incomplete"]).item())
        combined.append(0.25 * distillation_loss(logits, teacher.logits(batch["X"]), 2.0).item() + 0.75 * tasks[-1])
    assert found == pytest.approx((np.mean(combined), np.mean(tasks)), rel=1e-5)


def test_an_epoch_changes_every_weight_of_the_student_and_none_of_the_teacher(windows, teacher, student):
    before = {name: p.clone() for name, p in student.named_parameters()}
    taught = {name: t.clone() for name, t in teacher.state_dict().items()}
    optimizer = torch.optim.Adam(student.parameters(), lr=1e-2)
    train_one_epoch_distillation(batches_of(windows, 4, 2), student, teacher, optimizer, "cpu")
    # A bias before a batch normalisation has no influence, so no gradient worth the name.
    idle = [n for n, p in student.named_parameters() if torch.equal(p, before[n]) and not n.endswith("bias")]
    assert idle == []
    assert [n for n, t in teacher.state_dict().items() if not torch.equal(t, taught[n])] == []


def test_without_a_teacher_the_loss_is_the_task_loss(windows, student):
    optimizer = torch.optim.SGD(student.parameters(), lr=0.0)
    loss, task = train_one_epoch_distillation(batches_of(windows, 4, 1), student, None, optimizer, "cpu")
    assert loss == task


def test_training_learns_a_batch_by_heart(windows, student):
    loader = batches_of(windows, 4, 1) * 40
    optimizer = torch.optim.Adam(student.parameters(), lr=1e-2)
    seen = []
    train_one_epoch_distillation(loader, student, None, optimizer, "cpu", on_batch=lambda t: seen.append(t.loss))
    first, last = seen[0], seen[-1] - seen[-2]
    assert last < 0.5 * first


def test_totals_go_on_where_an_interrupted_epoch_stopped(windows, teacher, student):
    optimizer = torch.optim.SGD(student.parameters(), lr=0.0)
    loader = batches_of(windows, 4, 3)
    whole = train_one_epoch_distillation(loader, student, teacher, optimizer, "cpu")
    totals = Totals()
    train_one_epoch_distillation(loader[:1], student, teacher, optimizer, "cpu", totals=totals)
    assert train_one_epoch_distillation(loader[1:], student, teacher, optimizer, "cpu", totals=totals) == pytest.approx(whole, rel=1e-6)
    assert totals.batches == 3


def test_a_loss_that_is_no_number_names_the_batch_and_its_records(windows, teacher, student):
    good, bad = batches_of(windows, 2, 2)
    bad["X"][0, 0, 100] = math.nan
    optimizer = torch.optim.Adam(student.parameters())
    with pytest.raises(TrainingError, match=r"batch 1 gave loss nan") as caught:
        train_one_epoch_distillation([good, bad], student, teacher, optimizer, "cpu")
    assert f"Not finite: {bad['name'][0]}. " in str(caught.value)
    assert "training.learning_rate=1e-4" in str(caught.value)


def test_a_loss_that_explodes_names_the_whole_batch(windows, teacher, student):
    [batch] = batches_of(windows, 2, 1)
    with torch.no_grad():
        student.head.weight.fill_(torch.inf)
    with pytest.raises(TrainingError, match=f"Its records: {', '.join(map(re.escape, batch['name']))}"):
        train_one_epoch_distillation([batch], student, teacher, torch.optim.Adam(student.parameters()), "cpu")


def test_a_dev_loss_over_nothing_is_refused(student):
    with pytest.raises(TrainingError, match=r"the loss over 0 windows is 0\.0; wanted a finite number over at least one window"):
        evaluate_student_model([], student, "cpu")


def test_bf16_reaches_the_student_and_the_teacher(windows, teacher, student, monkeypatch):
    fabric = make_fabric(Config().override(["training.precision=bf16-mixed", "device.use_cuda=false"]))
    seen = []
    for module in (student.head, teacher.model.out):
        module.register_forward_hook(lambda module, given, found: seen.append(found.dtype))
    wrapped, optimizer = fabric.setup(student, torch.optim.SGD(student.parameters(), lr=0.0))
    wrapped.mark_forward_method("logits")
    [batch] = batches_of(windows, 2, 1)
    half = train_one_epoch_distillation([batch], wrapped, teacher, optimizer, "cpu", fabric=fabric)
    assert [torch.bfloat16, torch.bfloat16] == seen
    single = train_one_epoch_distillation([batch], student, teacher, torch.optim.SGD(student.parameters(), lr=0.0), "cpu")
    assert half == pytest.approx(single, rel=0.02)


def test_evaluation_weighs_windows_alike_and_sees_the_student_alone(windows, student):
    batches = Batches(10, 4, shuffle=False)  # 4 + 4 + 2
    loader = make_loader(windows, batches, num_workers=0, pin_memory=False)
    found = evaluate_student_model(loader, student, "cpu")
    student.eval()
    with torch.no_grad():
        losses = [
            task_loss(student.logits(item["X"]), item["y"], item["incomplete"]).item()
            for item in (default_collate([windows[row]]) for row in range(10))
        ]
    assert found == pytest.approx(np.mean(losses), rel=1e-5)
    assert not student.training
