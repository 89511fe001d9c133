from pathlib import Path
from types import FunctionType

import numpy as np
import pandas as pd
import pytest
import seisbench.generate as sbg
from hypothesis import given, settings
from hypothesis import strategies as st

from xiaonet.data.pipeline import Windows
from xiaonet.data.sets import open_data
from xiaonet.picking.windows import normalize

P, S, N = 0, 1, 2
P_COLUMN, S_COLUMN = "trace_p_arrival_sample", "trace_s_arrival_sample"


class Records:
    """Records in memory, as far as a generator of SeisBench looks at a data set."""

    def __init__(self, waveforms: list[np.ndarray], **columns: list[object]) -> None:
        self.waveforms = waveforms
        names = [f"trace {row}" for row in range(len(waveforms))]
        self.metadata = pd.DataFrame({"trace_name": names, **{key: pd.Series(values, dtype=object) for key, values in columns.items()}})

    def __len__(self) -> int:
        return len(self.waveforms)

    def get_sample(self, row: int) -> tuple[np.ndarray, dict[str, object]]:
        return self.waveforms[row].copy(), {key: np.nan if value is None else value for key, value in self.metadata.iloc[row].items()}


def noise(samples: int = 9001, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((3, samples))


def record(waveform: np.ndarray, p: object = 3000.0, s: object = 4000.0, **columns: object) -> Records:
    return Records([waveform], **{P_COLUMN: [p], S_COLUMN: [s], **{key: [value] for key, value in columns.items()}})


def spikes(p: int = 3000, s: int = 4000, samples: int = 9001) -> np.ndarray:
    """A spike on the vertical at P and one on the horizontals at S."""
    waveform = np.zeros((3, samples))
    waveform[2, p], waveform[:2, s] = 1, 1
    return waveform


def without_normalisation(windows: Windows) -> Windows:
    """The same windows, as they are cut."""
    kinds = [type(step) for step in windows._augmentations]
    windows._augmentations = windows._augmentations[: kinds.index(sbg.RandomWindow) + 1]
    return windows


# --- order


def test_the_augmentations_are_the_prescribed_ones_in_the_prescribed_order() -> None:
    windows = Windows(record(noise()))
    steps = [step for step in windows._augmentations if type(step).__module__.startswith("seisbench")]
    assert [
        sbg.WindowAroundSample,
        sbg.RandomWindow,
        sbg.Normalize,
        sbg.ChangeDtype,
        sbg.ProbabilisticLabeller,
        sbg.ChangeDtype,
    ] == [type(step) for step in steps]
    around, cut, scale, dtype, label, label_dtype = steps
    assert ([P_COLUMN, S_COLUMN], 3000, 6000, "random", "variable") == (
        around.metadata_keys,
        around.samples_before,
        around.windowlen,
        around.selection,
        around.strategy,
    )
    assert (3001, "pad") == (cut.windowlen, cut.strategy)
    assert (-1, -1, -1, "peak") == (scale.demean_axis, scale.detrend_axis, scale.amp_norm_axis, scale.amp_norm_type)
    assert (np.float32, ("X", "X"), np.float32, ("y", "y")) == (dtype.dtype, dtype.key, label_dtype.dtype, label_dtype.key)
    assert ({P_COLUMN: "P", S_COLUMN: "S"}, {"P": 0, "S": 1, "Noise": 2}, 30, "gaussian", 0) == (
        label.label_columns,
        label.label_ids,
        label.sigma,
        label.shape,
        label.dim,
    )


def test_only_two_steps_of_our_own_stand_between() -> None:
    ours = [step for step in Windows(record(noise()))._augmentations if not type(step).__module__.startswith("seisbench")]
    assert ["CleanRecord", "silence_dead_components"] == [
        step.__name__ if isinstance(step, FunctionType) else type(step).__name__ for step in ours
    ]


def test_every_pick_column_is_searched_and_labelled() -> None:
    data = Records([noise()], trace_Pg_arrival_sample=[1.0], trace_Sn_arrival_sample=[2.0], trace_PKP_arrival_sample=[3.0])
    steps = Windows(data)._augmentations
    label = next(step for step in steps if isinstance(step, sbg.ProbabilisticLabeller))
    around = next(step for step in steps if isinstance(step, sbg.WindowAroundSample))
    taught = {column: phase for column, phase in label.label_columns.items() if column in data.metadata}
    assert {"trace_Pg_arrival_sample": "P", "trace_Sn_arrival_sample": "S"} == taught
    assert ["trace_Pg_arrival_sample", "trace_Sn_arrival_sample"] == around.metadata_keys


# --- what a window holds


def test_an_item_holds_window_labels_flags_and_name() -> None:
    item = Windows(record(noise()))[0]
    assert {"X", "y", "incomplete", "name"} == set(item)
    assert [((3, 3001), np.float32), ((3, 3001), np.float32), ((3,), bool)] == [
        (item[key].shape, item[key].dtype) for key in ("X", "y", "incomplete")
    ]
    assert "trace 0" == item["name"]


@pytest.mark.parametrize("turn", range(5))
def test_labels_peak_at_the_pick_with_a_width_of_30_samples(turn: int) -> None:
    item = Windows(record(spikes(), s=None))[turn, 0]
    onset = int(item["X"][2].argmax())
    samples = np.arange(3001)
    np.testing.assert_allclose(item["y"][P], np.exp(-((samples - onset) ** 2) / (2 * 30**2)), atol=1e-6)
    assert (onset, 1.0, 0.0) == (item["y"][P].argmax(), item["y"][P].max(), item["y"][S].max())
    if onset + 30 < 3001:
        assert pytest.approx(np.exp(-0.5), abs=1e-6) == item["y"][P, onset + 30]


@pytest.mark.parametrize("turn", range(5))
def test_each_phase_is_labelled_where_it_comes_in(turn: int) -> None:
    data = record(spikes(3000, 3700), s=3700.0)
    item, cut = Windows(data)[turn, 0], without_normalisation(Windows(data))[turn, 0]["X"]
    for phase, component in ((P, 2), (S, 0)):
        expected = int(cut[component].argmax()) if cut[component].max() > 0.5 else None
        assert expected == (int(item["y"][phase].argmax()) if item["y"][phase].max() == 1 else None)


def test_two_picks_of_a_phase_are_both_labelled() -> None:
    data = Records([spikes(3000, 3400)], trace_Pg_arrival_sample=[3000.0], trace_Pn_arrival_sample=[3400.0], trace_S_arrival_sample=[None])
    cut, labels = without_normalisation(Windows(data))[0]["X"], Windows(data)[0]["y"][P]
    found = [int(cut[component].argmax()) for component in (2, 0) if cut[component].max() > 0.5]
    assert found == np.flatnonzero(labels == 1).tolist()


def test_a_fraction_of_a_sample_is_kept_in_the_label() -> None:
    label = Windows(record(noise(), p=3000.5, s=None))[0]["y"][P]
    first = int(label.argmax())
    assert pytest.approx(np.exp(-0.125 / 900), abs=1e-7) == label[first]
    assert pytest.approx(float(label[first]), abs=1e-7) == max(label[first - 1], label[first + 1])


@settings(max_examples=40, deadline=None)
@given(
    p=st.one_of(st.none(), st.floats(-1e5, 1e5), st.sampled_from([np.inf, -np.inf, 1e18, 0, 4999, 5000])),
    separation=st.one_of(st.none(), st.integers(-50, 5000)),
    turn=st.integers(0, 1000),
)
def test_labels_of_any_picks_are_a_distribution(p: float | None, separation: int | None, turn: int) -> None:
    s = None if p is None or separation is None else p + separation
    labels = Windows(record(noise(5000), p=p, s=s))[turn, 0]["y"]
    np.testing.assert_allclose(labels.sum(axis=0), 1, atol=1e-6)
    assert (True, True) == (bool((labels >= -1e-7).all()), bool((labels <= 1 + 1e-7).all()))


def test_overlapping_labels_share_the_probability() -> None:
    item = Windows(record(spikes(3000, 3010), s=3010.0))[0]
    onsets = item["X"][2].argmax(), item["X"][0].argmax()
    bells = np.stack([np.exp(-((np.arange(3001) - onset) ** 2) / (2 * 30**2)) for onset in onsets])
    expected = bells / np.maximum(1, bells.sum(axis=0))
    np.testing.assert_allclose(item["y"], [*expected, 1 - expected.sum(axis=0)], rtol=0, atol=1e-6)
    assert 10 == onsets[1] - onsets[0]


@pytest.mark.parametrize("turn", range(4))
def test_samples_are_normalised_by_the_one_rule_of_picking(turn: int) -> None:
    waveform = np.cumsum(noise(), axis=-1) * 1e-7
    data = record(waveform)
    cut = without_normalisation(Windows(data, seed=2))[turn, 0]["X"]
    assert (3, 3001) == cut.shape
    np.testing.assert_allclose(Windows(data, seed=2)[turn, 0]["X"], normalize(cut), rtol=0, atol=1e-6)


@settings(max_examples=15, deadline=None)
@given(exponent=st.integers(-15, 12), seed=st.integers(0, 50))
def test_units_do_not_matter(exponent: int, seed: int) -> None:
    waveform = noise(seed=seed)
    expected, actual = (Windows(record(gain * waveform))[0] for gain in (1.0, 10.0**exponent))
    np.testing.assert_allclose(actual["X"], expected["X"], rtol=0, atol=1e-6)


@pytest.mark.parametrize("gain", [1e-9, 1e7])
def test_units_do_not_matter_to_records_on_disk(gain: float, write_set) -> None:
    waveform = noise().astype(np.float32)
    folders = [
        write_set([(factor * waveform).astype(np.float32)], name=name, **{P_COLUMN: [3000], S_COLUMN: [4000]})
        for name, factor in (("plain", 1), ("scaled", gain))
    ]
    plain, scaled = (Windows(open_data(str(folder)))[3, 0] for folder in folders)
    np.testing.assert_allclose(scaled["X"], plain["X"], rtol=0, atol=1e-6)


@pytest.mark.parametrize("samples", [9001, 2000])
def test_an_offset_of_the_instrument_does_not_matter(samples: int) -> None:
    waveform = noise(samples)
    offset = np.array([[1e4], [-3e5], [7.0]])
    expected, actual = (Windows(record(x, p=1000.0, s=1500.0))[0]["X"] for x in (waveform, waveform + offset))
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-6)


