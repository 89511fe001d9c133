"""The one rule by which samples become a network's input: demean, detrend, divide by the peak."""

import numpy as np
import scipy.signal
from numpy.typing import NDArray

from xiaonet.errors import WaveformError

DEAD = 1e-9  # of the largest sample: a component that moves less than this stands still


def normalize(window: NDArray[np.generic]) -> NDArray[np.float32]:
    """Demean, detrend and scale each component to a peak of 1, whatever its unit.

    A component that stands still becomes zeros; samples that are not finite count as its mean.

    Args:
        window: `(…, components, samples)`, any real type, any unit.

    Returns:
        The same shape in float32, every component with a peak of 1 or 0.

    Raises:
        WaveformError: there are no samples, or they are not real numbers.
    """
    if window.ndim < 1 or window.shape[-1] == 0 or window.dtype.kind not in "iufb":
        raise WaveformError(f"window is {window.dtype} {window.shape}; wanted real numbers (components, samples), e.g. (3, 3001)")
    x = silence_dead(fill_nonfinite(window))
    x = scipy.signal.detrend(x - x.mean(axis=-1, keepdims=True), axis=-1)
    peak = np.abs(x).max(axis=-1, keepdims=True)
    scaled: NDArray[np.float64] = np.divide(x, peak, out=np.zeros_like(x), where=peak > 0)
    return scaled.astype(np.float32)


def fill_nonfinite(waveform: NDArray[np.generic]) -> NDArray[np.float64]:
    """Put each component's mean where its samples are NaN or infinite, and zeros where all are."""
    x = waveform.astype(np.float64)
    finite = np.isfinite(x)
    if finite.all():
        return x
    total = np.where(finite, x, 0.0).sum(axis=-1, keepdims=True)
    mean = total / np.maximum(finite.sum(axis=-1, keepdims=True), 1)
    return np.where(finite, x, mean)


def silence_dead(window: NDArray[np.float64]) -> NDArray[np.float64]:
    """Zero the components that stand still or only drift, such as a dead channel at a constant count."""
    largest = np.abs(window).max(axis=-1, keepdims=True, initial=0.0)
    still = np.ptp(scipy.signal.detrend(window, axis=-1), axis=-1, keepdims=True) <= DEAD * largest
    return np.where(still, 0.0, window)
