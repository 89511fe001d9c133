"""The picker: probability curves and picks of any stream, on any of the runtimes."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from xiaonet import __version__
from xiaonet.constants import DISTANCE, PHASES, PICKED_PHASES, SAMPLING_RATE, Runtime
from xiaonet.errors import ConfigError, WaveformError
from xiaonet.picking.annotation import Annotation, chunks, curves
from xiaonet.picking.picks import Pick, read_picks
from xiaonet.picking.segments import Instrument, Run, sort_stream
from xiaonet.runtime.predictors import Cascade, load_predictor

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from obspy import Stream

PREFILTER_HEIGHT = 0.05  # probability from which on a scout calls the model


class Picker:
    """Finds P and S in streams of any rate, length and cut.

    Args:
        model: a shipped model, `xiaonet` or `xiaonet-nano`, either with `-int8` for the quantized one, or a
            model file (`.onnx`, `.xml`, `.pth`); several joined by `+` are averaged.
        threshold: least probability of a pick, one for both phases or `{"P": …, "S": …}`; by
            default what the model file advises.
        runtime: `onnxruntime`, `openvino` or `torch`; `auto` takes torch for a `.pth` file, OpenVINO for
            a `.xml` file, else onnxruntime.
        scout: a smaller model that looks first; `model` then sees only windows in which the scout
            sees something. Faster, and a few picks in a thousand are lost.
        threads: of the runtime.

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
        scout: str | Path | None = None,
        threads: int = 1,
    ) -> None:
        predictor = load_predictor(model, runtime, threads)
        self.predictor = Cascade(load_predictor(scout, runtime, threads), predictor, PREFILTER_HEIGHT) if scout else predictor
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
            for run in instrument.runs:
                seen = [self.curves(instrument, run, *chunk) for chunk in chunks(run)]
                inside = [chunk.probabilities[:, chunk.first - chunk.start : chunk.end - chunk.start] for chunk in seen]
                annotation += _as_stream(instrument.name, run, np.concatenate(inside, axis=1))
        return annotation

    def pick(self, stream: "Stream") -> list[Pick]:
        """Picks of all instruments of a stream, in order of time. Raises as `annotate` does."""
        return sorted(
            pick
            for instrument in self._instruments(stream)
            for run in instrument.runs
            for chunk in chunks(run)
            for pick in self.read(self.curves(instrument, run, *chunk), instrument, run)
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
        thinning = find_thinning(max(sum(run.end - run.first for run in instrument.runs) for instrument in drawn))
        views = []
        for instrument in drawn:
            picks: list[Pick] = []
            strips = []
            for run in instrument.runs:
                for first, end in chunks(run):
                    seen = self.curves(instrument, run, first, end)
                    picks += self.read(seen, instrument, run)
                    strips.append(Strip.cut(seen, run, first, end, thinning))
            views.append(View.of(instrument, Strip.join(strips), picks))
        note = f"{len(rest)} more not drawn: {', '.join(rest)}; choose by stream.select(station=…)" if rest else ""
        return draw_views(views, self.thresholds, note)

    def curves(self, instrument: Instrument, run: Run, first: int, end: int) -> Annotation:
        """Probabilities of samples `first` to `end` of a run, and of a margin around them."""
        return curves(instrument, run, first, end, self.predictor)

    def read(self, seen: Annotation, instrument: Instrument, run: Run) -> list[Pick]:
        """The picks that curves show, in order of time."""
        return read_picks(seen, instrument, run, self.thresholds, DISTANCE)

    def _instruments(self, stream: "Stream") -> list[Instrument]:
        instruments, skipped = sort_stream(stream)
        if not instruments:
            raise WaveformError(f"nothing to pick: {'; '.join(skipped) or 'the stream is empty'}")
        return instruments


def _thresholds(advised: Mapping[str, float], chosen: float | Mapping[str, float] | None) -> dict[str, float]:
    phases = PICKED_PHASES
    if chosen is None:
        chosen = {}
    elif not isinstance(chosen, Mapping):
        chosen = dict.fromkeys(phases, chosen)
    unknown = chosen.keys() - set(phases)
    values = {phase: float(chosen.get(phase, advised[phase])) for phase in phases}
    if unknown or not all(0 < value <= 1 for value in values.values()):
        raise ConfigError(f"threshold is {dict(chosen)}; wanted a probability above 0 and up to 1 for {' and '.join(phases)}, e.g. 0.3")
    return values


def _as_stream(name: str, run: Run, probabilities: NDArray[np.float64]) -> "Stream":
    """A trace for each phase and each stretch with data."""
    from obspy import Stream, Trace, UTCDateTime

    network, station, location, code = name.split(".")
    known = ~np.isnan(probabilities[0])
    stretches = np.flatnonzero(np.diff(known.astype(np.int8), prepend=0, append=0)).reshape(-1, 2)
    return Stream(
        Trace(
            curve[low:high].astype(np.float32),
            {
                "network": network,
                "station": station,
                "location": location,
                "channel": f"{code}_{phase}",
                "starttime": UTCDateTime(ns=int(run.time_ns(run.first + int(low)))),
                "sampling_rate": SAMPLING_RATE,
            },
        )
        for low, high in stretches
        for phase, curve in zip(PHASES, probabilities, strict=True)
    )
