"""Picks from probability curves: the one rule that training, evaluation and archives share."""

import numpy as np
import scipy.signal
from numpy.typing import NDArray


def find_picks(probability: NDArray[np.floating], height: float, distance: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Local maxima of one phase's probability curve, as `scipy.signal.find_peaks` finds them.

    Args:
        probability: `(samples,)` of one phase.
        height: least probability of a pick.
        distance: least number of samples between two picks of this phase; the lower one yields.

    Returns:
        Sample indexes in rising order, and the probabilities there.
    """
    peaks, _ = scipy.signal.find_peaks(probability, height=height, distance=distance)
    return peaks, np.asarray(probability, dtype=np.float64)[peaks]