# --- repeatability


def same(one: dict, other: dict) -> bool:
    return bool(np.array_equal(one["X"], other["X"]) and np.array_equal(one["y"], other["y"]))


def test_a_window_depends_on_seed_round_and_record_alone() -> None:
    data = Records([noise(), noise()], **{P_COLUMN: [3000.0, 3000.0], S_COLUMN: [4000.0, 4000.0]})
    first = Windows(data, seed=1)[5, 0]
    np.random.random(7)
    assert (True, False, False, False) == (
        same(first, Windows(data, seed=1)[5, 0]),
        same(first, Windows(data, seed=2)[5, 0]),
        same(first, Windows(data, seed=1)[6, 0]),
        same(first, Windows(data, seed=1)[5, 1]),
    )


def test_a_bare_row_means_the_first_round() -> None:
    windows = Windows(record(noise()))
    np.testing.assert_array_equal(windows[0, 0]["X"], windows[0]["X"])


def test_the_order_of_access_does_not_matter() -> None:
    data = Records([noise(seed=row) for row in range(4)], **{P_COLUMN: [3000.0] * 4, S_COLUMN: [None] * 4})
    windows = Windows(data)
    forward = [windows[0, row]["X"] for row in range(4)]
    backward = [windows[0, row]["X"] for row in reversed(range(4))][::-1]
    np.testing.assert_array_equal(forward, backward)


