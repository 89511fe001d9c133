"""Loads a model on a runtime, by name or from a file."""

from os import PathLike
from pathlib import Path
from typing import get_args

from xiaonet.constants import Runtime
from xiaonet.errors import ConfigError
from xiaonet.names import split_names
from xiaonet.runtime.checksum import EXPORT
from xiaonet.runtime.ensemble import Ensemble
from xiaonet.runtime.native_runtime import NativePredictor
from xiaonet.runtime.onnx_runtime import OnnxRuntimePredictor
from xiaonet.runtime.openvino_runtime import OpenVinoPredictor
from xiaonet.runtime.predictor import Predictor
from xiaonet.runtime.torch_runtime import TorchPredictor
from xiaonet.shipped import model_path, suggestion

MOST_THREADS = 1024

_Kind = OnnxRuntimePredictor | OpenVinoPredictor | NativePredictor | TorchPredictor
_RUNTIMES: tuple[type[_Kind], ...] = (
    OnnxRuntimePredictor,
    OpenVinoPredictor,
    NativePredictor,
    TorchPredictor,
)


def load_predictor(model: str | Path, runtime: Runtime = "auto", threads: int = 1) -> Predictor:
    """Load a network that is ready to be called.

    Args:
        model: name of a shipped model, or path of a model file: `.onnx`, `.xml` with its `.bin`, or `.pth`.
            Several joined by `+` are averaged.
        runtime: `auto` uses torch for a `.pth` file, OpenVINO for a `.xml` file, and otherwise native on processors with AVX2 and
            onnxruntime on all others. Where native was not built, `auto` uses onnxruntime, and the description of the model says why.
        threads: of onnxruntime, OpenVINO and native for one batch; torch has its own setting.

    Raises:
        CheckpointError: there is no such model, it is damaged or not a XiaoNet model, or it has another input specification.
        ConfigError: the runtime is unknown, not installed, or cannot read this kind of file; or an argument has a wrong type.

    Example:
        >>> import numpy as np
        >>> predictor = load_predictor("xiaonet", "onnxruntime")
        >>> predictor(np.zeros((1, 3, 3001), np.float32)).shape
        (1, 3, 3001)
    """
    if not isinstance(model, str | PathLike):
        raise ConfigError(f"model is {model!r}; wanted the name of a shipped model or the path of a model file")
    if runtime not in get_args(Runtime):
        raise ConfigError(f"runtime is {runtime!r}{suggestion(str(runtime), get_args(Runtime))}")
    if not isinstance(threads, int) or not 1 <= threads <= MOST_THREADS:
        raise ConfigError(f"threads is {threads!r}; wanted an integer from 1 to {MOST_THREADS}")
    if len(names := split_names(str(model), "the model", "xiaonet+xiaonet-nano")) > 1:
        return Ensemble([load_predictor(name, runtime, threads) for name in names])
    path = model_path(model, ".pth" if runtime == "torch" else ".onnx")
    kind = _automatic(path) if runtime == "auto" else next(kind for kind in _RUNTIMES if kind.runtime == runtime)
    if path.suffix not in kind.suffixes:
        wanted = " or ".join(kind.suffixes)
        raise ConfigError(f"{kind.runtime} cannot read {path}; wanted a {wanted} file{'' if kind is TorchPredictor else f', {EXPORT}'}")
    if missing := kind.missing():
        raise ConfigError(missing)
    predictor = kind(path, threads)
    if runtime == "auto" and kind is OnnxRuntimePredictor and (reason := NativePredictor.missing()):
        predictor.note = reason.partition(":")[0]
    return predictor


def _automatic(path: Path) -> type[_Kind]:
    """The runtime that suits a file and this processor best."""
    if path.suffix == ".onnx" and not NativePredictor.missing() and NativePredictor.is_fast():
        return NativePredictor
    return next((kind for kind in _RUNTIMES if path.suffix in kind.suffixes), OnnxRuntimePredictor)
