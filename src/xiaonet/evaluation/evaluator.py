"""An evaluation from models and a data set to metrics, with what was computed kept for the next time."""

import hashlib
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO
from zipfile import BadZipFile

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import ValidationError

from xiaonet import __version__
from xiaonet.config.schema import Config
from xiaonet.constants import PICKED_PHASES
from xiaonet.data.sets import WaveformData, fingerprint, open_data
from xiaonet.errors import ConfigError
from xiaonet.evaluation import tasks
from xiaonet.evaluation.continuous import count_false_picks
from xiaonet.evaluation.losses import measure_losses
from xiaonet.evaluation.metrics import Class, Difference, FalsePicks, Losses, Metrics, ModelMetrics
from xiaonet.evaluation.models import EvaluatedModel
from xiaonet.evaluation.peaks import Peaks, find_peaks
from xiaonet.evaluation.records import LabelledRecord, LabelledWindows, around_picks, before_picks, read_records
from xiaonet.evaluation.scores import TOLERANCE, Judged, PhaseScores, best_threshold, stability
from xiaonet.files import make_folder, write_atomically
from xiaonet.io.archive import Archive
from xiaonet.names import split_names
from xiaonet.nn.teacher import Teacher

KEPT = "kept"  # folder of a report with what models gave, so that a second look costs nothing
WINDOWS_PER_RECORD = 5
ALL = "all"

Thresholds = Mapping[str, float]
OnWindows = Callable[[int], None]  # called with the number of windows that have just been done


@dataclass(frozen=True)
class Measured:
    """What a model gave: all that scores need, without its curves."""

    peaks: Mapping[str, Peaks]
    noise: Mapping[str, Peaks]
    answers: Mapping[str, pd.DataFrame]
    seconds: float | None


@dataclass(frozen=True)
class Evaluation:
    """Models on the same windows.

    Attributes:
        metrics: all figures.
        windows: around the picks.
        models: the models.
        scores: by model and phase, for pictures and further questions.
    """

    metrics: Metrics
    windows: LabelledWindows
    models: Sequence[EvaluatedModel]
    scores: Sequence[Mapping[str, PhaseScores]]


