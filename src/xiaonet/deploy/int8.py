"""Conversion of an ONNX graph from float32 to INT8.

Each convolution gets a DequantizeLinear node before and a QuantizeLinear node after it. Runtimes fuse these with the
convolution, so that all samples between the first and the last convolution are single bytes. Max pooling, upsampling and
concatenation work on the bytes directly, because concatenated samples have the same step.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from xiaonet.nn.checkpoint import INT8
from xiaonet.nn.quantized import PEAK, QuantizedConv, QuantizedXiaoNet
from xiaonet.runtime.checksum import read_checked
from xiaonet.runtime.header import HEADER, parse_header

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto, NodeProto


def to_int8(graph: "ModelProto", model: QuantizedXiaoNet, *, resize: bool = False) -> None:
    """Replace the convolutions of a float32 graph, in place, by those of a quantized model.

    Args:
        graph: in float32.
        model: the quantized model.
        resize: keep `Resize` for upsampling, with which OpenVINO is 1.3 times as fast.
    """
    convolutions = list(model.convolutions())
    rewriting = _Rewriting(graph.graph)
    for node in list(graph.graph.node):
        if node.op_type == "Conv":
            rewriting.convolution(node, *convolutions.pop(0))
        elif node.op_type == "Resize" and not resize:
            rewriting.upsampling(node)
        elif node.op_type != "Relu":
            rewriting.keep(node)
    rewriting.finish()


class _Rewriting:
    """The nodes of the new graph, in order. Names are short, because each occurs several times in the file."""

    def __init__(self, graph: "GraphProto") -> None:
        self.graph, self.nodes = graph, list[Any]()
        self.constants: dict[str, Any] = {}
        self.bytes_of = {node.input[0]: node.output[0] for node in graph.node if node.op_type == "Relu"}
        self.step, self.channels = self._constant("q", np.float32(1)), 0  # step of all samples; channels of the latest convolution

    def keep(self, node: "NodeProto") -> None:
        self.nodes.append(node)

    def convolution(self, node: "NodeProto", name: str, convolution: QuantizedConv) -> None:
        short = _short(name)
        weight, bias = convolution.weight.numpy()[:, :, None], convolution.bias.numpy()
        self.channels = len(bias)
        w, b = self._constant(f"{short}w", weight), self._constant(f"{short}b", bias)
        if convolution.first:
            self._add("Mul", [node.input[0], self._constant("p", np.float32(PEAK))], ["x0"])
            self._add("Round", ["x0"], ["x1"])  # halves to even, as in torch
            node.input[0] = "x1"
        else:
            node.input[0] = self._dequantized(node.input[0], self.step, f"{short}x")
        if convolution.scale is not None:
            scale = self._constant(f"{short}s", convolution.scale.numpy())
            w, b = self._dequantized(w, scale, f"{short}v", axis=0), self._dequantized(b, scale, f"{short}c", axis=0)
        node.input[1], node.input[2] = w, b
        self.nodes.append(node)
        if not convolution.last:
            rounded, node.output[0] = self.bytes_of[node.output[0]], f"{short}y"
            self._add("QuantizeLinear", [node.output[0], self.step], [rounded])  # this is the ReLU, too: negative values become 0

    def upsampling(self, node: "NodeProto") -> None:
        """Repeat each sample, with channels last like onnxruntime's integer kernels: 1.2 times as fast as its Resize."""
        (x, *_), (y,), u = node.input, node.output, f"u{len(self.nodes)}"
        shape = self._constant(f"{u}s", np.array([0, 1, -1, self.channels], dtype=np.int64))  # 0 keeps the number of windows
        self._add("Transpose", [x], [f"{u}a"], perm=[0, 2, 3, 1])
        self._add("Concat", [f"{u}a", f"{u}a"], [f"{u}b"], axis=3)
        self._add("Reshape", [f"{u}b", shape], [f"{u}c"])
        self._add("Transpose", [f"{u}c"], [y], perm=[0, 3, 1, 2])

    def finish(self) -> None:
        from onnx import numpy_helper

        used = {name for node in self.nodes for name in node.input}
        others = [tensor for tensor in self.graph.initializer if tensor.name in used]
        del self.graph.node[:], self.graph.initializer[:]
        self.graph.node.extend(self.nodes)
        self.graph.initializer.extend([*others, *(numpy_helper.from_array(array, name) for name, array in self.constants.items())])

    def _constant(self, name: str, array: Any) -> str:
        self.constants[name] = np.asarray(array)
        return name

    def _dequantized(self, values: str, scale: str, name: str, **options: int) -> str:
        self._add("DequantizeLinear", [values, scale], [name], **options)
        return name

    def _add(self, operator: str, inputs: list[str], outputs: list[str], **options: Any) -> None:
        from onnx import helper

        self.nodes.append(helper.make_node(operator, inputs, outputs, **options))


def _short(name: str) -> str:
    return name.replace("encoder.", "e").replace("bottleneck", "b").replace("decoder.", "d").replace("head", "h")


def read_int8(path: Path) -> tuple[QuantizedXiaoNet | None, dict[str, Any]]:
    """Read a `.onnx` file that `to_int8` made: the model, or None if it is in float32, and the header.

    Raises:
        CheckpointError: the file cannot be read.
    """
    from onnx import ModelProto, numpy_helper

    raw, _ = read_checked(path)
    graph = ModelProto.FromString(raw)
    header = parse_header(path, next((own.value for own in graph.metadata_props if own.key == HEADER), ""))
    if header["precision"] != INT8:
        return None, header
    stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.graph.initializer}
    model = QuantizedXiaoNet(**header["arguments"])
    for name, convolution in model.convolutions():
        for part in ("weight", "bias", "scale"):
            if (own := getattr(convolution, part)) is not None:
                own.copy_(torch.from_numpy(stored[f"{_short(name)}{part[0]}"].copy()).view(own.shape))
    return model, header


def convolutions_in(graph: "ModelProto") -> Iterator[tuple[str, bool]]:
    """For each convolution of a graph, the name of its weights and whether they are int8."""
    from onnx import TensorProto

    stored = {tensor.name: tensor.data_type for tensor in graph.graph.initializer}
    source = {node.output[0]: node.input[0] for node in graph.graph.node if node.op_type == "DequantizeLinear"}
    for node in graph.graph.node:
        if node.op_type == "Conv":
            name = source.get(node.input[1], node.input[1])
            yield name, stored.get(name) == TensorProto.INT8
