"""Thresholds that a user gives for an evaluation: one number, or those of an earlier, tuned evaluation."""

from collections.abc import Sequence
from pathlib import Path

from pydantic import ValidationError

from xiaonet.constants import PICKED_PHASES
from xiaonet.errors import ConfigError
from xiaonet.evaluation.metrics import Metrics
from xiaonet.evaluation.models import EvaluatedModel


def read_thresholds(text: str, models: Sequence[EvaluatedModel]) -> dict[str, dict[str, float]]:
    """Thresholds by model and phase or task.

    Args:
        text: a probability for all models and phases, or the path of the `metrics.json` of a tuned evaluation.
        models: the models that need them.

    Raises:
        ConfigError: `text` is neither, or the file lacks a model.
    """
    try:
        threshold = float(text)
    except ValueError:
        return _tuned(Path(text), models)
    if not 0 < threshold <= 1:
        raise ConfigError(f"--threshold is {text}; wanted a probability above 0 and up to 1, or a metrics.json")
    return {model.name: dict.fromkeys(PICKED_PHASES, threshold) for model in models}


def _tuned(path: Path, models: Sequence[EvaluatedModel]) -> dict[str, dict[str, float]]:
    """The thresholds that were tuned; a phase or task without labels there has none."""
    try:
        metrics = Metrics.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        raise ConfigError(f"--threshold {path} is neither a number nor a metrics.json: {str(error).splitlines()[0]}") from error
    if not metrics.tuned:
        raise ConfigError(f"{path} holds no tuned thresholds; make it with --tune --split dev")
    known = {model.digest: model for model in metrics.models}
    if missing := [model.name for model in models if model.digest not in known]:
        raise ConfigError(
            f"{path} has no thresholds of {', '.join(missing)}, only of {', '.join(model.name for model in metrics.models)}; "
            "tune all models in one command"
        )
    found: dict[str, dict[str, float]] = {}
    for model in models:
        tuned = known[model.digest]
        phases = {phase: value for phase, value in tuned.thresholds.items() if tuned.threshold_sources.get(phase, "tuned") == "tuned"}
        tasks = {"detection": tuned.tasks.detection.threshold, "identification": tuned.tasks.identification.threshold}
        found[model.name] = phases | {task: value for task, value in tasks.items() if value is not None}
    return found
