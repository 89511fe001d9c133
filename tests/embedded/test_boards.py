from pathlib import Path

import numpy as np
import obspy
import pytest
from emulation import BOARDS, emulate, missing

from xiaonet import load_model
from xiaonet.deploy.c_export import self_test, to_c
from xiaonet.deploy.c_reference import layers_of, logits
from xiaonet.shipped import model_path

pytestmark = pytest.mark.skipif(bool(missing()), reason=missing())

MODEL = model_path("xiaonet-nano-int8", ".pth")


@pytest.fixture(scope="module")
def windows() -> np.ndarray:
    """A real window, and made-up ones with large and with dead components."""
    stream = obspy.read()
    real = np.stack([np.append(stream.select(component=component)[0].data, 0) for component in "ENZ"]).round().astype(np.int32)
    return np.stack([real, self_test() * 8000, np.stack([real[0], np.zeros(3001, np.int32), np.arange(3001)])])


@pytest.mark.parametrize("board", BOARDS)
def test_boards_give_the_logits_of_the_reference_to_the_bit(board: str, windows: np.ndarray, tmp_path: Path) -> None:
    to_c(MODEL, tmp_path / "c")
    found = emulate(tmp_path / "c", board, windows, tmp_path)
    layers = layers_of(load_model(MODEL))
    np.testing.assert_array_equal(np.stack([logits(layers, window) for window in windows]), found.logits)
    assert found.loop == pytest.approx(2_000_000, rel=1e-3)  # instructions are counted right
    assert found.flash < 40_000
    assert found.stack < 1024
