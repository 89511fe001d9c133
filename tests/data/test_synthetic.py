from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import seisbench.data as sbd

from xiaonet.data import synthetic
from xiaonet.data.synthetic import make_records

COUNT = 400
Records = list[tuple[np.ndarray, dict[str, object]]]


@pytest.fixture(scope="module")
def records() -> Records:
    return list(make_records(COUNT, seed=11))


@pytest.fixture(scope="module")
def quakes(records: Records) -> Records:
    return [(waveform, metadata) for waveform, metadata in records if "trace_p_arrival_sample" in metadata]


def binomial(share: float) -> pytest.approx:
    """A share of COUNT records, within 4 standard deviations."""
    return pytest.approx(share, abs=4 * (share * (1 - share) / COUNT) ** 0.5)


def test_a_seed_makes_the_same_records_every_time() -> None:
    for (waveform, metadata), (again, metadata_again) in zip(make_records(6, 3), make_records(6, 3), strict=True):
        np.testing.assert_array_equal(waveform, again)
        assert metadata == metadata_again


def test_another_seed_makes_other_records() -> None:
    (one, _), (other, _) = next(make_records(1, 3)), next(make_records(1, 4))
    assert 0 == np.sum(one == other)


def test_more_records_begin_with_the_same_ones() -> None:
    for (waveform, _), (again, _) in zip(make_records(3, 3), make_records(8, 3), strict=False):
        np.testing.assert_array_equal(waveform, again)


def test_records_are_a_minute_of_three_finite_components(records: Records) -> None:
    assert {((3, 6001), np.dtype(np.float32), True)} == {(w.shape, w.dtype, bool(np.isfinite(w).all())) for w, _ in records}


def test_four_stations_record_each_event(records: Records) -> None:
    frame = pd.DataFrame([metadata for _, metadata in records])
    assert {4} == set(frame.groupby("source_id").size())
    assert [{"SYN0", "SYN1", "SYN2", "SYN3"}] * (COUNT // 4) == [set(group) for _, group in frame.groupby("source_id")["station_code"]]


def test_p_comes_before_s_and_both_inside(quakes: Records) -> None:
    picks = np.array([[m["trace_p_arrival_sample"], m["trace_s_arrival_sample"]] for _, m in quakes])
    assert (True, True, True) == (bool((picks[:, 0] < picks[:, 1]).all()), bool(picks.min() >= 1000), bool(picks.max() < 6001))


def test_s_minus_p_grows_with_distance_by_the_speed_ratio(quakes: Records) -> None:
    distance = np.array([m["path_hyp_distance_km"] for _, m in quakes])
    seconds = np.array([m["trace_s_arrival_sample"] - m["trace_p_arrival_sample"] for _, m in quakes]) / 100
    # P at 6 km/s and S 1.73 times slower: 0.73 / 6 s for each kilometre, to the nearest sample.
    np.testing.assert_allclose(seconds, distance * 0.73 / 6, rtol=0, atol=0.00501)
    assert (True, True) == (bool(distance.min() < 8), bool(distance.max() > 75))


def test_a_tenth_of_the_records_is_noise_without_picks(records: Records) -> None:
    categories = pd.Series([m["trace_category"] for _, m in records])
    assert binomial(0.1) == (categories == "noise").mean()
    assert {"noise": False, "earthquake_local": True} == {
        category: all("trace_p_arrival_sample" in m for _, m in records if m["trace_category"] == category) for category in set(categories)
    }


def test_picks_have_the_status_manual(quakes: Records) -> None:
    assert {("manual", "manual")} == {(m["trace_p_status"], m["trace_s_status"]) for _, m in quakes}


def test_a_tenth_of_the_records_is_vertical_only(records: Records) -> None:
    dead = np.array([not waveform[:2].any() for waveform, _ in records])
    assert binomial(0.1) == dead.mean()
    assert 0 == sum(not waveform[2].any() for waveform, _ in records)


def test_a_tenth_of_the_quakes_has_a_gap_after_both_onsets(quakes: Records) -> None:
    starts = []
    for waveform, metadata in quakes:
        (empty,) = np.nonzero(waveform[2] == 0)
        if len(empty) >= 50:
            starts.append(empty[0] - metadata["trace_s_arrival_sample"])
            assert len(empty) == empty[-1] - empty[0] + 1 < 300
    assert binomial(0.1) == len(starts) / len(quakes)
    assert (True, True) == (min(starts) >= 300, max(starts) < 1000)


def test_units_span_decades(records: Records) -> None:
    decades = np.log10([np.abs(waveform).max() for waveform, _ in records])
    assert (True, True) == (bool(decades.min() < -6), bool(decades.max() > 5))


def energy(waveform: np.ndarray, start: int, stop: int) -> float:
    return float((waveform[:, start:stop].astype(np.float64) ** 2).sum(axis=0).mean())


def test_the_ground_moves_more_after_an_onset_than_before(quakes: Records) -> None:
    steps = []
    for waveform, metadata in quakes:
        p, s = metadata["trace_p_arrival_sample"], metadata["trace_s_arrival_sample"]
        before = energy(waveform, p - 900, p)
        if waveform[:2].any() and energy(waveform, s, s + 100) > 100 * before:  # strong ones
            steps.append((energy(waveform, p, p + 100) / before, energy(waveform, s, s + 100) / energy(waveform, s - 100, s)))
    assert 40 < len(steps)
    assert (True, True) == (bool(np.min(steps) > 1), bool((np.median(steps, axis=0) > [10, 5]).all()))


def test_p_is_strongest_on_the_vertical_and_s_on_the_horizontals(quakes: Records) -> None:
    shares = []
    for waveform, metadata in quakes:
        p, s = metadata["trace_p_arrival_sample"], metadata["trace_s_arrival_sample"]
        before = energy(waveform, p - 900, p)
        if waveform[:2].any() and s - p > 200 and energy(waveform, p, p + 150) > 30 * before:
            shares.append([energy(waveform[2:], k, k + 150) / energy(waveform, k, k + 150) for k in (p, s)])
    vertical_p, vertical_s = np.median(shares, axis=0)
    assert (True, True) == (bool(vertical_p > 0.5), bool(vertical_s < 0.4))


def test_the_files_open_with_seisbench(tmp_path: Path) -> None:
    synthetic.write(tmp_path, 10, seed=5)
    data = sbd.WaveformDataset(tmp_path, component_order="ENZ", dimension_order="NCW")
    expected = list(make_records(10, seed=5))
    assert (10, "ENZ", 100.0) == (len(data), data.data_format["component_order"], data.metadata["trace_sampling_rate_hz"].unique().item())
    for row, (waveform, metadata) in enumerate(expected):
        stored, stored_metadata = data.get_sample(row)
        np.testing.assert_array_equal(waveform, stored)
        assert metadata["source_id"] == stored_metadata["source_id"]
        p = stored_metadata["trace_p_arrival_sample"]
        assert metadata.get("trace_p_arrival_sample") == (None if np.isnan(p) else p)


def test_zero_records_can_be_made() -> None:
    assert [] == list(make_records(0, seed=1))
