"""Count what was done to the samples of a channel, and put into words what a user should know."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import inf
from typing import Self

import numpy as np
from numpy.typing import NDArray

from xiaonet.constants import SAMPLING_RATE
from xiaonet.picking.annotation import Annotation
from xiaonet.picking.cleaning import BRIDGED, DISPUTED, FLAT, RECORDED, STILL, WRITTEN, Marks

LONG = 3600.0  # s: longer times are told in hours


@dataclass(frozen=True)
class Quality:
    """How much of a record there is, at 100 Hz. Qualities of parts of a record add up to that of the whole.

    Attributes:
        recorded: samples that were recorded and are used.
        starts: times that data start, at the beginning or after a gap of more than 10 s.
        bridged: samples in bridged gaps.
        bridges: number of bridged gaps.
        still: samples left out because the component does not change.
        written: zeros left out because they were written into gaps.
        disputed: samples at which two pieces disagree and one of them is used.
        low: lowest sample as recorded, in the unit of the record; infinite if there is none.
        high: highest sample.
    """

    recorded: int = 0
    starts: int = 0
    bridged: int = 0
    bridges: int = 0
    still: int = 0
    written: int = 0
    disputed: int = 0
    low: float = inf
    high: float = -inf

    @classmethod
    def of(cls, marks: Marks, low: float = inf, high: float = -inf) -> Self:
        """Count marks `(1 + samples,)`. The first one only shows what comes before."""
        if (marks == RECORDED).all():  # as most are
            return cls(recorded=len(marks) - 1, low=low, high=high)
        bridged = marks & BRIDGED > 0
        kept = bridged | (marks & RECORDED > 0)
        rest = marks[1:]
        return cls(
            recorded=_count(rest, RECORDED),
            starts=_starts(kept),
            bridged=_count(rest, BRIDGED),
            bridges=_starts(bridged),
            still=_count(rest, STILL),
            written=_count(rest, WRITTEN),
            disputed=_count(rest, DISPUTED),
            low=low,
            high=high,
        )

    def __add__(self, other: "Quality") -> "Quality":
        names = ("recorded", "starts", "bridged", "bridges", "still", "written", "disputed")
        sums = {name: getattr(self, name) + getattr(other, name) for name in names}
        return Quality(**sums, low=min(self.low, other.low), high=max(self.high, other.high))

    @property
    def gaps(self) -> int:
        """Number of gaps of more than 10 s between data."""
        return max(self.starts - 1, 0)

    @property
    def hours(self) -> float:
        """Hours of data, without bridged gaps."""
        return self.recorded / SAMPLING_RATE / 3600

    def problems(self) -> Iterator[str]:
        """What a user should know about a channel with this quality."""
        known = self.recorded + self.still + self.written
        if known > 1 and self.low == self.high:
            yield f"all samples are equal ({self.low:g}); no data"
        elif not known:
            yield "no sample in the picked time is a number; no data"
        elif self.still:
            yield f"{spell(self.still)} without a change for more than {FLAT:g} s; no data there"
        if self.written:
            yield f"{spell(self.written)} of zeros written into gaps; no data there"
        if self.disputed:
            rule = "the longer one is used, or of two as long the one that was read first"
            yield f"{spell(self.disputed)} left out because two pieces disagree; {rule}"


def measure(annotation: Annotation, *, begins: bool) -> tuple[Quality, dict[str, Quality]]:
    """The quality of a chunk of an instrument, and of each of its channels.

    That of the instrument counts samples as recorded where any channel is, and as bridged where any channel is bridged.

    Args:
        annotation: of the chunk.
        begins: what comes before was not asked for, so data that are there at its first sample start with it.
    """
    inside = slice(annotation.first - annotation.start - 1, annotation.end - annotation.start)
    marks = {seed_id: condition.marks[inside].copy() for seed_id, condition in annotation.conditions.items()}
    for mine in marks.values() if begins else ():
        mine[0] = 0
    channels = {seed_id: Quality.of(marks[seed_id], low, high) for seed_id, (_, low, high) in annotation.conditions.items()}
    return Quality.of(np.bitwise_or.reduce(list(marks.values()))) if marks else Quality(), channels


def add_qualities(total: dict[str, Quality], more: Mapping[str, Quality]) -> None:
    """Add qualities by name, in place."""
    for name, quality in more.items():
        total[name] = total.get(name, Quality()) + quality


def channel_problems(channels: Mapping[str, Quality]) -> list[str]:
    """What a user should know about channels, each reason with the name of its channel."""
    return [f"{seed_id}: {problem}" for seed_id, quality in sorted(channels.items()) for problem in quality.problems()]


def spell(samples: int) -> str:
    """A number of samples at 100 Hz as a time."""
    seconds = samples / SAMPLING_RATE
    return f"{seconds:.1f} s" if seconds < LONG else f"{seconds / 3600:.1f} hours"


def _count(marks: Marks, mark: int) -> int:
    return int(np.count_nonzero(marks & mark))


def _starts(mask: NDArray[np.bool_]) -> int:
    return int(np.count_nonzero(mask[1:] & ~mask[:-1]))
