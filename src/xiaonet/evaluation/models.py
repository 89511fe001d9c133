"""The models that can be evaluated: those of XiaoNet and SeisBench, and STA/LTA. Each gets its input as it needs it."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import obspy
import seisbench
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

Samples = NDArray[np.floating]
PREFIX, STALTA = "seisbench:", "stalta"


class ContinuousPick(NamedTuple):
    """A pick in a continuous record."""

    time_ns: int
    phase: str
    probability: float


class EvaluatedModel(Protocol):
    """A model under evaluation.

    Attributes:
        name: its name in tables.
        description: one line about it.
        digest: SHA-256 of everything in the model that decides its output.
        runtime: the software that runs it, with versions.
        thresholds: lowest probability of a pick that it advises, for `P` and `S`.
        probabilistic: whether its output can be read as probabilities; losses and calibration need that.
    """

    name: str
    description: str
    digest: str
    runtime: str
    thresholds: Mapping[str, float]
    probabilistic: bool

    def annotate(self, windows: Samples) -> Samples:
        """P, S and noise from 0 to 1, `(batch, 3, 3001)`, for windows `(batch, 3, 3001)` in E, N, Z order, in any unit."""

    def pick(self, stream: Stream, thresholds: Mapping[str, float]) -> list[ContinuousPick]:
        """Picks of a continuous stream at 100 Hz, as users of the model would get them."""


class XiaoNetModel:
    """A model of XiaoNet, or several joined by `+`."""

    probabilistic = True

    def __init__(self, model: str, runtime: Runtime = "auto", threads: int = 1) -> None:
        self._model: tuple[Any, ...] = (model, runtime, threads)
        self._predictor = Picker(model, runtime=runtime, threads=threads).predictor
        self.name, self.description = "+".join(Path(part).stem for part in split_names(model)), self._predictor.description
        self.digest, self.thresholds = self._predictor.digest, self._predictor.thresholds
        self.runtime = f"{self._predictor.runtime} {self._predictor.version}"

    def annotate(self, windows: Samples) -> Samples:
        """The same probabilities as in the picker."""
        return self._predictor(normalize(windows))

    def pick(self, stream: Stream, thresholds: Mapping[str, float]) -> list[ContinuousPick]:
        """The same picks as from `xiaonet pick`."""
        model, runtime, threads = self._model
        picker = Picker(model, thresholds, runtime=runtime, threads=threads)
        return [ContinuousPick(pick.time_ns, pick.phase, pick.probability) for pick in picker.pick(stream)]


class SeisBenchModel:
    """A model of SeisBench, named by class and weights, such as `PhaseNet/stead`.

    A PhaseNet predicts whole batches, as a teacher does. Any other model predicts by its own `annotate`. Windows
    are then extended at both ends by the length of the model's window, so that they are long enough for it.

    Raises:
        ConfigError: there is no such class.
        TeacherError: the weights could not be loaded, or lack P or S.
    """

    probabilistic = True
    runtime = f"seisbench {seisbench.__version__}, torch {torch.__version__}"

    def __init__(self, name: str) -> None:
        kind, _, weights = name.partition("/")
        found: Any = getattr(sbm, kind, None)
        known = isinstance(found, type) and issubclass(found, sbm.WaveformModel)
        if not (known and weights):
            raise ConfigError(f"{PREFIX}{name} is not a model; wanted a class of seisbench.models and weights, e.g. {PREFIX}PhaseNet/stead")
        self._batched: PhaseNetTeacher | None = None
        if found is sbm.PhaseNet:
            self._batched = PhaseNetTeacher.from_pretrained(weights)
            self._model: Any = self._batched.model
        else:
            try:
                self._model = found.from_pretrained(weights)
            except (OSError, ValueError, RuntimeError) as error:
                raise TeacherError(
                    f"weights {name} could not be loaded: {error}; set SEISBENCH_CACHE_ROOT to a SeisBench cache that holds them"
                ) from error
        if missing := set(PICKED_PHASES) - {str(label)[0] for label in self._model.labels or ()}:
            raise TeacherError(f"{name} has phases {list(self._model.labels or ())}; wanted P and S, it lacks {', '.join(sorted(missing))}")
        self._model.eval()
        parameters = sum(weight.numel() for weight in self._model.parameters())
        self.name, self.description = weights, f"SeisBench {name}, {parameters:,} parameters"
        self.thresholds: Mapping[str, float] = {phase: self._threshold(phase) for phase in PICKED_PHASES}
        self.digest = _digest(kind, *(weight.cpu().numpy().tobytes() for weight in self._model.state_dict().values()))

    def annotate(self, windows: Samples) -> Samples:
        """Probabilities, of windows normalized as the model needs them."""
        if self._batched is not None:
            with torch.inference_mode():
                probabilities: Samples = self._batched(torch.from_numpy(_unit(windows).astype(np.float32))).numpy()
            return probabilities
        return np.stack([self._annotate(window) for window in _unit(windows)])

    def pick(self, stream: Stream, thresholds: Mapping[str, float]) -> list[ContinuousPick]:
        """The picks of `classify`, with SeisBench's defaults."""
        heights = {f"{phase}_threshold": height for phase, height in thresholds.items()}
        found = self._model.classify(stream, **heights).picks
        return [ContinuousPick(pick.peak_time.ns, pick.phase, pick.peak_value) for pick in found if pick.phase in thresholds]

    def _threshold(self, phase: str) -> float:
        """The default of `classify`: that of the weights, or else that of the class."""
        known = self._model.default_args
        usual = self._model._annotate_args.get("*_threshold", (None, DEFAULT_THRESHOLD))[1]
        return float(known.get(f"{phase}_threshold", known.get("*_threshold", usual)))

    def _annotate(self, window: Samples) -> Samples:
        start, around = UTCDateTime(2000, 1, 1), int((self._model.in_samples or 0) / (self._model.sampling_rate or SAMPLING_RATE) + 1)
        longer = np.pad(window, ((0, 0), (int(around * SAMPLING_RATE),) * 2), mode="edge")
        stats = {"network": "XX", "station": "XX", "sampling_rate": SAMPLING_RATE, "starttime": start - around}
        stream = Stream([Trace(trace, {**stats, "channel": f"HH{component}"}) for component, trace in zip(COMPONENTS, longer, strict=True)])
        probabilities = np.zeros((len(PHASES), WINDOW_SAMPLES))
        times = np.arange(WINDOW_SAMPLES) / SAMPLING_RATE
        for trace in self._model.annotate(stream):
            phase = trace.stats.channel.rpartition("_")[2][0]
            if phase in PICKED_PHASES:
                own = trace.times() + (trace.stats.starttime - start)
                probabilities[PHASES.index(phase)] = np.interp(times, own, np.nan_to_num(trace.data), left=0, right=0)
        probabilities[NOISE] = np.clip(1 - probabilities[:NOISE].sum(axis=0), 0, 1)
        return probabilities


