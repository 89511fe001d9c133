"""Find samples that hold no data, and bridge short gaps.

Three things in a continuous record look like an onset but are none:

- A component that does not change for more than 2 s. The sensor or the digitizer was not working.
- Zeros that were written into a gap. The trace jumps to zero and back, far more than it moves beside the jump.
- The two sides of a gap.

The first two become gaps. Gaps of up to 10 s are then bridged by a straight line, so that a network can see
across them, and are marked. Nothing is picked within a marked bridge or close to it.

What was done to a sample is kept as a sum of marks, in an array of bytes.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from xiaonet.picking.spans import true_spans

BRIDGE = 10.0  # s: longest gap that is bridged
SMOOTH = 0.05  # s: a bridge up to this long is not marked; it is too short to look like an onset
FLAT = 2.0  # s: a component that is constant for longer holds no data
BESIDE = 0.5  # s on either side of zeros, to compare the jumps with
JUMP = 5.0  # zeros were written if the trace jumps by more than so many times the mean step beside them

RECORDED = 1  # mark of a sample that was recorded and is used
BRIDGED = 2  # within a bridge of more than `SMOOTH`
STILL = 4  # left out, because the component does not change
WRITTEN = 8  # left out, because it is a zero that was written into a gap
DISPUTED = 16  # two pieces disagree here, and one of them is used
JOINED = 32  # at a jump from one piece to another that disagrees with it
UNSAFE = BRIDGED | JOINED  # could look like an onset

Samples = NDArray[np.float64]
Marks = NDArray[np.uint8]


def to_float(data: NDArray[Any], out: Samples | None = None) -> Samples:
    """Convert samples of any real type to float64, with NaN where they are masked or not finite; into `out` if it is given."""
    values = np.empty(data.shape) if out is None else out
    values[:] = np.asarray(data)
    if data.dtype.kind == "f":
        values[~np.isfinite(values)] = np.nan
    if (mask := getattr(data, "mask", None)) is not None:  # of a masked array; `numpy.ma` is slow to import
        values[mask] = np.nan
    return values


def extremes(samples: Samples) -> tuple[float, float]:
    """Lowest and highest sample, without NaN; infinite if there is none."""
    low, high = samples.min(initial=np.inf), samples.max(initial=-np.inf)
    if np.isnan(low):
        low, high = np.fmin.reduce(samples, initial=np.inf), np.fmax.reduce(samples, initial=-np.inf)
    return float(low), float(high)


def cleaning_reach(rate: float) -> int:
    """Number of samples on either side of a range that `clean` needs to treat the range correctly."""
    return int(BRIDGE * rate) + int(FLAT * rate) + 1 + int(BESIDE * rate) + 1


def clean(samples: Samples, rate: float) -> Marks:
    """Turn samples that hold no data into NaN and bridge short gaps, in place.

    Args:
        samples: `(samples,)` of one channel, NaN in gaps.
        rate: Hz.

    Returns:
        `(samples,)` marks: `RECORDED`, `BRIDGED`, `STILL` and `WRITTEN`.
    """
    still, written = _constant(samples, int(FLAT * rate) + 1), _written_zeros(samples, int(BESIDE * rate))
    for low, high in (*still, *written):
        samples[low:high] = np.nan
    known = ~np.isnan(samples)
    bridges = _bridge(samples, known, int(BRIDGE * rate))
    marks = known.view(np.uint8)  # RECORDED is 1
    for low, high in bridges:
        marks[low:high] = BRIDGED if high - low > int(SMOOTH * rate) else RECORDED
    for low, high in still:
        marks[low:high] |= STILL
    for low, high in written:
        marks[low:high][marks[low:high] & STILL == 0] |= WRITTEN
    return marks


def _constant(samples: Samples, length: int) -> NDArray[np.int64]:
    """First and last-plus-one sample of each run of more than `length` equal samples."""
    few = samples[:: max(length // 8, 1)]  # a quick look: such a run holds at least 7 equal ones of these
    steps = min(length, 7)
    if len(few) <= steps or np.convolve(few[1:] == few[:-1], np.ones(steps), "valid").max() < steps:
        return np.empty((0, 2), dtype=np.int64)
    spans = true_spans(samples[1:] == samples[:-1])
    return spans[spans[:, 1] - spans[:, 0] >= length] + (0, 1)


def _written_zeros(samples: Samples, beside: int) -> NDArray[np.int64]:
    """Ranges of zeros that begin and end with a jump far larger than the steps of `beside` samples on either side."""

    def steps(at: NDArray[np.int64]) -> Samples:
        return np.abs(samples[at + 1] - samples[at])

    low, high = true_spans(samples == 0).T
    near = np.arange(1, beside + 1)
    inside = (low > beside) & (high < len(samples) - beside)
    low, high = low[inside], high[inside]
    jump = np.minimum(steps(low - 1), steps(high - 1))
    for distance in near[:3]:  # rejects most zero crossings early
        larger = ~(jump <= steps(low - 1 - distance)) & ~(jump <= steps(high - 1 + distance))
        low, high, jump = low[larger], high[larger], jump[larger]
    around = steps(np.concatenate([low - 1 - near[:, None], high - 1 + near[:, None]]))
    moves = (around > 0).sum(axis=0)
    apart = (moves > beside) & (jump * moves > JUMP * np.nansum(around, axis=0))
    return np.stack([low[apart], high[apart]], axis=1)


def _bridge(samples: Samples, known: NDArray[np.bool_], longest: int) -> list[tuple[int, int]]:
    """Bridge gaps between `known` samples of up to `longest` samples by straight lines, in place; returns the gaps."""
    data = true_spans(known)
    gaps = np.stack([data[:-1, 1], data[1:, 0]], axis=1)
    bridges: list[tuple[int, int]] = gaps[gaps[:, 1] - gaps[:, 0] <= longest].tolist()
    for low, high in bridges:
        samples[low:high] = np.interp(np.arange(low, high), (low - 1, high), (samples[low - 1], samples[high]))
    return bridges
