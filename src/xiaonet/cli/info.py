"""`xiaonet info`."""

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any

import typer

from xiaonet import console
from xiaonet.errors import CheckpointError, ConfigError

# SeisBench's PhaseNet with three phases. SeisBench itself need not be installed.
PHASENET_PARAMETERS = 268_443
PHASENET_MULTIPLY_ADDS = 19_462_976  # for one window


def info(
    model: Annotated[
        str | None, typer.Argument(metavar="MODEL", help="Shipped model or model file.", show_default="an untrained XiaoNet")
    ] = None,
) -> None:
    """Show the size, input and origin of a model.

    The table compares it with PhaseNet. The rest is its architecture, input specification, thresholds and provenance.
    Without torch, a .onnx or .xml file is described by what it says of itself.
    """
    from xiaonet.constants import input_specification
    from xiaonet.shipped import model_path

    has_torch = find_spec("torch") is not None
    header = _read_header(model_path(model, ".pth" if has_torch else ".onnx")) if model else {}
    if has_torch or not header:
        arguments, rows = _count(header.get("arguments", {}))
    else:
        arguments, rows = header.get("arguments", {}), {"parameters": f"{header['parameters']:,}"}
    theirs = {"parameters": f"{PHASENET_PARAMETERS:,}", "multiply-adds a window": f"{PHASENET_MULTIPLY_ADDS / 1e6:.1f} million"}
    console.say(f"{'':24}{'XiaoNet':>16}{'PhaseNet':>16}")
    for name, value in rows.items():
        console.say(f"{name:24}{value:>16}{theirs.get(name, ''):>16}".rstrip())
    console.info("Model", arguments)
    console.info("Input", input_specification())
    if header:
        console.say(f"Precision: {header.get('precision')}")
        console.info("Thresholds", header["thresholds"])
        console.info("Provenance", header.get("provenance", {}))


def _count(arguments: Mapping[str, Any]) -> tuple[Mapping[str, Any], dict[str, str]]:
    """All arguments of a network, and its size and cost in float32; a quantized one has fewer parameters, but the same shape."""
    from xiaonet.nn.model import XiaoNet, count_multiply_adds

    try:
        network = XiaoNet(**arguments)
    except (TypeError, ValueError, RuntimeError) as error:  # such as unknown arguments, or more channels than memory
        raise CheckpointError(f"the model file is damaged: its arguments {dict(arguments)} make no XiaoNet: {error}") from error
    return network.arguments, {
        "parameters": f"{sum(parameter.numel() for parameter in network.parameters()):,}",
        "multiply-adds a window": f"{count_multiply_adds(network) / 1e6:.1f} million",
        "receptive field": f"{network.receptive_field} samples",
    }


def _read_header(path: Path) -> Mapping[str, Any]:
    """What a model file says of its model."""
    if path.suffix not in (".onnx", ".xml"):
        from xiaonet.nn.checkpoint import read_model_file

        return read_model_file(path)
    from xiaonet.runtime.loading import load_predictor
    from xiaonet.runtime.predictor import RuntimePredictor

    predictor = load_predictor(path)
    if not isinstance(predictor, RuntimePredictor):
        raise ConfigError(f"{path} names several models; wanted one")
    return predictor.header
