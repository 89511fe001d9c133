"""Picks in continuous records without earthquakes, where every pick is false."""

from collections.abc import Iterator, Mapping

import numpy as np
from obspy import Stream, Trace, UTCDateTime

from xiaonet.apps.pick_archive import Task, plan
from xiaonet.constants import COMPONENTS, SAMPLING_RATE
from xiaonet.errors import DataError
from xiaonet.evaluation.metrics import FalsePicks
from xiaonet.evaluation.models import EvaluatedModel
from xiaonet.io.archive import Archive
from xiaonet.picking.spans import true_spans


def count_false_picks(model: EvaluatedModel, archive: Archive, thresholds: Mapping[str, float]) -> FalsePicks:
    """Picks per hour of one station, as a user of the model would get them.

    All models see the same samples at 100 Hz, one day of an instrument at a time.

    Raises:
        DataError: there are no records.
    """
    hours, picks = 0.0, dict.fromkeys(thresholds, 0)
    for task in plan(archive):
        for stream, samples in _streams(task):
            hours += samples / SAMPLING_RATE / 3600
            for pick in model.pick(stream, thresholds):
                picks[pick.phase] += 1
    if not hours:
        raise DataError(f"no continuous records to look for false picks in: {'; '.join(archive.problems) or 'nothing was found'}")
    return FalsePicks(hours=hours, per_hour={phase: number / hours for phase, number in picks.items()})


def _streams(task: Task) -> Iterator[tuple[Stream, int]]:
    """The traces of each segment of a day, split at gaps, and the number of samples that any component has."""
    segments = list(dict.fromkeys(segment for segment, _, _ in task.ranges))
    for segment in segments:
        own = [(first, end) for other, first, end in task.ranges if other == segment]
        first, end = min(low for low, _ in own), max(high for _, high in own)
        waveform, _ = task.instrument.waveform(segment, first, end)
        network, station, location, code = task.instrument.name.split(".")
        stats = {"network": network, "station": station, "location": location, "sampling_rate": SAMPLING_RATE}
        stream = Stream()
        for component, samples in zip(COMPONENTS, waveform, strict=True):
            for low, high in true_spans(~np.isnan(samples)):
                start = UTCDateTime(ns=int(segment.time_ns(first + int(low))))
                stream.append(Trace(samples[low:high], {**stats, "channel": code + component, "starttime": start}))
        if stream:
            yield stream, int((~np.isnan(waveform)).any(axis=0).sum())
