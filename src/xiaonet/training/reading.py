"""How a teacher predicts a whole record: in overlapping windows, twice, once with the polarity reversed.

The mean over windows at many places and over both polarities does not depend on where a window begins. A single
window does, by a few samples.
"""

from fractions import Fraction

import numpy as np
import torch
from numpy.typing import NDArray

from xiaonet.constants import NOISE, SAMPLING_RATE
from xiaonet.nn.teacher import Teacher
from xiaonet.picking.resampling import resample
from xiaonet.picking.stacking import Stack

TEACHER_BATCH = 32  # windows given to a teacher at once
SHORT_RECORD_STEP, LONG_RECORD, LONG_RECORD_STEP = 500, 100_000, 900  # samples; the steps are no multiples of 8


@torch.inference_mode()
def predict_record(waveform: NDArray[np.float32], teacher: Teacher) -> NDArray[np.float16]:
    """Predict a record with a teacher.

    Args:
        waveform: `(3, samples)` in E, N, Z order at 100 Hz, in any unit. A record shorter than a window is followed by zeros.
        teacher: has windows and a sampling rate of its own.

    Returns:
        Probabilities `(2, samples)` of P and S.
    """
    samples = waveform.shape[1]
    centred = waveform - waveform.mean(axis=1, keepdims=True)
    ratio = Fraction(SAMPLING_RATE) / Fraction(teacher.sampling_rate)
    record = centred if ratio == 1 else _at_rate(centred, ratio)
    length = record.shape[1]
    record = np.pad(record, ((0, 0), (0, max(0, teacher.window_samples - length))))
    stack = Stack(NOISE, record.shape[1], teacher.window_samples)
    starts = window_starts(length, teacher.window_samples)
    for first in range(0, len(starts), TEACHER_BATCH):
        batch = starts[first : first + TEACHER_BATCH]
        windows = np.stack([record[:, at : at + teacher.window_samples] for at in batch]).astype(np.float32)
        windows -= windows.mean(axis=-1, keepdims=True)
        given = torch.from_numpy(windows)
        mean = (teacher.annotate(given) + teacher.annotate(-given)).numpy() / 2
        for at, curve in zip(batch, mean, strict=True):
            stack.add(curve, at)
    predicted = stack.mean()[:, :length]
    if ratio != 1:
        places = np.arange(samples) / float(ratio)
        predicted = np.stack([np.interp(places, np.arange(length), curve) for curve in predicted])
    return predicted.astype(np.float16)


def describe_reading() -> dict[str, int]:
    """Describe how records are read, for the file of predictions."""
    return {"step": SHORT_RECORD_STEP, "step of long records": LONG_RECORD_STEP, "long records from": LONG_RECORD, "polarities": 2}


def window_starts(samples: int, window_samples: int) -> list[int]:
    """Return the first sample of each window of a record. The last window ends with the record."""
    last = max(0, samples - window_samples)
    return [*range(0, last, SHORT_RECORD_STEP if samples < LONG_RECORD else LONG_RECORD_STEP), last]


def _at_rate(waveform: NDArray[np.float32], ratio: Fraction) -> NDArray[np.float64]:
    samples = waveform.shape[1]
    end, bridged = int((samples - 1) // ratio) + 1, np.zeros(samples, dtype=bool)
    return np.stack([resample(component.astype(np.float64), bridged, ratio, 0, end)[0] for component in waveform])
