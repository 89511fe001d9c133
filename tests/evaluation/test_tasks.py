import numpy as np
import pandas as pd
import pytest
import seisbench.generate as sbg
import torch
from hypothesis import given
from hypothesis import strategies as st
from oracle import Oracle
from sklearn.metrics import f1_score, matthews_corrcoef, precision_recall_curve, roc_auc_score

from xiaonet.data.sets import open_data
from xiaonet.errors import DataError
from xiaonet.evaluation import tasks
from xiaonet.evaluation.models import load_models
from xiaonet.evaluation.records import LabelledRecord, read_records

STATUSES = ("unpicked", "automatic")


def make(row, samples, p=(), s=(), judged=True):
    return LabelledRecord(row, f"trace{row}", samples, {"P": list(p), "S": list(s)}, {"P": judged, "S": judged}, "event", {})


@given(st.integers(2000, 12000), st.integers(50, 11000), st.integers(1, 3000), st.integers(0, 10**6))
def test_targets_hold_what_the_protocol_says(samples, p, s_minus_p, row):
    s = p + s_minus_p
    record = make(row, samples, [p] if p < samples else [], [s] if s < samples else [])
    found = tasks.draw_targets([record], "dev", seed=0)
    for target in found["task1.csv"].itertuples():
        assert 3000 == target.end_sample - target.start_sample
        assert 0 <= target.start_sample
        assert target.end_sample <= samples or not record.onsets
        holds = any(target.start_sample <= onset < target.end_sample for onset, _ in record.onsets)
        assert (target.trace_type == "earthquake") == holds
    for target in found["task23.csv"].itertuples():
        assert 1000 == target.end_sample - target.start_sample
        assert 0 <= target.start_sample
        assert target.end_sample <= samples
        assert target.start_sample + 50 <= target.phase_onset <= target.end_sample - 50
        others = [onset for onset, phase in record.onsets if (onset, phase) != (target.phase_onset, target.phase_label)]
        assert all(onset <= target.start_sample - 50 or onset >= target.end_sample + 50 for onset in others)


def test_records_that_nobody_picked_to_the_end_have_no_targets():
    found = tasks.draw_targets([make(0, 12000, [6000], [6500], judged=False)], "dev", seed=0)
    assert [0, 0] == [len(table) for table in found.values()]


def test_the_oracle_answers_all(picked):
    data, records = read_records(open_data(str(picked)), "dev", STATUSES)
    targets = tasks.draw_targets(records, "dev", seed=0)
    answers = tasks.answer(Oracle(late=3), data, targets)
    found = tasks.score(answers, tasks.best_thresholds(answers))
    assert (12, 1.0, 1.0, 1.0) == tuple(getattr(found.detection, name) for name in ("targets", "area_under_curve", "f1", "matthews"))
    for phase, onset in found.onset.items():
        assert (0.03, 0.03, 0.03) == tuple(round(value, 9) for value in (onset.mean_s, onset.rms_s, onset.mae_s)), phase


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 20)), min_size=2, max_size=60))
def test_figures_of_two_answers_are_those_of_scikit_learn(rows):
    right, scores = np.array([one for one, _ in rows]), np.array([score / 20 for _, score in rows])
    if not right.any() or right.all():
        assert tasks.area_under_curve(right, scores) is None
        return
    np.testing.assert_allclose(roc_auc_score(right, scores), tasks.area_under_curve(right, scores))
    events = pd.DataFrame({"trace_type": np.where(right, "earthquake", "noise"), "score_detection": scores})
    onsets = pd.DataFrame({name: [] for name in ("phase_label", "score_p_or_s", "p_sample_pred", "s_sample_pred", "phase_onset")})
    answers = {"task1.csv": events, "task23.csv": onsets}
    threshold = tasks.best_thresholds(answers)["detection"]
    precision, recall, _ = precision_recall_curve(right, scores)
    found = tasks.score(answers, {"detection": threshold}).detection
    best = np.nanmax(2 * precision * recall / np.where(precision + recall > 0, precision + recall, np.nan))
    np.testing.assert_allclose(best, found.f1)
    np.testing.assert_allclose(f1_score(right, scores >= threshold), found.f1)
    np.testing.assert_allclose(matthews_corrcoef(right, scores >= threshold), found.matthews)


