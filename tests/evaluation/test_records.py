import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xiaonet.constants import WINDOW_SAMPLES
from xiaonet.data.sets import open_data
from xiaonet.errors import DataError
from xiaonet.evaluation.records import EDGE, MARGIN, LabelledRecord, around_picks, before_picks, cut, read_records

STATUSES = ("unpicked", "automatic")


def make(samples, p=(), s=(), judged=True):
    return LabelledRecord(0, "trace", samples, {"P": list(p), "S": list(s)}, {"P": judged, "S": judged}, "event", {})


@given(st.integers(3001, 20000), st.integers(100, 19000), st.integers(1, 2600), st.integers(0, 2**32 - 1))
def test_windows_hold_their_picks_with_a_second_to_spare(samples, p, s_minus_p, seed):
    s = p + s_minus_p
    record = make(samples, [p], [s] if s < samples else []) if p < samples else make(samples)
    for start in record.starts(np.random.default_rng(seed), 4):
        assert 0 <= start <= samples - WINDOW_SAMPLES
        for onset, _ in record.onsets:
            room_before, room_after = min(MARGIN, onset), min(MARGIN, samples - onset)
            assert start + room_before <= onset <= start + WINDOW_SAMPLES - room_after


def test_picks_too_far_apart_for_one_window_take_turns():
    starts = make(12000, [3000], [9000]).starts(np.random.default_rng(0), 6)
    assert [True, False] * 3 == [start <= 3000 < start + WINDOW_SAMPLES for start in starts]
    assert [False, True] * 3 == [start <= 9000 < start + WINDOW_SAMPLES for start in starts]


@pytest.mark.parametrize(
    ("record", "latest"),
    [
        (make(8000, [4000], [4400]), 4000 - MARGIN - WINDOW_SAMPLES),
        (make(8000, [3000], [4400]), None),  # no room
        (make(8000), 8000 - WINDOW_SAMPLES),
        (make(2000), 0),
        (make(8000, [4000], [4400], judged=False), None),  # who knows what is there
    ],
)
def test_noise_lies_before_the_first_pick(record, latest):
    starts = [start for seed in range(50) for start in record.quiet_starts(np.random.default_rng(seed))]
    assert latest == (max(starts) if latest == 0 else latest if starts and 0.8 * latest < max(starts) <= latest else None)


def test_labels_count_from_the_windows_start(picked):
    data, records = read_records(open_data(str(picked)), "test", STATUSES)
    windows = around_picks(data, records, 3, seed=1)
    assert (18, 6) == (len(windows), len(set(windows.events)))
    assert (4000 == windows.starts + windows.labels["P"][:, 0]).all()
    assert (4400 == windows.starts + windows.labels["S"][:, 0]).all()
    for batch, labels in zip(windows.batches(), [windows.labels["P"][:, 0]], strict=True):
        assert [int(label) for label in labels] == batch[:, 2].argmax(axis=1).tolist()
    assert 18 * 3001 / 100 / 3600 == windows.hours


def test_places_depend_on_the_seed_alone(picked):
    data, records = read_records(open_data(str(picked)), "dev", STATUSES)
    first, again, other = (around_picks(data, records, 2, seed).starts.tolist() for seed in (5, 5, 6))
    assert first == again != other
    assert first[4:] == around_picks(data, records[2:], 2, 5).starts.tolist()  # and not on other records


def test_what_nobody_picked_is_not_judged(write_set):
    noise = np.random.default_rng(0).normal(size=(3, 6000))
    path = write_set(
        [noise] * 4,
        trace_p_arrival_sample=[3000.0] * 4,
        trace_s_arrival_sample=[3300.0, np.nan, 3300.0, np.nan],
        trace_p_status=["manual"] * 4,
        trace_s_status=["manual", "unpicked", "automatic", "manual"],
        split=["dev"] * 4,
    )
    _, records = read_records(open_data(str(path)), "dev", STATUSES)
    assert [True, False, False, True] == [record.judged["S"] for record in records]
    assert [True] * 4 == [record.judged["P"] for record in records]


