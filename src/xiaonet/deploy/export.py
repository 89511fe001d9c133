"""A model file in the formats that other runtimes read, each checked against torch before it takes its place."""

import os
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from numpy.typing import NDArray

from xiaonet.checkpoint import load_model
from xiaonet.deploy.onnx import export_onnx, limit
from xiaonet.errors import CheckpointError, ConfigError
from xiaonet.predictors import HEADER, INSTALL, import_openvino
from xiaonet.spec import COMPONENTS, STRIDE, WINDOW_SAMPLES

SHAPES = ((1, WINDOW_SAMPLES), (3, WINDOW_SAMPLES), (2, WINDOW_SAMPLES - WINDOW_SAMPLES % STRIDE), (2, 4 * STRIDE))  # windows, samples
NOT_HERE: Mapping[str, str] = {
    "litert": "litert-torch, which converts to it, wants torch below 2.13 in all its releases up to 0.9.3, and XiaoNet torch 2.13",
    "executorch": "its converter was tried with torch 2.13 and is not offered yet; docs/decisions/int8.md says how far it came",
}


def export(model_file: Path, kind: str, out: Path) -> list[Path]:
    """Write a model file in another format, with the contract inside.

    Args:
        model_file: as `xiaonet.save_model` writes it, in float32 or quantized.
        kind: `onnx` or `openvino`.
        out: the new file; OpenVINO puts a `.bin` of the same name beside it.

    Returns:
        The files.

    Raises:
        ConfigError: the format is unknown or cannot be had here, or packages for it are missing.
        CheckpointError: the model file cannot be read, the new one cannot be written, or it does not
            give what torch gives.
    """
    if kind in NOT_HERE:
        raise ConfigError(f"format {kind} is not available here, because {NOT_HERE[kind]}; take one of {', '.join(FORMATS)}")
    if kind not in FORMATS:
        raise ConfigError(f"format is {kind!r}; wanted one of {', '.join((*FORMATS, *NOT_HERE))}")
    return FORMATS[kind][1](model_file, out)


def suffix(kind: str) -> str:
    """What a file of a format is called by custom; none for one that is not offered."""
    return FORMATS[kind][0] if kind in FORMATS else ""


def _to_onnx_file(model_file: Path, out: Path) -> list[Path]:
    export_onnx(model_file, out)
    return [out]


def _to_openvino(model_file: Path, out: Path) -> list[Path]:
    if not find_spec("openvino"):
        raise ConfigError(f"format openvino needs OpenVINO: pip install {INSTALL['openvino']}")
    openvino = import_openvino()
    targets = [out.with_suffix(".xml"), out.with_suffix(".bin")]
    try:
        with TemporaryDirectory(dir=out.parent, prefix=".export-") as folder:
            bare = Path(folder) / "model.onnx"
            export_onnx(model_file, bare)
            core = openvino.Core()
            xml = bare.with_suffix(".xml")
            openvino.save_model(core.read_model(bare), xml, compress_to_fp16=False)
            written = core.read_model(xml)
            if not written.has_rt_info(["framework", HEADER]):
                raise CheckpointError(f"{targets[0]} was not written: this OpenVINO drops the contract; pip install -U openvino")
            compiled = core.compile_model(written, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
            check(model_file, lambda windows: compiled([windows])[0], targets[0])
            for target in reversed(targets):
                os.replace(xml.with_suffix(target.suffix), target)
    except OSError as error:
        raise CheckpointError(f"{targets[0]} could not be written: {error}; free some space or choose another folder") from error
    return targets


def check(model_file: Path, infer: Callable[[NDArray[np.float32]], NDArray[np.float32]], out: Path) -> None:
    """See that a runtime gives what torch gives, for one window and several, of 3001 samples and of multiples of 8.

    Raises:
        CheckpointError: it does not.
    """
    model, rng = load_model(model_file).float(), np.random.default_rng(0)
    for number, samples in SHAPES:
        windows = rng.uniform(-1, 1, (number, len(COMPONENTS), samples)).astype(np.float32)
        with torch.inference_mode():
            expected = model(torch.from_numpy(windows)).numpy()
        found = infer(windows)
        difference = float(np.abs(found - expected).max()) if found.shape == expected.shape else np.inf
        if not difference <= limit(model):
            raise CheckpointError(
                f"{out} was not written: probabilities of {number} windows of {samples} samples differ from torch's by {difference:g}; "
                f"wanted at most {limit(model):g}"
            )


FORMATS: Mapping[str, tuple[str, Callable[[Path, Path], list[Path]]]] = {
    "onnx": (".onnx", _to_onnx_file),
    "openvino": (".xml", _to_openvino),
}
