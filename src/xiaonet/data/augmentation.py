"""Many windows from few records: crops with soft targets, and augmentations beyond the prescribed ones.

A `Pool` holds whole records beside what the teachers say of each of their samples, so that a window
costs no more than a crop. `draw_batch` crops, mixes and disturbs; the prescribed normalisation comes
last. As it scales every component to a peak of 1, random gain, units and components scaled apart
would change nothing, and are left out.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field
from scipy.signal import butter, lfilter, lfilter_zi

from xiaonet.constants import COMPONENTS, DISTANCE, NOISE, SAMPLING_RATE, WINDOW_SAMPLES
from xiaonet.errors import DataError
from xiaonet.picking.picks import find_picks
from xiaonet.picking.windows import normalize

Floats = NDArray[np.float32]

TRIGGER = 0.1  # probability from which on a teacher's peak is something to aim a window at
QUIET = 0.05  # no teacher's probability reaches this in a stretch of noise
CLEAR = 100  # samples before P that noise ends; nearer to it the teachers' peaks begin
QUIET_STEP = 500  # samples between two stretches looked at
REDNESS = (0.0, 0.5, 0.9, 0.98, 0.995)  # of made-up noise: how much of a sample is in the next
LOCAL = 150  # samples around an automatic pick in which it is believed; elsewhere the teachers are


@dataclass(frozen=True)
class Record:
    """A record and what is known of it.

    Attributes:
        source: the group it is drawn from.
        waveform: `(3, samples)` in E, N, Z order at 100 Hz, without offset, any unit.
        target: `(2, samples)` probabilities of P and S by the teachers.
        onsets: labelled samples of P and S; NaN where there is none.
        manual: whether an analyst picked it.
    """

    source: str
    waveform: Floats
    target: NDArray[np.float16]
    onsets: tuple[float, float] = (np.nan, np.nan)
    manual: bool = False

    @property
    def samples(self) -> int:
        """Its length."""
        return int(self.waveform.shape[1])


class Labels(BaseModel):
    """How picks enter the target: what weight they have against the teachers, and how wide they are."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    weight: float = Field(0.5, ge=0, le=1)
    manual_sigma: tuple[float, float] = Field((10.0, 20.0), description="samples, of an analyst's P and of an S, which is less sure")
    automatic_sigma: float = Field(20.0, gt=0, description="samples, of an automatic pick")


