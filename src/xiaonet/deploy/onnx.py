"""Export of model files to ONNX."""

import itertools
import json
import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np
import obspy
import torch

from xiaonet.constants import COMPONENTS, KERNEL_SIZE, STRIDE, WINDOW_SAMPLES
from xiaonet.deploy.int8 import to_int8
from xiaonet.errors import ConfigError, OutputError
from xiaonet.extras import install_command
from xiaonet.files import write_atomically
from xiaonet.nn.checkpoint import load_model, read_model_file
from xiaonet.nn.layers import Conv
from xiaonet.nn.model import XiaoNet
from xiaonet.nn.quantized import QuantizedXiaoNet
from xiaonet.picking.windows import normalize
from xiaonet.runtime.checksum import EMPTY_CHECKSUM, add_checksum
from xiaonet.runtime.header import FORMAT, HEADER, VERSION
from xiaonet.runtime.onnx_runtime import OnnxRuntimePredictor
from xiaonet.runtime.predictor import Windows

if TYPE_CHECKING:
    from onnx import ModelProto

TOLERANCE = 1e-5  # largest difference between the probabilities of a runtime and of torch in float64
LENGTHS = (WINDOW_SAMPLES, WINDOW_SAMPLES - WINDOW_SAMPLES % STRIDE, 4 * STRIDE)


def export_onnx(model_file: Path, out: Path, *, resize: bool = False) -> None:
    """Convert a model file to ONNX, and check that onnxruntime computes the same probabilities as torch.

    The input is `windows`, `(batch, 3, samples)`; the output is `probabilities`, with the same shape. Batch and samples
    are dynamic.

    Args:
        model_file: written by `xiaonet.save_model`.
        out: the new file, usually with the suffix `.onnx`.
        resize: upsample a quantized model with `Resize`, which is faster on OpenVINO but slower on onnxruntime.

    Raises:
        CheckpointError: the model file cannot be read.
        OutputError: the new file cannot be written, or it gives other probabilities than torch.
        ConfigError: packages for the export are missing.
    """
    check_packages()
    model = load_model(model_file).float()
    if isinstance(model, QuantizedXiaoNet):
        graph = _to_onnx(XiaoNet(**model.arguments))  # type: ignore[arg-type]
        to_int8(graph, model, resize=resize)
    else:
        graph = _to_onnx(model)
        convolve_before_upsampling(graph)
    graph.metadata_props.add(key=HEADER, value=json.dumps(header_of(model_file)))
    raw = add_checksum(graph.SerializeToString())

    def write(file: IO[bytes]) -> None:
        file.write(raw)
        file.flush()
        check(model_file, OnnxRuntimePredictor(Path(file.name)).infer, out)

    write_atomically(out, write)


def check_packages() -> None:
    """Raise a ConfigError if a package that the export needs is not installed."""
    missing = [name for name in ("onnx", "onnxscript") if not find_spec(name)]
    if missing:
        raise ConfigError(f"export needs {' and '.join(missing)}: {install_command(missing[0])}")


def header_of(model_file: Path) -> dict[str, Any]:
    """The header of an exported model: input specification, thresholds, arguments, precision and provenance."""
    content = read_model_file(model_file)
    return {
        "format": FORMAT,
        "version": VERSION,
        "seal": EMPTY_CHECKSUM,
        "contract": content["contract"],
        "thresholds": content["thresholds"],
        "stacking": content["stacking"],
        "arguments": content["arguments"],
        "precision": content["precision"],
        "parameters": sum(weight.numel() for weight in XiaoNet(**content["arguments"]).parameters()),
        "provenance": content["provenance"],
    }


def _to_onnx(model: XiaoNet) -> "ModelProto":
    """The graph without a header. The exporter folds batch normalisation into the convolutions."""
    example = torch.zeros(2, len(COMPONENTS), WINDOW_SAMPLES)
    free = torch.export.Dim.AUTO
    for layer in model.modules():
        if isinstance(layer, Conv):
            layer.weight = torch.nn.Parameter(layer.weight.unsqueeze(2))  # the exporter would leave that to the runtime
    with _quiet():
        program = torch.onnx.export(
            model.eval(),
            (example,),
            kwargs={"planar": True},
            dynamo=True,
            input_names=["windows"],
            output_names=["probabilities"],
            dynamic_shapes={"windows": {0: free, 2: free}, "planar": None},
            verbose=False,
        )
    if program is None:
        raise OutputError("torch exported no ONNX program; use torch 2.13 or newer")
    graph: ModelProto = program.model_proto
    _strip(graph)
    for end in (*graph.graph.input, *graph.graph.output):
        batch, _, samples = end.type.tensor_type.shape.dim
        batch.dim_param, samples.dim_param = "batch", "samples"
    return graph


