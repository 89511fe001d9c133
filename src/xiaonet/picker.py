"""The picker: probabilities and picks of any ObsPy stream, on any of the runtimes."""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from numbers import Real
from pathlib import Path
from typing import TYPE_CHECKING, get_args

import numpy as np
from numpy.typing import NDArray

from xiaonet import __version__
from xiaonet.constants import DISTANCE, PHASES, PICKED_PHASES, SAMPLING_RATE, Runtime, Stacking
from xiaonet.errors import ConfigError, WaveformError, WaveformWarning
from xiaonet.io.inventory import load_inventory
from xiaonet.io.picks import Picks
from xiaonet.picking.amplitudes import Amplitudes, Deconvolution
from xiaonet.picking.annotation import Annotation, annotate_chunk, chunks
from xiaonet.picking.channels import parse_components
from xiaonet.picking.picks import Pick, read_picks
from xiaonet.picking.preference import doubles, one_per_station
from xiaonet.picking.quality import Quality, add_qualities, channel_problems, measure
from xiaonet.picking.segments import Instrument, Segment, sort_stream
from xiaonet.picking.spans import true_spans
from xiaonet.runtime.cascade import Cascade
from xiaonet.runtime.loading import load_predictor

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from obspy import Inventory, Stream

PREFILTER_THRESHOLD = 0.03  # probability of P or S from which on the model sees a window


