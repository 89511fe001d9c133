"""A small network that runs first and decides which windows the large one sees."""

import hashlib

import numpy as np

from xiaonet.constants import NOISE
from xiaonet.errors import ConfigError
from xiaonet.runtime.predictor import Predictor, Windows


class Cascade:
    """A small network that sees every window, and a large one that sees those in which the small one finds something.

    Args:
        prefilter: the small network.
        model: the large network, whose thresholds are used.
        threshold: minimum probability of P or S from the prefilter for the model to see a window. Other
            windows keep the prefilter's probabilities.

    Raises:
        ConfigError: the threshold is not between 0 and 1.
    """

    def __init__(self, prefilter: Predictor, model: Predictor, threshold: float) -> None:
        if not 0 <= threshold <= 1:
            raise ConfigError(f"threshold of the cascade is {threshold}; wanted a probability from 0 to 1, e.g. 0.05")
        self.prefilter, self.model, self.threshold = prefilter, model, threshold
        self.runtime, self.version = model.runtime, model.version
        self.thresholds = model.thresholds
        self.description = f"{model.description}, where {prefilter.description} gives P or S {threshold:g}"
        self.digest = hashlib.sha256(f"{prefilter.digest} {model.digest} {threshold!r}".encode()).hexdigest()

    def __call__(self, windows: Windows) -> Windows:
        """Compute probabilities `(batch, 3, 3001)` of windows `(batch, 3, 3001)`, as both networks do."""
        probabilities = np.array(self.prefilter(windows))
        found = (np.delete(probabilities, NOISE, axis=1) >= self.threshold).any(axis=(1, 2))
        if found.any():
            probabilities[found] = self.model(windows[found])
        return probabilities
