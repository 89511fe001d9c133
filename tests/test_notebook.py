"""The training notebook: its shape, and what comes out when it is run from top to bottom."""

import ast
import os
import re
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import nbformat
import numpy as np
import pandas as pd
import pytest
import torch
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient
from seisbench.models import PhaseNet

from xiaonet.config.schema import Config
from xiaonet.data.loaders import Batches, make_loader
from xiaonet.data.pipeline import Windows
from xiaonet.data.sets import open_data, split_data
from xiaonet.nn.checkpoint import load_model, read_model_file, without_folders
from xiaonet.training.loop import evaluate_student_model
from xiaonet.training.trainer import train

ROOT = Path(__file__).parents[1]
NOTEBOOK = ROOT / "archive" / "TL_PNet_1Mil_ModelTrain.ipynb"
EPOCHS = 2
CELLS = [
    "imports",
    "config load",
    "random seeds",
    "PhaseNet load",
    "device setup",
    "PhaseNet info",
    "XiaoNet import & create",
    "XiaoNet reload with dimension test",
    "data load",
    "data split",
    "augmentations",
    "data loaders",
    "loss functions",
    "teacher-student config",
    "optimizer",
    "training functions",
    "EarlyStopping class",
    "scheduler & training loop",
    "training execution",
]
SMALL = Config().override(
    [
        "training.batch_size=8",
        "training.num_workers=0",
        "training.precision=32-true",
        "device.use_cuda=false",
        "model.base_channels=4",
    ]
)
ANSI = re.compile(r"\x1b\[[0-9;]*m")


@pytest.fixture(scope="module")
def notebook() -> nbformat.NotebookNode:
    return nbformat.read(NOTEBOOK, as_version=nbformat.NO_CONVERT)


