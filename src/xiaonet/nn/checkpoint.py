"""Model files: weights, constructor arguments, input contract, thresholds and provenance in one place.

A file is written whole or not at all, and read without running any code that it might carry.
"""

import hashlib
import io
import pickle
import re
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from zipfile import BadZipFile, ZipFile

import torch
from torch import Tensor

from xiaonet.constants import DEFAULT_THRESHOLDS, checked_thresholds, input_specification, input_specification_differences
from xiaonet.errors import CheckpointError, ConfigError
from xiaonet.files import write_atomically
from xiaonet.nn.model import XiaoNet
from xiaonet.nn.quantized import QuantizedXiaoNet

FORMAT = "xiaonet-model"
VERSION = 1
FP32, INT8 = "fp32", "int8"
# Of an absolute path; where one begins the text or follows a +, spaces are part of it.
FOLDERS = re.compile(r"(?:^|(?<=\+))(?:~|[A-Za-z]:)?[/\\](?:[^/\\+]+[/\\])*|(?<![\w.:/\\])(?:~|[A-Za-z]:)?[/\\](?:[^/\\+\s]+[/\\])*")

# What torch, json and zip raise on reading a damaged file.
DAMAGE = (
    RuntimeError,
    EOFError,
    OSError,
    BadZipFile,
    zlib.error,
    pickle.UnpicklingError,
    ValueError,
    KeyError,
    TypeError,
    IndexError,
    AttributeError,
)


def save_model(
    model: XiaoNet,
    path: str | Path,
    provenance: Mapping[str, Any] | None = None,
    thresholds: Mapping[str, float] | None = None,
) -> None:
    """Write a model file that `load_model` needs nothing else to read.

    Args:
        model: the model.
        path: the file, by custom a `.pth`.
        provenance: plain values that say where the weights are from; folders are taken out of them.
        thresholds: least probabilities of a pick, `{"P": 0.3, "S": 0.3}` by default.

    Raises:
        ConfigError: a threshold is missing, unknown or not between 0 and 1.
        OutputError: the folder cannot be written to, or the disk is full. An older file of
            that name is left as it was.
    """
    heights = checked_thresholds(DEFAULT_THRESHOLDS if thresholds is None else thresholds)
    weights = {name: tensor.detach().cpu() for name, tensor in model.state_dict().items()}
    quantized = isinstance(model, QuantizedXiaoNet)
    if quantized:
        weights = side_by_side(weights)
    save_tensors(
        Path(path),
        FORMAT,
        {
            "arguments": dict(model.arguments),
            "precision": INT8 if quantized else FP32,
            "contract": input_specification(),
            "thresholds": heights,
            "provenance": without_folders(provenance or {}),
            "weights": weights,
            "digest": digest(weights),
        },
    )


def load_model(path: str | Path) -> XiaoNet:
    """Read a model file; the model comes on the CPU, in evaluation mode.

    Raises:
        CheckpointError: there is no such file, it is damaged, no model of XiaoNet, or one of
            another contract.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> from xiaonet import XiaoNet, load_model, save_model
        >>> with TemporaryDirectory() as folder:
        ...     save_model(XiaoNet(base_channels=4), f"{folder}/small.pth")
        ...     load_model(f"{folder}/small.pth").arguments["base_channels"]
        4
    """
    content = read_model_file(path)
    try:
        kind = QuantizedXiaoNet if content["precision"] == INT8 else XiaoNet
        model = kind(**content["arguments"]).to(content["weights"]["head.weight"].dtype)
        model.load_state_dict(content["weights"])
    except DAMAGE as error:
        raise CheckpointError(f"{path} is damaged: weights and arguments do not fit: {str(error).splitlines()[0]}") from error
    return model.eval()


def load_float(path: str | Path) -> XiaoNet:
    """Read a model file that can be trained, or quantized, further on. Raises as `load_model` does.

    Raises:
        ConfigError: it is quantized already.
    """
    model = load_model(path)
    if isinstance(model, QuantizedXiaoNet):
        raise ConfigError(f"{path} is quantized already; wanted the model in float32 that it was made from")
    return model


