"""Amplitudes in units of ground motion, from the instrument responses of an inventory.

An amplitude in counts is divided by the sensitivity of its channel. This is right for the frequencies at which the response of
the instrument is flat. A deconvolution removes the response at all frequencies. It is made once for each hour, of the hour
and more than a minute on either side of it, so that the taper touches no pick.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from math import inf, isfinite
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from xiaonet.constants import COMPONENTS, SAMPLE_NS, SAMPLING_RATE, SECOND_NS
from xiaonet.errors import ConfigError, DataError
from xiaonet.picking.annotation import CHUNK, MARGIN, Annotation
from xiaonet.picking.cleaning import BRIDGED, RECORDED, Samples
from xiaonet.picking.picks import AFTER, BEFORE, Pick, amplitude_and_snr
from xiaonet.picking.segments import Instrument, Segment

if TYPE_CHECKING:
    from obspy import Inventory
    from obspy.core.inventory import Response

GROUND_MOTION = {"m": "DISP", "m/s": "VEL", "m/s**2": "ACC"}  # our units, and what ObsPy calls them
SPELLINGS = {"m/s/s": "m/s**2", "m/s^2": "m/s**2", "m/s2": "m/s**2", "m/(s**2)": "m/s**2"}  # of units in inventories
PREFIXES = {"n": 1e-9, "u": 1e-6, "m": 1e-3, "c": 1e-2}  # nm/s is told as m/s
TAPER = 60 * int(SAMPLING_RATE)  # samples on either side of an hour and its margins
DECONVOLVED = CHUNK + 2 * (MARGIN + TAPER)  # samples
CACHED_RESPONSES = 24  # 3 MB each
EVALRESP = Lock()  # it has global variables


@dataclass(frozen=True)
class Deconvolution:
    """How to remove instrument responses, with the words and the defaults of ObsPy's `remove_response`.

    Args:
        water_level: dB below the largest amplitude of the response; lower amplitudes are raised to it. None: no water level.
        pre_filt: four frequencies in Hz. The spectrum is kept between the middle two and is zero outside the outer two.

    Raises:
        ConfigError: the frequencies do not rise, or a value is not a number.
    """

    water_level: float | None = 60.0
    pre_filt: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        if self.water_level is not None and not (isfinite(self.water_level) and self.water_level >= 0):
            raise ConfigError(f"the water level is {self.water_level!r}; wanted 0 dB or more, such as 60")
        if self.pre_filt is None:
            return
        corners = tuple(self.pre_filt)
        if len(corners) != 4 or not all(map(isfinite, corners)) or list(corners) != sorted({*corners}) or corners[0] < 0:
            raise ConfigError(f"the pre-filter is {corners}; wanted four rising frequencies in Hz, such as 0.5, 1, 40, 45")

    def __str__(self) -> str:
        corners = f"pre-filter {', '.join(f'{corner:g}' for corner in self.pre_filt)} Hz" if self.pre_filt else "no pre-filter"
        level = "no water level" if self.water_level is None else f"water level {self.water_level:g} dB"
        return f"deconvolved, {level}, {corners}"


@dataclass(frozen=True, eq=False)
class _Epoch:
    """A channel between two times, in nanoseconds since 1970: its response, or why it cannot be used."""

    start_ns: float
    end_ns: float
    response: "Response"
    unit: str = ""
    sensitivity: float = 1.0  # counts per unit
    reason: str = ""


class Amplitudes:
    """Converts amplitudes of picks to the unit of the sensor: m/s, m/s**2 or m.

    Args:
        inventory: with responses.
        deconvolution: how to remove the response; None divides by the sensitivity.

    Raises:
        DataError: no channel of the inventory has a response.
    """

    def __init__(self, inventory: "Inventory", deconvolution: Deconvolution | None = None) -> None:
        self.deconvolution = deconvolution
        self._channels: dict[str, list[Any]] = {}
        for network in inventory:
            for station in network:
                for channel in station:
                    name = f"{network.code}.{station.code}.{channel.location_code}.{channel.code}"
                    self._channels.setdefault(name, []).append(channel)
        if not any(channel.response for epochs in self._channels.values() for channel in epochs):
            raise DataError('the inventory holds no responses; wanted one with them, such as of FDSN with level="response"')
        self._epochs = cache(self._find_epochs)
        self._inverse = lru_cache(CACHED_RESPONSES)(self._evaluate)

    def convert(self, picks: list[Pick], annotation: Annotation, instrument: Instrument, segment: Segment) -> list[Pick]:
        """Convert the amplitudes of the picks of a chunk. Where a channel has no response, they stay in counts."""
        motions: dict[tuple[_Epoch | None, ...], Samples] = {}
        converted = []
        for pick in picks:
            at = (pick.time_ns - segment.time_ns(annotation.start) + SAMPLE_NS // 2) // SAMPLE_NS
            epochs = self._epochs_at(pick.time_ns, at, annotation, instrument)
            used = [epoch for epoch in epochs if epoch is not None]
            if not used or any(epoch.reason for epoch in used) or len({epoch.unit for epoch in used}) > 1:
                converted.append(pick)
                continue
            first = max(at + BEFORE.start, 0)
            part = slice(first, at + AFTER.stop)
            if self.deconvolution is None:
                motion = annotation.waveform[:, part] / np.array([[epoch.sensitivity if epoch else np.nan] for epoch in epochs])
            else:
                if epochs not in motions:
                    motions[epochs] = self._ground_motion(annotation, instrument, segment, epochs)
                motion = motions[epochs][:, part]
            converted.append(replace(pick, amplitude=amplitude_and_snr(motion, at - first)[0], unit=used[0].unit))
        return converted

    def problems(self, instrument: Instrument, first_ns: int, end_ns: int) -> Iterator[str]:
        """Name the channels of an instrument that have no response between two times, each with the reason."""
        for channels in instrument.recorded.values():
            for (seed_id, _), index in channels.items():
                spans = [(max(piece.start_ns, first_ns), min(piece.end_ns, end_ns)) for piece in index.find(first_ns, end_ns)]
                if not spans:
                    continue
                if not self._epochs(seed_id):
                    yield f"{seed_id}: not in the inventory; its amplitudes stay in counts"
                for start_ns, stop_ns in self._uncovered(seed_id, spans):
                    span = f"from {_iso(start_ns)} to {_iso(stop_ns)}"
                    yield f"{seed_id}: no epoch in the inventory {span}; its amplitudes stay in counts there"
                for epoch in self._epochs(seed_id):
                    if epoch.reason and any(epoch.start_ns < stop_ns and epoch.end_ns > start_ns for start_ns, stop_ns in spans):
                        yield f"{seed_id}: {epoch.reason}; its amplitudes stay in counts"

    def _uncovered(self, seed_id: str, spans: list[tuple[int, int]]) -> Iterator[tuple[int, int]]:
        """The times between epochs, as far as time ranges are within them."""
        end_ns = -inf
        for epoch in [*self._epochs(seed_id), _NOWHERE] if self._epochs(seed_id) else ():
            within = [(start, stop) for start, stop in spans if start < epoch.start_ns and stop > end_ns]
            if within and epoch.start_ns > end_ns:
                yield int(max(end_ns, min(within)[0])), int(min(epoch.start_ns, max(stop for _, stop in within)))
            end_ns = max(end_ns, epoch.end_ns)

    def _epochs_at(self, time_ns: int, at: int, annotation: Annotation, instrument: Instrument) -> tuple[_Epoch | None, ...]:
        """The epoch of each component with data after a pick; one without a response if the inventory has none."""
        return tuple(
            self._epoch(_channel(instrument, component, annotation, at), time_ns) if (~np.isnan(row)).any() else None
            for component, row in zip(COMPONENTS, annotation.waveform[:, at : at + AFTER.stop], strict=True)
        )

    def _epoch(self, seed_id: str, time_ns: int) -> _Epoch:
        covering = [epoch for epoch in self._epochs(seed_id) if epoch.start_ns <= time_ns < epoch.end_ns]
        return covering[-1] if covering else _NOWHERE

    def _find_epochs(self, seed_id: str) -> list[_Epoch]:
        return sorted((self._read_epoch(channel) for channel in self._channels.get(seed_id, ())), key=lambda epoch: epoch.start_ns)

    def _read_epoch(self, channel: Any) -> _Epoch:
        start_ns = -inf if channel.start_date is None else channel.start_date.ns
        end_ns = inf if channel.end_date is None else channel.end_date.ns + SECOND_NS  # many epochs end at 23:59:59
        response = channel.response
        given = response and response.instrument_sensitivity
        if not given or not given.value or not isfinite(given.value):
            missing = "a sensitivity" if response else "a response"
            return _Epoch(start_ns, end_ns, response, reason=f"the inventory does not give {missing}")
        unit, scale = _unit(given.input_units or "")
        if not unit:
            return _Epoch(start_ns, end_ns, response, reason=f"its sensor measures {given.input_units!r}, no ground motion")
        reason = self._why_no_deconvolution(response, unit) if self.deconvolution else ""
        return _Epoch(start_ns, end_ns, response, unit, abs(given.value) / scale, reason)

    def _why_no_deconvolution(self, response: "Response", unit: str) -> str:
        try:
            with EVALRESP:
                response.get_evalresp_response_for_frequencies([1.0], output=GROUND_MOTION[unit])
        except Exception as error:  # of ObsPy or evalresp, about any response
            return f"its response cannot be evaluated: {error}"
        return ""

    def _evaluate(self, epoch: _Epoch) -> NDArray[np.complex64]:
        """The inverse of a response, as ObsPy's `remove_response` computes it, of a transform twice as long as the samples."""
        from obspy.signal.invsim import cosine_sac_taper, invert_spectrum

        assert self.deconvolution is not None
        with EVALRESP:
            response, frequencies = epoch.response.get_evalresp_response(
                1 / SAMPLING_RATE, 2 * DECONVOLVED, output=GROUND_MOTION[epoch.unit]
            )
        if self.deconvolution.water_level is None:
            response[0] = 0
            response[1:] = 1 / response[1:]
        else:
            invert_spectrum(response, self.deconvolution.water_level)
        if self.deconvolution.pre_filt:
            response *= cosine_sac_taper(frequencies, flimit=self.deconvolution.pre_filt)
        return np.asarray(response, dtype=np.complex64)

    def _ground_motion(
        self, annotation: Annotation, instrument: Instrument, segment: Segment, epochs: tuple[_Epoch | None, ...]
    ) -> Samples:
        """The waveform of an annotation without the responses. The hour is always the same one, however a record is cut."""
        first = annotation.first // CHUNK * CHUNK - MARGIN - TAPER
        hour = instrument.read(segment, first, first + DECONVOLVED).waveform
        motion = np.full_like(hour, np.nan)
        for row, epoch in enumerate(epochs):
            if epoch is not None:
                motion[row] = _deconvolve(hour[row], self._inverse(epoch))
        return motion[:, annotation.start - first :][:, : annotation.waveform.shape[1]]


