"""Teachers, whose weights never change: a PhaseNet, a XiaoNet, or several combined."""

import math
import re
from abc import abstractmethod
from collections.abc import Mapping
from os.path import expanduser
from pathlib import Path
from typing import Any, Self, TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from seisbench.models import PhaseNet
from torch import Tensor, nn

from xiaonet.constants import COMPONENTS, NOISE, PHASES, SAMPLING_RATE, WINDOW_SAMPLES
from xiaonet.errors import CheckpointError, ConfigError, TeacherError
from xiaonet.nn.checkpoint import DAMAGE, digest, load_tensors, save_tensors, side_by_side, without_folders
from xiaonet.nn.model import XiaoNet
from xiaonet.shipped import WEIGHTS

Curves = TypeVar("Curves", Tensor, NDArray[Any])
Delay = int | tuple[int, int]  # samples; the two are for P and S

BUNDLED = "bundled"  # the teacher that comes with XiaoNet
FORMAT = "xiaonet-phasenet"
LIKE_OURS = {"component_order": COMPONENTS, "phases": PHASES, "norm": "peak", "norm_detrend": True}
HORIZONTALS = {"1": "N", "2": "E"}  # of a sensor that is not aligned with north
VERSIONED = re.compile(r"(?P<name>.+?)\.(?:pt|json)(?:\.v(?P<version>.+))?")


class _FrozenParameter(nn.Parameter):
    """A weight that no module can make trainable again, not even a parent of the teacher."""

    def requires_grad_(self, requires_grad: bool = True) -> Self:
        return self


class Teacher(nn.Module):
    """Base class of teachers. `train()` and `requires_grad_()` have no effect, neither here nor on a parent.

    Attributes:
        name: shown on the console and in the provenance.
        window_samples: length of the windows of a record that `annotate` takes.
        sampling_rate: of these windows, in Hz.
        predicts_windows: whether it also predicts single windows of 3001 samples at 100 Hz.
    """

    name: str
    window_samples = WINDOW_SAMPLES
    sampling_rate = SAMPLING_RATE
    predicts_windows = True

    def freeze(self) -> None:
        """Freeze all weights permanently."""
        for module in self.modules():
            for key, weight in list(module.named_parameters(recurse=False)):
                module.register_parameter(key, _FrozenParameter(weight.detach(), requires_grad=False))
        self.train()

    def forward(self, windows: Tensor) -> Tensor:
        """Compute probabilities `(batch, 3, 3001)` in P, S, noise order for windows `(batch, 3, 3001)` in any unit."""
        return self.logits(windows).float().softmax(dim=1)

    def annotate(self, windows: Tensor) -> Tensor:
        """Compute probabilities `(batch, 2, window_samples)` of P and S for windows of a record."""
        probabilities: Tensor = self(windows)
        return probabilities[:, :NOISE]

    @abstractmethod
    def logits(self, windows: Tensor) -> Tensor:
        """Compute the input of the softmax, without gradients."""

    def train(self, mode: bool = True) -> Self:
        """Stay in evaluation mode."""
        return super().train(False)

    @abstractmethod
    def describe(self) -> dict[str, Any]:
        """Describe the model for the console and the provenance."""


class ModelTeacher(Teacher):
    """A XiaoNet as the teacher of another, such as the initial model of a fine-tuning, so that the student does not forget.

    Args:
        model: the teacher freezes it.
        name: of the model.
    """

    def __init__(self, model: XiaoNet, name: str) -> None:
        super().__init__()
        self.name, self.model = name, model
        self.freeze()

    @torch.no_grad()
    def logits(self, windows: Tensor) -> Tensor:
        """Compute logits `(batch, 3, samples)` for the windows that the student gets."""
        return self.model.logits(windows)

    def describe(self) -> dict[str, Any]:
        """Describe its name and size."""
        return {"weights": self.name, "parameters": f"{sum(p.numel() for p in self.parameters()):,}"}


