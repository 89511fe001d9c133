"""Synthetic records of local earthquakes in SeisBench's format, for the demo and for tests.

They have impulsive and emergent onsets, P on the vertical and S on the horizontals, scattered coda,
coloured noise, dead horizontals, gaps, any unit from m/s to counts, and records of noise only.
No figure of accuracy is measured on them.
"""

import io
from collections.abc import Iterator
from contextlib import redirect_stderr
from pathlib import Path

import numpy as np
import scipy.signal
from numpy.typing import NDArray
from seisbench.data import WaveformDataWriter

from xiaonet.constants import COMPONENTS, SAMPLING_RATE
from xiaonet.data.simulation import Wave, ray_axes

RECORD_SAMPLES = 6001  # 60.00 s
STATIONS_PER_EVENT = 4
P_SPEED = 6.0  # km/s, of the upper crust
S_SPEED = P_SPEED / 1.73  # km/s; 1.73 is the ratio in a Poisson solid
RISE_TIMES = 0.02, 0.15  # s; short is impulsive, long is emergent
NOISE_SHARE, VERTICAL_SHARE, GAP_SHARE = 0.1, 0.1, 0.1  # of the records

SyntheticRecord = tuple[NDArray[np.float32], dict[str, object]]  # waveform and metadata


def write(folder: Path, count: int, seed: int) -> None:
    """Write `metadata.csv` and `waveforms.hdf5` of `count` records to `folder`."""
    # Suppress SeisBench's progress bar, which it prints to the error stream.
    with redirect_stderr(io.StringIO()), WaveformDataWriter(folder / "metadata.csv", folder / "waveforms.hdf5") as writer:
        writer.data_format = {
            "dimension_order": "CW",
            "component_order": COMPONENTS,
            "sampling_rate": SAMPLING_RATE,
            "measurement": "velocity",
            "unit": "mixed",
            "instrument_response": "not restituted",
        }
        for waveform, metadata in make_records(count, seed):
            writer.add_trace(metadata, waveform)


def make_records(count: int, seed: int) -> Iterator[SyntheticRecord]:
    """Make `count` records from a seed.

    Yields:
        Waveform `(3, 6001)`, float32 in E, N, Z order at 100 Hz, and metadata.
    """
    rng = np.random.default_rng(seed)
    for number in range(count):
        event, station = divmod(number, STATIONS_PER_EVENT)
        is_noise = rng.random() < NOISE_SHARE
        metadata: dict[str, object] = {
            "source_id": f"synthetic_{seed}_{event:06d}",
            "station_network_code": "XX",
            "station_code": f"SYN{station}",
            "trace_sampling_rate_hz": SAMPLING_RATE,
            "trace_npts": RECORD_SAMPLES,
            "trace_category": "noise" if is_noise else "earthquake_local",
        }
        waveform = _noise(rng)
        if not is_noise:
            distance = rng.uniform(5, 80)  # km from the hypocentre
            p_sample = int(rng.integers(1000, 3000))
            s_sample = p_sample + round(distance * (1 / S_SPEED - 1 / P_SPEED) * SAMPLING_RATE)
            waveform += 10 ** rng.uniform(0.3, 2.0) * _earthquake(rng, distance, p_sample, s_sample)
            metadata |= {
                "path_hyp_distance_km": distance,
                "trace_p_arrival_sample": p_sample,
                "trace_s_arrival_sample": s_sample,
                "trace_p_status": "manual",
                "trace_s_status": "manual",
            }
            if rng.random() < GAP_SHARE:
                start = s_sample + int(rng.integers(300, 1000))  # after both onsets
                waveform[:, start : start + int(rng.integers(50, 300))] = 0
        if rng.random() < VERTICAL_SHARE:
            waveform[:2] = 0
        gain = 10 ** rng.uniform(-9, 6)  # m/s to counts
        yield (gain * waveform).astype(np.float32), metadata


def _noise(rng: np.random.Generator) -> NDArray[np.float64]:
    """White noise and a microseism, of unit power together. Each component has its own level."""
    white = rng.standard_normal((len(COMPONENTS), RECORD_SAMPLES))
    microseism = scipy.signal.sosfilt(_band(0.1, 1.0), rng.standard_normal(white.shape))
    share = rng.uniform(0, 1)
    mixed = share * white / white.std() + (1 - share) * microseism / microseism.std()
    return np.asarray(mixed * rng.uniform(0.7, 1.4, (len(COMPONENTS), 1)) / mixed.std())


def _earthquake(rng: np.random.Generator, distance: float, p_sample: int, s_sample: int) -> NDArray[np.float32]:
    """P and S with their codas, S at unit peak."""
    corner = float(np.clip(rng.uniform(6, 18) * np.exp(-distance / 120), 2, 20))  # Hz, lower with distance
    decay = rng.uniform(1.0, 3.0) + distance / 40  # s, of the coda
    p_axis, s_axis = ray_axes(np.radians(rng.uniform(5, 35)), rng.uniform(0, 2 * np.pi), rng.uniform(0, 2 * np.pi))
    p_rise, s_rise = rng.uniform(*RISE_TIMES, 2)
    p_wave = Wave(p_sample, p_axis, rng.uniform(0.15, 0.5), 0.3, (1.5 * corner / 4, 1.5 * corner), p_rise, decay)
    s_wave = Wave(s_sample, s_axis, 1.0, 0.4, (corner / 4, corner), s_rise, decay)
    return p_wave.draw(rng, RECORD_SAMPLES) + s_wave.draw(rng, RECORD_SAMPLES)


def _band(low: float, high: float) -> NDArray[np.float64]:
    return np.asarray(scipy.signal.butter(2, (low, high), "bandpass", fs=SAMPLING_RATE, output="sos"))