_NOWHERE = _Epoch(inf, inf, None, reason="not in the inventory")


def _channel(instrument: Instrument, component: str, annotation: Annotation, at: int) -> str:
    """The channel that a component is read from at a sample: the first one with data there."""
    names = [seed_id for seed_id, _ in instrument.recorded[component]]
    conditions = annotation.conditions
    with_data = (name for name in names if name in conditions and conditions[name].marks[at] & (RECORDED | BRIDGED))
    return next(with_data, names[0])


def _unit(text: str) -> tuple[str, float]:
    """The unit of ground motion that a text names, and how much of it that is; empty for another quantity."""
    unit = text.strip().lower()
    unit = SPELLINGS.get(unit, unit)
    if unit in GROUND_MOTION:
        return unit, 1.0
    prefix, rest = unit[:1], SPELLINGS.get(unit[1:], unit[1:])
    return (rest, PREFIXES[prefix]) if prefix in PREFIXES and rest in GROUND_MOTION else ("", 1.0)


def _deconvolve(samples: Samples, inverse: NDArray[np.complex64]) -> Samples:
    """Remove a response from `DECONVOLVED` samples of a component. Gaps are bridged for that, and are gaps again afterwards."""
    known = ~np.isnan(samples)
    if not known.any():
        return samples
    places = np.arange(len(samples))
    bridged = np.interp(places, places[known], samples[known])
    ramp = (1 - np.cos(np.pi * np.arange(TAPER) / TAPER)) / 2
    bridged -= bridged.mean()
    bridged[:TAPER] *= ramp
    bridged[-TAPER:] *= ramp[::-1]
    motion = np.fft.irfft(np.fft.rfft(bridged, 2 * len(samples)) * inverse, 2 * len(samples))[: len(samples)]
    motion[~known] = np.nan
    return motion


def _iso(time_ns: int) -> str:
    return f"{np.datetime64(time_ns, 'ns').astype('datetime64[s]')}"
