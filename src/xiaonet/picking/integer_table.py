"""A long list of small tuples of integers in little memory."""

from array import array
from collections.abc import Callable, Iterable, Iterator, MutableSequence, Sequence
from typing import TypeVar, overload

Row = TypeVar("Row", bound=tuple[int, ...])


class IntegerTable(Sequence[Row]):
    """Rows of integers, which take eight bytes for each integer. Each row is made when you read it.

    A column that holds an integer of more than 64 bits, such as a time in nanoseconds after the year 2262, is a list.

    Args:
        make: makes a row from its integers, such as the class of a named tuple.
        rows: the first rows.
    """

    def __init__(self, make: Callable[..., Row], rows: Iterable[Row] = ()) -> None:
        self._make = make
        self._columns: list[MutableSequence[int]] = []
        for row in rows:
            self.append(row)

    def append(self, row: Row) -> None:
        """Add a row at the end."""
        if not self._columns:
            self._columns = [array("q") for _ in row]
        for number, value in enumerate(row):
            try:
                self._columns[number].append(value)
            except OverflowError:
                self._columns[number] = [*self._columns[number], value]

    def __len__(self) -> int:
        return len(self._columns[0]) if self._columns else 0

    def __iter__(self) -> Iterator[Row]:
        return map(self._make, *self._columns) if self._columns else iter(())

    @overload
    def __getitem__(self, place: int) -> Row: ...

    @overload
    def __getitem__(self, place: slice) -> list[Row]: ...

    def __getitem__(self, place: int | slice) -> Row | list[Row]:
        if isinstance(place, slice):
            return list(map(self._make, *(column[place] for column in self._columns))) if self._columns else []
        return self._make(*(column[place] for column in self._columns))