@dataclass(frozen=True)
class TriggerSettings:
    """Settings of the recursive STA/LTA (Withers et al. 1998): the best of 108 on labelled records of N. California."""

    band_hz: tuple[float, float] = (2.0, 20.0)
    sta_s: float = 0.2
    lta_s: float = 3.0
    on: float = 4.0
    off: float = 1.5
    thresholds: tuple[float, float] = (0.89, 0.84)  # of P and S


class StaLtaModel:
    """The classical baseline, ObsPy's recursive STA/LTA: the vertical gives P, the higher ratio of the two horizontals gives S.

    Where the ratio rises above `on`, the output is 1 − 1 / (highest ratio until it falls below `off`). It is
    zero elsewhere.
    """

    probabilistic = False
    name = STALTA
    runtime = f"obspy {obspy.__version__}"

    def __init__(self, settings: TriggerSettings | None = None) -> None:
        self._settings = settings or TriggerSettings()
        own = self._settings
        self.description = f"ObsPy's recursive STA/LTA, {own.sta_s:g} and {own.lta_s:g} s, {own.band_hz[0]:g} to {own.band_hz[1]:g} Hz"
        self.digest = _digest(repr(own))
        self.thresholds: Mapping[str, float] = dict(zip(PICKED_PHASES, self._settings.thresholds, strict=True))

    def annotate(self, windows: Samples) -> Samples:
        """Heights at onsets, and zero elsewhere."""
        ratios = [[self._ratio(trace) for trace in window] for window in self._filter(windows)]
        heights = np.zeros_like(windows, dtype=np.float64)
        for (east, north, vertical), height in zip(ratios, heights, strict=True):
            height[PHASES.index("P")] = self._onsets(vertical)
            height[PHASES.index("S")] = self._onsets(np.maximum(east, north))
        heights[:, NOISE] = 1 - heights[:, :NOISE].max(axis=1)
        return heights

    def pick(self, stream: Stream, thresholds: Mapping[str, float]) -> list[ContinuousPick]:
        """The same rule on the traces of each instrument; both horizontals together give one S."""
        groups: dict[tuple[str, str], list[Trace]] = {}
        for trace in stream:
            if trace.stats.sampling_rate != SAMPLING_RATE:  # ObsPy would filter a trace that needs no resampling, too
                trace = trace.copy().resample(SAMPLING_RATE)
            groups.setdefault((trace.id[:-1], "P" if trace.id.endswith("Z") else "S"), []).append(trace)
        picks = []
        for (_, phase), traces in groups.items():
            start_ns = min(trace.stats.starttime.ns for trace in traces)
            firsts = [round((trace.stats.starttime.ns - start_ns) / SAMPLE_NS) for trace in traces]
            ratio = np.zeros(max(first + len(trace) for first, trace in zip(firsts, traces, strict=True)))
            for first, trace in zip(firsts, traces, strict=True):
                part = ratio[first : first + len(trace)]
                np.maximum(part, self._ratio(self._filter(trace.data.astype(np.float64))), out=part)
            heights = self._onsets(ratio)
            at = np.flatnonzero(heights >= thresholds[phase])
            picks += [ContinuousPick(start_ns + int(sample) * SAMPLE_NS, phase, float(heights[sample])) for sample in at]
        return sorted(picks)

    def _filter(self, samples: Samples) -> Samples:
        from scipy.signal import butter, detrend, sosfilt

        sos = butter(4, self._settings.band_hz, "bandpass", fs=SAMPLING_RATE, output="sos")
        filtered: Samples = sosfilt(sos, detrend(samples, axis=-1), axis=-1)
        return filtered

    def _ratio(self, trace: Samples) -> NDArray[np.float64]:
        if not trace.any():
            return np.zeros(len(trace))
        lengths = (round(seconds * SAMPLING_RATE) for seconds in (self._settings.sta_s, self._settings.lta_s))
        ratio: NDArray[np.float64] = recursive_sta_lta(np.ascontiguousarray(trace), *lengths)
        return ratio

    def _onsets(self, ratio: NDArray[np.float64]) -> NDArray[np.float64]:
        heights = np.zeros(len(ratio))
        for first, last in trigger_onset(ratio, self._settings.on, self._settings.off):
            heights[first] = 1 - 1 / ratio[first : last + 1].max()
        return heights