def test_the_global_generator_of_numpy_does_not_change() -> None:
    np.random.seed(5)
    Windows(record(noise()))[3, 0]
    assert np.random.RandomState(5).random_sample() == np.random.random_sample()


def test_the_global_generator_is_restored_after_an_error() -> None:
    np.random.seed(5)
    with pytest.raises(IndexError):
        Windows(record(noise()))[0, 17]
    assert np.random.RandomState(5).random_sample() == np.random.random_sample()


def test_the_record_itself_does_not_change(made_up: Path) -> None:
    data = open_data(str(made_up))
    metadata, waveform = data.metadata.copy(), data.get_sample(3)[0].copy()
    Windows(data)[0, 3]
    pd.testing.assert_frame_equal(metadata, data.metadata)
    np.testing.assert_array_equal(waveform, data.get_sample(3)[0])


def test_the_pick_falls_anywhere_in_the_window() -> None:
    windows = Windows(record(spikes(), s=None))
    onsets = np.array([windows[turn, 0]["X"][2].argmax() for turn in range(120)])
    # The start is uniform over the stretch of 6000 samples, and the pick is in its middle.
    counts, _ = np.histogram(onsets, bins=4, range=(0, 3001))
    assert (120, True) == (counts.sum(), bool((counts > 12).all()))