@pytest.fixture(scope="module")
def code(notebook) -> list[nbformat.NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


@pytest.fixture(scope="module")
def distilled(made_up, tmp_path_factory) -> SimpleNamespace:
    """The notebook run from its own folder, with a small teacher from a local file."""
    folder = tmp_path_factory.mktemp("distilled")
    (folder / "config.json").write_text(SMALL.to_json())
    torch.manual_seed(1)
    PhaseNet(phases="PSN", component_order="ENZ", norm="peak").save(folder / "teacher")
    config = SMALL.override([f"data.name={made_up}", f"distillation.teacher={folder / 'teacher.pt'}", f"training.epochs={EPOCHS}"])
    return _run(folder, NOTEBOOK.parent, config, {"XIAONET_CONFIG": folder / "config.json"})


@pytest.fixture(scope="module")
def untaught(made_up, tmp_path_factory) -> SimpleNamespace:
    """The notebook run from the root of the repository, without a teacher, on records without a test split."""
    folder = tmp_path_factory.mktemp("untaught")
    shutil.copytree(made_up, folder / "no_test")
    metadata = pd.read_csv(folder / "no_test" / "metadata.csv")
    metadata["split"] = np.where(metadata.index < 32, "train", "dev")
    metadata.to_csv(folder / "no_test" / "metadata.csv", index=False)
    config = Config().override([f"data.name={folder / 'no_test'}", "distillation.teacher=none", "training.epochs=1"])
    return _run(folder, ROOT, config, {})  # with the config.json that is there


def test_the_19_code_cells_come_in_the_prescribed_order(code):
    headings = [cell.source.splitlines()[0] for cell in code]
    assert [f"# {number}. {name}".lower() for number, name in enumerate(CELLS, start=1)] == [heading.lower() for heading in headings]


def test_the_imports_stand_in_the_prescribed_groups(code):
    groups: dict[str, list[str]] = {}
    for line in code[0].source.splitlines()[1:]:
        if line.startswith("# "):
            groups[line.removeprefix("# ")] = []
        elif line:
            statement = ast.parse(line).body[0]
            module = statement.module if isinstance(statement, ast.ImportFrom) else statement.names[0].name
            groups[list(groups)[-1]].append(module.split(".")[0])
    assert ["Standard library", "Data science", "Plots", "Deep learning", "Seismic tools", "Local"] == list(groups)
    standard, *others = [sorted(set(modules)) for modules in groups.values()]
    assert [] == [module for module in standard if module not in sys.stdlib_module_names]
    assert [["numpy", "pandas"], ["IPython"], ["torch"], ["seisbench"], ["xiaonet"]] == others


def test_the_notebook_is_stored_clean(notebook, code):
    nbformat.validate(notebook)
    assert (4, 5) == (notebook.nbformat, notebook.nbformat_minor)
    assert "python3" == notebook.metadata.kernelspec.name
    assert [([], None)] * len(CELLS) == [(cell.outputs, cell.execution_count) for cell in code]
    assert [] == [cell.id for cell in notebook.cells if re.fullmatch(r"[0-9a-f]{8}", cell.id)]  # drawn by chance: another one in each save


def test_the_notebook_learns_as_the_command_does(distilled, tmp_path):
    result = train(distilled.config, tmp_path / "run")
    assert EPOCHS == len(distilled.history)
    for name in ("epoch", "learning_rate", "train_loss", "train_task_loss", "dev_loss"):
        assert pytest.approx([getattr(row, name) for row in result.history], rel=1e-4) == distilled.history[name].tolist()
    assert pytest.approx(result.test_loss, rel=1e-4) == _printed(distilled, r"✓ Test: final test loss - (\S+) on \d+ held-out records")


def test_the_saved_student_gives_the_printed_losses(distilled):
    student = load_model(distilled.out / "saved_model_fp32.pth")
    data = open_data(distilled.config.data.name)
    for part, pattern in zip(split_data(data)[1:], (r"best dev loss (\S+) in epoch", r"final test loss - (\S+) on"), strict=True):
        loader = make_loader(Windows(part), Batches(len(part), 8, shuffle=False), num_workers=0, pin_memory=False)
        assert pytest.approx(evaluate_student_model(loader, student, "cpu"), abs=2e-6) == _printed(distilled, pattern)


def test_the_student_gets_better_than_it_was_before_training(distilled):
    before = _printed(distilled, r"dev loss before training: (\S+)")
    assert _printed(distilled, r"best dev loss (\S+) in epoch") < before
    assert distilled.history["train_loss"].iloc[-1] < distilled.history["train_loss"].iloc[0]


def test_the_best_student_is_kept_with_its_provenance(distilled):
    saved = read_model_file(distilled.out / "saved_model_fp32.pth")
    best, checkpoint = (read_model_file(distilled.out / name) for name in ("best_model.pth", "checkpoint.pt"))
    assert saved["digest"] == best["digest"] == checkpoint["digest"]
    assert without_folders(distilled.config.model_dump(mode="json")) == saved["provenance"]["config"]
    assert "teacher.pt" == saved["provenance"]["teacher"]["weights"]


def test_the_pictures_are_shown_and_the_history_is_saved(distilled):
    assert [11, 19] == [number for number, kinds in enumerate(distilled.shown, start=1) if "image/png" in kinds]
    assert b"\x89PNG\r\n\x1a\n" == (distilled.out / "history.png").read_bytes()[:8]


def test_each_console_line_is_one_line(distilled):
    assert [] == [line for line in distilled.text.splitlines() if line.strip() in ("✓", "!", "✗")]


def test_without_a_teacher_the_labels_alone_are_learnt(untaught):
    assert "PhaseNet: none - the student learns from the labels alone" in untaught.text
    assert untaught.history["train_loss"].tolist() == untaught.history["train_task_loss"].tolist()
    provenance = read_model_file(untaught.out / "saved_model_fp32.pth")["provenance"]
    assert ("none", without_folders(untaught.config.model_dump(mode="json"))) == (provenance["teacher"], provenance["config"])


def test_without_a_test_split_no_test_loss_is_made_up(untaught):
    assert "Test: no final test loss" in untaught.text
    assert "held-out records" not in untaught.text


def _run(folder: Path, start: Path, config: Config, extra: dict[str, object]) -> SimpleNamespace:
    """Execute the notebook as a user does, its variables set and its kernel started in `start`."""
    variables = {
        "XIAONET_DATA": config.data.name,
        "XIAONET_TEACHER": config.distillation.teacher,
        "XIAONET_EPOCHS": config.training.epochs,
        "XIAONET_OUT": folder / "out",
        "OMP_NUM_THREADS": 1,
        **extra,
    }
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    # Without folders to look in, the kernel is that of the interpreter at hand, registered or not.
    manager = AsyncKernelManager(kernel_spec_manager=KernelSpecManager(kernel_dirs=[]))
    client = NotebookClient(notebook, km=manager, timeout=300, resources={"metadata": {"path": str(start)}})
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("XIAONET_")}
    try:
        client.execute(env=inherited | {name: str(value) for name, value in variables.items()})
    finally:
        if client.kc is not None:  # after an error the kernel goes on, and this process would wait for it
            client._cleanup_kernel()
    outputs = [cell.outputs for cell in notebook.cells if cell.cell_type == "code"]
    texts = [output.get("text") or output.get("data", {}).get("text/plain", "") for cell in outputs for output in cell]
    return SimpleNamespace(
        config=config,
        out=folder / "out",
        history=pd.read_csv(folder / "out" / "history.csv"),
        text=ANSI.sub("", "\n".join(text.rstrip("\n") for text in texts)),
        shown=[{kind for output in cell for kind in output.get("data", {})} for cell in outputs],
    )


def _printed(run: SimpleNamespace, pattern: str) -> float:
    (value,) = re.findall(pattern, run.text)
    return float(value)
