"""A small record with known picks, and models of a few lines that find them, none or all."""

from collections.abc import Mapping

import numpy as np

from xiaonet.evaluation.models import ContinuousPick

P, S, LENGTH = 4000, 4400, 8000


class Oracle:
    """Gives a peak of a given height, `late` samples after every sample that stands out: up for P, down for S."""

    description, runtime, probabilistic = "an oracle", "none", True
    thresholds: Mapping[str, float] = {"P": 0.3, "S": 0.3}

    def __init__(self, name: str = "oracle", late: int = 0, height: float = 0.8, everywhere: float = 0.0) -> None:
        self.name, self.digest = name, f"{name} {late} {height} {everywhere}"
        self.late, self.height, self.everywhere = late, height, everywhere
        self.calls = 0

    def annotate(self, windows: np.ndarray) -> np.ndarray:
        self.calls += 1
        curves = np.zeros((len(windows), 3, 3001))
        curves[:, :2, 100:-100:150] = self.everywhere
        for number, window in enumerate(windows):
            peak = np.abs(window[2]).max()
            for row, sign in ((0, 1), (1, -1)):
                for sample in np.flatnonzero(sign * window[2] > 0.5 * peak) if peak > 10 * window[2].std() else ():
                    if 0 < sample + self.late < 3000:
                        curves[number, row, sample + self.late] = self.height
        curves[:, 2] = 1 - curves[:, :2].max(axis=1)
        return curves

    def pick(self, stream, thresholds: Mapping[str, float]) -> list[ContinuousPick]:
        return [ContinuousPick(trace.stats.starttime.ns, "P", 0.9) for trace in stream if trace.stats.channel.endswith("Z")]


def record(p: float = P, s: float = S, seed: int = 0) -> np.ndarray:
    """Three components of weak noise; on the vertical, one sample up at P and one down at S."""
    samples = np.random.default_rng(seed).normal(0, 1, (3, LENGTH))
    for sample, value in ((p, 1000), (s, -1000)):
        if 0 <= sample < LENGTH:
            samples[2, int(sample)] = value
    return samples
