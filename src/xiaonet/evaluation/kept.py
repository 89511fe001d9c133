"""Outputs of models, kept beside a report so that the next evaluation need not compute them again."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path
from typing import IO
from zipfile import BadZipFile

import numpy as np
import pandas as pd
from numpy.typing import NDArray

import xiaonet
from xiaonet.constants import PICKED_PHASES
from xiaonet.evaluation.models import EvaluatedModel
from xiaonet.evaluation.tasks import ANSWERS, Targets
from xiaonet.files import make_folder, write_atomically
from xiaonet.scoring.peaks import Peaks

KEPT = "kept"  # folder beside the report
PACKAGE = Path(xiaonet.__file__).parent
PEAK_ARRAYS = tuple(field.name for field in fields(Peaks))


@dataclass(frozen=True)
class ModelOutput:
    """The output of a model on all windows: what the scores need of its probabilities.

    Attributes:
        peaks: by phase, in the windows around picks.
        noise: by phase, in the windows without an earthquake.
        answers: the benchmark's targets with the model's answers.
        seconds: that it took to compute; None if it was kept from an earlier evaluation.
    """

    peaks: Mapping[str, Peaks]
    noise: Mapping[str, Peaks]
    answers: Mapping[str, pd.DataFrame]
    seconds: float | None


def output_key(model: EvaluatedModel, inputs: Iterable[bytes]) -> str:
    """A name for the output of a model. It changes with the model, its runtime, the inputs and the code of XiaoNet."""
    parts = (model.digest.encode(), model.runtime.encode(), source_digest(PACKAGE).encode(), *inputs)
    digests = [hashlib.sha256(part).hexdigest() for part in parts]
    return hashlib.sha256(json.dumps(digests).encode()).hexdigest()[:24]


@cache
def source_digest(folder: Path) -> str:
    """SHA-256 of all Python files below a folder, with their names."""
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*.py")):
        digest.update(f"{path.relative_to(folder).as_posix()} {hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    return digest.hexdigest()


def write_output(path: Path, output: ModelOutput) -> None:
    """Write an output as a `.npz` file.

    Raises:
        OutputError: it cannot be written.
    """
    arrays: dict[str, NDArray[np.generic]] = {}
    for kind, peaks in (("peaks", output.peaks), ("noise", output.noise)):
        arrays |= {f"{kind}/{phase}/{name}": values for phase, own in peaks.items() for name, values in vars(own).items()}
    for name, table in output.answers.items():
        arrays |= {f"answers/{name}/{column}": table[column].to_numpy() for column in ANSWERS}

    def save(file: IO[bytes]) -> None:
        np.savez_compressed(file, **arrays)  # type: ignore[arg-type]

    make_folder(path.parent)
    write_atomically(path, save)


def read_output(path: Path, targets: Targets) -> ModelOutput | None:
    """An output that was written before; None if there is none or the file is damaged."""
    try:
        with np.load(path) as stored:
            peaks, noise = (
                {phase: Peaks(*(stored[f"{kind}/{phase}/{name}"] for name in PEAK_ARRAYS)) for phase in PICKED_PHASES}
                for kind in ("peaks", "noise")
            )
            answers = {
                name: table.assign(**{column: stored[f"answers/{name}/{column}"] for column in ANSWERS}) for name, table in targets.items()
            }
    except (OSError, ValueError, KeyError, BadZipFile):
        return None
    return ModelOutput(peaks, noise, answers, None)