def test_the_protocol_by_seisbench_and_scikit_learn(labelled, teachers):
    """The same targets through SeisBench's generator, PhaseNet itself and scikit-learn."""
    data, records = read_records(open_data(str(labelled)), "dev", STATUSES)
    targets = tasks.draw_targets(records, "dev", seed=0)
    [model] = load_models(["seisbench:PhaseNet/original"])
    ours = tasks.score(tasks.answer(model, data, targets), {})
    network = model._model
    rows = {}
    for name, table in targets.items():
        generator = sbg.SteeredGenerator(data, table)
        generator.add_augmentations(
            [
                sbg.SteeredWindow(windowlen=3001, strategy="pad"),
                sbg.ChangeDtype(np.float64),
                sbg.Normalize(demean_axis=-1, amp_norm_axis=-1, amp_norm_type="std", eps=1e-30),
            ]
        )
        rows[name] = []
        for number in range(len(generator)):
            item = generator[number]
            low, high = item["window_borders"]
            with torch.no_grad():
                noise, p, s = network(torch.from_numpy(np.float32(item["X"]))[None])[0, :, max(low, 0) : high].numpy()  # NPS
            assert "NPS" == "".join(network.labels)
            rows[name].append(
                (1 - noise.min(), p.max() / s.max(), p.argmax() + table["start_sample"][number], s.argmax() + table["start_sample"][number])
            )
    scores = {name: np.array(values) for name, values in rows.items()}
    first, second = targets["task1.csv"], targets["task23.csv"]
    is_p = (second["phase_label"] == "P").to_numpy()
    off = np.where(is_p, scores["task23.csv"][:, 2], scores["task23.csv"][:, 3]) - second["phase_onset"].to_numpy()
    assert ours.detection.area_under_curve is None or len(set(first["trace_type"])) == 2
    np.testing.assert_allclose(roc_auc_score(is_p, scores["task23.csv"][:, 1]), ours.identification.area_under_curve, atol=1e-3)
    for phase, own in (("P", off[is_p] / 100), ("S", off[~is_p] / 100)):
        expected = [own.mean(), np.sqrt((own**2).mean()), np.abs(own).mean()]
        np.testing.assert_allclose(expected, [ours.onset[phase].mean_s, ours.onset[phase].rms_s, ours.onset[phase].mae_s], atol=1e-3)


def write_targets(folder, **changes):
    folder.mkdir(exist_ok=True)
    first = {"trace_name": ["a"], "trace_split": ["dev"], "sampling_rate": [50], "start_sample": [100], "end_sample": [1600]}
    second = first | {"end_sample": [600], "phase_label": ["P"], "phase_onset": [250.5]}
    for name, columns in (("task1.csv", first | {"trace_type": ["noise"]}), ("task23.csv", second)):
        pd.DataFrame(columns | changes).to_csv(folder / name, index=False)
    return folder


def test_published_targets_are_converted_to_100_hz(tmp_path):
    found = tasks.read_targets(write_targets(tmp_path / "targets"), "dev")
    assert (200, 3200) == tuple(found["task1.csv"][["start_sample", "end_sample"]].iloc[0])
    assert (200, 1200, 501.0) == tuple(found["task23.csv"][["start_sample", "end_sample", "phase_onset"]].iloc[0])


def test_targets_that_cannot_be_used(tmp_path, picked):
    with pytest.raises(DataError, match=r"none/task1.csv cannot be read: .*; wanted the pick benchmark's targets"):
        tasks.read_targets(tmp_path / "none", "dev")
    folder = write_targets(tmp_path / "targets")
    with pytest.raises(DataError, match=r"task1.csv has no target of split 'test'; it has \['dev'\]"):
        tasks.read_targets(folder, "test")
    (folder / "task1.csv").write_text("trace_name,trace_split\na,dev\n")
    with pytest.raises(DataError, match=r"task1.csv lacks sampling_rate, start_sample, end_sample, trace_type"):
        tasks.read_targets(folder, "dev")
    data, _ = read_records(open_data(str(picked)), "dev", STATUSES)
    with pytest.raises(DataError, match=r"task1.csv: 1 targets belong to records that are not in the split, such as 'a'"):
        tasks.answer(Oracle(), data, tasks.read_targets(write_targets(tmp_path / "others"), "dev"))
