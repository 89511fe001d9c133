import json
from pathlib import Path

import numpy as np
import pytest
from oracle import Oracle
from oracle import record as quake

from stand_in import MIDNIGHT, record, write_days
from xiaonet import Config
from xiaonet.data.pipeline import Windows
from xiaonet.errors import ConfigError, DataError, OutputError
from xiaonet.evaluation import kept
from xiaonet.evaluation.continuous import count_false_picks
from xiaonet.evaluation.evaluator import Evaluator, evaluate
from xiaonet.evaluation.models import StaLtaModel, load_models
from xiaonet.evaluation.scores import PhaseScores
from xiaonet.evaluation.thresholds import read_thresholds
from xiaonet.io.archive import Archive
from xiaonet.scoring.peaks import find_peaks
from xiaonet.training.trainer import train


def test_an_oracle_is_always_right(evaluator):
    seen = []
    metrics = evaluate(evaluator, [Oracle()], on_progress=seen.append).metrics
    [model] = metrics.models
    for phase in "PS":
        own = model.subsets["all"][phase]
        assert (30, 30, 1.0, 0.0, 1.0) == (own.labels, own.picks, own.f1["0.1"].value, own.mae_s.value, own.average_precision)
        assert (1.0, 1.0) == (own.f1["0.1"].low, own.f1["0.1"].high)
    assert (0.0, 0.0, 0.0) == (*model.noise.per_hour.values(), model.stability.changed)
    assert (30, 6, 6, "picked", "test", False) == (
        metrics.windows,
        metrics.records,
        metrics.events,
        metrics.data,
        metrics.split,
        metrics.tuned,
    )
    assert evaluator.total == sum(seen)


def test_the_first_is_compared_with_all_others(evaluator):
    metrics = evaluate(evaluator, [Oracle("late", late=30), Oracle(), Oracle("blind", height=0.0)]).metrics
    found = {(one.less, one.phase): one.values for one in metrics.differences if one.subset == "all"}
    assert {"late"} == {one.model for one in metrics.differences}
    assert (-1.0, 0.0, 0.3) == tuple(round(found["oracle", "P"][name].value, 9) for name in ("f1 0.1", "f1 0.5", "mae"))
    assert (1.0, None) == (found["blind", "S"]["recall 0.5"].value, found["blind", "S"]["precision 0.5"].value)


def test_each_model_has_its_own_threshold_unless_one_is_given(evaluator):
    weak = Oracle("weak", height=0.25)
    own = evaluate(evaluator, [weak]).metrics.models[0]
    given = evaluate(evaluator, [weak], thresholds=read_thresholds("0.2", [weak])).metrics.models[0]
    assert (0.0, "model") == (own.subsets["all"]["P"].f1["0.5"].value, own.threshold_from)
    assert (1.0, "given", {"P": 0.2, "S": 0.2}) == (given.subsets["all"]["P"].f1["0.5"].value, given.threshold_from, given.thresholds)
    assert 0.0 == given.subsets["all"]["P"].prescribed_f1.value


def test_thresholds_are_chosen_on_dev_and_then_given(picked, tmp_path, evaluator):
    weak = Oracle("weak", height=0.25)
    tuned = evaluate(Evaluator(str(picked), "dev", tune=True), [weak]).metrics
    (tmp_path / "metrics.json").write_text(tuned.model_dump_json())
    assert (True, "tuned") == (tuned.tuned, tuned.models[0].threshold_from)
    assert 0.01 < tuned.models[0].thresholds["P"] <= 0.25
    final = evaluate(evaluator, [weak], thresholds=read_thresholds(str(tmp_path / "metrics.json"), [weak])).metrics.models[0]
    assert tuned.models[0].thresholds == final.thresholds
    assert (1.0, 1.0) == (final.subsets["all"]["P"].f1["0.5"].value, final.tasks.detection.f1)


@pytest.fixture
def p_only(write_set) -> Path:
    """Four records with labels of P alone, in split dev."""
    return write_set([quake(seed=seed) for seed in range(4)], trace_p_arrival_sample=[4000.0] * 4, split=["dev"] * 4)


def test_a_phase_without_labels_keeps_the_models_own_threshold(p_only):
    tuned = evaluate(Evaluator(str(p_only), "dev", tune=True), [Oracle("weak", height=0.25)]).metrics.models[0]
    assert tuned.thresholds["P"] <= 0.25
    assert Oracle("weak", height=0.25).thresholds["S"] == tuned.thresholds["S"]
    assert ("tuned", {"P": "tuned", "S": "model"}) == (tuned.threshold_from, tuned.threshold_sources)