class AugmentationProbabilities(BaseModel):
    """Shares of windows that each augmentation changes."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    aimed: float = Field(0.75, ge=0, le=1, description="placed so that an onset falls somewhere in it, edges included")
    silent: float = Field(0.12, ge=0, le=1, description="a stretch of noise instead")
    padded: float = Field(0.12, ge=0, le=1, description="may reach beyond the record's ends")
    stretched: float = Field(0.3, ge=0, le=1, description="in time, by up to a tenth")
    doubled: float = Field(0.12, ge=0, le=1, description="a second window on top, a third to three times as high")
    noisy: float = Field(0.35, ge=0, le=1, description="real noise on top, a hundredth to 0.4 of the peak")
    filtered: float = Field(0.4, ge=0, le=1, description="by a causal filter, as of another instrument or in another unit")
    coloured: float = Field(0.25, ge=0, le=1, description="made-up noise on top, white to red, 0.003 to 0.3 of each component's peak")
    vertical: float = Field(0.22, ge=0, le=1, description="the vertical alone")
    one_horizontal: float = Field(0.08, ge=0, le=1, description="one horizontal missing")
    rotated: float = Field(0.4, ge=0, le=1, description="horizontals turned by any angle")
    swapped: float = Field(0.2, ge=0, le=1, description="horizontals exchanged")
    flipped: float = Field(0.5, ge=0, le=1, description="polarity of a component")
    gap: float = Field(0.05, ge=0, le=1, description="0.03 to 10 s of zeros")
    artefact: float = Field(0.04, ge=0, le=1, description="a spike or a step")


HALF = Labels()
NO_AUGMENTATION = AugmentationProbabilities(**dict.fromkeys(AugmentationProbabilities.model_fields, 0.0))


class Pool:
    """Records to draw windows from, and where in them there is something, or nothing, to see.

    Args:
        records: each of at least a window's length; those of a source without a share are left out.
        shares: how often each source is drawn from; they are scaled to a sum of 1.

    Raises:
        DataError: a source has no records.
    """

    def __init__(self, records: list[Record], shares: dict[str, float]) -> None:
        self.records = records = [record for record in records if record.source in shares]
        self.sources = list(shares)
        self.shares = np.array([shares[source] for source in self.sources]) / sum(shares.values())
        self.rows = {source: [row for row, record in enumerate(records) if record.source == source] for source in self.sources}
        if empty := [source for source, rows in self.rows.items() if not rows]:
            found = ", ".join(sorted({record.source for record in records})) or "none"
            raise DataError(f"there are no {', '.join(empty)} records among those found ({found}); leave the share out, or add such data")
        # Long records are drawn from more often, in proportion to their length.
        self.weights = {source: self._weights(rows) for source, rows in self.rows.items()}
        self.aims = [_aims(record) for record in records]
        quiet = {source: [(row, *stretch) for row in rows for stretch in _quiet(records[row])] for source, rows in self.rows.items()}
        self.quiet = {source: stretches for source, stretches in quiet.items() if stretches}

    def digest(self) -> str:
        """SHA-256 of all that the records hold."""
        running = hashlib.sha256()
        for record in self.records:
            running.update(f"{record.source} {record.onsets} {record.manual}".encode())
            running.update(np.ascontiguousarray(record.waveform).tobytes())
            running.update(np.ascontiguousarray(record.target).tobytes())
        return running.hexdigest()

    def _weights(self, rows: list[int]) -> NDArray[np.float64]:
        lengths = np.array([self.records[row].samples for row in rows], dtype=float)
        return np.asarray(lengths / lengths.sum())

    def draw(self, rng: np.random.Generator) -> int:
        """The row of a record."""
        source = self.sources[rng.choice(len(self.sources), p=self.shares)]
        return int(rng.choice(self.rows[source], p=self.weights[source]))

    def noise(self, rng: np.random.Generator) -> Floats:
        """A window `(3, 3001)` in which no teacher sees anything, of any source alike; mirrored at its end where it is short."""
        stretches = self.quiet[list(self.quiet)[rng.integers(len(self.quiet))]]
        row, low, high = stretches[rng.integers(len(stretches))]
        noise = self.records[row].waveform[:, low:high]
        noise = np.pad(noise - noise.mean(axis=1, keepdims=True), ((0, 0), (0, WINDOW_SAMPLES - noise.shape[1])), mode="reflect")
        return noise[:, ::-1] if rng.random() < 0.5 else noise


def draw_batch(
    pool: Pool, size: int, seed: tuple[int, ...], chances: AugmentationProbabilities = NO_AUGMENTATION, labels: Labels = HALF
) -> tuple[Floats, Floats]:
    """Windows `(size, 3, 3001)`, normalised, and soft targets of the same shape in P, S, noise order.

    Without `chances`, windows are plain crops.

    The same seed gives the same batch, so a run that goes on after an interruption sees what it would have seen.
    """
    rng = np.random.default_rng(seed)
    drawn = [_draw_window(pool, rng, chances, labels) for _ in range(size)]
    return normalize(np.stack([window for window, _ in drawn])), np.stack([_with_noise(target) for _, target in drawn])


def _draw_window(pool: Pool, rng: np.random.Generator, chances: AugmentationProbabilities, labels: Labels) -> tuple[Floats, Floats]:
    if rng.random() < chances.silent and pool.quiet:
        window, target = pool.noise(rng).copy(), np.zeros((NOISE, WINDOW_SAMPLES), np.float32)
    else:
        window, target = _crop(pool, rng, chances, labels)
    if rng.random() < chances.doubled:
        other, more = _crop(pool, rng, chances, labels)
        window = window + other * (_peak(window) / _peak(other) * 10 ** rng.uniform(-0.5, 0.5))
        target = np.maximum(target, more)
    if rng.random() < chances.noisy and pool.quiet:
        noise = pool.noise(rng)
        window = window + noise * (_peak(window) / _peak(noise) * 10 ** rng.uniform(-2.0, -0.4))
    if rng.random() < chances.filtered:
        window = _filtered(window, rng)
    if rng.random() < chances.coloured:
        window = _coloured(window, rng)
    window = _turn(window, rng, chances)
    if rng.random() < chances.gap:
        window, target = _with_gap(window, target, rng)
    if rng.random() < chances.artefact:
        window = _with_artefact(window, rng)
    return window, target


def _crop(pool: Pool, rng: np.random.Generator, chances: AugmentationProbabilities, labels: Labels) -> tuple[Floats, Floats]:
    """A window of a record, perhaps stretched in time, perhaps reaching beyond the record's ends."""
    row = pool.draw(rng)
    record, aims = pool.records[row], pool.aims[row]
    factor = rng.uniform(0.9, 1.1) if rng.random() < chances.stretched else 1.0
    length = min(round(WINDOW_SAMPLES * factor), record.samples)
    if len(aims) and rng.random() < chances.aimed:
        start = int(aims[rng.integers(len(aims))] - rng.uniform(-0.02, 1.02) * length)  # onsets fall everywhere, edges included
    else:
        start = int(rng.integers(record.samples - length + 1))
    outside = rng.random() < chances.padded
    start = min(max(start, -length // 2), record.samples - length // 2) if outside else min(max(start, 0), record.samples - length)
    low, high = max(start, 0), min(start + length, record.samples)
    window = np.zeros((len(COMPONENTS), length), np.float32)
    target = np.zeros((NOISE, length), np.float32)
    part = slice(low - start, high - start)
    window[:, part] = record.waveform[:, low:high]
    window[:, part] -= window[:, part].mean(axis=1, keepdims=True)
    target[:, part] = record.target[:, low:high]
    for phase, onset in enumerate(record.onsets):
        if not np.isnan(onset):
            sigma = labels.manual_sigma[phase] if record.manual else labels.automatic_sigma
            target[phase] = _taught(target[phase], onset - start, labels.weight, sigma, everywhere=record.manual)
    if length == WINDOW_SAMPLES:
        return window, target
    at = np.linspace(0, length - 1, WINDOW_SAMPLES)
    return _stretch(window, at), _stretch(target, at)


def _taught(curve: Floats, onset: float, weight: float, sigma: float, everywhere: bool) -> Floats:
    """The teachers' curve mixed with a pick: all of it with an analyst's, nearby with an automatic one."""
    distance = np.arange(len(curve)) - onset
    label = np.exp(-0.5 * (distance / sigma) ** 2)
    share = weight if everywhere else np.where(np.abs(distance) <= LOCAL, weight, 0.0)
    return np.asarray((1 - share) * curve + share * label, dtype=np.float32)


def _stretch(rows: Floats, at: NDArray[np.float64]) -> Floats:
    samples = np.arange(rows.shape[1])
    return np.stack([np.interp(at, samples, row) for row in rows]).astype(np.float32)


def _turn(window: Floats, rng: np.random.Generator, chances: AugmentationProbabilities) -> Floats:
    """Horizontals turned or swapped, polarities flipped, components dropped."""
    if rng.random() < chances.rotated:
        angle = rng.uniform(0, 2 * np.pi)
        cos, sin = np.float32(np.cos(angle)), np.float32(np.sin(angle))
        east, north = window[0].copy(), window[1].copy()
        window[0], window[1] = cos * east + sin * north, cos * north - sin * east
    if rng.random() < chances.swapped:
        window[[0, 1]] = window[[1, 0]]
    window = window * np.where(rng.random((len(COMPONENTS), 1)) < chances.flipped, -1, 1).astype(np.float32)
    draw = rng.random()
    if draw < chances.vertical:
        window[:2] = 0
    elif draw < chances.vertical + chances.one_horizontal:
        window[rng.integers(2)] = 0
    return window


def _filtered(window: Floats, rng: np.random.Generator) -> Floats:
    """First differences, a leaky sum, a high or a low pass; causal, so that no onset moves early, and at rest at the start."""
    filters: tuple[Callable[[], tuple[Any, Any]], ...] = (
        lambda: ([1, -rng.uniform(0.3, 1)], [1]),
        lambda: ([1], [1, -rng.uniform(0.3, 0.98)]),
        lambda: butter(rng.integers(1, 3), 10 ** rng.uniform(-0.7, 0.6), "high", fs=SAMPLING_RATE),
        lambda: butter(rng.integers(1, 3), rng.uniform(5, 40), "low", fs=SAMPLING_RATE),
    )
    b, a = filters[rng.integers(len(filters))]()
    return np.asarray(lfilter(b, a, window, axis=1, zi=lfilter_zi(b, a) * window[:, :1])[0], dtype=np.float32)


def _coloured(window: Floats, rng: np.random.Generator) -> Floats:
    """Gaussian noise on top, white or as red as a leaky sum makes it."""
    noise = lfilter([1], [1, -rng.choice(REDNESS)], rng.standard_normal(window.shape), axis=1)
    noise -= noise.mean(axis=1, keepdims=True)
    peaks = np.abs(window).max(axis=1, keepdims=True) / np.abs(noise).max(axis=1, keepdims=True)
    return np.asarray(window + noise * peaks * 10 ** rng.uniform(-2.5, -0.5), dtype=np.float32)


def _with_gap(window: Floats, target: Floats, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Zeros over a stretch of all components, in the middle or at an end; nothing is to be found in it."""
    length = int(10 ** rng.uniform(0.5, 3.0))
    start = int(rng.integers(-length // 2, WINDOW_SAMPLES - length // 2))
    gap = slice(max(start, 0), max(start + length, 0))
    window[:, gap] = 0
    target[:, gap] = 0
    return window, target


def _with_artefact(window: Floats, rng: np.random.Generator) -> Floats:
    """A spike or a step on one component or on all, which is no onset."""
    rows = slice(None) if rng.random() < 0.5 else slice(row := int(rng.integers(len(COMPONENTS))), row + 1)
    start = int(rng.integers(WINDOW_SAMPLES))
    end = start + int(rng.integers(1, 4)) if rng.random() < 0.6 else WINDOW_SAMPLES
    window[rows, start:end] += _peak(window) * np.float32(10 ** rng.uniform(-0.7, 0.7) * rng.choice([-1, 1]))
    return window


def _with_noise(target: Floats) -> Floats:
    """P and S, and noise as what is missing to 1."""
    total = np.maximum(target.sum(axis=0), 1e-6)
    target = target * np.minimum(1.0, 1.0 / total).astype(np.float32)
    return np.concatenate([target, np.maximum(1 - target.sum(axis=0, keepdims=True), 0)]).astype(np.float32)


def _peak(window: Floats) -> np.float32:
    return np.float32(max(np.abs(window).max(), np.float32(1e-30)))


def _aims(record: Record) -> NDArray[np.int64]:
    peaks = [find_picks(curve, TRIGGER, DISTANCE)[0] for curve in record.target]
    labelled = np.array([onset for onset in record.onsets if not np.isnan(onset)], dtype=np.int64)
    return np.concatenate([*peaks, labelled])


def _quiet(record: Record) -> list[tuple[int, int]]:
    """First samples and ends of stretches of noise: before P of a labelled record, else where no teacher sees anything."""
    end, length = record.samples, WINDOW_SAMPLES
    if not np.isnan(record.onsets).all():
        end = int(np.nan_to_num(record.onsets[0])) - CLEAR
        length = min(length, max(end, WINDOW_SAMPLES // 2 + 1))
    alive = record.waveform[:, ::50].any(axis=1).all()
    seen = record.target.max(axis=0)
    starts = range(0, end - length + 1, QUIET_STEP)
    return [(start, start + length) for start in starts if alive and seen[start : start + length].max() < QUIET]
