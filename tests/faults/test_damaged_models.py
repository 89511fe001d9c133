"""Damaged model files: each is refused with a message, or it computes exactly what the intact file computes."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from damage import cut_end, cut_middle, cut_start, insert_bytes, one_bit, ones, random_bytes, several_bits, zeros

from conftest import LONG, dice, is_long, rounds
from xiaonet.deploy.export import export
from xiaonet.errors import CheckpointError
from xiaonet.runtime.loading import load_predictor
from xiaonet.shipped import WEIGHTS

KINDS = (one_bit, several_bits, random_bytes, zeros, ones, cut_end, cut_start, cut_middle, insert_bytes)
FILES = ("xiaonet-nano.pth", "xiaonet-nano-int8.pth", "xiaonet-nano.onnx", "xiaonet-nano-int8.onnx", "xiaonet-nano.xml", "xiaonet-nano.bin")
IS_LONG = is_long("MODELS")
EACH = rounds("MODELS", 90) // len(FILES)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shipped files of the narrow model, and the same for OpenVINO."""
    folder = tmp_path_factory.mktemp("models")
    for path in WEIGHTS.glob("xiaonet-nano*.*"):
        shutil.copy(path, folder)
    if IS_LONG:
        export(folder / "xiaonet-nano.pth", "openvino", folder / "xiaonet-nano.xml")
    return folder


@pytest.mark.parametrize("name", FILES)
def test_no_damaged_model_file_computes_something_else(models: Path, tmp_path: Path, name: str) -> None:
    if name.endswith((".xml", ".bin")) and not IS_LONG:
        pytest.skip(LONG)
    window = np.random.default_rng(0).normal(0, 0.3, (1, 3, 3001)).astype(np.float32)
    model = Path(name).with_suffix(".xml") if name.endswith(".bin") else Path(name)
    expected = load_predictor(models / model)(window)
    for path in models.glob("xiaonet-nano.*"):
        shutil.copy(path, tmp_path)
    intact = (models / name).read_bytes()
    refused = harmless = 0
    for trial in range(EACH):
        kind = KINDS[trial % len(KINDS)]
        (tmp_path / name).write_bytes(kind(dice(4, *name.encode(), trial), intact).content)
        try:
            found = load_predictor(tmp_path / model)(window)
        except CheckpointError as error:
            refused += str(tmp_path / model.stem) in str(error)  # and named
        else:
            harmless += np.array_equal(expected, found)
    print(f"{name}: {EACH} damaged files, {refused} refused, {harmless} computed the same")
    assert refused + harmless == EACH
    assert refused > 0.9 * EACH
