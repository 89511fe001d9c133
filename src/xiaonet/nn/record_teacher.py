"""SeisBench's pickers as teachers of whole records, whatever windows and sampling rate they need."""

from os.path import expanduser
from pathlib import Path
from typing import Any

import seisbench.models as sbm
import torch
import torch.nn.functional as F
from torch import Tensor

from xiaonet.constants import PICKED_PHASES, SAMPLING_RATE, WINDOW_SAMPLES
from xiaonet.errors import TeacherError
from xiaonet.nn.teacher import PhaseNetTeacher, Teacher, component_rows, scaled

RATES = (10.0, 1000.0)  # Hz, from lowest to highest
EXAMPLES = "wanted e.g. stead, EQTransformer/volpick or ustc_cses@50"


class RecordTeacher(Teacher):
    """A picker of SeisBench that predicts whole records in windows of its own length, at its own sampling rate.

    Component order, phases, normalisation and window are read from the model. A model whose windows are 3001 samples
    at 100 Hz also predicts single windows; any other refuses them.

    Args:
        model: gives probabilities for each sample of a window, among them P and S.
        name: shown on the console and in the provenance.
        rate: sampling rate at which records are given to the model, in Hz; 0 for the model's own.

    Raises:
        TeacherError: the model has no P or no S, lacks a component, or does not give a probability for each sample.
    """

    def __init__(self, model: sbm.WaveformModel, name: str, rate: float = 0.0) -> None:
        super().__init__()
        labels = [str(label)[0] for label in model.labels or ()]
        if [labels.count(phase) for phase in PICKED_PHASES] != [1, 1]:
            raise TeacherError(f"{name} has the phases {list(model.labels or ())}; wanted one P and one S")
        if model.output_type != "array" or not model.in_samples or tuple(model.pred_sample) != (0, model.in_samples):
            raise TeacherError(f"{name} gives no probability for each sample of its window; choose one that does, such as PhaseNet")
        self.name, self.model = name, model
        self.rows = [labels.index(phase) for phase in PICKED_PHASES]
        self.component_order = component_rows(model, name)
        self.window_samples = int(model.in_samples)
        self.sampling_rate = float(rate or model.sampling_rate)
        self.predicts_windows = (self.window_samples, self.sampling_rate) == (WINDOW_SAMPLES, SAMPLING_RATE)
        self.freeze()

    @torch.no_grad()
    def annotate(self, windows: Tensor) -> Tensor:
        """Compute probabilities `(batch, 2, window_samples)` of P and S. `windows` are `(batch, 3, window_samples)` in any unit."""
        windows = F.pad(scaled(windows), (0, 0, 0, 1))[:, self.component_order]  # index -1 is the row of zeros
        prepared = self.model.annotate_batch_pre(windows, {})
        prepared, piggyback = prepared if isinstance(prepared, tuple) else (prepared, None)
        predicted: Tensor = self.model.annotate_batch_post(self.model(prepared), piggyback, {"blinding": (0, 0)})
        return predicted.transpose(1, 2)[:, self.rows].float()

    def logits(self, windows: Tensor) -> Tensor:
        """Compute logarithms of the probabilities of P, S and noise, which are logits up to a constant.

        Raises:
            TeacherError: the model takes other windows.
        """
        if not self.predicts_windows:
            raise TeacherError(
                f"{self.name} has windows of {self.window_samples} samples at {self.sampling_rate:g} Hz and predicts whole records only; "
                f"wanted {WINDOW_SAMPLES} at {SAMPLING_RATE:g} Hz. Choose another teacher for windows"
            )
        picked = self.annotate(windows)
        noise = 1 - picked.sum(dim=1, keepdim=True)
        return torch.cat([picked, noise], dim=1).clamp_min(1e-7).log()

    def describe(self) -> dict[str, Any]:
        """Describe the model for the console and the provenance."""
        return {
            "weights": self.name,
            "parameters": f"{sum(p.numel() for p in self.parameters()):,}",
            "component order": self.model.component_order,
            "phases": ", ".join(map(str, self.model.labels)),
            "window": f"{self.window_samples} samples at {self.sampling_rate:g} Hz",
        }


def open_teacher(name: str) -> Teacher:
    """Load a teacher by name.

    Args:
        name: weights of PhaseNet, `MODEL/WEIGHTS` of another model of SeisBench, a local file, or `bundled`; with `@RATE`
            behind it for records that are given to the model at another rate, such as `ustc_cses@50`.

    Raises:
        TeacherError: there is no such model, the rate cannot be read, or the weights could not be loaded.
    """
    plain, at, rate = name.partition("@")
    is_path = "/" in rate or Path(expanduser(name)).exists()
    plain, hertz = (plain, _hertz(name, rate)) if at and not is_path else (name, 0.0)
    kind, _, weights = plain.partition("/")
    found: Any = getattr(sbm, kind, None) if weights else None
    if isinstance(found, type) and issubclass(found, sbm.WaveformModel) and found is not sbm.PhaseNet:
        return RecordTeacher(_other_model(found, weights), name, hertz)
    teacher = PhaseNetTeacher.from_pretrained(weights if found is sbm.PhaseNet else plain)
    return RecordTeacher(teacher.model, name, hertz) if hertz not in (0.0, SAMPLING_RATE) else teacher


def _other_model(kind: Any, weights: str) -> sbm.WaveformModel:
    try:
        model: sbm.WaveformModel = kind.from_pretrained(weights)
    except (OSError, ValueError, RuntimeError) as error:
        raise TeacherError(
            f"weights {kind.__name__}/{weights} could not be loaded: {error}. Set SEISBENCH_CACHE_ROOT to a SeisBench cache that holds "
            "them, or choose another teacher"
        ) from error
    return model


def _hertz(name: str, text: str) -> float:
    try:
        hertz = float(text)
    except ValueError:
        hertz = 0.0
    if not RATES[0] <= hertz <= RATES[1]:
        raise TeacherError(f"teacher {name!r} has {text!r} after the @; wanted a rate from {RATES[0]:g} to {RATES[1]:g} Hz; {EXAMPLES}")
    return hertz
