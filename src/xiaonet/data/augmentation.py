"""Training windows drawn from a pool of records: crops with soft targets, then random disturbances.

The prescribed normalisation comes last. It scales every component to a peak of 1, so a random gain of
the window or of single components would change nothing.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.signal import butter, lfilter, lfilter_zi

from xiaonet.config.schema import AugmentationSettings, LabelSettings
from xiaonet.constants import COMPONENTS, NOISE, SAMPLING_RATE, WINDOW_SAMPLES
from xiaonet.data.pool import Pool
from xiaonet.data.simulation import draw_earthquake
from xiaonet.picking.windows import normalize

Floats = NDArray[np.float32]

NOISE_FEEDBACK = (0.0, 0.5, 0.9, 0.98, 0.995)  # of synthetic noise: how much of a sample enters the next; from white to red
AUTOMATIC_REACH = 150  # samples around an automatic pick in which the label counts; elsewhere the teachers decide


NO_AUGMENTATION = AugmentationSettings(**dict.fromkeys(AugmentationSettings.model_fields.keys() - {"largest_stretch"}, 0.0))
DEFAULT_LABELS = LabelSettings()


def draw_batch(
    pool: Pool,
    size: int,
    seed: tuple[int, ...],
    augmentation: AugmentationSettings = NO_AUGMENTATION,
    labels: LabelSettings = DEFAULT_LABELS,
) -> tuple[Floats, Floats, Floats]:
    """Draw a batch of windows. The same seed gives the same batch, so an interrupted run resumes exactly.

    Args:
        pool: the records to draw from.
        size: number of windows.
        seed: of all random draws.
        augmentation: probability of each, and how far time is stretched. Without it, windows are plain crops.
        labels: how picks enter the target.

    Returns:
        Normalised windows `(size, 3, 3001)` in E, N, Z order; soft targets of the same shape in P, S, noise order; and
        `(size, 3, 1)`, 0 for each component that the student does not get and 1 for the others.
    """
    rng = np.random.default_rng(seed)
    windows, targets, given = zip(*(_draw_window(pool, rng, augmentation, labels) for _ in range(size)), strict=True)
    return normalize(np.stack(windows)), np.stack([_with_noise_row(target) for target in targets]), np.stack(given)[:, :, None]


def _draw_window(
    pool: Pool, rng: np.random.Generator, augmentation: AugmentationSettings, labels: LabelSettings
) -> tuple[Floats, Floats, Floats]:
    if rng.random() < augmentation.noise_only and pool.quiet:
        window, target = pool.draw_noise(rng).copy(), np.zeros((NOISE, WINDOW_SAMPLES), np.float32)
    elif augmentation.simulated and pool.quiet and rng.random() < augmentation.simulated:
        window, target = _with_simulated_earthquake(pool.draw_noise(rng), rng, labels)
    else:
        window, target = _crop(pool, rng, augmentation, labels)
    if rng.random() < augmentation.superposed:
        other, more = _crop(pool, rng, augmentation, labels)
        window = window + other * (_peak(window) / _peak(other) * 10 ** rng.uniform(-0.5, 0.5))
        target = np.maximum(target, more)
    if rng.random() < augmentation.real_noise and pool.quiet:
        noise = pool.draw_noise(rng)
        window = window + noise * (_peak(window) / _peak(noise) * 10 ** rng.uniform(-2.0, -0.4))
    if rng.random() < augmentation.filtered:
        window = _filtered(window, rng)
    if rng.random() < augmentation.synthetic_noise:
        window = _with_synthetic_noise(window, rng)
    window = _with_changed_components(window, rng, augmentation)
    given = _draw_components(rng, augmentation)
    if rng.random() < augmentation.gap:
        window, target = _with_gap(window, target, rng)
    if rng.random() < augmentation.artefact:
        window = _with_artefact(window, rng)
    return window, target, given


def _crop(pool: Pool, rng: np.random.Generator, augmentation: AugmentationSettings, labels: LabelSettings) -> tuple[Floats, Floats]:
    """Cut a window from a record, perhaps stretched in time or reaching beyond the ends of the record."""
    row = pool.draw_row(rng)
    record, onsets = pool.records[row], pool.onsets[row]
    reach = np.log(augmentation.largest_stretch)
    factor = np.exp(rng.uniform(-reach, reach)) if rng.random() < augmentation.time_stretched else 1.0
    length = min(round(WINDOW_SAMPLES * factor), record.samples)
    if len(onsets) and rng.random() < augmentation.onset_centred:
        start = int(onsets[rng.integers(len(onsets))] - rng.uniform(-0.02, 1.02) * length)
    else:
        start = int(rng.integers(record.samples - length + 1))
    beyond = rng.random() < augmentation.beyond_ends
    start = min(max(start, -length // 2), record.samples - length // 2) if beyond else min(max(start, 0), record.samples - length)
    first, end = max(start, 0), min(start + length, record.samples)
    window = np.zeros((len(COMPONENTS), length), np.float32)
    target = np.zeros((NOISE, length), np.float32)
    inside = slice(first - start, end - start)
    window[:, inside] = record.waveform[:, first:end]
    window[:, inside] -= window[:, inside].mean(axis=1, keepdims=True)
    target[:, inside] = record.target[:, first:end]
    for phase, onset in enumerate(record.onsets):
        if not np.isnan(onset):
            sigma = labels.manual_sigma[phase] if record.manual else labels.automatic_sigma
            width = sigma * length / WINDOW_SAMPLES
            target[phase] = _mix_label(target[phase], onset - start, labels.weight, width, everywhere=record.manual)
    if length == WINDOW_SAMPLES:
        return window, target
    samples = np.linspace(0, length - 1, WINDOW_SAMPLES)
    return _interpolate(window, samples), _interpolate(target, samples)


def _with_simulated_earthquake(noise: Floats, rng: np.random.Generator, labels: LabelSettings) -> tuple[Floats, Floats]:
    """Add an earthquake to noise. Its P has a peak of about 3 to 160 times the standard deviation of the noise."""
    motion, onsets = draw_earthquake(rng, WINDOW_SAMPLES)
    level = noise.std(axis=1, keepdims=True) * rng.uniform(0.7, 1.4, (len(COMPONENTS), 1)) * 10 ** rng.uniform(0.5, 2.2)
    target = np.zeros((NOISE, WINDOW_SAMPLES), np.float32)
    for phase, onset in enumerate(onsets):
        target[phase] = _mix_label(target[phase], onset, 1.0, labels.manual_sigma[phase], everywhere=True)
    return np.asarray(noise + motion * level, dtype=np.float32), target


def _mix_label(curve: Floats, onset: float, weight: float, sigma: float, everywhere: bool) -> Floats:
    """Mix a teacher curve with the label of a pick: everywhere, or near the pick only."""
    distance = np.arange(len(curve)) - onset
    label = np.exp(-0.5 * (distance / sigma) ** 2)
    weights = weight if everywhere else np.where(np.abs(distance) <= AUTOMATIC_REACH, weight, 0.0)
    return np.asarray((1 - weights) * curve + weights * label, dtype=np.float32)


def _interpolate(rows: Floats, samples: NDArray[np.float64]) -> Floats:
    return np.stack([np.interp(samples, np.arange(len(row)), row) for row in rows]).astype(np.float32)


def _with_changed_components(window: Floats, rng: np.random.Generator, augmentation: AugmentationSettings) -> Floats:
    """Rotate or exchange the horizontals, reverse polarities."""
    if rng.random() < augmentation.rotated:
        angle = rng.uniform(0, 2 * np.pi)
        cos, sin = np.float32(np.cos(angle)), np.float32(np.sin(angle))
        east, north = window[0].copy(), window[1].copy()
        window[0], window[1] = cos * east + sin * north, cos * north - sin * east
    if rng.random() < augmentation.swapped:
        window[[0, 1]] = window[[1, 0]]
    return window * np.where(rng.random((len(COMPONENTS), 1)) < augmentation.polarity_reversed, -1, 1).astype(np.float32)


def _draw_components(rng: np.random.Generator, augmentation: AugmentationSettings) -> Floats:
    """Which components the student gets: all, the vertical alone, or the vertical and one horizontal."""
    given, draw = np.ones(len(COMPONENTS), np.float32), rng.random()
    if draw < augmentation.vertical_only:
        given[:2] = 0
    elif draw < augmentation.vertical_only + augmentation.missing_horizontal:
        given[rng.integers(2)] = 0
    return given


def _filtered(window: Floats, rng: np.random.Generator) -> Floats:
    """Apply first differences, a leaky sum, a high pass or a low pass.

    All are causal, so that no onset moves to an earlier time. They start in the steady state of the first sample.
    """
    filters: tuple[Callable[[], tuple[Any, Any]], ...] = (
        lambda: ([1, -rng.uniform(0.3, 1)], [1]),
        lambda: ([1], [1, -rng.uniform(0.3, 0.98)]),
        lambda: butter(rng.integers(1, 3), 10 ** rng.uniform(-0.7, 0.6), "high", fs=SAMPLING_RATE),
        lambda: butter(rng.integers(1, 3), rng.uniform(5, 40), "low", fs=SAMPLING_RATE),
    )
    b, a = filters[rng.integers(len(filters))]()
    return np.asarray(lfilter(b, a, window, axis=1, zi=lfilter_zi(b, a) * window[:, :1])[0], dtype=np.float32)


def _with_synthetic_noise(window: Floats, rng: np.random.Generator) -> Floats:
    """Add Gaussian noise, white or coloured by a leaky sum."""
    noise = lfilter([1], [1, -rng.choice(NOISE_FEEDBACK)], rng.standard_normal(window.shape), axis=1)
    noise -= noise.mean(axis=1, keepdims=True)
    peaks = np.abs(window).max(axis=1, keepdims=True) / np.abs(noise).max(axis=1, keepdims=True)
    return np.asarray(window + noise * peaks * 10 ** rng.uniform(-2.5, -0.5), dtype=np.float32)


def _with_gap(window: Floats, target: Floats, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Set a stretch of all components to zero, in the middle or at an end. The target is zero there too."""
    length = int(10 ** rng.uniform(0.5, 3.0))
    start = int(rng.integers(-length // 2, WINDOW_SAMPLES - length // 2))
    gap = slice(max(start, 0), max(start + length, 0))
    window[:, gap] = 0
    target[:, gap] = 0
    return window, target


def _with_artefact(window: Floats, rng: np.random.Generator) -> Floats:
    """Add a spike or a step to one component or to all. It is not an onset, so the target stays."""
    rows = slice(None) if rng.random() < 0.5 else slice(row := int(rng.integers(len(COMPONENTS))), row + 1)
    start = int(rng.integers(WINDOW_SAMPLES))
    end = start + int(rng.integers(1, 4)) if rng.random() < 0.6 else WINDOW_SAMPLES
    window[rows, start:end] += _peak(window) * np.float32(10 ** rng.uniform(-0.7, 0.7) * rng.choice([-1, 1]))
    return window


def _with_noise_row(target: Floats) -> Floats:
    """Add the noise probability, so that the three sum to 1."""
    total = np.maximum(target.sum(axis=0), 1e-6)
    target = target * np.minimum(1.0, 1.0 / total).astype(np.float32)
    return np.concatenate([target, np.maximum(1 - target.sum(axis=0, keepdims=True), 0)]).astype(np.float32)


def _peak(window: Floats) -> np.float32:
    return np.float32(max(np.abs(window).max(), np.float32(1e-30)))
