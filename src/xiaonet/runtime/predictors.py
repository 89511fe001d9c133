"""Runtimes behind one protocol: windows in, probabilities out, and the same picks from each.

A model file of ours carries a header, as JSON in its metadata, and in it a seal: the SHA-256 of the
whole file with the seal itself written as zeros, and of the weights where OpenVINO has them in a file of
their own. So a file that was cut off or changed, be it by one bit of a weight, is refused before a
runtime reads it.
"""

import hashlib
import json
import os
import re
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar, Protocol, get_args

import numpy as np
from numpy.typing import NDArray

from xiaonet.constants import (
    COMPONENTS,
    NOISE,
    WINDOW_SAMPLES,
    Runtime,
    checked_thresholds,
    input_specification,
    input_specification_differences,
)
from xiaonet.errors import CheckpointError, ConfigError, WaveformError
from xiaonet.names import split_names
from xiaonet.shipped import model_path, suggestion

Windows = NDArray[np.float32]

HEADER = "xiaonet"  # the key of our entry in the metadata of a model file
FORMAT = "xiaonet-onnx"
VERSION = 1
UNSEALED = "0" * 64
EXPORT = "as xiaonet export writes it"
READS = {"onnxruntime": (".onnx",), "openvino": (".onnx", ".xml"), "torch": (".pth",)}
INSTALL = {"onnxruntime": "onnxruntime", "openvino": "'xiaonet[openvino]'", "torch": "'xiaonet[train]'"}

# Never in a JSON string, whose quotes have backslashes; XML writes quotes in its own way.
_SEAL = re.compile(rb'("|&quot;)seal\1: \1([0-9a-f]{64})\1')


class Predictor(Protocol):
    """What the picker wants of a network on a runtime. May be called from several threads at once."""

    @property
    def runtime(self) -> str:
        """`onnxruntime`, `openvino` or `torch`."""

    @property
    def thresholds(self) -> Mapping[str, float]:
        """Least probabilities of a pick that the model file advises, for `P` and `S`."""

    @property
    def description(self) -> str:
        """Model, size and runtime in a line, for the header of a run."""

    @property
    def digest(self) -> str:
        """SHA-256 of the model file."""

    def __call__(self, windows: Windows) -> Windows:
        """Probabilities `(batch, 3, 3001)` of P, S and noise.

        Args:
            windows: `(batch, 3, 3001)` in E, N, Z order at 100 Hz, normalised.
        """


class _OnOneRuntime(ABC):
    """What the runtimes have in common."""

    runtime: ClassVar[str]

    def __init__(self, path: Path, raw: bytes, header: Mapping[str, Any], version: str) -> None:
        self.thresholds: Mapping[str, float] = header["thresholds"]
        self.digest = hashlib.sha256(raw).hexdigest()
        self.description = f"{path.name}, {header['parameters']:,} parameters, {self.runtime} {version}"

    def __call__(self, windows: Windows) -> Windows:
        """Probabilities `(batch, 3, 3001)` in P, S, noise order.

        Args:
            windows: `(batch, 3, 3001)`, float32, in E, N, Z order at 100 Hz, normalised.

        Raises:
            WaveformError: the shape or the type does not fit.
        """
        if windows.shape[1:] != (len(COMPONENTS), WINDOW_SAMPLES) or windows.dtype != np.float32:
            raise WaveformError(
                f"windows are {windows.dtype} {windows.shape}; wanted float32 (batch, {len(COMPONENTS)}, {WINDOW_SAMPLES}), "
                "as xiaonet.picking.windows.normalize gives them"
            )
        return self.infer(np.require(windows, requirements="W")) if len(windows) else np.empty_like(windows)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.description}>"

    @abstractmethod
    def infer(self, windows: Windows) -> Windows:
        """Probabilities of at least one window, which may have another length."""


class OnnxRuntimePredictor(_OnOneRuntime):
    """A network on onnxruntime, which comes with XiaoNet. Raises as `load_predictor` does."""

    runtime = "onnxruntime"

    def __init__(self, path: Path, threads: int = 1) -> None:
        onnxruntime = _import_onnxruntime()
        from onnxruntime.capi import onnxruntime_pybind11_state as state

        raw, _ = _sealed_bytes(path)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3  # errors
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # threads that wait leave the core to others
        try:
            self._session = onnxruntime.InferenceSession(raw, options, providers=["CPUExecutionProvider"])
        except (state.Fail, state.InvalidArgument, state.InvalidGraph, state.InvalidProtobuf, state.NotImplemented) as error:
            raise _unreadable(path, self.runtime, error) from error
        text = self._session.get_modelmeta().custom_metadata_map.get(HEADER, "")
        super().__init__(path, raw, _header(path, text), onnxruntime.__version__)

    def infer(self, windows: Windows) -> Windows:
        """Probabilities of windows of any length."""
        probabilities: Windows = self._session.run(["probabilities"], {"windows": windows})[0]
        return probabilities


