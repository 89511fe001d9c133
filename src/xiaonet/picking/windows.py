"""Normalize windows for the network: demean, detrend, divide by the peak of each component.

Training, evaluation and picking all use these functions.
"""

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from xiaonet.errors import WaveformError

DEAD = 1e-9  # of the largest sample: a component whose peak is smaller after detrending is dead


class Straightened(NamedTuple):
    """What normalization does to each component of a window: it subtracts a line and multiplies by a scale.

    Attributes:
        mean: `(…, components)`, the line in the middle of the window.
        slope: `(…, components)`, of the line, for a sample.
        scale: `(…, components)`, one over the peak that is left, or 0 for a dead component.
    """

    mean: NDArray[np.float64]
    slope: NDArray[np.float64]
    scale: NDArray[np.float64]


def normalize(window: NDArray[np.generic]) -> NDArray[np.float32]:
    """Demean, detrend and scale each component to a peak of 1, whatever its unit.

    A dead component becomes zeros. Samples that are not finite are replaced by the mean of their component.

    Args:
        window: `(…, components, samples)`, any real type, any unit.

    Returns:
        The same shape in float32, every component with a peak of 1 or 0.

    Raises:
        WaveformError: there are no samples, or they are not real numbers.
    """
    if window.ndim < 1 or window.shape[-1] == 0 or window.dtype.kind not in "iufb":
        raise WaveformError(f"window is {window.dtype} {window.shape}; wanted real numbers (components, samples), e.g. (3, 3001)")
    x = window.astype(np.float64)
    if not np.isfinite(x.sum(axis=-1)).all():
        x = fill_nonfinite(x)
    x *= straighten(x).scale[..., None]
    return x.astype(np.float32)


def fill_nonfinite(waveform: NDArray[np.generic]) -> NDArray[np.float64]:
    """Replace samples that are NaN or infinite by the mean of their component, or by zeros if all are."""
    x = waveform.astype(np.float64)
    finite = np.isfinite(x)
    if finite.all():
        return x
    total = np.where(finite, x, 0.0).sum(axis=-1, keepdims=True)
    mean = total / np.maximum(finite.sum(axis=-1, keepdims=True), 1)
    return np.where(finite, x, mean)


def silence_dead(window: NDArray[np.float64]) -> NDArray[np.float64]:
    """Set dead components to zero: those that are constant or only drift."""
    return np.asarray(np.where(straighten(window.copy()).scale[..., None] == 0, 0.0, window))


def _peak(x: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(np.maximum(x.max(axis=-1, initial=0.0), -x.min(axis=-1, initial=0.0)))


def straighten(x: NDArray[np.float64]) -> Straightened:
    """Remove the straight line of least squares in place, as `scipy.signal.detrend` does, which is slow to import."""
    time, power = _line(x.shape[-1])
    mean = x.mean(axis=-1)
    x -= mean[..., None]
    slope = x @ time / power
    x -= slope[..., None] * time
    peak = _peak(x)
    largest = np.abs(mean) + np.abs(slope) * -time[0] + peak  # no sample was larger
    dead = peak <= DEAD * largest
    if dead.any():  # seldom, so only then it is worth to look at what the samples were
        dead = peak <= DEAD * _peak(x + mean[..., None] + slope[..., None] * time)
    return Straightened(mean, slope, np.divide(1.0, peak, out=np.zeros_like(peak), where=~dead))


@lru_cache(maxsize=8)
def _line(samples: int) -> tuple[NDArray[np.float64], float]:
    """A straight line with the slope 1 and the mean 0, and the sum of its squares."""
    time = np.arange(samples, dtype=np.float64) - (samples - 1) / 2
    return time, max(float(time @ time), 1.0)