class Evaluator:
    """A split of a data set, ready to judge any number of models on the same windows.

    Args:
        data: class, path or name of a SeisBench data set, or several joined by `+`.
        split: `train`, `dev` or `test`.
        tune: choose each model's thresholds on these windows.
        windows_per_record: windows around the picks of each record.
        seed: of all places and draws.
        targets: folder of published targets of the pick benchmark; drawn by its rules if None.
        keep: folder in which what models gave is kept and found again; None keeps nothing.
        config: prescribed peak distance, temperature, alpha and statuses.

    Raises:
        ConfigError: thresholds are to be chosen on the test split.
        DataError: the data set, the split or its labels cannot be used.
    """

    def __init__(
        self,
        data: str,
        split: str = "test",
        *,
        tune: bool = False,
        windows_per_record: int = WINDOWS_PER_RECORD,
        seed: int = 0,
        targets: Path | None = None,
        keep: Path | None = None,
        config: Config | None = None,
    ) -> None:
        if tune and split == "test":
            raise ConfigError(
                "thresholds are not chosen on split 'test': it is for the final figure; tune with --split dev, "
                "then give its metrics.json to --threshold"
            )
        self.config, self.tune = config or Config(), tune
        self.split, self.seed, self.keep = split, seed, keep
        whole = open_data(data, synthetic_records=self.config.data.synthetic_records, seed=seed)
        self.name = "+".join(Path(part).name for part in split_names(data))
        self.fingerprint = fingerprint(whole)
        self.data: WaveformData
        self.records: list[LabelledRecord]
        self.data, self.records = read_records(whole, split, self.config.data.incomplete_statuses)
        self.windows = around_picks(self.data, self.records, windows_per_record, seed)
        self.noise = before_picks(self.data, self.records, seed)
        self.targets = tasks.read_targets(targets, split) if targets else tasks.draw_targets(self.records, split, seed)

    @property
    def total(self) -> int:
        """Windows that each model is shown: around picks, of noise, of the benchmark's tasks and for the losses."""
        return len(self.windows) + len(self.noise) + sum(map(len, self.targets.values())) + len(self.data)

    def measure(self, model: EvaluatedModel, on_progress: OnWindows = lambda windows: None) -> Measured:
        """Show a model all windows, unless what it gave is kept.

        Raises:
            OutputError: what it gave cannot be kept.
        """
        path = None if self.keep is None else self.keep / f"{self._key(model)}.npz"
        if path is not None and (kept := _read(path, self.targets)):
            on_progress(self.total - len(self.data))
            return kept
        started = time.monotonic()
        distance = self.config.peak_detection.distance

        def curves(windows: LabelledWindows) -> Iterator[NDArray[np.floating]]:
            for batch in windows.batches():
                yield model.annotate(batch)
                on_progress(len(batch))

        peaks, noise = find_peaks(curves(self.windows), distance), find_peaks(curves(self.noise), distance)
        seconds = time.monotonic() - started
        answers = tasks.answer(model, self.data, self.targets)
        on_progress(sum(map(len, self.targets.values())))
        measured = Measured(peaks, noise, answers, seconds)
        if path is not None:
            _write(path, measured)
        return measured

    def losses(self, model: EvaluatedModel, teacher: Teacher | None) -> Losses:
        """The prescribed losses of a model."""
        return measure_losses(
            model,
            self.data,
            teacher,
            temperature=self.config.distillation.temperature,
            alpha=self.config.distillation.alpha,
            seed=self.seed,
            incomplete_statuses=self.config.data.incomplete_statuses,
        )

    def threshold(self, measured: Measured) -> dict[str, float | None]:
        """For each phase the threshold with the best F1 within 0.5 s on these windows; None where none holds a label."""
        return {phase: best_threshold(Judged.of(measured.peaks[phase], self.windows, phase, TOLERANCE)) for phase in PICKED_PHASES}

    def scores(self, measured: Measured, thresholds: Thresholds, *, probabilistic: bool = True) -> dict[str, PhaseScores]:
        """A model at its thresholds, by phase."""
        return {
            phase: PhaseScores.of(measured.peaks[phase], self.windows, phase, thresholds[phase], probabilistic=probabilistic)
            for phase in PICKED_PHASES
        }

    def subsets(self) -> dict[str, NDArray[np.bool_]]:
        """`all`, and each source with three components, with the vertical alone and with others."""
        own = self.windows.traits["subset"]
        return {ALL: np.ones(len(own), dtype=bool)} | {str(name): (own == name).to_numpy() for name in sorted(own.unique())}

    def false_picks(self, measured: Measured, thresholds: Thresholds) -> FalsePicks:
        """Picks in windows in which there is nothing to pick."""
        hours = self.noise.hours
        counts = {phase: len(measured.noise[phase].above(thresholds[phase]).window) for phase in PICKED_PHASES}
        return FalsePicks(hours=hours, per_hour={phase: number / hours if hours else None for phase, number in counts.items()})

    def _key(self, model: EvaluatedModel) -> str:
        said = [__version__, model.digest, self.fingerprint, self.split, self.seed, self.config.model_dump_json()]
        places = hashlib.sha256()
        for values in (self.windows.rows, self.windows.starts, self.noise.rows, self.noise.starts):
            places.update(values.tobytes())
        for table in self.targets.values():
            places.update(table.to_csv().encode())
        return hashlib.sha256(json.dumps([*said, places.hexdigest()]).encode()).hexdigest()[:24]


def evaluate(
    evaluator: Evaluator,
    models: Sequence[EvaluatedModel],
    *,
    thresholds: Mapping[str, Mapping[str, float | None]] | None = None,
    teacher: Teacher | None = None,
    archive: Archive | None = None,
    on_progress: OnWindows = lambda windows: None,
) -> Evaluation:
    """Score models on the windows of a evaluator, each at its own thresholds.

    Args:
        evaluator: a split of a data set.
        models: the models; the first is compared with each of the others.
        thresholds: by model, of `P`, `S`, and of tasks `detection` and `identification`; a model that is
            not named keeps those that it advises. The evaluator's choice comes first.
        teacher: for the distillation loss.
        archive: continuous records without earthquakes.
        on_progress: called with the number of windows that have just been done.

    Raises:
        XiaoNetError: as `Evaluator.measure` and `count_false_picks` raise.
    """
    given = thresholds or {}
    scores, found = [], []
    for model in models:
        measured = evaluator.measure(model, on_progress)
        own: dict[str, float | None] = dict(given.get(model.name, {}))
        if evaluator.tune:
            own = {**evaluator.threshold(measured), **tasks.best_thresholds(measured.answers)}
        heights = {phase: float(own.get(phase) or model.thresholds[phase]) for phase in PICKED_PHASES}
        scores.append(evaluator.scores(measured, heights, probabilistic=model.probabilistic))
        losses = evaluator.losses(model, teacher) if model.probabilistic else None
        on_progress(len(evaluator.data))
        found.append(
            ModelMetrics(
                name=model.name,
                description=model.description,
                digest=model.digest,
                threshold_from="tuned" if evaluator.tune else "given" if model.name in given else "model",
                thresholds=heights,
                subsets={
                    name: {phase: scores[-1][phase].metrics(mask, evaluator.seed) for phase in PICKED_PHASES}
                    for name, mask in evaluator.subsets().items()
                },
                breakdown={phase: _classes(scores[-1][phase]) for phase in PICKED_PHASES},
                noise=evaluator.false_picks(measured, heights),
                continuous=count_false_picks(model, archive, heights) if archive else None,
                stability=stability(measured.peaks, evaluator.windows, heights),
                tasks=tasks.score(measured.answers, own),
                losses=losses,
                seconds=measured.seconds,
            )
        )
    metrics = Metrics(
        xiaonet=__version__,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        data=evaluator.name,
        fingerprint=evaluator.fingerprint,
        split=evaluator.split,
        tuned=evaluator.tune,
        seed=evaluator.seed,
        windows=len(evaluator.windows),
        records=len(evaluator.records),
        events=len({record.event for record in evaluator.records}),
        not_judged={phase: int((~evaluator.windows.judged[phase]).sum()) for phase in PICKED_PHASES},
        models=found,
        differences=list(_differences(evaluator, models, scores)),
    )
    return Evaluation(metrics, evaluator.windows, models, scores)


