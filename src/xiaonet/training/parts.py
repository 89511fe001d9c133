"""What a run is put together from, by its settings, and what it says of where it ran."""

import logging
import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric

from xiaonet.config import Config
from xiaonet.model import PLAIN, WIDE, XiaoNet
from xiaonet.teacher import PhaseNetTeacher


def make_fabric(config: Config) -> Fabric:
    """Device, precision and processes; `torchrun` and `fabric run` say how many processes."""
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
    """`auto` is bf16 where the hardware computes in it, else float32."""
    if config.training.precision != "auto":
        return config.training.precision
    if config.device.use_cuda and torch.cuda.is_available():
        fast = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        fast = any(torch.cpu.get_capabilities().get(name, False) for name in ("avx512_bf16", "amx_bf16", "bf16"))
    return "bf16-mixed" if fast else "32-true"


def load_teacher(name: str) -> PhaseNetTeacher | None:
    """The teacher of that name or file; None for `none`."""
    return None if name.lower() == "none" else PhaseNetTeacher.from_pretrained(name)


def make_student(config: Config) -> XiaoNet:
    """A student of the configured width, dropout and context."""
    settings = config.model
    dilations = {"wide": WIDE, "plain": PLAIN}[settings.dilations]
    return XiaoNet(base_channels=settings.base_channels, dropout=settings.dropout, dilations=dilations)


def git_commit() -> str | None:
    """The commit of the code in use, `+changes` if it was edited since; None outside a checkout."""
    here = Path(__file__)

    def git(*words: str) -> str:
        return subprocess.run(["git", *words], cwd=here.parent, capture_output=True, text=True, check=True).stdout.strip()

    try:
        git("ls-files", "--error-unmatch", here.name)  # an installed copy within somebody else's checkout is not tracked
        return git("rev-parse", "HEAD") + ("+changes" if git("status", "--porcelain", "--", str(here.parents[1])) else "")
    except (OSError, subprocess.CalledProcessError):
        return None


def versions() -> dict[str, str]:
    """Versions of what decides a run's result."""
    found = {"python": platform.python_version()}
    for package in ("xiaonet", "torch", "seisbench", "lightning-fabric", "numpy"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found
