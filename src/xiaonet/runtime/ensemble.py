"""Several networks whose probabilities are averaged."""

import hashlib
from collections.abc import Sequence

import numpy as np

from xiaonet.errors import ConfigError
from xiaonet.runtime.predictor import Predictor, Record, Tiles, Windows, common_stacking


class Ensemble:
    """The mean of several networks, such as those of several seeds (Lakshminarayanan et al. 2017).

    Its thresholds are the means of the members' thresholds.

    Raises:
        ConfigError: there are fewer than two members, two are the same, or they average different things where windows overlap.
    """

    def __init__(self, members: Sequence[Predictor]) -> None:
        digests = [member.digest for member in members]
        if len(members) < 2 or len(set(digests)) < len(digests):
            raise ConfigError(f"an ensemble of {', '.join(member.description for member in members)}; wanted two or more different models")
        self.members = members
        self.runtime, self.version, self.note = members[0].runtime, members[0].version, members[0].note
        self.stacking = common_stacking(members)
        self.thresholds = {phase: float(np.mean([member.thresholds[phase] for member in members])) for phase in members[0].thresholds}
        self.description = "mean of " + " and ".join(member.description for member in members)
        self.digest = hashlib.sha256(" ".join(digests).encode()).hexdigest()

    def __call__(self, windows: Windows) -> Windows:
        """Compute mean probabilities `(batch, 3, 3001)` of windows `(batch, 3, 3001)`."""
        mean: Windows = np.mean([member(windows) for member in self.members], axis=0, dtype=np.float32)
        return mean

    def curves(self, record: Record, wanted: Tiles) -> Record:
        """Compute mean probabilities `(3, samples)` of a record, in the tiles that are wanted."""
        mean: Record = np.mean([member.curves(record, wanted) for member in self.members], axis=0, dtype=np.float32)
        return mean

    def around(self, cuts: Windows) -> Windows:
        """Compute mean probabilities `(cuts, 3, 201)` around the middle of cuts `(cuts, 3, 1239)` from windows."""
        mean: Windows = np.mean([member.around(cuts) for member in self.members], axis=0, dtype=np.float32)
        return mean