class OpenVinoPredictor(_OnOneRuntime):
    """A network on OpenVINO, on some processors faster than onnxruntime. Raises as `load_predictor` does."""

    runtime = "openvino"

    def __init__(self, path: Path, threads: int = 1) -> None:
        openvino = import_openvino()
        raw, weights = _sealed_bytes(path)
        settings = {
            "INFERENCE_NUM_THREADS": threads,
            "INFERENCE_PRECISION_HINT": "f32",  # the same picks as on the other runtimes; it would take bf16 where it can
            "PERFORMANCE_HINT": "LATENCY",
            "ENABLE_CPU_PINNING": False,  # two processes would share one core and leave the other idle
        }
        core, place = openvino.Core(), ["framework", HEADER]
        try:
            model = core.read_model(raw, weights)
            header = _header(path, model.get_rt_info(place).value if model.has_rt_info(place) else "")
            # Requests of one compiled model wait for each other, so each gets a compiled model of its own.
            self._new_request: Callable[[], Any] = lambda: core.compile_model(model, "CPU", settings).create_infer_request()
            self._idle = [self._new_request()]  # as many as there were calls at once
        except RuntimeError as error:
            raise _unreadable(path, self.runtime, error) from error
        super().__init__(path, raw, header, openvino.__version__.partition("-")[0])

    def infer(self, windows: Windows) -> Windows:
        """Probabilities of windows of any length."""
        try:
            request = self._idle.pop()
        except IndexError:
            request = self._new_request()
        try:
            probabilities: Windows = request.infer([windows], share_inputs=True)[0]
        finally:
            self._idle.append(request)
        return probabilities


class TorchPredictor(_OnOneRuntime):
    """A network on torch, on the CPU. Raises as `load_predictor` does.

    It computes with as many threads as the process has told torch to (`torch.set_num_threads`,
    `OMP_NUM_THREADS`), because torch has one number for all.
    """

    runtime = "torch"

    def __init__(self, path: Path) -> None:
        import torch

        from xiaonet.nn.checkpoint import load_model, read_model_file
        from xiaonet.nn.model import XiaoNet

        header = read_model_file(path)
        self._model = load_model(path).float()
        parameters = sum(weight.numel() for weight in XiaoNet(**header["arguments"]).parameters())  # in whatever precision
        super().__init__(path, path.read_bytes(), {**header, "parameters": parameters}, torch.__version__)

    def infer(self, windows: Windows) -> Windows:
        """Probabilities of windows of any length."""
        import torch

        with torch.inference_mode():
            probabilities: Windows = self._model(torch.from_numpy(windows)).numpy()
        return probabilities


class Cascade:
    """A small model that sees every window, and a large one that sees only those in which the small one finds something.

    Args:
        prefilter: the small model.
        model: the large one, whose advised thresholds are used.
        threshold: probability of P or S from which on the large model sees a window; other windows keep
            the probabilities of the prefilter.

    Raises:
        ConfigError: the threshold is not between 0 and 1.
    """

    def __init__(self, prefilter: Predictor, model: Predictor, threshold: float) -> None:
        if not 0 <= threshold <= 1:
            raise ConfigError(f"threshold of the cascade is {threshold}; wanted a probability from 0 to 1, e.g. 0.05")
        self.prefilter, self.model, self.threshold = prefilter, model, threshold
        self.runtime = model.runtime
        self.thresholds = model.thresholds
        self.description = f"{model.description}, where {prefilter.description} gives P or S {threshold:g}"
        self.digest = hashlib.sha256(f"{prefilter.digest} {model.digest} {threshold!r}".encode()).hexdigest()

    def __call__(self, windows: Windows) -> Windows:
        """Probabilities `(batch, 3, 3001)` of windows `(batch, 3, 3001)`, as the networks give them."""
        probabilities = np.array(self.prefilter(windows))
        called = (np.delete(probabilities, NOISE, axis=1) >= self.threshold).any(axis=(1, 2))
        if called.any():
            probabilities[called] = self.model(windows[called])
        return probabilities


class Ensemble:
    """Several networks whose probabilities are averaged, as those of several seeds are (Lakshminarayanan et al. 2017).

    Thresholds are the members' means.

    Raises:
        ConfigError: there are fewer than two members, or one is there twice.
    """

    def __init__(self, members: Sequence[Predictor]) -> None:
        digests = [member.digest for member in members]
        if len(members) < 2 or len(set(digests)) < len(digests):
            raise ConfigError(f"an ensemble of {', '.join(member.description for member in members)}; wanted two or more different models")
        self.members = members
        self.runtime = members[0].runtime
        self.thresholds = {phase: float(np.mean([member.thresholds[phase] for member in members])) for phase in members[0].thresholds}
        self.description = "mean of " + " and ".join(member.description for member in members)
        self.digest = hashlib.sha256(" ".join(digests).encode()).hexdigest()

    def __call__(self, windows: Windows) -> Windows:
        """Mean probabilities `(batch, 3, 3001)` of windows `(batch, 3, 3001)`."""
        mean: Windows = np.mean([member(windows) for member in self.members], axis=0, dtype=np.float32)
        return mean


