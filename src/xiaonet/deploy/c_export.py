"""Export of INT8 models to C99 for microcontrollers: templates in the folder `c`, filled with the numbers of a model."""

import math
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any

import numpy as np
import obspy
import torch

from xiaonet.constants import COMPONENTS, STRIDE, WINDOW_SAMPLES
from xiaonet.deploy.c_reference import Layer, Whole, layers_of, logits, normalize_counts
from xiaonet.deploy.int8 import read_int8
from xiaonet.deploy.onnx import check_packages, header_of
from xiaonet.errors import ConfigError, OutputError
from xiaonet.files import make_folder, write_atomically
from xiaonet.nn.checkpoint import load_model
from xiaonet.nn.quantized import FLOAT, LARGEST_SAMPLE, PEAK, QuantizedXiaoNet

TEMPLATES = ("xiaonet.h", "xiaonet.c", "README.md")
LENGTH = WINDOW_SAMPLES - WINDOW_SAMPLES % STRIDE
TOGETHER = 2  # columns of a layer that are made at once
ROUND = TOGETHER * STRIDE  # samples by which all layers advance in turn
LARGEST_SUM = 2**22  # of products in a layer with weights of 8 bits; 257 times as much must fit into 32 bits
STREAM_BYTES = WINDOW_SAMPLES * (3 * 3 + 2 * 3) + 3700  # of raw counts, mean probabilities and peaks
LINE = 120  # characters in a line of numbers


def to_c(model_file: Path, out: Path) -> list[Path]:
    """Write an INT8 model as C99, and check that its whole numbers give the logits of torch.

    Args:
        model_file: in INT8, `.pth` or `.onnx`.
        out: folder of the new files.

    Returns:
        The new files.

    Raises:
        ConfigError: the model is in float32, or of a form that the C does not have.
        CheckpointError: the model cannot be read.
        OutputError: a file cannot be written, or the logits are not torch's.
    """
    model, header = _read(model_file)
    if not isinstance(model, QuantizedXiaoNet):
        raise ConfigError(
            f"{model_file} is in float32, and format c computes in whole numbers; wanted the model in INT8: "
            "take a shipped one whose name ends in -int8, or make one with `xiaonet quantize MODEL --data SET`"
        )
    layers = layers_of(model)
    _check_sums(layers)
    moved = _check(model, layers, out)
    values = _values(layers, header, model_file.stem, moved)
    make_folder(out)
    for name in TEMPLATES:
        text = Template(files("xiaonet.deploy").joinpath("c", name).read_text(encoding="utf-8")).substitute(values)
        write_atomically(out / name, lambda file, text=text: file.write(text.encode()))  # type: ignore[misc]
    return [out / name for name in TEMPLATES]


def _read(model_file: Path) -> tuple[torch.nn.Module | None, dict[str, Any]]:
    if model_file.suffix == ".onnx":
        check_packages()
        return read_int8(model_file)
    return load_model(model_file), header_of(model_file)


def _check(model: QuantizedXiaoNet, layers: Sequence[Layer], out: Path) -> float:
    """Compare logits with torch's for ObsPy's example. Returns how far rounding the head has moved them."""
    stream = obspy.read()
    counts = np.stack([np.resize(stream.select(component=component)[0].data, WINDOW_SAMPLES) for component in COMPONENTS]).astype(np.int64)
    found = logits(layers, counts) / 2.0 ** layers[-1].bits[:, None]
    window = torch.from_numpy(normalize_counts(counts) / PEAK).float()[None]
    with torch.inference_mode():
        given = model.logits(window)[0].double().numpy()
        for own, whole in zip(model.head.parameters(), (layers[-1].weight, layers[-1].bias), strict=True):
            own.copy_(torch.from_numpy(whole / 2.0 ** layers[-1].bits[0]))
        rounded = model.logits(window)[0].double().numpy()
    if not np.array_equal(found, rounded):
        raise OutputError(f"{out} was not written: logits in whole numbers differ from torch's by {np.abs(found - rounded).max():g}")
    return float(np.abs(given - found).max())


def _check_sums(layers: Sequence[Layer]) -> None:
    """Raise a ConfigError if a sum could be too large for the C, which adds up two outputs in one number of 32 bits."""
    for layer in layers:
        largest = int(np.abs(layer.weight).sum(axis=(1, 2)).max()) * LARGEST_SAMPLE
        if not _is_wide(layer) and largest > LARGEST_SUM:
            raise ConfigError(f"sums in {layer.name} may reach {largest}; format c wants at most {LARGEST_SUM}: train a narrower model")


def ring_columns(layers: Sequence[Layer]) -> list[int]:
    """How many columns of each layer must be kept, found by going through the window as `xn_window` in the C does."""
    made, kept = [0] * len(layers), [1] * len(layers)
    while made[-1] < LENGTH:
        for number, layer in enumerate(layers):
            for _ in range(0, ROUND >> layer.level, TOGETHER):
                length = LENGTH >> layer.level
                needed = min(made[number] + layer.dilation + TOGETHER, length)
                shifts = {source: layer.level - layers[source].level for source in layer.sources}
                if made[number] == length or any(_shifted(made[source], -by) < needed for source, by in shifts.items()):
                    break
                oldest = max(made[number] - layer.dilation, 0)
                for source, by in shifts.items():
                    kept[source] = max(kept[source], made[source] - _shifted(oldest, by))
                made[number] = min(made[number] + TOGETHER, length)
    return kept