def load_models(specs: Sequence[str], *, runtime: Runtime = "auto", threads: int = 1) -> list[EvaluatedModel]:
    """Load models by the names of the command line.

    Models of the same name get as much of their path as tells them apart.

    Args:
        specs: each a shipped name or a model file of XiaoNet, `seisbench:PhaseNet/stead` or the like, or `stalta`.
        runtime: of the models of XiaoNet.
        threads: of the models of XiaoNet.

    Raises:
        ConfigError: no model is named, or one is named twice.
        XiaoNetError: a model could not be loaded.
    """
    if not specs:
        raise ConfigError("no model is named; wanted one or more, e.g. xiaonet seisbench:PhaseNet/stead")
    loaded: list[EvaluatedModel] = []
    for spec in specs:
        if spec.startswith(PREFIX):
            loaded.append(SeisBenchModel(spec.removeprefix(PREFIX)))
        elif spec == STALTA:
            loaded.append(StaLtaModel())
        else:
            loaded.append(_load_xiaonet(spec, runtime, threads))
    for number, model in enumerate(loaded):
        if model.digest in [other.digest for other in loaded[:number]]:
            raise ConfigError(f"{specs[number]} is named twice, or has the same content as another file; name each model once")
    for model, name in zip(loaded, _distinct_names([model.name for model in loaded], specs), strict=True):
        model.name = name
    return loaded


def _load_xiaonet(spec: str, runtime: Runtime, threads: int) -> XiaoNetModel:
    try:
        return XiaoNetModel(spec, runtime, threads)
    except CheckpointError as error:
        if Path(spec).exists() or spec in shipped_models() or Path(spec).suffix:
            raise
        raise CheckpointError(f"{error}; or a model of SeisBench such as {PREFIX}PhaseNet/stead, or {STALTA}") from error


def _distinct_names(names: Sequence[str], specs: Sequence[str]) -> Iterator[str]:
    """The names; a name that occurs twice gets as much of its path as tells it apart."""
    paths = [Path(spec.removeprefix(PREFIX)).parts for spec in specs]
    for number, (name, parts) in enumerate(zip(names, paths, strict=True)):
        others = [paths[other] for other in range(len(names)) if names[other] == name and other != number]
        lengths = (length for length in range(1, len(parts)) if all(other[-length:] != parts[-length:] for other in others))
        yield "/".join(parts[-next(lengths, len(parts)) :]) if others else name


def _unit(windows: Samples) -> Samples:
    """Windows without offset and with a peak of 1, because the epsilon in a model's normalization is too large for m/s."""
    windows = windows - windows.mean(axis=-1, keepdims=True)
    peak = np.abs(windows).max(axis=(-2, -1), keepdims=True)
    return np.asarray(windows / np.where(peak > 0, peak, 1))


def _digest(*parts: str | bytes) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part.encode() if isinstance(part, str) else part)
    return digest.hexdigest()