class PhaseNetTeacher(Teacher):
    """SeisBench's PhaseNet for E, N, Z windows of 3001 samples.

    Component order, phase order, normalisation and window length are read from the model.

    Args:
        model: a loaded `seisbench.models.PhaseNet`.
        name: shown on the console and in the provenance.

    Raises:
        TeacherError: the model lacks P, S or noise, or a component; or it has another sampling rate or a shorter window.
    """

    def __init__(self, model: PhaseNet, name: str = "PhaseNet") -> None:
        super().__init__()
        labels = "".join(str(label)[0] for label in model.labels)
        if sorted(labels) != sorted(PHASES):
            raise TeacherError(f"{name} has the phases {list(model.labels)}; wanted {list(PHASES)} in any order")
        self.component_order = component_rows(model, name)
        if model.sampling_rate != SAMPLING_RATE:
            raise TeacherError(f"{name} has a sampling rate of {model.sampling_rate} Hz; wanted {SAMPLING_RATE:g} Hz: choose other weights")
        if model.in_samples < WINDOW_SAMPLES:
            raise TeacherError(f"{name} has windows of {model.in_samples} samples; wanted at least {WINDOW_SAMPLES}")
        self.name = name
        self.model = model
        self.phase_order = [labels.index(phase) for phase in PHASES]
        self.freeze()

    @classmethod
    def from_pretrained(cls, name: str) -> Self:
        """Load SeisBench weights by name, or from a local file `NAME.pt` with `NAME.json` beside it.

        `bundled` is the PhaseNet that comes with XiaoNet. A `.pth` file is a PhaseNet from `xiaonet recipe`.

        Raises:
            TeacherError: the weights could not be loaded; the message says how to fix this.
            CheckpointError: the `.pth` file is missing or damaged.
        """
        path = Path(expanduser(name))
        if name == BUNDLED or path.suffix == ".pth":
            return cls(load_phasenet(WEIGHTS / "teacher.pth" if name == BUNDLED else path), path.name)
        try:
            if path.suffix or path.is_file() or len(path.parts) > 1:
                return cls(_load_file(path), path.name)
            return cls(PhaseNet.from_pretrained(name), name)
        except (OSError, ValueError, RuntimeError) as error:
            raise TeacherError(
                f"PhaseNet weights {name!r} could not be loaded: {error}. Use --teacher {BUNDLED}, which comes with XiaoNet; "
                f"or a local file, --teacher PATH/{path.name.split('.')[0]}.pt with its .json beside it; "
                "or set SEISBENCH_CACHE_ROOT to a SeisBench cache that holds them; or use --teacher none to learn from the labels alone"
            ) from error

    @torch.no_grad()
    def logits(self, windows: Tensor) -> Tensor:
        """Compute logits `(batch, 3, 3001)` in P, S, noise order for windows `(batch, 3, 3001)` in any unit.

        Raises:
            TeacherError: the windows are not `(batch, 3, 3001)`.
        """
        if windows.ndim != 3 or windows.shape[1:] != (len(COMPONENTS), WINDOW_SAMPLES):
            raise TeacherError(f"windows have shape {tuple(windows.shape)}; wanted (batch, {len(COMPONENTS)}, {WINDOW_SAMPLES})")
        windows = F.pad(scaled(windows), (0, 0, 0, 1))[:, self.component_order]  # index -1 is the row of zeros
        extra = self.model.in_samples - WINDOW_SAMPLES
        windows = F.pad(windows, (extra // 2, extra - extra // 2))
        normalised = self.model.annotate_batch_pre(windows, {})
        logits: Tensor = self.model(normalised, logits=True)
        return logits[:, self.phase_order, extra // 2 : extra // 2 + WINDOW_SAMPLES]

    def describe(self) -> dict[str, Any]:
        """Describe the model for the console and the provenance."""
        return {
            "weights": self.name,
            "parameters": f"{sum(p.numel() for p in self.parameters()):,}",
            "component order": self.model.component_order,
            "phases": "".join(self.model.labels),
            "normalisation": self.model.norm + (" after detrending" if self.model.norm_detrend else ""),
            "window": f"{self.model.in_samples} samples",
        }


def component_rows(model: Any, name: str) -> list[int]:
    """Index among E, N, Z of each component that a SeisBench model takes; -1 for any other, such as a hydrophone, which gets zeros.

    Raises:
        TeacherError: it lacks one of the three.
    """
    components = [HORIZONTALS.get(component, component) for component in model.component_order or ""]
    if not set(COMPONENTS) <= set(components):
        raise TeacherError(f"{name} has the components {model.component_order!r}; wanted {COMPONENTS!r} in any order")
    return [COMPONENTS.find(component) for component in components]


def scaled(windows: Tensor) -> Tensor:
    """Divide windows `(batch, 3, samples)` by their peak. SeisBench adds 1e-10 to it, which would matter for windows in m/s."""
    peak = windows.abs().amax(dim=(1, 2), keepdim=True)
    return windows / torch.where(peak > 0, peak, 1)


def remove_delay(curves: Curves, delay: int) -> Curves:
    """Shift curves `(…, samples)` early by `delay` samples, or late if it is negative; the value at the end is repeated."""
    samples = curves.shape[-1]
    return curves[..., np.clip(np.arange(samples) + delay, 0, samples - 1)]


def delays_by_phase(delay: Delay) -> tuple[int, int]:
    """Return the delay of P and that of S, which are one number where they are equal."""
    return (delay, delay) if isinstance(delay, int) else delay


def remove_delays(probabilities: Tensor, delay: Delay) -> Tensor:
    """Shift the P and S rows of `(batch, 3, samples)` early, each by its delay. The noise row is the rest to 1."""
    p, s = delays_by_phase(delay)
    if p == s:
        return remove_delay(probabilities, p)
    picked = torch.stack([remove_delay(probabilities[:, 0], p), remove_delay(probabilities[:, 1], s)], dim=1)
    picked = picked / picked.sum(dim=1, keepdim=True).clamp_min(1)
    return torch.cat([picked, 1 - picked.sum(dim=1, keepdim=True)], dim=1)


class FusedTeacher(Teacher):
    """The weighted mean of the probabilities of several teachers, after the delay of each is removed.

    Args:
        members: teachers by name.
        weights: weight of each in the mean, scaled to a sum of 1; equal if empty.
        delays: samples by which a member's picks come after analysts' picks, negative where they come before, or one number for P
            and one for S; 0 if not named.

    Raises:
        ConfigError: the weights have other names than the members.
    """

    def __init__(self, members: Mapping[str, Teacher], weights: Mapping[str, float], delays: Mapping[str, Delay]) -> None:
        super().__init__()
        weights = weights or dict.fromkeys(members, 1.0)
        self.name = "+".join(members)
        if weights.keys() != members.keys():
            raise ConfigError(
                f"distillation.teacher_weights {dict(weights)} do not fit the teachers {self.name}; wanted one for each of them, or none"
            )
        self.members = dict(members)
        self.registered = nn.ModuleList(members.values())  # so that they move between devices and freeze with this one
        self.weights = {name: weights[name] / sum(weights.values()) for name in members}
        self.delays = {name: delays.get(name, 0) for name in members}
        self.freeze()

    @torch.no_grad()
    def logits(self, windows: Tensor) -> Tensor:
        """Compute logarithms of the mean probabilities `(batch, 3, 3001)`, which are logits up to a constant."""
        weighted = []
        for name, member in self.members.items():
            p, s = delays_by_phase(self.delays[name])
            if p == s:
                log_p = remove_delay(member.logits(windows).float().log_softmax(dim=1), p)
            else:
                log_p = remove_delays(member(windows), (p, s)).clamp_min(1e-12).log()
            weighted.append(log_p + math.log(self.weights[name]))
        return torch.stack(weighted).logsumexp(dim=0)

    def describe(self) -> dict[str, Any]:
        """Describe each member, with its weight and its delay."""
        described = {
            name: {**member.describe(), "weight": f"{self.weights[name]:.3g}", "delay": _delay_text(self.delays[name])}
            for name, member in self.members.items()
        }
        return {"weights": self.name} | {name: ", ".join(f"{key} {value}" for key, value in own.items()) for name, own in described.items()}


def _delay_text(delay: Delay) -> str:
    p, s = delays_by_phase(delay)
    return f"{p} samples" if p == s else f"{p} samples for P and {s} for S"


def _load_file(path: Path) -> PhaseNet:
    match = VERSIONED.fullmatch(path.name)
    name, version = (match["name"], match["version"]) if match else (path.name, None)
    ending = f".v{version}" if version else ""
    for kind in ("pt", "json"):
        if not path.with_name(f"{name}.{kind}{ending}").is_file():
            raise FileNotFoundError(f"no file {path.with_name(f'{name}.{kind}{ending}')}")
    try:
        return PhaseNet.load(path.with_name(name), version_str=version)
    except DAMAGE as error:
        raise TeacherError(f"{path} is damaged or not a PhaseNet: {str(error) or type(error).__name__}") from error


def new_phasenet() -> nn.Module:
    """Make an untrained PhaseNet with the components, phases and normalisation of XiaoNet."""
    model: nn.Module = PhaseNet(**LIKE_OURS)
    return model


def save_phasenet(model: PhaseNet, path: Path, provenance: Mapping[str, Any]) -> None:
    """Write a PhaseNet to one file for `--teacher`, with float16 weights. Raises as `save_model` does."""
    arguments = {name: model.get_model_args()[name] for name in LIKE_OURS}
    weights = side_by_side({name: tensor.half() if tensor.is_floating_point() else tensor for name, tensor in model.state_dict().items()})
    save_tensors(
        path, FORMAT, {"arguments": arguments, "provenance": without_folders(provenance), "weights": weights, "digest": digest(weights)}
    )


def load_phasenet(path: Path) -> PhaseNet:
    """Read a file that `save_phasenet` wrote.

    Raises:
        CheckpointError: the file is missing, damaged or of another kind.
    """
    content = load_tensors(path, FORMAT)
    try:
        model = PhaseNet(**content["arguments"])
        model.load_state_dict(content["weights"])
        if digest(content["weights"]) != content["digest"]:
            raise CheckpointError(f"{path} is damaged: its weights are not the ones that were saved; copy it again")
    except DAMAGE as error:
        raise CheckpointError(f"{path} is damaged: weights and arguments do not match: {str(error).splitlines()[0]}") from error
    return model