def test_a_threshold_that_was_given_comes_before_the_models_where_none_can_be_tuned(p_only):
    evaluator, weak = Evaluator(str(p_only), "dev", tune=True), Oracle("weak", height=0.25)
    found = evaluate(evaluator, [weak], thresholds={"weak": {"P": 0.7, "S": 0.6}}).metrics.models[0]
    assert ({"P": "tuned", "S": "given"}, 0.6) == (found.threshold_sources, found.thresholds["S"])
    assert 0.7 != found.thresholds["P"]


def test_only_tuned_thresholds_are_read_from_a_tuned_evaluation(p_only, picked, tmp_path):
    weak = Oracle("weak", height=0.25)
    tuned = evaluate(Evaluator(str(p_only), "dev", tune=True), [weak]).metrics
    (tmp_path / "metrics.json").write_text(tuned.model_dump_json())
    given = read_thresholds(str(tmp_path / "metrics.json"), [weak])
    assert {"weak": {"P": tuned.models[0].thresholds["P"]}} == given
    final = evaluate(Evaluator(str(picked), "test"), [weak], thresholds=given).metrics.models[0]
    assert {"P": "given", "S": "model"} == final.threshold_sources


def test_metrics_of_older_versions_are_read(picked, tmp_path):
    """They do not say where each threshold comes from."""
    content = json.loads(evaluate(Evaluator(str(picked), "dev", tune=True), [Oracle()]).metrics.model_dump_json())
    tuned = content["models"][0]["thresholds"]
    del content["models"][0]["threshold_sources"]
    (tmp_path / "metrics.json").write_text(json.dumps(content))
    given = read_thresholds(str(tmp_path / "metrics.json"), [Oracle()])["oracle"]
    assert tuned == {phase: given[phase] for phase in "PS"}


def test_thresholds_are_never_chosen_on_test(picked):
    with pytest.raises(ConfigError, match=r"thresholds cannot be tuned on split 'test', .*; tune with --split dev"):
        Evaluator(str(picked), "test", tune=True)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0", "--threshold is 0; wanted a probability above 0 and up to 1, or a metrics.json"),
        ("1.5", "--threshold is 1.5; wanted a probability above 0 and up to 1, or a metrics.json"),
        ("nan", "--threshold is nan; wanted a probability above 0 and up to 1, or a metrics.json"),
        ("none.json", "--threshold none.json is neither a number nor a metrics.json"),
        ("untuned.json", "untuned.json holds no tuned thresholds; make it with --tune --split dev"),
        ("other.json", "other.json has no thresholds of oracle, only of other; tune all models in one command"),
    ],
)
def test_thresholds_that_cannot_be_used(picked, tmp_path, monkeypatch, text, message):
    monkeypatch.chdir(tmp_path)
    for name, tune in (("untuned", False), ("other", True)):
        metrics = evaluate(Evaluator(str(picked), "dev", tune=tune), [Oracle("other")]).metrics
        (tmp_path / f"{name}.json").write_text(metrics.model_dump_json())
    with pytest.raises(ConfigError) as caught:
        read_thresholds(text, [Oracle()])
    assert message in str(caught.value)


