"""The picker: probability curves and picks of any stream, on any of the runtimes."""

import warnings
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from xiaonet import __version__
from xiaonet.constants import DISTANCE, PHASES, PICKED_PHASES, SAMPLING_RATE, Runtime, checked_thresholds
from xiaonet.errors import ConfigError, WaveformError
from xiaonet.picking.annotation import Annotation, annotate_chunk, chunks
from xiaonet.picking.picks import Pick, read_picks
from xiaonet.picking.segments import Instrument, Segment, sort_stream
from xiaonet.picking.spans import true_spans
from xiaonet.runtime.cascade import Cascade
from xiaonet.runtime.loading import load_predictor

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from obspy import Stream

PREFILTER_THRESHOLD = 0.05  # probability of P or S from which on the model sees a window


class Picker:
    """Finds P and S in streams of any rate, length and cut.

    Args:
        model: a shipped model, `xiaonet` or `xiaonet-nano`, either with `-int8` for the quantized one, or a
            model file (`.onnx`, `.xml`, `.pth`); several joined by `+` are averaged.
        threshold: least probability of a pick, one for both phases or `{"P": …, "S": …}`; by
            default what the model file advises.
        runtime: `onnxruntime`, `openvino` or `torch`; `auto` takes torch for a `.pth` file, OpenVINO for
            a `.xml` file, else onnxruntime.
        prefilter: a smaller model that sees all windows first; `model` then sees only those in which the
            prefilter finds something. This is faster and loses a few picks in a thousand.
        threads: of the runtime.
        scout: the old name of `prefilter`, accepted for one more release.

    Raises:
        CheckpointError: there is no such model, it is damaged, or made for another contract.
        ConfigError: a threshold is not between 0 and 1, or the runtime is not installed.

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
        scout: str | Path | None = None,
    ) -> None:
        if scout is not None:
            warnings.warn("Picker(scout=…) is now called prefilter=; the old name will be removed", FutureWarning, stacklevel=2)
            prefilter = prefilter or scout
        self.predictor = predictor = load_predictor(model, runtime, threads)
        if prefilter:
            self.predictor = Cascade(load_predictor(prefilter, runtime, threads), predictor, PREFILTER_THRESHOLD)
        self.thresholds = _thresholds(predictor.thresholds, threshold)

    @property
    def provenance(self) -> dict[str, str]:
        """What made the picks: for the head of a file, and to tell one run from another."""
        return {
            "xiaonet": __version__,
            "model": self.predictor.description,
            "digest": self.predictor.digest,
            "runtime": self.predictor.runtime,
            "thresholds": ", ".join(f"{phase} {value:g}" for phase, value in self.thresholds.items()),
        }

    def annotate(self, stream: "Stream") -> "Stream":
        """Probabilities of P, S and noise at 100 Hz.

        An instrument such as `CX.PB01..HH` gives traces `CX.PB01..HH_P`, `HH_S` and `HH_N`; where
        there is no data, there is no trace.

        Raises:
            WaveformError: nothing in the stream can be picked; the reasons are told.
        """
        from obspy import Stream

        annotation = Stream()
        for instrument in self._instruments(stream):
            for segment in instrument.segments:
                seen = [self.annotate_chunk(instrument, segment, *chunk) for chunk in chunks(segment)]
                inside = [chunk.probabilities[:, chunk.first - chunk.start : chunk.end - chunk.start] for chunk in seen]
                annotation += _as_stream(instrument.name, segment, np.concatenate(inside, axis=1))
        return annotation

    def pick(self, stream: "Stream") -> list[Pick]:
        """Picks of all instruments of a stream, in order of time. Raises as `annotate` does."""
        return sorted(
            pick
            for instrument in self._instruments(stream)
            for segment in instrument.segments
            for chunk in chunks(segment)
            for pick in self.read_picks(self.annotate_chunk(instrument, segment, *chunk), instrument, segment)
        )

    def plot(self, stream: "Stream") -> "Figure":
        """Components, probabilities and picks of a stream as a picture; save it by `.savefig("picks.png")`.

        Raises:
            WaveformError: as `annotate` does.
            ModuleNotFoundError: matplotlib is missing.
        """
        from xiaonet.plots.record import BLOCKS, Strip, View, draw_views, find_thinning

        instruments = self._instruments(stream)
        drawn, rest = instruments[:BLOCKS], [instrument.name for instrument in instruments[BLOCKS:]]
        thinning = find_thinning(max(sum(segment.end - segment.first for segment in instrument.segments) for instrument in drawn))
        views = []
        for instrument in drawn:
            picks: list[Pick] = []
            strips = []
            for segment in instrument.segments:
                for first, end in chunks(segment):
                    seen = self.annotate_chunk(instrument, segment, first, end)
                    picks += self.read_picks(seen, instrument, segment)
                    strips.append(Strip.cut(seen, segment, first, end, thinning))
            views.append(View.of(instrument, Strip.join(strips), picks))
        note = f"{len(rest)} more not drawn: {', '.join(rest)}; choose by stream.select(station=…)" if rest else ""
        return draw_views(views, self.thresholds, note)

    def annotate_chunk(self, instrument: Instrument, segment: Segment, first: int, end: int) -> Annotation:
        """Probabilities of samples `first` to `end` of a segment, and of a margin around them."""
        return annotate_chunk(instrument, segment, first, end, self.predictor)

    def read_picks(self, seen: Annotation, instrument: Instrument, segment: Segment) -> list[Pick]:
        """The picks that curves show, in order of time."""
        return read_picks(seen, instrument, segment, self.thresholds, DISTANCE)

    def _instruments(self, stream: "Stream") -> list[Instrument]:
        instruments, skipped = sort_stream(stream)
        if not instruments:
            raise WaveformError(f"nothing to pick: {'; '.join(skipped) or 'the stream is empty'}")
        return instruments


def _thresholds(recommended: Mapping[str, float], chosen: float | Mapping[str, float] | None) -> dict[str, float]:
    if chosen is None:
        chosen = {}
    elif not isinstance(chosen, Mapping):
        chosen = dict.fromkeys(PICKED_PHASES, chosen)
    with suppress(ConfigError):
        values = checked_thresholds({**recommended, **chosen})
        if all(values.values()):
            return values
    raise ConfigError(f"threshold is {dict(chosen)}; wanted a probability above 0 and up to 1 for P and S, e.g. 0.3")


def _as_stream(name: str, segment: Segment, probabilities: NDArray[np.float64]) -> "Stream":
    """A trace for each phase and each stretch with data."""
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
