"""What can be scored: our models, any model of SeisBench, and STA/LTA, each fed in its own contract."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import seisbench.models as sbm
import torch
from numpy.typing import NDArray
from obspy import Stream, Trace, UTCDateTime
from obspy.signal.trigger import recursive_sta_lta, trigger_onset

from xiaonet.constants import (
    COMPONENTS,
    DEFAULT_THRESHOLD,
    NOISE,
    PHASES,
    PICKED_PHASES,
    SAMPLE_NS,
    SAMPLING_RATE,
    WINDOW_SAMPLES,
    Runtime,
)
from xiaonet.errors import CheckpointError, ConfigError, TeacherError
from xiaonet.names import split_names
from xiaonet.nn.teacher import PhaseNetTeacher
from xiaonet.picker import Picker
from xiaonet.picking.windows import normalize
from xiaonet.shipped import shipped_models

Windows = NDArray[np.floating]
PREFIX, STALTA = "seisbench:", "stalta"


class Reading(NamedTuple):
    """A pick in a continuous record."""

    time_ns: int
    phase: str
    probability: float


class EvaluatedModel(Protocol):
    """A model under test. Annotation stand for probabilities: between 0 and 1, in P, S, noise order.

    Attributes:
        name: what tables call it.
        description: in a line.
        digest: SHA-256 of what decides its curves.
        thresholds: least probability of a pick that it advises itself, for `P` and `S`.
        probabilistic: whether its curves are probabilities, of which losses and calibration can be told.
    """

    name: str
    description: str
    digest: str
    thresholds: Mapping[str, float]
    probabilistic: bool

    def annotate(self, windows: Windows) -> Windows:
        """Annotation `(batch, 3, 3001)` of windows `(batch, 3, 3001)` in E, N, Z order, in any unit."""

    def pick(self, stream: Stream, thresholds: Mapping[str, float]) -> list[Reading]:
        """Picks of a continuous stream, as its users would take them."""


class XiaoNetModel:
    """A model of XiaoNet's, on the runtime that suits its file."""

    probabilistic = True

    def __init__(self, model: str, runtime: Runtime = "auto", threads: int = 1) -> None:
        self._model: tuple[Any, ...] = (model, runtime, threads)
        self._predictor = Picker(model, runtime=runtime, threads=threads).predictor
        self.name, self.description = "+".join(Path(part).stem for part in split_names(model)), self._predictor.description
        self.digest, self.thresholds = self._predictor.digest, self._predictor.thresholds

    def annotate(self, windows: Windows) -> Windows:
        """Probabilities, as in the picker."""
        return self._predictor(normalize(windows))

    def pick(self, stream: Stream, thresholds: Mapping[str, float]) -> list[Reading]:
        """As `xiaonet pick` does."""
        model, runtime, threads = self._model
        picker = Picker(model, thresholds, runtime=runtime, threads=threads)
        return [Reading(pick.time_ns, pick.phase, pick.probability) for pick in picker.pick(stream)]


