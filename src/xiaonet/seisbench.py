"""XiaoNet as a SeisBench model, with the same weights and the same probabilities."""

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from obspy import Stream, Trace, UTCDateTime

if __name__ == "seisbench":
    raise ImportError(
        "this is xiaonet/seisbench.py, not SeisBench: the folder of the package xiaonet is on Python's path; run from another folder"
    )

from seisbench.models import PhaseNet, WaveformModel
from seisbench.util import PickList
from torch import Tensor

from xiaonet.constants import COMPONENTS, PHASES, SAMPLING_RATE, WINDOW_SAMPLES
from xiaonet.errors import CheckpointError, WaveformWarning
from xiaonet.nn.checkpoint import FP32, INT8, load_model, read_model_file
from xiaonet.nn.model import XiaoNet as Network
from xiaonet.nn.quantized import QuantizedXiaoNet
from xiaonet.picking.channels import NO_COMPONENTS
from xiaonet.picking.cleaning import to_float
from xiaonet.picking.picks import onsets
from xiaonet.picking.preference import doubles
from xiaonet.picking.quality import Quality, add_qualities, channel_problems
from xiaonet.picking.segments import sort_stream, why_unusable_trace
from xiaonet.picking.windows import fill_nonfinite, normalize
from xiaonet.shipped import model_path, shipped_models

CITATION = (
    "XiaoNet, distilled from PhaseNet: Zhu, W., & Beroza, G. C. (2019). PhaseNet: a deep-neural-network-based seismic "
    "arrival-time picking method. Geophysical Journal International, 216(1), 261-273. https://doi.org/10.1093/gji/ggy423"
)
SHIPPED_VERSION = "1"
RECORDED_AS = "recorded_as"  # entry of a trace's header: the channel as the record names it


class XiaoNet(WaveformModel):
    """XiaoNet with `annotate`, `classify`, `save`, `load` and the other methods of SeisBench models.

    Picking, overlap, stacking and blinding follow SeisBench's PhaseNet. Onsets are read between samples, as in the picker.
    The thresholds come with the weights. Records shorter than a window are picked, too.

    Channels are sorted into components by the rules of the picker; `flexible_horizontal_components` has no effect. What is left out is
    named in a `xiaonet.errors.WaveformWarning`.

    Args:
        precision: `fp32`, or `int8` for weights from `xiaonet quantize`.
        **arguments: of `xiaonet.XiaoNet`, such as `base_channels`.

    Example:
        >>> import obspy
        >>> for pick in XiaoNet.from_pretrained("xiaonet").classify(obspy.read()).picks:
        ...     print(pick.phase, pick.peak_time.strftime("%H:%M:%S"))
        P 00:20:07
        S 00:20:08
    """

    _annotate_args = PhaseNet._annotate_args
    annotate_batch_post = PhaseNet.annotate_batch_post
    classify_aggregate = PhaseNet.classify_aggregate

    def __init__(self, *, precision: str = FP32, **arguments: Any) -> None:
        super().__init__(
            citation=CITATION,
            component_order=COMPONENTS,
            sampling_rate=SAMPLING_RATE,
            output_type="array",
            in_samples=WINDOW_SAMPLES,
            pred_sample=(0, WINDOW_SAMPLES),
            labels=PHASES,
        )
        self.network = (QuantizedXiaoNet if precision == INT8 else Network)(**arguments)

    @classmethod
    def from_file(cls, path: str | Path) -> Self:
        """Load weights and thresholds from a `.pth` model file, as `xiaonet train` writes it.

        Raises:
            CheckpointError: see `xiaonet.load_model`.
        """
        content, network = read_model_file(path), load_model(path)
        model = cls(precision=content["precision"], **network.arguments)
        model.network.load_state_dict(network.state_dict())
        model._weights_metadata = {
            "docstring": content["provenance"].get("note", ""),
            "version": SHIPPED_VERSION,
            "default_args": {f"{phase}_threshold": height for phase, height in content["thresholds"].items()},
        }
        model._parse_metadata()
        model.eval()
        return model

    @classmethod
    def from_pretrained(
        cls, name: str, version_str: str = "latest", update: bool = False, force: bool = False, wait_for_file: bool = False
    ) -> Self:
        """Load a shipped model, which needs no download, or weights from SeisBench's cache.

        Args:
            name: `xiaonet`, `xiaonet-nano`, either with `-int8`, or weights in SeisBench's cache.
            version_str: of the weights; shipped models have version 1.
            update: look for the weights on SeisBench's server, too.
            force: download them again.
            wait_for_file: wait for another process that downloads them.

        Raises:
            CheckpointError: there are no such weights.
        """
        if name in shipped_models():
            if version_str not in ("latest", SHIPPED_VERSION):
                raise CheckpointError(f"{name} has version {SHIPPED_VERSION}, not {version_str}; omit version_str")
            return cls.from_file(model_path(name, ".pth"))
        if update or name in cls.list_pretrained():
            loaded: Self = super().from_pretrained(name, version_str, update, force, wait_for_file)
            return loaded
        return cls.from_file(model_path(name, ".pth"))

    @classmethod
    def list_pretrained(cls, details: bool = False, remote: bool = True) -> list[str] | dict[str, str]:
        """List the shipped models and those in SeisBench's cache. SeisBench's server has none and is not queried.

        Args:
            details: return descriptions, too.
            remote: has no effect; SeisBench's other models have it.
        """
        found: dict[str, str] = super().list_pretrained(details=True, remote=False)
        for name in shipped_models():
            found[name] = read_model_file(model_path(name, ".pth"))["provenance"].get("note", "")
        return found if details else sorted(found)

    @classmethod
    def list_versions(cls, name: str, remote: bool = True) -> list[str]:
        """List the versions of weights."""
        if name in shipped_models():
            return [SHIPPED_VERSION]
        versions: list[str] = super().list_versions(name, remote)
        return versions

    def forward(self, x: Tensor, logits: bool = False) -> Tensor:
        """Compute probabilities `(batch, 3, samples)` of P, S and noise, or logits, for normalised windows in E, N, Z order."""
        return self.network.logits(x) if logits else self.network(x)

    def annotate_stream_pre(self, stream: Stream, argdict: Mapping[str, Any]) -> Stream:
        """Demean, because SeisBench rounds to float32; resample; and pad records that are shorter than a window."""
        for trace in stream:
            data = fill_nonfinite(np.ma.filled(trace.data.astype(np.float64), np.nan))
            trace.data = data - data.mean()
        super().annotate_stream_pre(stream, argdict)
        starts = {_station(trace): min(other.stats.starttime for other in stream if _station(other) == _station(trace)) for trace in stream}
        ends = _ends(stream)
        for trace in stream:
            start, end = starts[_station(trace)], ends[_station(trace)]
            lacking = WINDOW_SAMPLES - 1 - round((end - start) * SAMPLING_RATE)
            if lacking > 0 and trace.stats.endtime == end:
                trace.data = np.pad(trace.data, (0, lacking), mode="edge")
        return stream

    async def annotate_async(self, stream: Stream, copy: bool = True, **kwargs: Any) -> Stream:
        """Compute probabilities, cut at the ends of the records.

        Raises:
            WaveformError: this is not a stream.

        Warns:
            WaveformWarning: a trace is left out or of no use, with the reason.
        """
        chosen, reasons = _choose(stream)
        kept = self.sanitize_mismatching_overlapping_records(Stream(list(chosen)))
        reasons += [f"{_span(trace)} left out because two pieces disagree; SeisBench uses neither" for trace in chosen if trace not in kept]
        spans, ends = [(_span(trace), _station(trace), trace.stats.starttime, trace.stats.endtime) for trace in kept], _ends(kept)
        annotations: Stream = await super().annotate_async(kept, copy=False, **kwargs)
        for trace in annotations:
            trace.trim(endtime=ends[_station(trace)])
        there = [(_station(trace), trace.stats.starttime, trace.stats.endtime) for trace in annotations]
        for span, station, start, end in spans:
            if not any(station == other and first <= end and start <= last for other, first, last in there):
                reasons.append(f"{span} left out because SeisBench picks no part of less than {(WINDOW_SAMPLES - 1) / SAMPLING_RATE:g} s")
        for reason in dict.fromkeys(reasons):
            warnings.warn(reason, WaveformWarning, stacklevel=2)
        return annotations

    def annotate_batch_pre(self, batch: Tensor, argdict: Mapping[str, Any]) -> Tensor:
        """Normalise as the picker does."""
        return torch.from_numpy(normalize(batch.cpu().numpy())).to(batch.device)

    @staticmethod
    def picks_from_annotations(annotations: Stream, threshold: float, phase: str) -> PickList:
        """Find picks as SeisBench does, and read their onsets between samples."""
        picks = []
        for trace in annotations:
            for pick in PhaseNet.picks_from_annotations(Stream([trace]), threshold, phase):
                start = trace.stats.starttime
                peak = round((pick.peak_time - start) * SAMPLING_RATE)
                time = start + float(onsets(trace.data, np.array([peak]))[0]) / SAMPLING_RATE
                pick.peak_time = min(max(time, pick.start_time), pick.end_time)
                picks.append(pick)
        return PickList(sorted(picks))

    def get_model_args(self) -> dict[str, Any]:
        """The arguments with which `load` builds the network again."""
        return {"precision": INT8 if isinstance(self.network, QuantizedXiaoNet) else FP32, **self.network.arguments}


