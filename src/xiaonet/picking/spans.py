"""Find the ranges of samples over which a condition holds."""

import numpy as np
from numpy.typing import NDArray


def true_spans(mask: NDArray[np.bool_]) -> NDArray[np.int64]:
    """First sample of each unbroken range of true samples, and the one after its last.

    Args:
        mask: `(samples,)`.

    Returns:
        `(spans, 2)`, in order.

    Example:
        >>> true_spans(np.array([True, True, False, True])).tolist()
        [[0, 2], [3, 4]]
    """
    inner = np.flatnonzero(mask[1:] != mask[:-1]) + 1
    return np.concatenate([np.flatnonzero(mask[:1]), inner, np.flatnonzero(mask[-1:]) + len(mask)]).reshape(-1, 2)
