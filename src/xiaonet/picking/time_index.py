"""Find the pieces of a channel that touch a time range."""

from bisect import bisect_left
from collections.abc import Iterable
from typing import Generic, Protocol, TypeVar


class TimeRange(Protocol):
    """Anything with a start and an end in nanoseconds since 1970-01-01."""

    @property
    def start_ns(self) -> int: ...  # noqa: D102

    @property
    def end_ns(self) -> int: ...  # noqa: D102


Timed = TypeVar("Timed", bound=TimeRange)


class TimeIndex(Generic[Timed]):
    """Pieces of one channel, sorted by start time.

    Args:
        pieces: at least one, in any order; they may overlap.

    Attributes:
        pieces: in order of their start.
    """

    def __init__(self, pieces: Iterable[Timed]) -> None:
        self.pieces = sorted(pieces, key=lambda piece: piece.start_ns)
        self._starts = [piece.start_ns for piece in self.pieces]
        self._longest = max(piece.end_ns - piece.start_ns for piece in self.pieces)

    def find(self, first_ns: int, end_ns: int) -> list[Timed]:
        """Pieces that touch the time range from `first_ns` up to `end_ns`, in order of their start."""
        near = self.pieces[bisect_left(self._starts, first_ns - self._longest) : bisect_left(self._starts, end_ns)]
        return [piece for piece in near if piece.end_ns > first_ns]