def read_model_file(path: str | Path) -> dict[str, Any]:
    """All that a model file holds: arguments, precision, contract, thresholds, provenance, weights. Raises as `load_model` does."""
    path = Path(path)
    content = load_tensors(path, FORMAT)
    missing = {"arguments", "contract", "provenance", "weights", "digest"} - content.keys()
    if missing:
        raise CheckpointError(f"{path} is damaged or no model file: it lacks {', '.join(sorted(missing))}; save it with xiaonet.save_model")
    if not isinstance(content["contract"], dict) or not isinstance(content["weights"], dict):
        raise CheckpointError(f"{path} is damaged: its contract or its weights are not what XiaoNet writes; copy it again")
    if differing := input_specification_differences(content["contract"]):
        raise CheckpointError(f"{path} has another input specification: {differing}; this XiaoNet wants {input_specification()}")
    if content.setdefault("precision", FP32) not in (FP32, INT8):
        raise CheckpointError(f"{path} holds weights in {content['precision']!r}; wanted {FP32} or {INT8}; pip install -U xiaonet")
    if digest(content["weights"]) != content["digest"]:
        raise CheckpointError(f"{path} is damaged: its weights are not the ones that were saved; copy it again")
    try:
        content["thresholds"] = checked_thresholds(content.get("thresholds", DEFAULT_THRESHOLDS))
    except ConfigError as error:
        raise CheckpointError(f"{path} is damaged: its {error}; save it again with xiaonet.save_model") from error
    return content


def save_tensors(path: Path, kind: str, content: Mapping[str, Any]) -> None:
    """Write a file of tensors and plain values, marked as being of a `kind`. Raises as `save_model` does."""
    buffer = io.BytesIO()  # so that a full disk is told as such, not in torch's words
    torch.save({"format": kind, "version": VERSION, **content}, buffer)
    write_atomically(path, lambda file: file.write(buffer.getbuffer()))


def load_tensors(path: Path, kind: str) -> dict[str, Any]:
    """Read such a file without running code from it.

    Raises:
        CheckpointError: it is missing, damaged, or of another kind.
    """
    try:
        with ZipFile(path) as archive:  # torch checks no checksums, and its pickle is not in our digest
            broken = archive.testzip()
        if broken is not None:
            raise CheckpointError(f"{path} is damaged: the checksum of {broken} does not fit; copy it again")
        content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise CheckpointError(f"there is no file {path}") from error
    except DAMAGE as error:
        raise CheckpointError(
            f"{path} is damaged or no file of XiaoNet's: {(str(error) or type(error).__name__).splitlines()[0]}"
        ) from error
    if not isinstance(content, dict) or content.get("format") != kind or content.get("version") != VERSION:
        found = (content.get("format"), content.get("version")) if isinstance(content, dict) else type(content).__name__
        raise CheckpointError(f"{path} is not a file of XiaoNet's: found {found}, wanted {(kind, VERSION)}")
    return content


def without_folders(value: Any) -> Any:
    """Plain values in which every absolute path is cut down to its last part: `/home/me/data` is `data`."""
    if isinstance(value, Mapping):
        return {without_folders(key): without_folders(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [without_folders(item) for item in value]
    return FOLDERS.sub("", value) if isinstance(value, str) else value


def side_by_side(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The same tensors as parts of one for each type: each of its own would cost a few hundred bytes of the file."""
    placed: dict[str, Tensor] = {}
    for dtype in {tensor.dtype for tensor in weights.values()}:
        own = {name: tensor for name, tensor in weights.items() if tensor.dtype == dtype}
        parts = torch.split(torch.cat([tensor.reshape(-1) for tensor in own.values()]), [tensor.numel() for tensor in own.values()])
        placed |= {name: part.view(own[name].shape) for name, part in zip(own, parts, strict=True)}
    return {name: placed[name] for name in weights}


def digest(weights: Mapping[str, Tensor]) -> str:
    """SHA-256 of weights and their names."""
    running = hashlib.sha256()
    for name in sorted(weights):
        running.update(name.encode())
        running.update(weights[name].contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return running.hexdigest()
