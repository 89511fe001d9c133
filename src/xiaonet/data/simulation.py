"""Simulated local earthquakes: P and S of filtered noise, and their codas.

This is the stochastic method of Boore (1983, Bulletin of the Seismological Society of America 73, 1865-1894): an
envelope shapes white noise, and a band around the corner frequency colours it. The filter is causal, so that nothing
comes before an onset.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.signal import butter, lfilter

from xiaonet.constants import COMPONENTS, SAMPLING_RATE

Floats = NDArray[np.float32]

HIGHEST_CORNER = 40.0  # Hz, below the Nyquist frequency


@dataclass(frozen=True)
class Wave:
    """One phase of an earthquake.

    Attributes:
        onset: sample, also outside the window.
        axis: of the direct wave, in E, N, Z.
        height: highest peak of its four parts, the direct wave and three scattered ones, each alone, also outside the window.
        scattered: share of the scattered waves, one on each component.
        band: of frequencies, in Hz.
        rise: time in which the envelope rises, in s; short is impulsive, long is emergent.
        decay: time in which the coda falls to a third, in s.
    """

    onset: float
    axis: NDArray[np.float64]
    height: float
    scattered: float
    band: tuple[float, float]
    rise: float
    decay: float

    def draw(self, rng: np.random.Generator, samples: int) -> Floats:
        """Ground motion `(3, samples)` in E, N, Z order at 100 Hz, zero before the onset."""
        motion = np.zeros((len(COMPONENTS), samples), np.float32)
        first = int(np.floor(self.onset)) + 1  # sample of the motion after the onset
        if first >= samples:
            return motion
        after = (first + np.arange(max(samples, samples - first)) - self.onset) / SAMPLING_RATE  # s, from the onset on
        envelope = (1 - np.exp(-after / self.rise)) * np.exp(-after / self.decay)
        noise = rng.standard_normal((1 + len(COMPONENTS), len(after)), dtype=np.float32) * envelope
        low, high = self.band
        waves = lfilter(*butter(2, (low, min(high, HIGHEST_CORNER)), "bandpass", fs=SAMPLING_RATE), noise, axis=1)
        waves *= self.height / np.abs(waves).max()
        whole = self.axis[:, None] * waves[0] + self.scattered * waves[1:]
        motion[:, max(first, 0) :] = whole[:, max(-first, 0) : samples - first]
        return motion


def ray_axes(incidence: float, azimuth: float, tilt: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Axes of P and of S in E, N, Z.

    Args:
        incidence: of the ray against the vertical, in radians.
        azimuth: of the ray, in radians.
        tilt: of S between SH and SV, in radians.
    """
    radial = np.array([np.sin(azimuth), np.cos(azimuth), 0.0])
    transverse = np.array([np.cos(azimuth), -np.sin(azimuth), 0.0])
    vertical = np.array([0.0, 0.0, 1.0])
    sv_axis = np.cos(incidence) * radial - np.sin(incidence) * vertical
    return np.cos(incidence) * vertical + np.sin(incidence) * radial, np.cos(tilt) * transverse + np.sin(tilt) * sv_axis


def draw_earthquake(rng: np.random.Generator, samples: int) -> tuple[Floats, tuple[float, float]]:
    """Draw an earthquake with P or S in a window.

    S comes 0.5 to 40 s after P and is 1 to 13 times as strong. Corner frequencies are 2 to 25 Hz. One earthquake in
    four has a second P, as of a reflection or a head wave.

    Args:
        rng: decides everything.
        samples: length of the window at 100 Hz.

    Returns:
        Ground motion `(3, samples)`, with a P of about 1, and the samples of P and S, of which one may lie outside.
    """
    between = 10 ** rng.uniform(-0.3, 1.6)  # s
    inside = rng.uniform(-0.02, 1.02) * samples
    p = inside - SAMPLING_RATE * between * (rng.random() < 0.5)
    corner = 10 ** rng.uniform(0.3, 1.4)  # Hz
    p_axis, s_axis = ray_axes(rng.uniform(0, 0.9), rng.uniform(0, 2 * np.pi), rng.uniform(0, 2 * np.pi))

    def wave(delay: float, axis: NDArray[np.float64], corner: float, height: float) -> Floats:
        onset, scattered, band = p + SAMPLING_RATE * delay, rng.uniform(0.1, 0.7), (corner * 10 ** rng.uniform(-1.2, -0.3), corner)
        rise, decay = 10 ** rng.uniform(-2, -0.5), 10 ** rng.uniform(-0.7, 0.5) * (1 + between / 4)
        return Wave(onset, axis, height, scattered, band, rise, decay).draw(rng, samples)

    motion = wave(0, p_axis, corner * rng.uniform(1, 1.6), 1.0) + wave(between, s_axis, corner, 10 ** rng.uniform(0.0, 1.1))
    if rng.random() < 0.25:
        motion += wave(between * rng.uniform(0.03, 0.5), p_axis, corner, 10 ** rng.uniform(-0.5, 0.7))
    return motion, (p, p + SAMPLING_RATE * between)