class SeisBenchModel:
    """A model of SeisBench's, by class and weights: `PhaseNet/stead`.

    A PhaseNet reads whole batches as our teacher does. Any other goes through its own `annotate`, with
    its window's length of the first and last sample before and after, so that none is too short for it.

    Raises:
        ConfigError: there is no such class.
        TeacherError: the weights cannot be had, or do not know P and S.
    """

    probabilistic = True

    def __init__(self, name: str) -> None:
        kind, _, weights = name.partition("/")
        found: Any = getattr(sbm, kind, None)
        known = isinstance(found, type) and issubclass(found, sbm.WaveformModel)
        if not (known and weights):
            raise ConfigError(f"{PREFIX}{name} is no model; wanted a class of seisbench.models and weights, e.g. {PREFIX}PhaseNet/stead")
        self._batched: PhaseNetTeacher | None = None
        if found is sbm.PhaseNet:
            self._batched = PhaseNetTeacher.from_pretrained(weights)
            self._model: Any = self._batched.model
        else:
            try:
                self._model = found.from_pretrained(weights)
            except (OSError, ValueError, RuntimeError) as error:
                raise TeacherError(
                    f"weights {name} cannot be had: {error}; set SEISBENCH_CACHE_ROOT to a SeisBench cache that holds them"
                ) from error
        if missing := set(PICKED_PHASES) - {str(label)[0] for label in self._model.labels or ()}:
            raise TeacherError(f"{name} knows {list(self._model.labels or ())}; wanted P and S, it lacks {', '.join(sorted(missing))}")
        self._model.eval()
        parameters = sum(weight.numel() for weight in self._model.parameters())
        self.name, self.description = weights, f"SeisBench {name}, {parameters:,} parameters"
        self.thresholds: Mapping[str, float] = {phase: self._threshold(phase) for phase in PICKED_PHASES}
        self.digest = _digest(kind, *(weight.cpu().numpy().tobytes() for weight in self._model.state_dict().values()))

    def annotate(self, windows: Windows) -> Windows:
        """Probabilities, normalised as the model wants it."""
        if self._batched is not None:
            with torch.inference_mode():
                probabilities: Windows = self._batched(torch.from_numpy(_unit(windows).astype(np.float32))).numpy()
            return probabilities
        return np.stack([self._annotate(window) for window in _unit(windows)])

    def pick(self, stream: Stream, thresholds: Mapping[str, float]) -> list[Reading]:
        """By `classify`, as SeisBench sets it."""
        heights = {f"{phase}_threshold": height for phase, height in thresholds.items()}
        found = self._model.classify(stream, **heights).picks
        return [Reading(pick.peak_time.ns, pick.phase, pick.peak_value) for pick in found if pick.phase in thresholds]

    def _threshold(self, phase: str) -> float:
        """What `classify` would take: that of the weights, or else that of the class."""
        known = self._model.default_args
        usual = self._model._annotate_args.get("*_threshold", (None, DEFAULT_THRESHOLD))[1]
        return float(known.get(f"{phase}_threshold", known.get("*_threshold", usual)))

    def _annotate(self, window: Windows) -> Windows:
        start, around = UTCDateTime(2000, 1, 1), int((self._model.in_samples or 0) / (self._model.sampling_rate or SAMPLING_RATE) + 1)
        longer = np.pad(window, ((0, 0), (int(around * SAMPLING_RATE),) * 2), mode="edge")
        stats = {"network": "XX", "station": "XX", "sampling_rate": SAMPLING_RATE, "starttime": start - around}
        stream = Stream([Trace(trace, {**stats, "channel": f"HH{component}"}) for component, trace in zip(COMPONENTS, longer, strict=True)])
        curves = np.zeros((len(PHASES), WINDOW_SAMPLES))
        times = np.arange(WINDOW_SAMPLES) / SAMPLING_RATE
        for trace in self._model.annotate(stream):
            phase = trace.stats.channel.rpartition("_")[2][0]
            if phase in PICKED_PHASES:
                own = trace.times() + (trace.stats.starttime - start)
                curves[PHASES.index(phase)] = np.interp(times, own, np.nan_to_num(trace.data), left=0, right=0)
        curves[NOISE] = np.clip(1 - curves[:NOISE].sum(axis=0), 0, 1)
        return curves


@dataclass(frozen=True)
class TriggerSettings:
    """Of the recursive STA/LTA (Withers et al. 1998, as in ObsPy): the best of 108 on labelled records of N. California."""

    band_hz: tuple[float, float] = (2.0, 20.0)
    sta_s: float = 0.2
    lta_s: float = 3.0
    on: float = 4.0
    off: float = 1.5
    thresholds: tuple[float, float] = (0.89, 0.84)  # of P and S


