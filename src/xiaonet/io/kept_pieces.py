"""Keep what was found in many files in little memory, so that each file is scanned once."""

from array import array
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from xiaonet.io.waveforms import Stored
from xiaonet.picking.integer_table import IntegerTable


class _Kind(NamedTuple):
    """What many pieces have in common."""

    format: str
    seed_id: str
    source_id: str
    rate: float
    member: int
    trace: int


class _PieceRow(NamedTuple):
    """The rest of a piece."""

    kind: int
    start_ns: int
    samples: int
    first: int
    places_end: int  # in the list of the places of all pieces
    run: int
    place: int


class KeptPieces:
    """The pieces in files, in the order in which they were added. A piece takes about 72 bytes, and its channel and rate are kept once.

    Args:
        limit: number of pieces. The pieces of files that would exceed it are not kept.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._rows = IntegerTable(_PieceRow)
        self._places = array("q")
        self._kinds: list[_Kind] = []
        self._numbers: dict[_Kind, int] = {}
        self._ends = array("q", [0])  # row after the last of each file

    def add(self, pieces: Sequence[Stored]) -> None:
        """Keep the pieces of the next file, which have a rank."""
        if len(self._rows) + len(pieces) <= self._limit:
            for piece in pieces:
                kind = _Kind(piece.format, piece.seed_id, piece.source_id, piece.rate, piece.member, piece.trace)
                if (number := self._numbers.setdefault(kind, len(self._kinds))) == len(self._kinds):
                    self._kinds.append(kind)
                self._places.extend(piece.places)
                run, _, place = piece.rank
                self._rows.append(_PieceRow(number, piece.start_ns, piece.samples, piece.first, len(self._places), run, place))
        self._ends.append(len(self._rows))

    def __len__(self) -> int:
        return len(self._rows)

    def of(self, place: int, file: int, path: Path) -> list[Stored]:
        """The pieces of a file in the order in which they were added; empty if they are not kept.

        Args:
            place: of the file among those that were added, from 0 on.
            file: its number in the archive, for the rank.
            path: where it is.
        """
        if place + 1 >= len(self._ends):
            return []
        first, end = self._ends[place], self._ends[place + 1]
        begin = self._rows[first - 1].places_end if first else 0
        found = []
        for row in self._rows[first:end]:
            kind = self._kinds[row.kind]
            places = self._places[begin : row.places_end]
            rank = (row.run, file, row.place)
            found.append(
                Stored(
                    path,
                    kind.format,
                    kind.seed_id,
                    row.start_ns,
                    row.samples,
                    kind.rate,
                    source_id=kind.source_id,
                    places=places,
                    member=kind.member,
                    trace=kind.trace,
                    first=row.first,
                    rank=rank,
                )
            )
            begin = row.places_end
        return found