class Picker:
    """Picks P and S in ObsPy streams of any sampling rate and length.

    Args:
        model: a shipped model, `xiaonet` or `xiaonet-nano`, either with `-int8` for the quantized one, or a
            model file (`.onnx`, `.xml`, `.pth`). Several joined by `+` are averaged.
        threshold: minimum probability of a pick, above 0 and up to 1: a number for both phases or
            `{"P": …, "S": …}`. A phase that is not given has the threshold that the model file advises.
        runtime: `onnxruntime`, `openvino`, `native` or `torch`. `auto` uses torch for a `.pth` file, OpenVINO
            for a `.xml` file, and otherwise native, or onnxruntime where native is missing or the processor has no AVX2.
        prefilter: a smaller model that sees all windows first. `model` then sees only those in which the
            prefilter finds something. This is faster where earthquakes are few, and may lose a few picks in a thousand.
        threads: number of threads of the runtime.
        components: channel codes of components whose names do not show it, such as `E=HHX,N=HHY,Z=HHZ` or `{"E": "HHX", …}`.
        prefer: codes of instruments, best first, such as `HH,BH`: pick one instrument of each station at any time; all by default.
        centred: compute the probabilities around each pick again, in windows centred on it. So a pick does not move when
            the clock of the record is set on or the polarity is reversed. Without it, the picks are those of the
            curves of `annotate`.
        stacking: what is averaged where windows overlap: `waveforms` or `probabilities`; None as the model file says. With
            `probabilities` and without `centred`, the picks are those of the C code for microcontrollers.
        inventory: StationXML file, or inventory of ObsPy, with responses: amplitudes are divided by the sensitivity of their channel,
            and are in m/s, or in m/s**2 for accelerometers. Without it they are in the unit of the record.
        deconvolve: remove the whole instrument response from amplitudes instead: `Deconvolution()`, with the defaults of ObsPy.
        scout: the old name of `prefilter`, accepted for one more release.

    Raises:
        CheckpointError: there is no such model, it is damaged, or it has another input specification.
        ConfigError: an argument has a wrong type or value, or the runtime is not installed.
        DataError: the inventory is missing, or holds no responses.

    Example:
        >>> import obspy, xiaonet
        >>> for pick in xiaonet.Picker().pick(obspy.read()):
        ...     print(pick.phase, pick.time.strftime("%H:%M:%S"))
        P 00:20:07
        S 00:20:08
    """

    def __init__(
        self,
        model: str | Path = "xiaonet",
        threshold: float | Mapping[str, float] | None = None,
        *,
        runtime: Runtime = "auto",
        prefilter: str | Path | None = None,
        threads: int = 1,
        components: str | Mapping[str, str] | None = None,
        prefer: str | Sequence[str] = (),
        centred: bool = True,
        stacking: Stacking | None = None,
        inventory: "str | Path | Inventory | None" = None,
        deconvolve: Deconvolution | None = None,
        scout: str | Path | None = None,
    ) -> None:
        if scout is not None:
            warnings.warn("Picker(scout=…) is now Picker(prefilter=…); the next release will not accept the old name", FutureWarning, 2)
            prefilter = scout if prefilter is None else prefilter
        self.components, self.prefer = parse_components(components), prefer
        self.predictor = predictor = load_predictor(model, runtime, threads)
        if prefilter is not None:
            self.predictor = Cascade(load_predictor(prefilter, runtime, threads), predictor, PREFILTER_THRESHOLD)
        self.thresholds = _thresholds(predictor.thresholds, threshold)
        if stacking is not None and stacking not in get_args(Stacking):
            raise ConfigError(f"stacking is {stacking!r}; wanted {' or '.join(get_args(Stacking))}")
        self.centred, self.stacking = centred, stacking or self.predictor.stacking
        self._add_inventory(inventory, deconvolve)

    @property
    def provenance(self) -> dict[str, str]:
        """Version, model, runtime and thresholds, for the header of a file of picks."""
        return {
            "xiaonet": __version__,
            "model": self.predictor.description,
            "digest": self.predictor.digest,
            "runtime": self.predictor.runtime,
            "windows": f"{'centred' if self.centred else 'grid'}, {self.stacking} averaged",
            "thresholds": ", ".join(f"{phase} {value:g}" for phase, value in self.thresholds.items()),
            **self._amplitudes_said,
        }

    def annotate(self, stream: "Stream") -> "Stream":
        """Compute probabilities of P, S and noise at 100 Hz.

        Args:
            stream: an ObsPy stream, or a trace.

        Returns:
            For an instrument such as `CX.PB01..HH`, traces `CX.PB01..HH_P`, `HH_S` and `HH_N`. Gaps longer
            than 10 s are left out.

        Raises:
            WaveformError: this is not a stream, or no trace in it can be picked; the message gives the reasons.

        Warns:
            WaveformWarning: a trace or a part of it is left out, with the reason.
        """
        instruments, problems = self._instruments(stream)
        from obspy import Stream

        probabilities = Stream()
        channels: dict[str, Quality] = {}
        for instrument in instruments:
            for segment in instrument.segments:
                parts = list(self._annotated(instrument, segment, channels))
                inside = [part.probabilities[:, part.first - part.start : part.end - part.start] for part in parts]
                probabilities += _as_stream(instrument.name, segment, np.concatenate(inside, axis=1))
        _warn(problems, channels)
        return probabilities

    def pick(self, stream: "Stream") -> Picks:
        """Pick all instruments of a stream.

        Arguments, errors and warnings are those of `annotate`.

        Returns:
            The picks in order of time: a list that prints as a table, with `.to_dataframe()` and `.write("picks.csv")`.
        """
        instruments, problems = self._instruments(stream)
        channels: dict[str, Quality] = {}
        picks = [
            pick
            for instrument in instruments
            for segment in instrument.segments
            for annotation in self._annotated(instrument, segment, channels)
            for pick in self.read_picks(annotation, instrument, segment)
        ]
        _warn(problems, channels)
        return Picks(sorted(picks), self.provenance)

    def plot(self, stream: "Stream") -> "Figure":
        """Draw components, probabilities and picks of a stream.

        A notebook shows the figure where it is the last line of a cell. `.savefig("picks.png")` saves it.

        Raises:
            WaveformError: as `annotate` does.
            ModuleNotFoundError: matplotlib is missing.

        Warns:
            WaveformWarning: as `annotate` does.
        """
        from xiaonet.plots.record import BLOCKS, Strip, View, draw_views, find_thinning

        instruments, problems = self._instruments(stream)
        channels: dict[str, Quality] = {}
        drawn, rest = instruments[:BLOCKS], [instrument.name for instrument in instruments[BLOCKS:]]
        thinning = find_thinning(max(sum(segment.end - segment.first for segment in instrument.segments) for instrument in drawn))
        views = []
        for instrument in drawn:
            picks: list[Pick] = []
            strips = []
            for segment in instrument.segments:
                for annotation in self._annotated(instrument, segment, channels):
                    picks += self.read_picks(annotation, instrument, segment)
                    strips.append(Strip.cut(annotation, segment, annotation.first, annotation.end, thinning))
            views.append(View.of(instrument, Strip.join(strips), picks))
        _warn(problems, channels)
        note = f"{len(rest)} more not drawn: {', '.join(rest)}; choose a station with stream.select(station=…)" if rest else ""
        return draw_views(views, self.thresholds, note)

    def annotate_chunk(self, instrument: Instrument, segment: Segment, first: int, end: int) -> Annotation:
        """Compute probabilities of samples `first` up to `end` of a segment, and of a margin around them."""
        on_record = self.predictor.curves if self.stacking == "waveforms" else None
        return annotate_chunk(instrument, segment, first, end, self.predictor, on_record)

    def read_picks(self, annotation: Annotation, instrument: Instrument, segment: Segment) -> list[Pick]:
        """Read the picks of an annotated chunk, in order of time."""
        around = self.predictor.around if self.centred else None
        picks = read_picks(annotation, instrument, segment, self.thresholds, DISTANCE, around)
        return self.amplitudes.convert(picks, annotation, instrument, segment) if self.amplitudes else picks

    def amplitude_problems(self, instrument: Instrument, segments: Sequence[Segment]) -> list[str]:
        """Channels of an instrument with data in segments whose amplitudes stay in counts, each with the reason."""
        if self.amplitudes is None or not segments:
            return []
        return list(self.amplitudes.problems(instrument, segments[0].time_ns(segments[0].first), segments[-1].time_ns(segments[-1].end)))

    def _add_inventory(self, inventory: "str | Path | Inventory | None", deconvolve: Deconvolution | None) -> None:
        """Set what converts amplitudes, and what the provenance says about it."""
        self.amplitudes: Amplitudes | None = None
        self._amplitudes_said: dict[str, str] = {}
        if inventory is not None:
            stations, name = load_inventory(inventory)
            self.amplitudes = Amplitudes(stations, deconvolve)
            self._amplitudes_said = {"inventory": name, "amplitudes": str(deconvolve or "divided by sensitivity")}
        elif deconvolve is not None:
            raise ConfigError("deconvolution needs the instrument responses; give an inventory too, such as station.xml")

    def _annotated(self, instrument: Instrument, segment: Segment, channels: dict[str, Quality]) -> Iterator[Annotation]:
        """The chunks of a segment; adds the quality of each channel to `channels`."""
        for first, end in chunks(segment):
            annotation = self.annotate_chunk(instrument, segment, first, end)
            add_qualities(channels, measure(annotation, begins=first == segment.first)[1])
            yield annotation

    def _instruments(self, stream: "Stream") -> tuple[list[Instrument], list[str]]:
        """The instruments of a stream; and what to warn of: traces that are left out, and stations with several instruments."""
        instruments, skipped = sort_stream(stream, self.components)
        instruments, left_out = one_per_station(instruments, self.prefer)
        skipped += left_out
        if not instruments:
            raise WaveformError(f"nothing to pick: {'; '.join(skipped) or 'the stream is empty'}")
        several = "an arrival may have several picks; for one set each: Picker(prefer='HH,BH,EH,HN')"
        skipped += [f"{note}; {several}" for note in doubles(instruments)]
        return instruments, skipped + [
            problem for instrument in instruments for problem in self.amplitude_problems(instrument, instrument.segments)
        ]


