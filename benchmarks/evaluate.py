"""Time to score 10,000 windows, and the share that the network takes, for XiaoNet and PhaseNet on one thread.

    python benchmarks/evaluate.py --repeats 3

Windows come from split dev of `labelled`. "Network" is the time in the models. "All" is everything: windows, network,
peaks, matching, and scores with their intervals.
"""

import argparse
import os
import statistics
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
SHARED = Path(os.environ.get("XIAONET_SHARED", "../shared"))
os.environ.setdefault("SEISBENCH_CACHE_ROOT", str(Path.home() / ".seisbench"))

import numpy as np
import torch

from xiaonet.constants import PICKED_PHASES
from xiaonet.evaluation.evaluator import Evaluator
from xiaonet.evaluation.models import EvaluatedModel, load_models
from xiaonet.evaluation.scores import PhaseScores
from xiaonet.scoring.peaks import find_peaks


class Timed:
    """A model that counts the seconds that it takes."""

    def __init__(self, model: EvaluatedModel) -> None:
        self.model, self.seconds = model, 0.0

    def annotate(self, windows: np.ndarray) -> np.ndarray:
        started = time.perf_counter()
        curves = self.model.annotate(windows)
        self.seconds += time.perf_counter() - started
        return curves


def score(evaluator: Evaluator, model: EvaluatedModel) -> tuple[float, float, float, float]:
    """Seconds for everything, for the model, for windows and peaks, and for scores."""
    timed = Timed(model)
    started = time.perf_counter()
    peaks = find_peaks((timed.annotate(batch) for batch in evaluator.windows.batches()), evaluator.config.peak_detection.distance)
    cut = time.perf_counter()
    for phase in PICKED_PHASES:
        scores = PhaseScores.of(peaks[phase], evaluator.windows, phase, 0.3)
        for mask in evaluator.subsets().values():
            scores.metrics(mask, 0)
    end = time.perf_counter()
    return end - started, timed.seconds, cut - started - timed.seconds, end - cut


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--windows", type=int, default=10_000)
    parser.add_argument("--models", nargs="+", default=["xiaonet", "xiaonet-nano", "seisbench:PhaseNet/stead"])
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    models = load_models(arguments.models)
    data = str(SHARED / "data" / "labelled")
    records = len(Evaluator(data, "dev").records)
    evaluator = Evaluator(data, "dev", windows_per_record=-(-arguments.windows // records))
    figures: dict[str, list[tuple[float, ...]]] = {model.name: [] for model in models}
    for _ in range(arguments.repeats):
        for model in models:
            figures[model.name].append(score(evaluator, model))
    print(f"{len(evaluator.windows)} windows; medians of {arguments.repeats}\n")
    print("| model | all, s | network, s | share | cutting and peaks, s | matching and scores, s |\n|---|---|---|---|---|---|")
    for name, rows in figures.items():
        whole, network, peaks, scores = (statistics.median(column) for column in zip(*rows, strict=True))
        print(f"| {name} | {whole:.1f} | {network:.1f} | {network / whole:.0%} | {peaks:.1f} | {scores:.1f} |", flush=True)


if __name__ == "__main__":
    main()
