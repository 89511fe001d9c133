from itertools import groupby

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xiaonet.picking.spans import true_spans


@pytest.mark.parametrize(
    ("mask", "expected"),
    [
        ([], []),
        ([False], []),
        ([True], [[0, 1]]),
        ([True, True, False, True, False, False, True], [[0, 2], [3, 4], [6, 7]]),
    ],
)
def test_spans_begin_at_the_first_true_sample_and_end_after_the_last(mask: list[bool], expected: list[list[int]]) -> None:
    found = true_spans(np.array(mask, dtype=bool))
    assert (expected, (len(expected), 2)) == (found.tolist(), found.shape)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(mask=st.lists(st.booleans(), max_size=60))
def test_spans_are_those_that_a_loop_over_groups_finds(mask: list[bool]) -> None:
    groups = [[index for index, _ in group] for value, group in groupby(enumerate(mask), key=lambda item: item[1]) if value]
    assert [[group[0], group[-1] + 1] for group in groups] == true_spans(np.array(mask, dtype=bool)).tolist()