def test_windows_are_drawn_equally_around_each_pick() -> None:
    windows = Windows(record(noise(30000), p=5000.0, s=20000.0))
    phases = [int(windows[turn, 0]["y"][:2].max(axis=1).argmax()) for turn in range(100)]
    assert 30 < sum(phases) < 70  # half of 100 within 4 standard deviations


# --- records that are not as they should be


def assert_usable(item: dict[str, np.ndarray]) -> None:
    assert [((3, 3001), np.float32)] * 2 == [(item[key].shape, item[key].dtype) for key in ("X", "y")]
    assert (True, True) == (bool(np.isfinite(item["X"]).all()), bool(np.isfinite(item["y"]).all()))
    peaks = np.abs(item["X"]).max(axis=-1)
    np.testing.assert_allclose(peaks, np.round(peaks), rtol=0, atol=1e-6)  # 0 or 1


def only_noise(item: dict[str, np.ndarray]) -> list[bool]:
    return [bool((item["y"][N] == 1).all()), bool((item["y"][:N] == 0).all())]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_nonfinite_samples_count_as_the_mean(value: float, dtype: type) -> None:
    waveform = (noise() + 100).astype(dtype)
    waveform[0, 1000:8000:7] = value
    item = Windows(record(waveform))[0]
    assert_usable(item)
    waveform[0, 1000:8000:7] = waveform[0][np.isfinite(waveform[0])].mean()
    np.testing.assert_allclose(item["X"], Windows(record(waveform))[0]["X"], rtol=0, atol=1e-5)


@pytest.mark.parametrize("value", [0.0, 1234.567, -1e6, 1e-12, np.nan, np.inf])
def test_a_dead_component_becomes_zeros(value: float) -> None:
    waveform = noise()
    waveform[1] = value
    item = Windows(record(waveform))[0]
    assert_usable(item)
    assert [1.0, 0.0, 1.0] == np.abs(item["X"]).max(axis=-1).round(6).tolist()


def test_a_component_that_only_drifts_becomes_zeros() -> None:
    waveform = noise()
    waveform[1] = 0.37 * np.arange(9001) + 5
    assert 0.0 == np.abs(Windows(record(waveform))[0]["X"][1]).max()


@pytest.mark.parametrize("value", [0.0, 5.0, np.nan])
def test_a_trace_without_any_signal_becomes_zeros(value: float) -> None:
    item = Windows(record(np.full((3, 9001), value)))[0]
    assert_usable(item)
    assert 0.0 == np.abs(item["X"]).max()


@pytest.mark.parametrize("dtype", [np.int16, np.int32, np.int64, np.uint8, bool])
def test_counts_are_taken_as_numbers(dtype: type) -> None:
    counts = (100 + 20 * noise()).clip(0, 200).astype(dtype)
    counts[:, ::3] = 0
    item, wanted = Windows(record(counts))[0], Windows(record(counts.astype(np.float64)))[0]
    assert_usable(item)
    np.testing.assert_allclose(item["X"], wanted["X"], rtol=0, atol=1e-6)


@pytest.mark.parametrize("samples", [1, 2, 50, 3000, 3001, 3002, 5999, 6001])
def test_traces_of_any_length_fill_a_window(samples: int) -> None:
    for turn in range(3):
        assert_usable(Windows(record(noise(samples), p=0.0, s=None))[turn, 0])


@pytest.mark.parametrize("turn", range(5))
def test_a_short_trace_keeps_its_label_on_its_onset(turn: int) -> None:
    item = Windows(record(spikes(300, 700, samples=1000), p=300.0, s=700.0))[turn, 0]
    assert (item["X"][2].argmax(), item["X"][0].argmax()) == (item["y"][P].argmax(), item["y"][S].argmax())
    assert [1.0, 1.0] == item["y"][:2].max(axis=1).tolist()


@pytest.mark.parametrize("missing", [None, np.nan])
def test_a_record_without_picks_is_noise(missing: object) -> None:
    item = Windows(record(noise(), p=missing, s=missing))[0]
    assert_usable(item)
    assert [True, True] == only_noise(item)


@pytest.mark.parametrize("pick", [-1.0, -0.001, -1e9, 9001.0, 9500.0, 1e12, np.inf, -np.inf])
def test_picks_outside_the_trace_are_not_labelled(pick: float) -> None:
    item = Windows(record(noise(), p=pick, s=pick))[0]
    assert_usable(item)
    assert [True, True] == only_noise(item)


