import pytest

from xiaonet.config.schema import Config
from xiaonet.errors import CheckpointError
from xiaonet.training.diagnostics import Advice, EpochRecord
from xiaonet.training.run_folder import history_csv, notes, read_manifest

HISTORY = [EpochRecord(1, 1e-3, 3.0, 0.5, 0.25, 9.5), EpochRecord(2, 5e-4, 2.0, 0.25, 0.125, 8.0)]


def test_the_notes_of_a_finished_run():
    config = Config().override(["training.epochs=2", "model.dropout=0.2"])
    manifest = {
        "started": "2026-01-01T00:00:00+00:00",
        "note": "few records",
        "best_epoch": 2,
        "best_dev_loss": 0.125,
        "test_loss": None,
        "times_tested": 0,
    }
    expected = """# Run mine

Started 2026-01-01T00:00:00+00:00.

## Changes from the defaults

| setting | default | here |
|---|---|---|
| training.epochs | 50 | 2 |
| model.dropout | 0.0 | 0.2 |

## Reason

few records

## Learning rate

- epoch 2: 0.001 to 0.0005

## Advice

- too slow: try --set training.learning_rate=0.01

## Results

- best_epoch: 2
- best_dev_loss: 0.125
- test_loss: None
- times_tested: 0
"""
    assert expected == notes("mine", config, manifest, HISTORY, [Advice("too slow", (("training.learning_rate", 0.01),))])


@pytest.mark.parametrize(("config", "reason"), [(Config(), "Nothing was changed."), (Config().override(["training.seed=1"]), "Not given.")])
def test_a_missing_reason_is_said(config, reason):
    assert f"## Reason\n\n{reason}\n" in notes("mine", config, {"started": "now", "note": ""}, [], [])


def test_the_history_is_a_line_an_epoch():
    assert (
        "epoch,learning_rate,train_loss,train_task_loss,dev_loss,seconds\n1,0.001,3.0,0.5,0.25,9.5\n2,0.0005,2.0,0.25,0.125,8.0\n"
    ) == history_csv(HISTORY)


@pytest.mark.parametrize("text", ['{"started": ', "[]", '{"started": "now"}'])
def test_a_damaged_manifest(tmp_path, text):
    (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(CheckpointError, match=r"manifest\.json is damaged"):
        read_manifest(tmp_path)