def convolve_before_upsampling(graph: "ModelProto") -> None:
    """Let decoders convolve a signal before they upsample it, where their dilation is even: the same numbers from half of the work.

    A convolution of upsampled and other channels is the sum of one of each. That of the upsampled ones has pairs of equal samples and
    reads pairs, so a convolution with half the dilation gives one of each pair.
    """
    from onnx import helper, numpy_helper

    sources = {output: node for node in graph.graph.node for output in node.output}
    weights = {tensor.name: tensor for tensor in graph.graph.initializer}
    nodes, left_out = [], set[str]()
    for node in graph.graph.node:
        joined = sources.get(node.input[0]) if node.op_type == "Conv" else None
        dilation = next((list(value.ints)[-1] for value in node.attribute if value.name == "dilations"), 1)
        if joined is None or joined.op_type != "Concat" or dilation % 2:
            nodes.append(node)
            continue
        (_, weight, bias), (upsampled, skip), (result,) = node.input, joined.input, node.output
        resize = sources[upsampled]
        left_out |= {joined.output[0], upsampled}
        below, upper, lower, wide, other = (f"{result}.{part}" for part in ("below", "upper", "lower", "wide", "other"))
        width, channels = weights[weight].dims[:2]
        graph.graph.initializer.append(numpy_helper.from_array(np.array([channels - width, width]), f"{result}.channels"))
        nodes.append(helper.make_node("Split", [weight, f"{result}.channels"], [lower, upper], axis=1))
        nodes.append(helper.make_node("Conv", [resize.input[0], lower], [below], **_padded(dilation // 2)))
        nodes.append(helper.make_node("Resize", [below, *resize.input[1:]], [wide]))
        nodes[-1].attribute.extend(resize.attribute)
        nodes.append(helper.make_node("Conv", [skip, upper, bias], [other], **_padded(dilation)))
        nodes.append(helper.make_node("Add", [other, wide], [result]))
    del graph.graph.node[:]
    graph.graph.node.extend(node for node in nodes if node.output[0] not in left_out)


def _padded(dilation: int) -> dict[str, Any]:
    """Attributes of a convolution of images one sample high that keeps their length."""
    return {"kernel_shape": [1, KERNEL_SIZE], "dilations": [1, dilation], "pads": [0, dilation, 0, dilation]}


def _strip(graph: "ModelProto") -> None:
    """Remove debugging information, such as stack traces with paths of this machine."""
    del graph.graph.value_info[:]
    for part in (graph, graph.graph, *graph.graph.node, *graph.graph.initializer, *graph.graph.input, *graph.graph.output):
        part.ClearField("doc_string")
        part.ClearField("metadata_props")


def check(model_file: Path, infer: Callable[[Windows], Windows], out: Path, lengths: Sequence[int] = LENGTHS) -> None:
    """Check that a runtime gives the probabilities of torch in float64 for ObsPy's example, a local earthquake.

    Args:
        model_file: read by torch.
        infer: computes probabilities on the runtime.
        out: the exported file, for the error message.
        lengths: window lengths in samples.

    Raises:
        OutputError: the probabilities differ.
    """
    model, stream = load_model(model_file).double(), obspy.read()
    record = np.stack([stream.select(component=component)[0].data for component in COMPONENTS])
    for number, samples in itertools.product((1, 3), lengths):
        windows = normalize(np.stack([np.roll(record, -450 + 100 * shift, axis=1) for shift in range(number)])[..., :samples])
        windows = np.pad(windows, ((0, 0), (0, 0), (0, samples - windows.shape[-1])), mode="edge")
        with torch.inference_mode():
            expected = model(torch.from_numpy(windows).double()).numpy()
        found = infer(windows)
        difference = float(np.abs(found - expected).max()) if found.shape == expected.shape else np.inf
        if not difference <= TOLERANCE:
            raise OutputError(
                f"{out} was not written: probabilities of {number} windows of {samples} samples differ from torch's in float64 by "
                f"{difference:g}; wanted at most {TOLERANCE:g}"
            )


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence the exporter's messages about packages that XiaoNet does not use and about its own deprecations."""
    logger = logging.getLogger("torch.onnx._internal.exporter._registration")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(action="ignore"):
            yield
    finally:
        logger.setLevel(level)