def read_thresholds(text: str, models: Sequence[EvaluatedModel]) -> dict[str, dict[str, float | None]]:
    """Thresholds by model: one number for all, or those chosen in the `metrics.json` of a tuned evaluation.

    Raises:
        ConfigError: it is neither a probability nor such a file, or the file lacks a model.
    """
    try:
        height = float(text)
    except ValueError:
        return _tuned(Path(text), models)
    if not 0 < height <= 1:
        raise ConfigError(f"--threshold is {text}; wanted a probability above 0 and up to 1, or a metrics.json")
    return {model.name: dict.fromkeys(PICKED_PHASES, height) for model in models}


def _tuned(path: Path, models: Sequence[EvaluatedModel]) -> dict[str, dict[str, float | None]]:
    try:
        metrics = Metrics.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        raise ConfigError(f"--threshold {path} is no number, and cannot be read as a metrics.json: {str(error).splitlines()[0]}") from error
    if not metrics.tuned:
        raise ConfigError(f"{path} holds no chosen thresholds; make it with --tune --split dev")
    tuned = {model.digest: model for model in metrics.models}
    if missing := [model.name for model in models if model.digest not in tuned]:
        raise ConfigError(f"{path} knows no threshold of {', '.join(missing)}; it has {', '.join(model.name for model in metrics.models)}")
    found: dict[str, dict[str, float | None]] = {}
    for model in models:
        tasks = tuned[model.digest].tasks
        chosen = {"detection": tasks.detection.threshold, "identification": tasks.identification.threshold}
        found[model.name] = {**tuned[model.digest].thresholds, **chosen}
    return found


def _classes(scores: PhaseScores) -> list[Class]:
    return [
        Class(trait=trait, name=name, labels=labels, f1=f1)
        for trait, classes in scores.by_trait().items()
        for name, (labels, f1) in classes.items()
    ]


def _differences(
    evaluator: Evaluator, models: Sequence[EvaluatedModel], scores: Sequence[Mapping[str, PhaseScores]]
) -> Iterator[Difference]:
    for other, theirs in zip(models[1:], scores[1:], strict=True):
        for subset, mask in evaluator.subsets().items():
            for phase in PICKED_PHASES:
                values = scores[0][phase].difference(theirs[phase], mask, evaluator.seed)
                yield Difference(model=models[0].name, less=other.name, subset=subset, phase=phase, values=values)


def _write(path: Path, measured: Measured) -> None:
    arrays: dict[str, NDArray[np.generic]] = {}
    for kind, peaks in (("peaks", measured.peaks), ("noise", measured.noise)):
        arrays |= {f"{kind}/{phase}/{name}": values for phase, own in peaks.items() for name, values in vars(own).items()}
    for name, table in measured.answers.items():
        arrays |= {f"answers/{name}/{column}": table[column].to_numpy() for column in table.columns[-4:]}

    def save(file: IO[bytes]) -> None:
        np.savez_compressed(file, **arrays)  # type: ignore[arg-type]

    make_folder(path.parent)
    write_atomically(path, save)


def _read(path: Path, targets: tasks.Targets) -> Measured | None:
    """What a model gave to the same windows before; None if it has not, or the file is damaged."""
    try:
        with np.load(path) as stored:
            arrays = {name: stored[name] for name in stored.files}
        peaks, noise = (
            {
                phase: Peaks(*(arrays[f"{kind}/{phase}/{name}"] for name in ("window", "sample", "height", "sigma")))
                for phase in PICKED_PHASES
            }
            for kind in ("peaks", "noise")
        )
    except (OSError, ValueError, KeyError, BadZipFile):
        return None
    answers = {}
    for name, table in targets.items():
        columns = {key.rpartition("/")[2]: values for key, values in arrays.items() if key.startswith(f"answers/{name}/")}
        answers[name] = table.assign(**columns)
    return Measured(peaks, noise, answers, None)