class StaLtaModel:
    """The classical baseline: onsets of ObsPy's recursive STA/LTA, P on the vertical and S on the horizontals.

    At each sample at which the ratio rises above `on`, its curve holds 1 − 1 / (highest ratio until it
    falls below `off`); elsewhere it is zero.
    """

    probabilistic = False
    name = STALTA

    def __init__(self, settings: TriggerSettings | None = None) -> None:
        self._settings = settings or TriggerSettings()
        own = self._settings
        self.description = f"ObsPy's recursive STA/LTA, {own.sta_s:g} and {own.lta_s:g} s, {own.band_hz[0]:g} to {own.band_hz[1]:g} Hz"
        self.digest = _digest(repr(own))
        self.thresholds: Mapping[str, float] = dict(zip(PICKED_PHASES, self._settings.thresholds, strict=True))

    def annotate(self, windows: Windows) -> Windows:
        """Heights at onsets, zero elsewhere."""
        filtered = self._filter(windows)
        curves = np.zeros_like(windows, dtype=np.float64)
        for window, curve in zip(filtered, curves, strict=True):
            curve[PHASES.index("P")] = self._onsets([window[COMPONENTS.index("Z")]])
            curve[PHASES.index("S")] = self._onsets([window[COMPONENTS.index(component)] for component in "EN"])
        curves[:, NOISE] = 1 - curves[:, :NOISE].max(axis=1)
        return curves

    def pick(self, stream: Stream, thresholds: Mapping[str, float]) -> list[Reading]:
        """The same rule on whole traces at 100 Hz."""
        readings = []
        for trace in stream.copy().resample(SAMPLING_RATE):
            phase = "P" if trace.stats.channel.endswith("Z") else "S"
            curve = self._onsets([self._filter(trace.data.astype(np.float64))])
            at = np.flatnonzero(curve >= thresholds[phase])
            readings += [Reading(int(trace.stats.starttime.ns + sample * SAMPLE_NS), phase, float(curve[sample])) for sample in at]
        return sorted(readings)

    def _filter(self, samples: Windows) -> Windows:
        from scipy.signal import butter, detrend, sosfilt

        sos = butter(4, self._settings.band_hz, "bandpass", fs=SAMPLING_RATE, output="sos")
        filtered: Windows = sosfilt(sos, detrend(samples, axis=-1), axis=-1)
        return filtered

    def _onsets(self, traces: Sequence[Windows]) -> NDArray[np.float64]:
        settings = self._settings
        lengths = round(settings.sta_s * SAMPLING_RATE), round(settings.lta_s * SAMPLING_RATE)
        ratio = np.max([recursive_sta_lta(np.ascontiguousarray(trace), *lengths) if trace.any() else trace for trace in traces], axis=0)
        curve = np.zeros(len(ratio))
        for first, last in trigger_onset(ratio, settings.on, settings.off):
            curve[first] = 1 - 1 / ratio[first : last + 1].max()
        return curve


def load_models(specs: Sequence[str], *, runtime: Runtime = "auto", threads: int = 1) -> list[EvaluatedModel]:
    """Models by what the command line calls them, with names that tell them apart.

    Args:
        specs: a shipped name or a model file of ours, `seisbench:PhaseNet/stead`, or `stalta`.
        runtime: of ours.
        threads: with which ours compute.

    Raises:
        ConfigError: none is named, or one is named twice.
        XiaoNetError: one cannot be loaded; the message says why.
    """
    if not specs:
        raise ConfigError("no model is named; wanted e.g. xiaonet seisbench:PhaseNet/stead")
    loaded: list[EvaluatedModel] = []
    for spec in specs:
        if spec.startswith(PREFIX):
            loaded.append(SeisBenchModel(spec.removeprefix(PREFIX)))
        elif spec == STALTA:
            loaded.append(StaLtaModel())
        else:
            loaded.append(_ours(spec, runtime, threads))
    for number, model in enumerate(loaded):
        if model.digest in [other.digest for other in loaded[:number]]:
            raise ConfigError(f"{specs[number]} is named twice, or another file of the same content; name each model once")
    for model, name in zip(loaded, _told_apart([model.name for model in loaded], specs), strict=True):
        model.name = name
    return loaded


def _ours(spec: str, runtime: Runtime, threads: int) -> XiaoNetModel:
    try:
        return XiaoNetModel(spec, runtime, threads)
    except CheckpointError as error:
        if Path(spec).exists() or spec in shipped_models() or Path(spec).suffix:
            raise
        raise CheckpointError(f"{error}; or {PREFIX}PhaseNet/stead and the like, or {STALTA}") from error


def _told_apart(names: Sequence[str], specs: Sequence[str]) -> list[str]:
    """The names; those that occur twice with as much of their path as it takes."""
    given = [Path(spec.removeprefix(PREFIX)) for spec in specs]
    told = list(names)
    for number, name in enumerate(names):
        if names.count(name) > 1:
            rivals = [path for other, path in enumerate(given) if names[other] == name and other != number]
            parts = given[number].parts
            for length in range(1, len(parts) + 1):
                told[number] = "/".join(parts[-length:])
                if all("/".join(path.parts[-length:]) != told[number] for path in rivals):
                    break
    return told


def _unit(windows: Windows) -> Windows:
    """Windows without offset and with a peak of 1, lest a model's epsilon should matter in m/s."""
    windows = windows - windows.mean(axis=-1, keepdims=True)
    peak = np.abs(windows).max(axis=(-2, -1), keepdims=True)
    return np.asarray(windows / np.where(peak > 0, peak, 1))


def _digest(*parts: str | bytes) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part.encode() if isinstance(part, str) else part)
    return digest.hexdigest()
