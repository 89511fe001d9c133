from typing import NamedTuple

from hypothesis import given, settings
from hypothesis import strategies as st

from xiaonet.picking.time_index import TimeIndex


class Range(NamedTuple):
    start_ns: int
    end_ns: int


@settings(max_examples=200, deadline=None, derandomize=True)
@given(
    ranges=st.lists(st.tuples(st.integers(0, 50), st.integers(1, 20)), min_size=1, max_size=12),
    first=st.integers(-5, 70),
    length=st.integers(1, 30),
)
def test_exactly_the_pieces_that_touch_a_time_range_are_found(ranges: list[tuple[int, int]], first: int, length: int) -> None:
    pieces = [Range(start, start + duration) for start, duration in ranges]
    expected = [piece for piece in pieces if set(range(*piece)) & set(range(first, first + length))]
    found = TimeIndex(pieces).find(first, first + length)
    assert sorted(expected) == sorted(found)
    assert [piece.start_ns for piece in found] == sorted(piece.start_ns for piece in found)
