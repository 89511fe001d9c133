"""The parts of a run that its settings describe: device, teacher and student; and the versions it ran with."""

import logging
import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric

from xiaonet.config.schema import Config, DataSettings, DistillationSettings
from xiaonet.constants import SAMPLING_RATE, WINDOW_SAMPLES
from xiaonet.errors import ConfigError, DataError, TeacherError
from xiaonet.names import split_names
from xiaonet.nn.checkpoint import load_float
from xiaonet.nn.model import PLAIN, WIDE, XiaoNet
from xiaonet.nn.record_teacher import open_teacher
from xiaonet.nn.teacher import FusedTeacher, ModelTeacher, Teacher
from xiaonet.shipped import model_path


def make_fabric(config: Config) -> Fabric:
    """Set up device, precision and processes. `torchrun` and `fabric run` set the number of processes."""
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
    cuda = config.device.use_cuda and torch.cuda.is_available()
    processes = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    if processes > 1 or int(os.environ.get("WORLD_SIZE", "1")) > 1:
        nodes = int(os.environ["WORLD_SIZE"]) // processes
        return Fabric(
            accelerator="cuda" if cuda else "cpu", devices=processes, num_nodes=nodes, strategy="ddp", precision=resolve_precision(config)
        )
    devices: Any = [config.device.device_id] if cuda else 1
    return Fabric(accelerator="cuda" if cuda else "cpu", devices=devices, precision=resolve_precision(config))


def resolve_precision(config: Config) -> Any:
    """Replace `auto` by bf16 where the hardware computes in it, otherwise by float32."""
    if config.training.precision != "auto":
        return config.training.precision
    if config.device.use_cuda and torch.cuda.is_available():
        fast = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        fast = any(torch.cpu.get_capabilities().get(name, False) for name in ("avx512_bf16", "amx_bf16", "bf16"))
    return "bf16-mixed" if fast else "32-true"


def locate_data(settings: DataSettings) -> tuple[str, str, list[str]]:
    """Return labelled sets, unlabelled sets and continuous records, as found below `data.root`.

    A data set that is not below it keeps its name.

    Raises:
        DataError: the root is no folder, or has a `+` in its path.
    """
    root = Path(settings.root)
    if not root.is_dir():
        raise DataError(f"data.root is {settings.root}, and there is no such folder; wanted the one that holds {settings.name}")
    if "+" in settings.root:
        raise DataError(f"data.root is {settings.root}, and + joins data sets; wanted a folder without + in its path, such as a link to it")

    def located(names: str) -> str:
        if not settings.root:
            return names
        return "+".join(str(root / name) if (root / name).exists() else name for name in split_names(names)) if names else ""

    return located(settings.name), located(settings.unlabelled), [str(root / path) for path in settings.continuous]


def load_teacher(settings: DistillationSettings, initial_model: str = "none") -> Teacher | None:
    """Load the teacher of the settings, or several joined by `+` as one; None for `none`.

    Args:
        settings: name the teachers, and say how several are fused.
        initial_model: the model that training starts from, which is the teacher `initial`.

    Raises:
        ConfigError: the names or weights of the teachers do not fit, the teacher is the initial model and there is
            none, or that model is quantized.
        TeacherError: weights could not be loaded, or a teacher predicts whole records only.
        CheckpointError: a model file cannot be read.
    """
    if settings.teacher.lower() == "none":
        return None
    members = load_members(settings, initial_model)
    if refused := [name for name, member in members.items() if not member.predicts_windows]:
        raise TeacherError(
            f"{', '.join(refused)} predicts whole records only; the objective epochs needs teachers of windows of {WINDOW_SAMPLES} samples "
            f"at {SAMPLING_RATE:g} Hz, such as PhaseNet's original. Use it in a recipe (objective.kind drawn_windows)"
        )
    if len(members) > 1:
        return FusedTeacher(members, settings.teacher_weights, settings.delays)
    if settings.teacher_weights:
        raise ConfigError(
            f"distillation.teacher_weights is {settings.teacher_weights}, and the teacher is {settings.teacher!r} alone; "
            "join several with +"
        )
    return next(iter(members.values()))


def load_members(settings: DistillationSettings, initial_model: str = "none") -> dict[str, Teacher]:
    """Load each of the teachers that are joined by `+`, by name. Raises as `load_teacher` does."""
    name = settings.teacher
    names = split_names(name, "the teacher", "stead+original")
    if twice := sorted({part for part in names if names.count(part) > 1}):
        raise ConfigError(
            f"the teacher {name!r} names {', '.join(twice)} twice; name each once, and weigh them by distillation.teacher_weights"
        )
    return {part: _load_member(part, initial_model) for part in names}


def _load_member(name: str, initial_model: str) -> Teacher:
    if name != "initial":
        return open_teacher(name)
    if initial_model == "none":
        raise ConfigError("distillation.teacher is initial, and training.initial_model is none; name the model to start from")
    return ModelTeacher(load_float(model_path(initial_model, ".pth")), initial_model)


def make_student(config: Config) -> XiaoNet:
    """Make a student of the configured width, dropout and context, with the weights of the initial model if there is one.

    Raises:
        ConfigError: the initial model has another width or context, or is quantized.
        CheckpointError: the initial model cannot be read.
    """
    settings, initial_model = config.model, config.training.initial_model
    dilations = {"wide": WIDE, "plain": PLAIN}[settings.dilations]
    student = XiaoNet(base_channels=settings.base_channels, dropout=settings.dropout, dilations=dilations)
    if initial_model != "none":
        initial = load_float(model_path(initial_model, ".pth"))
        if differing := [name for name in ("base_channels", "dilations") if initial.arguments[name] != student.arguments[name]]:
            raise ConfigError(
                f"{initial_model} has {', '.join(f'{name} {initial.arguments[name]}' for name in differing)}; "
                f"wanted {', '.join(f'{name} {student.arguments[name]}' for name in differing)}, as the settings of the model say"
            )
        student.load_state_dict(initial.state_dict())
    return student


def git_commit() -> str | None:
    """Return the commit of the running code, with `+changes` if it was edited since; None outside a checkout."""
    here = Path(__file__)

    def git(*words: str) -> str:
        return subprocess.run(["git", *words], cwd=here.parent, capture_output=True, text=True, check=True).stdout.strip()

    try:
        git("ls-files", "--error-unmatch", here.name)  # fails for an installed copy in another checkout
        return git("rev-parse", "HEAD") + ("+changes" if git("status", "--porcelain", "--", str(here.parents[1])) else "")
    except (OSError, subprocess.CalledProcessError):
        return None


def versions() -> dict[str, str]:
    """Return the versions of the packages that a result depends on."""
    found = {"python": platform.python_version()}
    for package in ("xiaonet", "torch", "seisbench", "lightning-fabric", "numpy"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found
