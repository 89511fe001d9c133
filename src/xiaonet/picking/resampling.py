"""Resample records of any rate to 100 Hz, without a time shift and without aliases."""

from fractions import Fraction
from functools import lru_cache
from typing import TypeVar

import numpy as np
import scipy.signal
from numpy.typing import NDArray

from xiaonet.picking.spans import true_spans

REACH = 24  # samples of the slower rate on either side that the filter uses
PASSED = 0.9  # cut-off, as a part of the slower Nyquist frequency
BETA = 8.0  # of the Kaiser window: 80 dB

Value = TypeVar("Value", bound=np.generic)


def resample(
    samples: NDArray[np.float64], bridged: NDArray[np.bool_], ratio: Fraction, first: int, end: int
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Compute samples `first` up to `end` of the output, each range without gaps separately.

    The filter is a windowed sinc. It is symmetric, so no onset moves in time. Output sample `j` is at input
    sample `j · ratio`, wherever the data start.

    Args:
        samples: `(samples,)` of the input, NaN in gaps.
        bridged: which of them bridge a gap.
        ratio: input samples per output sample.
        first: first output sample.
        end: the output sample after the last.

    Returns:
        The output samples, NaN in gaps, and which of them bridge a gap.
    """
    output = np.full(end - first, np.nan)
    for low, high in true_spans(~np.isnan(samples)):
        start = -(-low * ratio.denominator // ratio.numerator)  # first output sample within the range
        stop = int((high - 1) // ratio) + 1
        start, stop = max(start, first), min(stop, end)
        if start < stop:
            output[start - first : stop - first] = _resample_span(samples[low:high], int(low), ratio, start, stop)
    return output, nearest(bridged, ratio, first, end) & ~np.isnan(output)


def nearest(values: NDArray[Value], ratio: Fraction, first: int, end: int) -> NDArray[Value]:
    """The values of the input samples that are nearest to output samples `first` up to `end`."""
    at = (np.arange(first, end) * ratio.numerator + ratio.denominator // 2) // ratio.denominator
    return values[np.minimum(at, len(values) - 1)]


def _resample_span(samples: NDArray[np.float64], low: int, ratio: Fraction, start: int, stop: int) -> NDArray[np.float64]:
    """Output samples `start` up to `stop` of data without gaps, whose first sample is input sample `low`."""
    up, down = ratio.denominator, ratio.numerator
    reach = int(REACH * max(Fraction(1), ratio)) + 1
    ahead = reach + (low - reach) % down  # so that the padded data start where both grids meet
    # A point reflection at either end keeps value and slope.
    padded = np.pad(samples, (ahead, reach), mode="reflect", reflect_type="odd")
    resampled = scipy.signal.resample_poly(padded, up, down, window=_filter(up, down))
    offset = (low - ahead) // down * up  # output sample of the first padded one
    return np.asarray(resampled[start - offset : stop - offset])


@lru_cache(maxsize=8)
def _filter(up: int, down: int) -> NDArray[np.float64]:
    slower = max(up, down)
    taps = scipy.signal.firwin(2 * REACH * slower + 1, PASSED / slower, window=("kaiser", BETA))
    # Each output sample uses every `up`-th tap. All such sets must have the same sum, or an offset would ripple.
    sets = np.pad(taps, (0, -len(taps) % up)).reshape(-1, up)
    return np.asarray((sets / (up * sets.sum(axis=0))).ravel()[: len(taps)])
