"""What the loss of a component costs: scores on three-component records, as they are and with components set to zero.

python benchmarks/missing_components.py
"""

import argparse
import os
from pathlib import Path

SHARED = Path(os.environ.get("XIAONET_SHARED", "../shared"))
os.environ.setdefault("SEISBENCH_CACHE_ROOT", str(Path.home() / ".seisbench"))

import numpy as np

from xiaonet.constants import COMPONENTS, PICKED_PHASES
from xiaonet.evaluation.evaluator import Evaluator
from xiaonet.evaluation.metrics import Value
from xiaonet.evaluation.models import EvaluatedModel, load_models
from xiaonet.evaluation.scores import PhaseScores
from xiaonet.scoring.peaks import find_peaks

WITHOUT = ("", "E", "N", "EN")


def score(evaluator: Evaluator, model: EvaluatedModel, subset: np.ndarray, without: str) -> dict[str, Value]:
    """F1 within 0.5 s by phase, of a model that never sees the components `without`."""
    kept = np.array([component not in without for component in COMPONENTS])[:, None]
    curves = (model.annotate(batch * kept) for batch in evaluator.windows.batches())
    peaks = find_peaks(curves, evaluator.config.peak_detection.distance)
    scores = {phase: PhaseScores.of(peaks[phase], evaluator.windows, phase, model.thresholds[phase]) for phase in PICKED_PHASES}
    return {phase: own.metrics(subset, 0).f1["0.5"] for phase, own in scores.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=["xiaonet", "xiaonet-nano", "seisbench:PhaseNet/original"])
    parser.add_argument("--subset", default="ncedc_dev, three components")
    arguments = parser.parse_args()
    evaluator = Evaluator(str(SHARED / "data" / "benchmark"))
    subset = evaluator.subsets()[arguments.subset]
    print(f"{arguments.subset}: {subset.sum()} windows\n")
    print("| model | without | F1 P | F1 S |\n|---|---|---|---|")
    for model in load_models(arguments.models):
        for without in WITHOUT:
            found = score(evaluator, model, subset, without)
            figures = [f"{value.value:.3f} ({value.low:.2f}–{value.high:.2f})" for value in found.values()]
            print(f"| {model.name} | {', '.join(without) or 'none'} | {' | '.join(figures)} |", flush=True)


if __name__ == "__main__":
    main()
