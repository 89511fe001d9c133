"""The evaluation of models on a data set, from windows to metrics."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from xiaonet import __version__
from xiaonet.config.schema import Config
from xiaonet.constants import PICKED_PHASES
from xiaonet.data.sets import WaveformData, fingerprint, open_data
from xiaonet.errors import ConfigError
from xiaonet.evaluation import tasks
from xiaonet.evaluation.continuous import count_false_picks
from xiaonet.evaluation.kept import ModelOutput, output_key, read_output, write_output
from xiaonet.evaluation.losses import measure_losses
from xiaonet.evaluation.metrics import Class, Difference, FalsePicks, Losses, Metrics, ModelMetrics, ThresholdSource
from xiaonet.evaluation.models import EvaluatedModel
from xiaonet.evaluation.records import LabelledRecord, LabelledWindows, around_picks, before_picks, read_records
from xiaonet.evaluation.scores import TOLERANCE, PhaseScores, best_threshold, match_labels, stability
from xiaonet.io.archive import Archive
from xiaonet.names import split_names
from xiaonet.nn.teacher import Teacher
from xiaonet.scoring.peaks import find_peaks

WINDOWS_PER_RECORD = 5
ALL = "all"  # the subset of all windows

Thresholds = Mapping[str, float]  # by phase; of the benchmark's tasks also by `detection` and `identification`
OnWindows = Callable[[int], None]  # called with the number of windows that have just been done


@dataclass(frozen=True)
class Evaluation:
    """Models scored on the same windows.

    Attributes:
        metrics: all figures.
        windows: the windows around picks.
        models: the models.
        scores: by model and phase.
    """

    metrics: Metrics
    windows: LabelledWindows
    models: Sequence[EvaluatedModel]
    scores: Sequence[Mapping[str, PhaseScores]]


class Evaluator:
    """One split of a data set, on whose windows any number of models can be scored.

    Args:
        data: SeisBench class, folder or name of a data set; several joined by `+`.
        split: `train`, `dev` or `test`.
        tune: choose the thresholds of each model on these windows.
        windows_per_record: number of windows around the picks of each record.
        seed: random seed of windows, targets and intervals.
        targets: folder with the published targets of the pick benchmark; by default, targets are drawn by its rules.
        keep: folder in which the outputs of models are kept and found again; None keeps nothing.
        config: settings, of which the evaluation uses peak distance, temperature, alpha and statuses.

    Raises:
        ConfigError: thresholds should be chosen on the test split.
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
                "thresholds cannot be tuned on split 'test', which is for the final figures; tune with --split dev, "
                "then pass its metrics.json to --threshold"
            )
        self.config, self.tune = config or Config(), tune
        self.name = "+".join(Path(part).name for part in split_names(data))
        self.split, self.seed, self.keep = split, seed, keep
        whole = open_data(data, synthetic_records=self.config.data.synthetic_records, seed=seed)
        self.fingerprint = fingerprint(whole)
        self.data: WaveformData
        self.records: list[LabelledRecord]
        self.data, self.records = read_records(whole, split, self.config.data.incomplete_statuses)
        self.windows = around_picks(self.data, self.records, windows_per_record, seed)
        self.noise = before_picks(self.data, self.records, seed)
        self.targets = tasks.read_targets(targets, split) if targets else tasks.draw_targets(self.records, split, seed)

    @property
    def total(self) -> int:
        """Number of windows that each model predicts: around picks, of noise, of the benchmark's tasks and for the losses."""
        return len(self.windows) + len(self.noise) + sum(map(len, self.targets.values())) + len(self.data)

    def run(self, model: EvaluatedModel, on_progress: OnWindows = lambda windows: None) -> ModelOutput:
        """Run a model on all windows, unless its output is kept from an earlier evaluation.

        Raises:
            OutputError: the output cannot be written.
        """
        path = None if self.keep is None else self.keep / f"{output_key(model, self._inputs())}.npz"
        if path is not None and (kept := read_output(path, self.targets)):
            on_progress(self.total - len(self.data))
            return kept
        started = time.monotonic()
        distance = self.config.peak_detection.distance

        def probabilities(windows: LabelledWindows) -> Iterator[NDArray[np.floating]]:
            for batch in windows.batches():
                yield model.annotate(batch)
                on_progress(len(batch))

        peaks, noise = find_peaks(probabilities(self.windows), distance), find_peaks(probabilities(self.noise), distance)
        seconds = time.monotonic() - started
        answers = tasks.answer(model, self.data, self.targets)
        on_progress(sum(map(len, self.targets.values())))
        output = ModelOutput(peaks, noise, answers, seconds)
        if path is not None:
            write_output(path, output)
        return output

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

    def best_thresholds(self, output: ModelOutput) -> dict[str, float]:
        """The thresholds with the best F1 on these windows, of each phase and task that has labels here."""
        best = {phase: best_threshold(match_labels(output.peaks[phase], self.windows, phase, TOLERANCE)) for phase in PICKED_PHASES}
        return {name: value for name, value in (best | tasks.best_thresholds(output.answers)).items() if value is not None}

    def scores(self, output: ModelOutput, thresholds: Thresholds, *, probabilistic: bool = True) -> dict[str, PhaseScores]:
        """Scores of each phase at its threshold."""
        return {
            phase: PhaseScores.of(output.peaks[phase], self.windows, phase, thresholds[phase], probabilistic=probabilistic)
            for phase in PICKED_PHASES
        }

    def subsets(self) -> dict[str, NDArray[np.bool_]]:
        """All windows, and those of each source by components: all three, the vertical alone, or others."""
        own = self.windows.traits["subset"]
        return {ALL: np.ones(len(own), dtype=bool)} | {str(name): (own == name).to_numpy() for name in sorted(own.unique())}

    def false_picks(self, output: ModelOutput, thresholds: Thresholds) -> FalsePicks:
        """Picks in windows without an earthquake."""
        hours = self.noise.hours
        counts = {phase: len(output.noise[phase].above(thresholds[phase]).window) for phase in PICKED_PHASES}
        return FalsePicks(hours=hours, per_hour={phase: number / hours if hours else None for phase, number in counts.items()})

    def _inputs(self) -> Iterator[bytes]:
        """Everything but the model that decides its output."""
        yield f"{self.fingerprint} {self.split} {self.seed} {self.config.model_dump_json()}".encode()
        for windows in (self.windows, self.noise):
            yield windows.rows.tobytes()
            yield windows.starts.tobytes()
        for table in self.targets.values():
            yield table.to_csv().encode()