def test_outputs_are_kept(evaluator, picked, tmp_path):
    first = Oracle()
    before = evaluate(evaluator, [first]).metrics
    again = Oracle()
    after = evaluate(evaluator, [again]).metrics
    losses_only = -(-len(evaluator.data) // 64)
    assert first.calls > again.calls == losses_only
    same = json.loads(after.model_dump_json(exclude={"created": True, "models": {"__all__": {"seconds"}}}))
    assert same == json.loads(before.model_dump_json(exclude={"created": True, "models": {"__all__": {"seconds"}}}))
    assert after.models[0].seconds is None
    for changed in (Evaluator(str(picked), "test", seed=1, keep=tmp_path / "kept"), Evaluator(str(picked), "dev", keep=tmp_path / "kept")):
        other = Oracle()
        changed.run(other)
        assert other.calls > 0


def test_kept_output_is_not_used_for_another_runtime(evaluator):
    first = Oracle()
    evaluator.run(first)
    for runtime, computed in (("none", False), ("other 1.0", True), ("other 2.0", True)):
        model = Oracle()
        model.runtime = runtime
        evaluator.run(model)
        assert computed == (model.calls > 0), runtime


def test_kept_output_is_not_used_after_a_change_of_the_code(evaluator, monkeypatch):
    evaluator.run(Oracle())
    monkeypatch.setattr(kept, "source_digest", lambda folder: "changed")
    model = Oracle()
    evaluator.run(model)
    assert model.calls > 0


@pytest.mark.parametrize("change", ["content", "name", "new file"])
def test_the_digest_of_the_code_knows_every_change(tmp_path, change):
    (tmp_path / "picking").mkdir()
    (tmp_path / "picking" / "picks.py").write_text("WIDEST = 500")
    (tmp_path / "notes.txt").write_text("one")
    kept.source_digest.cache_clear()
    before = kept.source_digest(tmp_path)
    (tmp_path / "notes.txt").write_text("two")  # not code
    kept.source_digest.cache_clear()
    assert before == kept.source_digest(tmp_path)
    if change == "content":
        (tmp_path / "picking" / "picks.py").write_text("WIDEST = 501")
    elif change == "name":
        (tmp_path / "picking" / "picks.py").rename(tmp_path / "picking" / "other.py")
    else:
        (tmp_path / "picking" / "new.py").touch()
    kept.source_digest.cache_clear()
    assert before != kept.source_digest(tmp_path)


def test_a_kept_file_that_is_damaged_is_computed_again(evaluator, tmp_path):
    expected = evaluator.run(Oracle()).peaks["P"].sample.tolist()
    [file] = (tmp_path / "kept").iterdir()
    file.write_bytes(file.read_bytes()[:200])
    model = Oracle()
    assert expected == evaluator.run(model).peaks["P"].sample.tolist()
    assert model.calls > 0


def test_a_folder_that_cannot_be_made(picked, tmp_path):
    (tmp_path / "file").write_text("here")
    with pytest.raises(OutputError, match=r"file/kept cannot be made: .*; choose another --out"):
        Evaluator(str(picked), "test", keep=tmp_path / "file" / "kept").run(Oracle())


def test_the_task_loss_is_the_final_test_loss_of_the_run(tmp_path, made_up):
    settings = Config().override(
        [
            f"data.name={made_up}",
            "distillation.teacher=none",
            "training.epochs=1",
            "training.num_workers=0",
            "training.precision=32-true",
            "model.base_channels=2",
        ]
    )
    result = train(settings, tmp_path / "run")
    [model] = load_models([str(tmp_path / "run" / "saved_model_fp32.pth")])
    [found] = evaluate(Evaluator(str(made_up), "test", config=settings), [model]).metrics.models
    assert result.test_loss == pytest.approx(found.losses.task, abs=1e-5)
    assert (None, None) == (found.losses.distillation, found.losses.combined)


def test_losses_against_a_teacher(evaluator):
    """A teacher that says the same gives no distillation loss; another one that of Hinton's formula, written out in NumPy."""

    class Same:
        def __init__(self, model):
            self.model = model

        def logits(self, windows):
            import torch

            return torch.from_numpy(np.log(np.maximum(self.model.annotate(windows.numpy()), 1e-30)))

    model = Oracle()
    losses = evaluator.losses(model, Same(model))
    assert 0.0 == pytest.approx(losses.distillation, abs=1e-6)
    assert losses.combined == pytest.approx(0.5 * losses.task, abs=1e-6)

    def soft(one):
        probabilities = np.maximum(one.annotate(windows), 1e-30) ** (1 / 3)
        return probabilities / probabilities.sum(axis=1, keepdims=True)

    windows = np.stack([Windows(evaluator.data)[row]["X"] for row in range(len(evaluator.data))])
    student, teacher = soft(model), soft(Oracle(height=0.1))
    expected = 9 * (teacher * np.log(teacher / student)).sum(axis=1).mean()
    assert expected == pytest.approx(evaluator.losses(model, Same(Oracle(height=0.1))).distillation, rel=1e-4)


def test_a_single_event_has_no_intervals(write_set):

    path = write_set(
        [quake(seed=seed) for seed in range(4)],
        trace_p_arrival_sample=[4000.0] * 4,
        trace_s_arrival_sample=[4400.0] * 4,
        source_id=["one"] * 4,
        split=["test"] * 4,
    )
    own = evaluate(Evaluator(str(path), "test"), [Oracle(), Oracle("late", late=3)]).metrics
    assert (1, 1.0, None) == (
        own.events,
        own.models[0].subsets["all"]["P"].f1["0.5"].value,
        own.models[0].subsets["all"]["P"].f1["0.5"].low,
    )
    assert {None} == {one.values["f1 0.5"].low for one in own.differences}


def test_data_without_a_test_split_or_labels(write_set):
    noise = [np.random.default_rng(0).normal(size=(3, 6000))] * 2
    with pytest.raises(DataError, match="split 'test' is empty"):
        Evaluator(str(write_set(noise, "one", trace_p_arrival_sample=[3000.0] * 2, split=["train", "dev"])))
    with pytest.raises(DataError, match="no column of P or S picks"):
        Evaluator(str(write_set(noise, "two", split=["test"] * 2)))


def test_sta_lta_gives_one_s_for_both_horizontals_of_continuous_records(tmp_path):
    """Ten minutes of two stations. Each has three onsets on both horizontals, and one on the vertical."""
    onsets = {"E": [60, 180, 300], "N": [60.2, 180, 300.1], "Z": [240]}
    stream = record(MIDNIGHT, 600, onsets) + record(MIDNIGHT, 600, onsets, instrument="XX.BBB..HH")
    found = count_false_picks(StaLtaModel(), Archive([write_days(stream, tmp_path / "sds")]), {"P": 0.9, "S": 0.9})
    assert {"P": 2, "S": 6} == {phase: round(rate * found.hours) for phase, rate in found.per_hour.items()}


def test_false_picks_in_continuous_records(tmp_path):
    """Two hours of two stations with a gap of one minute; the oracle says one P in each trace of a vertical."""
    stream = record(seconds=3600, instrument="XX.AAA..HH") + record(start=MIDNIGHT, seconds=3660, instrument="XX.BBB..HH")
    for trace in stream.select(station="BBB"):
        trace.data[60000:66000] = 0  # as if there were none
    found = count_false_picks(Oracle(), Archive([write_days(stream, tmp_path / "sds")]), {"P": 0.5, "S": 0.5})
    assert (2.0, 0.0) == (round(found.hours, 3), found.per_hour["S"])
    assert 4 == round(found.per_hour["P"] * found.hours)  # the first station's hour reaches over midnight
    with pytest.raises(DataError, match=r"no continuous records to look for false picks in: .*no such file"):
        count_false_picks(Oracle(), Archive([tmp_path / "none"]), {"P": 0.5, "S": 0.5})


def test_figures_on_real_records_agree_with_independent_ones(benchmark, teachers):
    """F1 of P and S of the three teachers at 0.3 on three components of ncedc_dev, beside those that another's code gave."""
    evaluator = Evaluator(str(benchmark), "test", windows_per_record=3)
    found = []
    for model in load_models([f"seisbench:PhaseNet/{name}" for name in ("original", "stead", "okla")]):
        peaks = find_peaks(map(model.annotate, evaluator.windows.batches()), 100)
        for phase in "PS":
            scores = PhaseScores.of(peaks[phase], evaluator.windows, phase, 0.3)
            found.append(scores.values(evaluator.subsets()["ncedc_dev, three components"], seed=0)["f1 0.5"].value)
    np.testing.assert_allclose([0.97, 0.95, 0.85, 0.86, 0.88, 0.91], found, atol=0.035)


def test_several_sets_are_judged_together_and_apart(picked, write_set):
    slow = [quake(p=2000, s=2200, seed=seed)[:, ::2] for seed in range(6)]  # 50 Hz
    columns = {"trace_p_arrival_sample": [1000.0] * 6, "trace_s_arrival_sample": [1100.0] * 6, "trace_sampling_rate_hz": [50.0] * 6}
    other = write_set(slow, "slow", split=["test"] * 6, trace_dataset=["slow"] * 6, **columns)
    evaluator = Evaluator(f"{picked}+{other}", "test")
    metrics = evaluate(evaluator, [Oracle()]).metrics
    assert ("picked+slow", 12) == (metrics.data, metrics.records)
    found = {name: own["P"].labels for name, own in metrics.models[0].subsets.items()}
    assert (60, 30) == (found["all"], found["slow, three components"])
    assert (2000 == (evaluator.windows.starts + evaluator.windows.labels["P"][:, 0])[30:]).all()