def load_predictor(model: str | Path, runtime: Runtime = "auto", threads: int = 1) -> Predictor:
    """A network, ready to be called.

    Args:
        model: name of a shipped model, or path of a model file, `.onnx`, `.xml` with its `.bin`, or `.pth`;
            several joined by `+` are averaged.
        runtime: `auto` takes torch for a `.pth` file, OpenVINO for a `.xml` file, and onnxruntime for all else.
        threads: with which onnxruntime and OpenVINO compute one batch; torch has its own setting.

    Raises:
        CheckpointError: there is no such model, it is damaged, not ours, or of another contract.
        ConfigError: the runtime is unknown, not installed, or cannot read this kind of file.

    Example:
        >>> import numpy as np
        >>> predictor = load_predictor("xiaonet", "onnxruntime")
        >>> predictor(np.zeros((1, 3, 3001), np.float32)).shape
        (1, 3, 3001)
    """
    if runtime not in get_args(Runtime):
        raise ConfigError(f"runtime is {runtime!r}{suggestion(str(runtime), get_args(Runtime))}")
    if threads < 1:
        raise ConfigError(f"threads is {threads}; wanted at least 1")
    if len(names := split_names(str(model), "the model", "xiaonet+xiaonet-nano")) > 1:
        return Ensemble([load_predictor(name, runtime, threads) for name in names])
    path = model_path(model, ".pth" if runtime == "torch" else ".onnx")
    kind = path.suffix
    if runtime == "auto":
        runtime = next((name for name in get_args(Runtime)[1:] if kind in READS[name]), "onnxruntime")
    if kind not in READS[runtime]:
        wanted = " or ".join(READS[runtime])
        raise ConfigError(f"{runtime} cannot read {path}; wanted a {wanted} file{'' if runtime == 'torch' else f', {EXPORT}'}")
    if not find_spec(runtime):
        raise ConfigError(f"the runtime {runtime} is not installed: pip install {INSTALL[runtime]}")
    if runtime == "torch":
        return TorchPredictor(path)
    return (OpenVinoPredictor if runtime == "openvino" else OnnxRuntimePredictor)(path, threads)


def seal(raw: bytes, weights: bytes = b"") -> bytes:
    """Write the seal into a model file whose header has 64 zeros in its place; `weights` are those that lie beside it."""
    return _SEAL.sub(rb"\g<1>seal\1: \g<1>" + hashlib.sha256(raw + weights).hexdigest().encode() + rb"\1", raw, count=1)


def _sealed_bytes(path: Path) -> tuple[bytes, bytes]:
    """A model file, and the weights that OpenVINO has beside it."""
    raw = _read(path)
    found = _SEAL.search(raw)
    if found is None:
        raise CheckpointError(f"{path} is damaged or no model of XiaoNet's: it lacks our seal; copy it again, or take one {EXPORT}")
    split = path.suffix == ".xml"
    weights = _read(path.with_suffix(".bin")) if split else b""
    unsealed = raw[: found.start(2)] + UNSEALED.encode() + raw[found.end(2) :]
    if hashlib.sha256(unsealed + weights).hexdigest().encode() != found[2]:
        raise CheckpointError(f"{path}{' or its .bin' if split else ''} is damaged: its content does not fit its seal; copy it again")
    return raw, weights


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        beside = "; copy it too, an OpenVINO model is two files" if path.suffix == ".bin" else ""
        raise CheckpointError(f"there is no file {path}{beside}") from error
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error}") from error


def _header(path: Path, text: str) -> dict[str, Any]:
    """The header of an unharmed file, if it is one for us."""
    header = json.loads(text or "{}")
    found = header.get("format"), header.get("version")
    if found != (FORMAT, VERSION):
        raise CheckpointError(f"{path} is no file of this XiaoNet's: found {found}, wanted {(FORMAT, VERSION)}; take one {EXPORT}")
    if differing := input_specification_differences(header["contract"]):
        raise CheckpointError(f"{path} was made for another contract: {differing}; this XiaoNet wants {input_specification()}")
    return {**header, "thresholds": checked_thresholds(header["thresholds"])}


def _unreadable(path: Path, runtime: str, error: Exception) -> CheckpointError:
    lines = [line for line in str(error).splitlines() if line.strip() and not line.startswith("Exception from")]  # places in C++
    return CheckpointError(f"{path} is beyond this {runtime}: {' '.join(lines[:3])}; pip install -U {INSTALL[runtime]}")


def _import_onnxruntime() -> Any:
    """onnxruntime without the messages to its makers that it sends from version 1.29 on, unless the user wants them."""
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # is read as it is imported
    import onnxruntime

    return onnxruntime


def import_openvino() -> Any:
    """OpenVINO without the message to its makers that importing it would send."""
    name, absent = "openvino_telemetry", object()
    before = sys.modules.get(name, absent)
    sys.modules[name] = None  # type: ignore[assignment]  # so that it takes its own stub
    try:
        import openvino
    finally:
        del sys.modules[name]
        if before is not absent:
            sys.modules[name] = before  # type: ignore[assignment]
    return openvino
