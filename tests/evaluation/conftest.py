from collections.abc import Callable
from pathlib import Path

import pytest
from oracle import P, S, record

from xiaonet.evaluation.evaluator import Evaluator


@pytest.fixture
def evaluator(picked: Path, tmp_path: Path) -> Evaluator:
    """Of the test split of `picked`; what models give is kept."""
    return Evaluator(str(picked), "test", keep=tmp_path / "kept")


@pytest.fixture
def picked(write_set: Callable[..., Path]) -> Path:
    """Twelve records of six events in the splits dev and test, P at 4000 and S at 4400 of 8000 samples."""
    return write_set(
        [record(seed=seed) for seed in range(12)],
        "picked",
        trace_p_arrival_sample=[float(P)] * 12,
        trace_s_arrival_sample=[float(S)] * 12,
        source_id=[f"quake{number // 2}" for number in range(12)],
        source_magnitude=[0.5 + number // 2 for number in range(12)],
        split=["dev", "test"] * 6,
    )