def _shifted(columns: int, doublings: int) -> int:
    return columns << doublings if doublings > 0 else columns >> -doublings


def _values(layers: Sequence[Layer], header: dict[str, Any], name: str, moved: float) -> dict[str, object]:
    """What the templates ask for."""
    columns = ring_columns(layers)
    places = np.cumsum([0, *(kept * len(layer.bias) for kept, layer in zip(columns[:-1], layers, strict=False))]).tolist()
    widest = max(_taps(layer) for layer in layers)
    state = 72 + 2 * (2 * widest + 8) + 2 * (widest + 4) + 32 + 2 * len(layers) + places[-1] + 4
    note = str(header["provenance"].get("note", "no note")).replace("*/", "* /")
    test = logits(layers, self_test())
    constants = sum(2 * _weights(layer).size + len(layer.bias) * (4 if _is_wide(layer) else 8) for layer in layers)
    same_picks = (
        f"They are those of `xiaonet pick --model {name}` for the same record, to a tenth of a sample (1 ms)."
        if header["stacking"] == "probabilities"
        else "The C averages probabilities where windows overlap, and `xiaonet pick` averages the waveforms for this model. "
        "So a few picks in a hundred differ, as when windows lie at other times."
    )
    return {
        "model": name,
        "same_picks": same_picks,
        "provenance": note,
        "logit_bits": layers[-1].bits[0],
        "layers": len(layers),
        "widest": widest,
        "columns_bytes": places[-1],
        "state_bytes": -(-state // 8) * 8,
        "stream_kilobytes": f"{(state + STREAM_BYTES) / 1000:.0f}",
        **{f"threshold_{phase.lower()}": math.ceil(value * 2**24) for phase, value in header["thresholds"].items()},
        "constant_kilobytes": f"{constants / 1000:.1f}",
        "multiply_adds": f"{sum(layer.weight.size * (LENGTH >> layer.level) for layer in layers) / 1e6:.1f}",
        "moved": f"{moved:.1g}" if moved else "0",
        "thresholds": ", ".join(f"{phase} {value:g}" for phase, value in header["thresholds"].items()),
        "test_sum": int(test.sum()),
        "test_middle": ", ".join(map(str, test[:, WINDOW_SAMPLES // 2])),
        "tables": _tables(layers, columns, places),
    }


def self_test() -> Whole:
    """The counts that the README of the C tells you to try."""
    time = np.arange(WINDOW_SAMPLES)
    return np.stack([(time * time * (component + 3)) % 1009 for component in range(3)])


def _is_wide(layer: Layer) -> bool:
    """Whether its weights have 16 bits."""
    return layer.name in FLOAT


def _taps(layer: Layer) -> int:
    """Numbers that a kernel sees, rounded up to a multiple of 4."""
    return -(-int(layer.weight[0].size) // 4) * 4


def _tables(layers: Sequence[Layer], columns: Sequence[int], places: Sequence[int]) -> str:
    parts, rows = [], []
    for number, layer in enumerate(layers):
        name = layer.name.replace(".", "_").upper()
        parts += [_array(f"WORDS int16_t {name}_WEIGHTS", _weights(layer)), _array(f"int32_t {name}_BIAS", layer.bias)]
        if not _is_wide(layer):
            parts.append(_array(f"int32_t {name}_SCALE", layer.scale))
        pointers = f"{name}_WEIGHTS, {name}_BIAS, {'0' if _is_wide(layer) else f'{name}_SCALE'}"
        sources = ", ".join([*map(str, layer.sources), "NONE", "NONE"][:2])
        numbers = f"{places[number]}, {columns[number]}, {len(layer.bias)}, {_taps(layer)}"
        rows.append(f"    {{{pointers}, {numbers}, {{{sources}}}, {layer.level}, {layer.dilation}}},")
    parts.append(_array("uint8_t FIRST_SHIFT", layers[0].bits))
    return "\n".join([*parts, "static const layer LAYER[LAYERS] = {", *rows, "};"])


def _weights(layer: Layer) -> Whole:
    """Weights as the C reads them: `(outputs, taps)` of 16 bits, or `(outputs / 2, taps)`, those of two outputs in one number."""
    weight = layer.weight.transpose(0, 2, 1).reshape(len(layer.bias), -1)  # for each output: column by column, all inputs
    weight = np.pad(weight, ((0, 0), (0, _taps(layer) - weight.shape[1])))
    if layer.sources:
        weight = weight.reshape(len(weight), -1, 4)[..., [0, 2, 1, 3]].reshape(weight.shape)
    if _is_wide(layer):
        return weight
    weight = np.pad(weight, ((0, len(weight) % 2), (0, 0)))
    return np.asarray(weight[0::2] + 256 * weight[1::2])


def _array(declaration: str, values: Whole) -> str:
    """A constant array, with as many numbers in a line as fit."""
    lines, line = [], "   "
    for value in values.ravel().tolist():
        if len(line) + len(f" {value},") > LINE:
            lines.append(line)
            line = "   "
        line += f" {value},"
    return "\n".join([f"static const {declaration}[{values.size}] = {{", *lines, line, "};"])
