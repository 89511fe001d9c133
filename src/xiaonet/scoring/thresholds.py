"""F1 at many thresholds, and the choice of one of them."""

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Numbers = NDArray[Any]


def ratio(part: Numbers, whole: Numbers) -> Floats:
    """`part / whole`, NaN where `whole` is 0."""
    part, whole = np.asarray(part, dtype=float), np.asarray(whole, dtype=float)
    quotient: Floats = np.divide(part, whole, out=np.full(np.broadcast_shapes(part.shape, whole.shape), np.nan), where=whole > 0)
    return quotient


def f1_score(right: Numbers, false: Numbers, labels: Numbers) -> Floats:
    """F1, the harmonic mean of precision and recall; NaN where there is nothing to find and nothing was found."""
    return ratio(2 * right, right + false + labels)


def f1_by_threshold(thresholds: Numbers, heights: Numbers, right: NDArray[np.bool_], labels: int) -> Floats:
    """F1 of what reaches each of `thresholds`; 0 where there is nothing to find and nothing was found.

    Args:
        thresholds: any numbers.
        heights: `(found,)` heights of peaks, or scores of targets.
        right: `(found,)` whether each is right.
        labels: how many should be found.
    """
    picked, hits = (len(one) - np.searchsorted(np.sort(one), thresholds, side="left") for one in (heights, heights[right]))
    return np.nan_to_num(f1_score(hits, picked - hits, np.asarray(labels)))


def choose_threshold(thresholds: Numbers, f1: Floats, *, margin: float = 0.0, prefer: Literal["middle", "highest"] = "middle") -> float:
    """The threshold with the best F1.

    Several thresholds often have the same F1, or nearly so. Which of them is best depends on the use:

    - Reports compare models on other records of the same kind. They take the middle one of the best
      (`margin=0`, `prefer="middle"`), because it is farthest from where F1 starts to fall.
    - Shipped models pick continuous records, where noise is far more frequent than in any labelled set.
      They take the highest threshold within 0.005 of the best F1 (`margin=0.005`, `prefer="highest"`).

    Args:
        thresholds: in rising order.
        f1: of each.
        margin: thresholds whose F1 is lower than the best by at most this count as best, too.
        prefer: which of the best to take.
    """
    best = np.flatnonzero(f1 >= f1.max() - margin)
    return float(thresholds[best[-1] if prefer == "highest" else best[len(best) // 2]])
