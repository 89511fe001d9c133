"""Reads weights and header of a `.onnx` model file without onnx and onnxruntime.

An ONNX file is a message of Protocol Buffers: fields with a number, each a whole number or a run of bytes, some of which are
messages again. The numbers of the fields below are those of `onnx.proto`.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from xiaonet.constants import COMPONENTS, KERNEL_SIZE, LEVELS, PHASES
from xiaonet.errors import CheckpointError
from xiaonet.runtime.checksum import EXPORT, read_checked
from xiaonet.runtime.header import HEADER, parse_header

GRAPH, METADATA = 7, 14  # of a model
KEY, VALUE = 1, 2  # of an entry of the metadata
NODE, INITIALIZER = 1, 5  # of a graph
INPUT, OPERATOR, ATTRIBUTE = 1, 4, 5  # of a node
INTEGERS = 8  # of an attribute, whose name is its KEY
DIMENSIONS, TYPE, NAME, RAW = 1, 2, 8, 9  # of a tensor
TYPES = {1: "float32", 3: "int8", 6: "int32", 7: "int64"}
BLOCKS = (*(f"encoder.{level}" for level in range(LEVELS)), "bottleneck", *(f"decoder.{level}" for level in range(LEVELS)))
NOT_SCALED = ("encoder.0.0", "head")  # in INT8
LARGEST = 2**20  # dilation

Array = NDArray[np.float32]


class NativeWeights(NamedTuple):
    """What the network consists of, in order of its 15 convolutions.

    Attributes:
        header: of the file.
        weights: `(out, in, 3)` each; whole numbers in INT8, except in the first and the last convolution.
        biases: `(out,)` each.
        scales: `(out,)` each; None where sums are not scaled.
        dilations: of each convolution.
    """

    header: dict[str, Any]
    weights: list[Array]
    biases: list[Array]
    scales: list[Array | None]
    dilations: list[int]


def read_weights(path: Path) -> tuple[bytes, NativeWeights]:
    """Read a model file, and return its content, too.

    Raises:
        CheckpointError: the file is missing, damaged or not a XiaoNet model; or its network is another than the one in `native.c`.
    """
    raw, _ = read_checked(path)
    try:
        model = list(_fields(memoryview(raw)))
        metadata = [dict(_fields(value)) for number, value in model if number == METADATA]
        text = next((bytes(entry[VALUE]).decode() for entry in metadata if bytes(entry[KEY]) == HEADER.encode()), "")
    except (IndexError, KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path} is not an ONNX file: {error!r}; take a model file {EXPORT}") from error
    header = parse_header(path, text)
    try:
        graph = next(value for number, value in model if number == GRAPH)
        graph = list(_fields(graph))
        stored = dict(_tensor(value) for number, value in graph if number == INITIALIZER)
        nodes = [list(_fields(value)) for number, value in graph if number == NODE]
        dilations = [_dilation(node) for node in nodes if (OPERATOR, b"Conv") in node and _has_bias(node)]
        return raw, _arranged(header, stored, dilations)
    except (IndexError, KeyError, StopIteration, TypeError, ValueError) as error:
        raise CheckpointError(
            f"the runtime native cannot read the network of {path}: {error!r}; use --runtime onnxruntime, or a model file {EXPORT}"
        ) from error


def _arranged(header: dict[str, Any], stored: dict[str, NDArray[Any]], dilations: list[int]) -> NativeWeights:
    """Find the tensors of each convolution, and check their shapes."""
    int8 = header["precision"] == "int8"
    if len(dilations) != 2 * len(BLOCKS) + 1 or not 1 <= min(dilations) <= max(dilations) <= LARGEST or dilations[-1] != 1:
        raise ValueError(f"the dilations of its convolutions are {dilations}")
    found, below = NativeWeights(header, [], [], [], dilations), len(COMPONENTS)
    base = len(stored[(_short_names if int8 else _names)("encoder.0.0")[0]])
    for number, name in enumerate([*(f"{block}.{part}" for block in BLOCKS for part in (0, 1)), "head"]):
        width = len(PHASES) if name == "head" else base << min(number // 2, 2 * LEVELS - number // 2)
        skip = width if name.startswith("decoder") and name.endswith("0") else 0
        weight, bias, scale = _short_names(name) if int8 else _names(name)
        found.weights.append(_checked(stored, weight, (width, below + skip, 1, KERNEL_SIZE)))
        found.biases.append(_checked(stored, bias, (width,)))
        found.scales.append(_checked(stored, scale, (width,)) if int8 and name not in NOT_SCALED else None)
        below = width
    return found


def _names(name: str) -> tuple[str, str, str]:
    """Weights and biases of a convolution in float32. The second of a block follows a normalisation and a ReLU."""
    own = name.removesuffix("1") + "3" if name.endswith("1") else name
    return f"{own}.weight", f"{own}.bias", ""


def _short_names(name: str) -> tuple[str, str, str]:
    """Weights, biases and scales in INT8."""
    own = name.replace("encoder.", "e").replace("bottleneck", "b").replace("decoder.", "d").replace("head", "h")
    return f"{own}w", f"{own}b", f"{own}s"


def _checked(stored: dict[str, NDArray[Any]], name: str, shape: tuple[int, ...]) -> Array:
    if stored[name].shape != shape:
        raise ValueError(f"{name} is {stored[name].shape}, wanted {shape}")
    return np.ascontiguousarray(stored[name], np.float32)


def _has_bias(node: list[tuple[int, Any]]) -> bool:
    """Whether a convolution has one. The half of a decoder's that comes before the upsampling has none: the other half stands for both."""
    return sum(number == INPUT for number, _ in node) == 3


def _dilation(node: list[tuple[int, Any]]) -> int:
    """Dilation along time of a convolution."""
    attributes = [list(_fields(value)) for number, value in node if number == ATTRIBUTE]
    return next((_integers(attribute, INTEGERS)[-1] for attribute in attributes if (KEY, b"dilations") in attribute), 1)


def _tensor(message: memoryview) -> tuple[str, NDArray[Any]]:
    """Name and values of a tensor."""
    fields = list(_fields(message))
    parts = dict(fields)
    values = np.frombuffer(parts[RAW], np.dtype(TYPES[parts[TYPE]]).newbyteorder("<"))
    return bytes(parts[NAME]).decode(), values.reshape(_integers(fields, DIMENSIONS))


def _integers(fields: list[tuple[int, Any]], wanted: int) -> list[int]:
    """The whole numbers of a repeated field, each in a field of its own or all in one."""
    found: list[int] = []
    for value in (value for number, value in fields if number == wanted):
        if isinstance(value, int):
            found.append(value)
            continue
        rest = value
        while rest:
            one, rest = _varint(rest)
            found.append(one)
    return found


def _fields(message: memoryview) -> Iterator[tuple[int, Any]]:
    """Numbers and values of the fields of a message."""
    while message:
        key, message = _varint(message)
        kind = key & 7
        if kind == 0:
            value, message = _varint(message)
            yield key >> 3, value
            continue
        if kind == 2:
            size, message = _varint(message)
        else:
            size = {1: 8, 5: 4}[kind]
        if size > len(message):
            raise ValueError(f"a field of {size} bytes in {len(message)}")
        yield key >> 3, message[:size]
        message = message[size:]


def _varint(message: memoryview) -> tuple[int, memoryview]:
    """A whole number, seven bits a byte with the lowest first, and what follows it."""
    value = 0
    for place in range(10):
        value |= (message[place] & 127) << 7 * place
        if message[place] < 128:
            return value, message[place + 1 :]
    raise ValueError("a number of more than 10 bytes")