def _choose(stream: Stream) -> tuple[Stream, list[str]]:
    """The traces that are picked, under the names of their components; and what a user should know of the stream.

    The data are those of the given traces.
    """
    instruments, _ = sort_stream(stream)
    reasons = [
        f"{note}; SeisBench mixes those of one location: choose one with stream.select(channel='HH?')" for note in doubles(instruments)
    ]
    names: dict[str, str] = {}  # new channel code of each channel
    for instrument in instruments:
        for component, channels in instrument.recorded.items():
            (preferred, _), *others = channels
            names[preferred] = instrument.name.rpartition(".")[2] + component
            reasons += [f"{seed_id}: left out; {preferred} records the same component" for seed_id, _ in others if seed_id != preferred]
    chosen, qualities = Stream(), dict[str, Quality]()
    for trace in stream:
        if reason := why_unusable_trace(trace, NO_COMPONENTS):
            reasons.append(f"{trace.id}: {reason}")
        elif trace.id in names:
            samples = to_float(trace.data)
            quality = Quality(int(np.isfinite(samples).sum()), low=np.fmin.reduce(samples), high=np.fmax.reduce(samples))
            add_qualities(qualities, {trace.id: quality})
            chosen += Trace(trace.data, {**trace.stats, "channel": names[trace.id], RECORDED_AS: trace.id})
    chosen.merge(-1)  # joins pieces that agree
    return chosen, reasons + channel_problems(qualities)


def _span(trace: Trace) -> str:
    return f"{trace.stats[RECORDED_AS]}: {trace.stats.npts / trace.stats.sampling_rate:.1f} s from {trace.stats.starttime}"


def _station(trace: Trace) -> str:
    """NET.STA.LOC."""
    return str(trace.id).rpartition(".")[0]


def _ends(stream: Stream) -> dict[str, UTCDateTime]:
    ends: dict[str, UTCDateTime] = {}
    for trace in stream:
        ends[_station(trace)] = max(trace.stats.endtime, ends.get(_station(trace), trace.stats.endtime))
    return ends
