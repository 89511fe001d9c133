from typing import NamedTuple

from hypothesis import given, settings
from hypothesis import strategies as st

from xiaonet.picking.integer_table import IntegerTable


class Pair(NamedTuple):
    one: int
    other: int


@settings(max_examples=100, deadline=None, derandomize=True)
@given(
    rows=st.lists(st.builds(Pair, st.integers(-(2**70), 2**70), st.integers(-(2**63), 2**63 - 1)), max_size=8),
    first=st.integers(-9, 9),
    end=st.integers(-9, 9),
)
def test_a_table_reads_as_a_list_of_its_rows(rows: list[Pair], first: int, end: int) -> None:
    table = IntegerTable(Pair, rows)
    assert (rows, len(rows), rows[first:end]) == (list(table), len(table), table[first:end])
    assert rows == [table[place] for place in range(len(rows))]
    assert all(isinstance(row, Pair) for row in table)