@pytest.mark.parametrize("pick", [0.0, 9000.0])
def test_picks_on_the_first_and_last_sample_are_labelled(pick: float) -> None:
    assert 1.0 == Windows(record(noise(), p=pick, s=None))[0]["y"][P].max()


def test_a_pick_outside_does_not_remove_the_other_one() -> None:
    for turn in range(5):
        labels = Windows(record(noise(), p=-50.0, s=4000.0))[turn, 0]["y"]
        assert [0.0, 1.0] == labels[:2].max(axis=1).tolist()


@pytest.mark.parametrize(("column", "present", "absent"), [(P_COLUMN, P, S), (S_COLUMN, S, P)])
def test_a_set_with_picks_of_one_phase_alone_is_labelled(column: str, present: int, absent: int) -> None:
    item = Windows(Records([noise()], **{column: [3000.0]}))[0]
    assert (1.0, 0.0, (3, 3001)) == (item["y"][present].max(), item["y"][absent].max(), item["y"].shape)


def test_a_gap_of_zeros_does_not_break_a_window() -> None:
    waveform = noise()
    waveform[:, 3500:4200] = 0
    assert_usable(Windows(record(waveform))[0])


# --- unpicked phases


@pytest.mark.parametrize(
    ("columns", "wanted"),
    [
        ({}, [False, False, False]),
        ({"trace_p_status": "manual", "trace_s_status": "manual"}, [False, False, False]),
        ({"trace_p_status": "manual", "trace_s_status": "unpicked"}, [False, True, False]),
        ({"trace_p_status": "automatic", "trace_s_status": "manual"}, [True, False, False]),
        ({"trace_P_status": "unpicked", "trace_S_status": "automatic"}, [True, True, False]),
        ({"trace_Pg_status": "automatic"}, [True, False, False]),
        ({"trace_Pn_status": "manual", "trace_pwP_status": "automatic"}, [True, False, False]),
        ({"trace_Sn_status": "unpicked"}, [False, True, False]),
        ({"trace_SmS_status": "unpicked", "trace_S1_status": "manual"}, [False, True, False]),
        ({"trace_s_status": np.nan}, [False, False, False]),
        ({"trace_PKP_status": "unpicked"}, [False, False, False]),
    ],
)
def test_a_status_under_any_name_makes_a_phase_incomplete(columns: dict[str, object], wanted: list[bool]) -> None:
    windows = Windows(record(noise(), **columns), incomplete_statuses=("unpicked", "automatic"))
    assert wanted == windows[0]["incomplete"].tolist()


def test_the_caller_chooses_which_statuses_count() -> None:
    data = record(noise(), trace_p_status="automatic", trace_s_status="unpicked")
    flags = [
        Windows(data, incomplete_statuses=statuses)[0]["incomplete"].tolist() for statuses in ((), ("automatic",), ("unpicked", "other"))
    ]
    assert [[False, False, False], [True, False, False], [False, True, False]] == flags


def test_flags_belong_to_their_record() -> None:
    data = Records([noise()] * 2, **{P_COLUMN: [1.0, 2.0], S_COLUMN: [None, None], "trace_s_status": ["unpicked", "manual"]})
    windows = Windows(data, incomplete_statuses=("unpicked",))
    assert [[False, True, False], [False, False, False]] == [windows[row]["incomplete"].tolist() for row in (0, 1)]


# --- real and joined records


def test_every_real_record_gives_a_usable_window(labelled: Path) -> None:
    data = open_data(str(labelled))
    windows = Windows(data, incomplete_statuses=("unpicked", "automatic"))
    incomplete, without_label = np.zeros(3, dtype=int), 0
    for row in range(len(data)):
        item = windows[1, row]
        assert_usable(item)
        without_label += item["y"][:2].max() < 0.49  # the window is drawn around a pick; P and S on one sample share the label
        incomplete += item["incomplete"]
    # 324 of Iceland are automatic, 35 of them without any pick; 99 of N. California lack S.
    assert ([324, 324 + 99, 0], 35) == (incomplete.tolist(), without_label)


def test_real_records_without_picks_give_windows_of_noise_labels(labelled: Path, unlabelled: Path) -> None:
    data = open_data(f"{labelled}+{unlabelled}")
    windows = Windows(data)
    for row in range(577, 577 + 40):
        item = windows[0, row]
        assert_usable(item)
        assert [True, True] == only_noise(item)