def test_picks_outside_the_trace_are_no_labels(write_set):
    noise = np.random.default_rng(0).normal(size=(3, 6000))
    path = write_set(
        [noise] * 3, trace_p_arrival_sample=[-5.0, 3000.0, 7000.0], trace_s_arrival_sample=[200.0, 6000.0, np.nan], split=["dev"] * 3
    )
    _, records = read_records(open_data(str(path)), "dev", STATUSES)
    assert [[(200.0, "S")], [(3000.0, "P")], []] == [record.onsets for record in records]


def test_a_short_record_is_filled_up_with_its_last_sample(write_set):
    samples = np.stack([np.arange(2000.0) + 1] * 3)
    data = open_data(str(write_set([samples] * 40, trace_p_arrival_sample=[1000.0] * 40, split=["dev"] * 40)))
    batches = list(cut(data, list(range(40)), [0] * 40))
    assert [32, 8] == [len(batch) for batch in batches]
    assert (2000.0 == batches[1][7, :, 2000:]).all()
    np.testing.assert_array_equal(samples, batches[0][0, :, :2000])


@pytest.mark.parametrize(
    ("components", "expected"), [("ENZ", "three components"), ("Z", "vertical alone"), ("EZ", "other components"), ("", "other components")]
)
def test_subsets_are_by_source_and_components(write_set, components, expected):
    samples = np.random.default_rng(0).normal(size=(3, 6000))
    for row, component in enumerate("ENZ"):
        samples[row] *= component in components
    path = write_set([samples, samples + 1], trace_p_arrival_sample=[3000.0] * 2, split=["dev"] * 2, trace_dataset=["here", None])
    _, records = read_records(open_data(str(path)), "dev", STATUSES)
    assert [f"here, {expected}", expected] == [record.traits["subset"] for record in records]


def test_traits_of_a_record(picked):
    _, [first, *_] = read_records(open_data(str(picked)), "dev", STATUSES)
    assert (4.0, 0.5) == (first.traits["s_minus_p_s"], first.traits["magnitude"])
    assert np.isnan(first.traits["distance_km"])
    assert 30 < first.traits["snr_db"] < 45  # one sample of 1000 among 200 of 1: 20 log10(1000 / sqrt(200)) = 37


@pytest.mark.parametrize(
    ("split", "message"),
    [
        ("train", "split 'train' is empty: the column split holds {'dev': 6, 'test': 6}; choose one of these with --split"),
        ("tset", "split 'tset' is empty: the column split holds {'dev': 6, 'test': 6}; choose one of these with --split"),
    ],
)
def test_an_empty_split_is_named(picked, split, message):
    with pytest.raises(DataError) as caught:
        read_records(open_data(str(picked)), split, STATUSES)
    assert message == str(caught.value)


@pytest.mark.parametrize("statuses", [["unpicked"] * 3, ["automatic"] * 3])
def test_a_split_without_a_label_that_counts_is_refused(write_set, statuses):
    picks = [np.nan if status == "unpicked" else 100.0 for status in statuses]
    path = write_set([np.ones((3, 6000))] * 3, trace_p_arrival_sample=picks, trace_p_status=statuses, split=["test"] * 3)
    with pytest.raises(DataError, match="no pick counts in the 3 records of split 'test': wanted P or S"):
        read_records(open_data(str(path)), "test", STATUSES)


def test_noise_windows_have_no_labels(picked):
    data, records = read_records(open_data(str(picked)), "dev", STATUSES)
    noise = before_picks(data, records, 0)
    assert (6, 0) == (len(noise), noise.labels["P"].shape[1])
    assert max(np.abs(batch).max() for batch in noise.batches()) < 10  # of 1000 at P
    assert EDGE < MARGIN