def _thresholds(advised: Mapping[str, float], chosen: float | Mapping[str, float] | None) -> dict[str, float]:
    given = chosen if isinstance(chosen, Mapping) else dict.fromkeys(PICKED_PHASES, chosen) if chosen is not None else {}
    values = {**advised, **given}
    if values.keys() != set(PICKED_PHASES) or not all(map(_is_threshold, values.values())):
        seen = values if chosen is None else chosen
        raise ConfigError(f"threshold is {seen!r}; wanted a probability above 0 and up to 1 for {' and '.join(PICKED_PHASES)}, e.g. 0.3")
    return {phase: float(values[phase]) for phase in PICKED_PHASES}


def _warn(problems: Sequence[str], channels: Mapping[str, Quality]) -> None:
    """Warn the caller of the caller about each trace and channel that is left out."""
    for problem in dict.fromkeys([*problems, *channel_problems(channels)]):
        warnings.warn(problem, WaveformWarning, stacklevel=3)


def _is_threshold(value: object) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool) and 0 < float(value) <= 1


def _as_stream(name: str, segment: Segment, probabilities: NDArray[np.floating]) -> "Stream":
    """A trace for each phase and each range with data."""
    from obspy import Stream, Trace, UTCDateTime

    network, station, location, code = name.split(".")
    return Stream(
        Trace(
            curve[low:high].astype(np.float32),
            {
                "network": network,
                "station": station,
                "location": location,
                "channel": f"{code}_{phase}",
                "starttime": UTCDateTime(ns=int(segment.time_ns(segment.first + int(low)))),
                "sampling_rate": SAMPLING_RATE,
            },
        )
        for low, high in true_spans(~np.isnan(probabilities[0]))
        for phase, curve in zip(PHASES, probabilities, strict=True)
    )
