"""Find the pieces of a channel that touch a time range."""

from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence
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
        keep: makes the sequence that is kept from the sorted pieces, such as one that takes less memory than a list.

    Attributes:
        pieces: in order of their start.
    """

    def __init__(self, pieces: Iterable[Timed], keep: Callable[[list[Timed]], Sequence[Timed]] = list) -> None:
        ordered = sorted(pieces, key=lambda piece: piece.start_ns)
        self.pieces = keep(ordered)
        self._longest = max(piece.end_ns - piece.start_ns for piece in ordered)

    def find(self, first_ns: int, end_ns: int) -> list[Timed]:
        """Pieces that touch the time range from `first_ns` up to `end_ns`, in order of their start."""
        low, high = (bisect_left(self.pieces, time_ns, key=lambda piece: piece.start_ns) for time_ns in (first_ns - self._longest, end_ns))
        return [piece for piece in self.pieces[low:high] if piece.end_ns > first_ns]
