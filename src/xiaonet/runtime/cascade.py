"""A small network that runs first and decides which windows or tiles the large one sees."""

import hashlib

import numpy as np

from xiaonet.constants import NOISE, TILE_SAMPLES
from xiaonet.errors import ConfigError
from xiaonet.runtime.predictor import Predictor, Record, Tiles, Windows, common_stacking


class Cascade:
    """A small network that sees every window, and a large one that sees those in which the small one finds something.

    Models that stack waveforms see a record in tiles of 512 samples instead of windows.

    Args:
        prefilter: the small network.
        model: the large network, whose thresholds are used.
        threshold: minimum probability of P or S from the prefilter for the model to see a window or tile.
            Others keep the prefilter's probabilities.

    Raises:
        ConfigError: the threshold is not between 0 and 1, or the models average different things where windows overlap.
    """

    def __init__(self, prefilter: Predictor, model: Predictor, threshold: float) -> None:
        if not 0 <= threshold <= 1:
            raise ConfigError(f"threshold of the cascade is {threshold}; wanted a probability from 0 to 1, e.g. 0.05")
        self.prefilter, self.model, self.threshold = prefilter, model, threshold
        self.runtime, self.version, self.note = model.runtime, model.version, model.note
        self.stacking = common_stacking([prefilter, model])
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

    def curves(self, record: Record, wanted: Tiles) -> Record:
        """Compute probabilities `(3, samples)` of a record in the tiles that are wanted, as both networks do."""
        curves = self.prefilter.curves(record, wanted)
        picked = np.delete(curves, NOISE, axis=0).reshape(2, -1, TILE_SAMPLES)
        found = wanted & (picked >= self.threshold).any(axis=(0, 2))
        if found.any():
            inside = np.repeat(found, TILE_SAMPLES)
            curves[:, inside] = self.model.curves(record, found)[:, inside]
        return curves

    def around(self, cuts: Windows) -> Windows:
        """Compute mean probabilities `(cuts, 3, 201)` around the middle of cuts `(cuts, 3, 1239)` from windows: the large network's."""
        return self.model.around(cuts)
