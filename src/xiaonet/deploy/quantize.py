"""From a trained model to one in eight-bit integers, by what training windows make of its activations."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from xiaonet.constants import COMPONENTS, WINDOW_SAMPLES
from xiaonet.data.pipeline import Windows
from xiaonet.data.sets import WaveformData, fingerprint, open_data, split_data
from xiaonet.deploy.adapt import Watch, adapt
from xiaonet.deploy.onnx import export_onnx
from xiaonet.errors import DataError, WaveformError
from xiaonet.files import make_folder
from xiaonet.nn.checkpoint import load_float, read_model_file, save_model
from xiaonet.nn.model import XiaoNet
from xiaonet.nn.quantized import LARGEST_SAMPLE, QuantizedXiaoNet, folded, shared_steps

CALIBRATION_WINDOWS = 512
LEAST_WINDOWS = 16
BINS = 4096
BATCH = 32
RULE = "least squares"

Seen = TypeVar("Seen")
Rule = Callable[[Tensor, float], float]  # a histogram from 0 on and its end, to the largest sample worth telling apart


@dataclass(frozen=True)
class Calibration:
    """What a model is shown to be rounded.

    Attributes:
        windows: how many training windows, and how many an epoch.
        seed: of which windows.
        epochs: of training with the rounding in place.
    """

    windows: int = CALIBRATION_WINDOWS
    seed: int = 0
    epochs: int = 0


def _no_watch(epoch: int, loss: float) -> None:
    pass


def quantize(model_file: Path, data: str, out: Path, calibration: Calibration = Calibration(), watch: Watch = _no_watch) -> dict[str, Path]:
    """Write a model in float32 and in eight-bit integers, each for torch and as ONNX.

    Args:
        model_file: as `xiaonet.save_model` writes it.
        data: class, path or name of a SeisBench data set, or several joined by `+`; windows of its
            split train tell how large activations become.
        out: folder of `saved_model_fp32.pth`, `saved_model_int8.pth`, `model_fp32.onnx` and `model_int8.onnx`.
        calibration: how much the model is shown.
        watch: is told of each epoch and its mean loss.

    Returns:
        The four files by name.

    Raises:
        ConfigError: the model is quantized already.
        DataError: the data cannot be used, or there are too few windows.
        CheckpointError: the model cannot be read.
        OutputError: a file cannot be written.
    """
    model, content = load_float(model_file), read_model_file(model_file)
    make_folder(out)
    files = {name: out / name for name in ("saved_model_fp32.pth", "saved_model_int8.pth", "model_fp32.onnx", "model_int8.onnx")}
    round_down(model_file, data, files["saved_model_int8.pth"], calibration, watch)
    save_model(model.float(), files["saved_model_fp32.pth"], content["provenance"], content["thresholds"])
    for precision in ("fp32", "int8"):
        export_onnx(files[f"saved_model_{precision}.pth"], files[f"model_{precision}.onnx"])
    return files


def round_down(model_file: Path, data: str, out: Path, calibration: Calibration = Calibration(), watch: Watch = _no_watch) -> None:
    """Write a model in eight-bit integers, `out` for torch. Arguments and errors are those of `quantize`."""
    model, content = load_float(model_file).float(), read_model_file(model_file)
    whole = open_data(data)
    train = split_data(whole)[0]
    windows, seed, epochs = calibration.windows, calibration.seed, calibration.epochs
    shown = calibration_windows(train, windows, seed)
    steps = shared_steps(largest_samples(model, shown))
    convolutions = folded(model)
    if epochs:
        convolutions = adapt(model, steps, epochs, lambda epoch: calibration_windows(train, windows, seed + epoch), watch)
    told = {"data": data, "fingerprint": fingerprint(whole), "windows": len(shown), "seed": seed, "rule": RULE, "epochs": epochs}
    origin = content["provenance"]
    note = ", ".join(filter(None, (origin.get("note"), "in eight-bit integers")))
    quantized = QuantizedXiaoNet.from_convolutions(model.arguments, convolutions, steps)
    save_model(quantized, out, {**origin, "note": note, "calibration": told}, content["thresholds"])


def calibration_windows(train: WaveformData, number: int = CALIBRATION_WINDOWS, seed: int = 0) -> Tensor:
    """Training windows `(number, 3, 3001)`, of so many records, or several of each if there are fewer.

    Raises:
        DataError: there are fewer than 16 in which something moves.
    """
    windows, rng = Windows(train, seed=seed), np.random.default_rng(seed)
    rows = rng.permutation(len(train))
    places = [(turn, int(row)) for turn in range(-(-number // len(rows))) for row in rows][:number]
    shown = torch.from_numpy(np.stack([windows[place]["X"] for place in places]))
    shown = shown[shown.ne(0).flatten(1).any(dim=1)]
    if len(shown) < LEAST_WINDOWS:
        raise DataError(f"calibration has {len(shown)} windows in which something moves; wanted at least {LEAST_WINDOWS} of split train")
    return shown


def largest_samples(model: XiaoNet, windows: Tensor, rule: str = RULE) -> dict[str, float]:
    """For each convolution but the last the largest activation that is worth telling from larger ones.

    Args:
        model: in float32 and evaluation mode.
        windows: `(windows, 3, 3001)`, as the model takes them.
        rule: one of `RULES`.

    Raises:
        WaveformError: windows have another shape, as those of another sampling rate would, or there are none.
    """
    if windows.shape[1:] != (len(COMPONENTS), WINDOW_SAMPLES) or not len(windows):
        raise WaveformError(
            f"calibration windows are {tuple(windows.shape)}; wanted (windows, {len(COMPONENTS)}, {WINDOW_SAMPLES}), 30 s at 100 Hz"
        )
    names = [name for name, _ in QuantizedXiaoNet(base_channels=1).convolutions()][:-1]
    ends = dict(zip(names, _watched(model, windows, lambda x, seen, place: max(seen, float(x.max())), 0.0), strict=True))
    if rule == "min-max":
        return ends
    tops = list(ends.values())

    def count(x: Tensor, seen: Tensor, place: int) -> Tensor:
        return seen + torch.histc(x[x > 0], BINS, 0, max(tops[place], 1e-6))

    counts = _watched(model, windows, count, torch.zeros(BINS))
    return {name: RULES[rule](histogram, ends[name]) for name, histogram in zip(names, counts, strict=True)}


def _watched(model: XiaoNet, windows: Tensor, update: Callable[[Tensor, Seen, int], Seen], start: Seen) -> list[Seen]:
    """What each ReLU gives, folded up over all windows."""
    layers = [layer for layer in model.modules() if isinstance(layer, nn.ReLU)]
    seen = [start] * len(layers)

    def watch(place: int) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
        def note(layer: nn.Module, given: tuple[Tensor, ...], x: Tensor) -> None:
            seen[place] = update(x, seen[place], place)

        return note

    hooks = [layer.register_forward_hook(watch(place)) for place, layer in enumerate(layers)]
    try:
        with torch.inference_mode():
            for batch in torch.split(windows, BATCH):
                model(batch)
    finally:
        for hook in hooks:
            hook.remove()
    return seen


def _percentile(share: float) -> Rule:
    def rule(histogram: Tensor, end: float) -> float:
        below = histogram.cumsum(0) / histogram.sum().clamp(min=1)
        return end * (int((below < share).sum()) + 1) / BINS

    return rule


def _least_squares(histogram: Tensor, end: float) -> float:
    """The end whose steps leave the smallest squared error."""
    samples = (torch.arange(BINS) + 0.5) * end / BINS
    ends = [end * part / 100 for part in range(1, 101)]
    errors = [_squared_error(histogram, samples, one / LARGEST_SAMPLE) for one in ends]
    return ends[int(np.argmin(errors))]


def _squared_error(histogram: Tensor, samples: Tensor, step: float) -> float:
    rounded = (samples / step).round().clamp(0, LARGEST_SAMPLE) * step
    return float((histogram * (rounded - samples) ** 2).sum())


RULES: Mapping[str, Rule] = {
    "min-max": lambda histogram, end: end,
    "least squares": _least_squares,
    "99.999 %": _percentile(0.99999),
    "99.99 %": _percentile(0.9999),
    "99.9 %": _percentile(0.999),
}
