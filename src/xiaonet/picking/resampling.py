"""Any sampling rate to 100 Hz, without a shift and without aliases."""

from fractions import Fraction
from functools import lru_cache

import numpy as np
import scipy.signal
from numpy.typing import NDArray

from xiaonet.picking.spans import true_spans

REACH = 24  # samples of the slower rate that the filter sees on either side
PASSED = 0.9  # of the slower Nyquist frequency: the cut-off
BETA = 8.0  # of the Kaiser window: 80 dB


def resample(
    samples: NDArray[np.float64], bridged: NDArray[np.bool_], ratio: Fraction, first: int, end: int
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Samples `first` to `end` of the output, each run of data on its own; NaN stays where nothing is.

    A windowed sinc of even symmetry, so that nothing moves in time; output sample `j` lies at input
    sample `j · ratio`, whatever the start of the data.

    Args:
        samples: `(samples,)` of the input, NaN where there are none.
        bridged: which of them were made up.
        ratio: input samples in an output sample.
        first: first output sample wanted.
        end: the one after the last.
    """
    output = np.full(end - first, np.nan)
    for low, high in true_spans(~np.isnan(samples)):
        start = -(-low * ratio.denominator // ratio.numerator)  # first output sample within the run
        stop = int((high - 1) // ratio) + 1
        start, stop = max(start, first), min(stop, end)
        if start < stop:
            output[start - first : stop - first] = _run(samples[low:high], int(low), ratio, start, stop)
    nearest = np.minimum((np.arange(first, end) * ratio.numerator + ratio.denominator // 2) // ratio.denominator, len(samples) - 1)
    return output, bridged[nearest] & ~np.isnan(output)


def _run(samples: NDArray[np.float64], low: int, ratio: Fraction, start: int, stop: int) -> NDArray[np.float64]:
    """Output samples `start` to `stop` of one run of data, whose first sample is input sample `low`."""
    up, down = ratio.denominator, ratio.numerator
    reach = int(REACH * max(Fraction(1), ratio)) + 1
    ahead = reach + (low - reach) % down  # so that the padded run starts where both grids meet
    # A point reflection at either end goes on with value and slope.
    padded = np.pad(samples, (ahead, reach), mode="reflect", reflect_type="odd")
    resampled = scipy.signal.resample_poly(padded, up, down, window=_filter(up, down))
    offset = (low - ahead) // down * up  # output sample of the first padded one
    return np.asarray(resampled[start - offset : stop - offset])


@lru_cache(maxsize=8)
def _filter(up: int, down: int) -> NDArray[np.float64]:
    slower = max(up, down)
    taps = scipy.signal.firwin(2 * REACH * slower + 1, PASSED / slower, window=("kaiser", BETA))
    # Output samples are made by turns from every `up`-th tap. Each of these sets has the same sum, or an offset would ripple.
    sets = np.pad(taps, (0, -len(taps) % up)).reshape(-1, up)
    return np.asarray((sets / (up * sets.sum(axis=0))).ravel()[: len(taps)])
