"""Model files: weights, constructor arguments, input specification, thresholds and provenance.

A file is written completely or not at all. Reading it never runs code from it.
"""

import hashlib
import io
import pickle
import re
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args
from zipfile import BadZipFile, ZipFile

import torch
from torch import Tensor

from xiaonet.constants import (
    DEFAULT_THRESHOLDS,
    FIRST_STACKING,
    Stacking,
    checked_thresholds,
    input_specification,
    input_specification_differences,
)
from xiaonet.errors import CheckpointError, ConfigError
from xiaonet.files import write_atomically
from xiaonet.nn.model import XiaoNet
from xiaonet.nn.quantized import QuantizedXiaoNet

FORMAT = "xiaonet-model"
VERSION = 1
FP32, INT8 = "fp32", "int8"
# The folders of an absolute path: /a/b/, ~/a/, C:\a\ or \\server\a\. Names may contain spaces where a path begins the
# text or follows a +. Elsewhere a path needs a folder, because a slash alone may stand between words ("P / S").
FOLDERS = re.compile(
    r"(?:^|(?<=\+))(?:(?:~|[A-Za-z]:)[/\\]|\\\\|/(?=[^\s/\\]))(?:[^/\\+\s](?:[^/\\+]*[^/\\+\s])?[/\\])*"
    r"|(?<![\w.:/\\~*?\]])(?:(?:~|[A-Za-z]:)[/\\]|\\\\|/(?=[^/\\+\s]+/))(?:[^/\\+\s]+[/\\])*"
)

# What torch, pickle and zip raise when they read a damaged file.
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
    stacking: Stacking = "waveforms",
) -> None:
    """Write a model file, which `load_model` reads.

    Args:
        model: the model.
        path: the file, usually with the suffix `.pth`.
        provenance: plain values that describe the origin of the weights; folders are removed from paths in them.
        thresholds: minimum probabilities of a pick, `{"P": 0.3, "S": 0.3}` by default.
        stacking: what the picker averages where the windows of a continuous record overlap: `probabilities` or `waveforms`.

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
        _as_path(path),
        FORMAT,
        {
            "arguments": dict(model.arguments),
            "precision": INT8 if quantized else FP32,
            "contract": input_specification(),
            "thresholds": heights,
            "stacking": stacking,
            "provenance": without_folders(provenance or {}),
            "weights": weights,
            "digest": digest(weights),
        },
    )


def load_model(path: str | Path) -> XiaoNet:
    """Read a model file. The model is on the CPU, in evaluation mode.

    Raises:
        CheckpointError: the file does not exist, is damaged or not a XiaoNet model, or the model has another
            input specification.

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
        raise CheckpointError(f"{path} is damaged: weights and arguments do not match: {str(error).splitlines()[0]}") from error
    return model.eval()


def load_float(path: str | Path) -> XiaoNet:
    """Read a model file that can be trained or quantized. Raises as `load_model` does.

    Raises:
        ConfigError: the model is already quantized.
    """
    model = load_model(path)
    if isinstance(model, QuantizedXiaoNet):
        raise ConfigError(f"{path} is quantized already; wanted the model in float32 that it was made from")
    return model


def read_model_file(path: str | Path) -> dict[str, Any]:
    """Read the content of a model file: arguments, precision, input specification, thresholds, provenance and weights.

    Raises as `load_model` does.
    """
    path = _as_path(path)
    content = load_tensors(path, FORMAT)
    parts = ("arguments", "contract", "provenance", "weights")
    if missing := {*parts, "digest"} - content.keys():
        raise CheckpointError(
            f"{path} is damaged or not a model file: it lacks {', '.join(sorted(missing))}; save it with xiaonet.save_model"
        )
    if wrong := [part for part in parts if not isinstance(content[part], dict)]:
        raise CheckpointError(f"{path} is damaged: {' and '.join(wrong)} must be dictionaries; copy it again")
    try:
        differences = input_specification_differences(content["contract"])
        known = content.setdefault("precision", FP32) in (FP32, INT8)
        stacked = content.setdefault("stacking", FIRST_STACKING) in get_args(Stacking)
        intact = digest(content["weights"]) == content["digest"]
    except DAMAGE as error:
        raise CheckpointError(f"{path} is damaged: {str(error).splitlines()[0]}; copy it again") from error
    if differences:
        raise CheckpointError(f"{path} has another input specification: {differences}; this XiaoNet wants {input_specification()}")
    if not known:
        raise CheckpointError(f"{path} holds weights in {content['precision']!r}; wanted {FP32} or {INT8}; pip install -U xiaonet")
    if not stacked:
        wanted = " or ".join(get_args(Stacking))
        raise CheckpointError(f"{path} stacks {content['stacking']!r}; wanted {wanted}; pip install -U xiaonet")
    if not intact:
        raise CheckpointError(f"{path} is damaged: its weights are not the ones that were saved; copy it again")
    try:
        content["thresholds"] = checked_thresholds(content.get("thresholds", DEFAULT_THRESHOLDS))
    except ConfigError as error:
        raise CheckpointError(f"{path} is damaged: its {error}; save it again with xiaonet.save_model") from error
    return content


def _as_path(path: str | Path) -> Path:
    try:
        return Path(path)
    except TypeError as error:
        raise ConfigError(f"path is {path!r}; wanted the path of a model file") from error


def save_tensors(path: Path, kind: str, content: Mapping[str, Any]) -> None:
    """Write a file of tensors and plain values, marked with its `kind`. Raises as `save_model` does."""
    buffer = io.BytesIO()  # torch would report a full disk in its own way
    torch.save({"format": kind, "version": VERSION, **content}, buffer)
    write_atomically(path, lambda file: file.write(buffer.getbuffer()))


def load_tensors(path: Path, kind: str) -> dict[str, Any]:
    """Read a file that `save_tensors` wrote.

    Raises:
        CheckpointError: the file does not exist, is damaged or of another kind, or holds code.
    """
    try:
        with ZipFile(path) as archive:  # torch verifies no checksums, and the digest covers the weights only
            broken = archive.testzip()
        if broken is not None:
            raise CheckpointError(f"{path} is damaged: the checksum of {broken} does not match; copy it again")
        content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise CheckpointError(f"there is no file {path}") from error
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{path} is not a XiaoNet file: it holds Python code or objects besides weights, and XiaoNet does not run them; "
            "use a file that XiaoNet wrote"
        ) from error
    except DAMAGE as error:
        raise CheckpointError(f"{path} is damaged or not a XiaoNet file: {(str(error) or type(error).__name__).splitlines()[0]}") from error
    if not isinstance(content, dict) or (content.get("format"), content.get("version")) != (kind, VERSION):
        found = (content.get("format"), content.get("version")) if isinstance(content, dict) else type(content).__name__
        raise CheckpointError(f"{path} is not a XiaoNet file: found {found}, wanted {(kind, VERSION)}")
    return content


def without_folders(value: Any) -> Any:
    """Plain values in which each absolute path is cut to its last part: `/home/me/data` becomes `data`."""
    if isinstance(value, Mapping):
        return {without_folders(key): without_folders(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [without_folders(item) for item in value]
    return FOLDERS.sub("", value) if isinstance(value, str) else value


def side_by_side(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The same tensors as parts of one tensor for each type; separate ones take a few hundred bytes more each in a file."""
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