def evaluate(
    evaluator: Evaluator,
    models: Sequence[EvaluatedModel],
    *,
    thresholds: Mapping[str, Thresholds] | None = None,
    teacher: Teacher | None = None,
    archive: Archive | None = None,
    on_progress: OnWindows = lambda windows: None,
) -> Evaluation:
    """Score models on the windows of an evaluator, each at its own thresholds.

    A threshold that was tuned comes before one that was given, and that before the one that the model advises.

    Args:
        evaluator: one split of a data set.
        models: the models; the first is compared with each of the others.
        thresholds: by the model's name and phase or task.
        teacher: for the distillation loss.
        archive: continuous records without earthquakes.
        on_progress: called with the number of windows that have just been done.

    Raises:
        XiaoNetError: as `Evaluator.run` and `count_false_picks` do.
    """
    scores: list[Mapping[str, PhaseScores]] = []
    found: list[ModelMetrics] = []
    for model in models:
        output = evaluator.run(model, on_progress)
        given = (thresholds or {}).get(model.name, {})
        tuned = evaluator.best_thresholds(output) if evaluator.tune else {}
        chosen = {**model.thresholds, **given, **tuned}
        sources: dict[str, ThresholdSource] = {
            phase: "tuned" if phase in tuned else "given" if phase in given else "model" for phase in PICKED_PHASES
        }
        scores.append(evaluator.scores(output, chosen, probabilistic=model.probabilistic))
        losses = evaluator.losses(model, teacher) if model.probabilistic else None
        on_progress(len(evaluator.data))
        found.append(_model_metrics(evaluator, model, output, scores[-1], chosen, sources, losses, archive))
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


def _model_metrics(
    evaluator: Evaluator,
    model: EvaluatedModel,
    output: ModelOutput,
    scores: Mapping[str, PhaseScores],
    thresholds: Thresholds,
    sources: dict[str, ThresholdSource],
    losses: Losses | None,
    archive: Archive | None,
) -> ModelMetrics:
    picked = {phase: thresholds[phase] for phase in PICKED_PHASES}
    return ModelMetrics(
        name=model.name,
        description=model.description,
        digest=model.digest,
        threshold_from=next(source for source in ("tuned", "given", "model") if source in sources.values()),
        threshold_sources=sources,
        thresholds=picked,
        subsets={
            name: {phase: scores[phase].metrics(mask, evaluator.seed) for phase in PICKED_PHASES}
            for name, mask in evaluator.subsets().items()
        },
        breakdown={
            phase: [
                Class(trait=trait, name=name, labels=labels, f1=f1)
                for trait, classes in scores[phase].by_trait().items()
                for name, (labels, f1) in classes.items()
            ]
            for phase in PICKED_PHASES
        },
        noise=evaluator.false_picks(output, picked),
        continuous=count_false_picks(model, archive, picked) if archive else None,
        stability=stability(output.peaks, evaluator.windows, picked),
        tasks=tasks.score(output.answers, {name: value for name, value in thresholds.items() if name not in PICKED_PHASES}),
        losses=losses,
        seconds=output.seconds,
    )


def _differences(
    evaluator: Evaluator, models: Sequence[EvaluatedModel], scores: Sequence[Mapping[str, PhaseScores]]
) -> Iterator[Difference]:
    for other, other_scores in zip(models[1:], scores[1:], strict=True):
        for subset, mask in evaluator.subsets().items():
            for phase in PICKED_PHASES:
                values = scores[0][phase].difference(other_scores[phase], mask, evaluator.seed)
                yield Difference(model=models[0].name, less=other.name, subset=subset, phase=phase, values=values)
