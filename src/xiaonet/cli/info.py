"""`xiaonet info`."""

from typing import Annotated, Any

import typer

from xiaonet import console

# SeisBench's PhaseNet with three phases, so that it need not be installed.
PHASENET_PARAMETERS = 268_443
PHASENET_MULTIPLY_ADDS = 19_462_976  # a window


def info(
    model: Annotated[
        str | None, typer.Argument(metavar="MODEL", help="Shipped model or .pth file.", show_default="an untrained XiaoNet")
    ] = None,
) -> None:
    """Show the size, input and origin of a model.

    The table compares it with PhaseNet. The rest is its architecture, input specification, thresholds and provenance.
    """
    from xiaonet.constants import input_specification
    from xiaonet.nn.checkpoint import load_model, read_model_file
    from xiaonet.nn.model import XiaoNet, count_multiply_adds
    from xiaonet.shipped import model_path

    path = model_path(model, ".pth") if model else None
    # A quantized model has fewer parameters but the same shape: count those of the shape in float32.
    shape: dict[str, Any] = load_model(path).arguments if path else {}
    network = XiaoNet(**shape)
    parameters = sum(parameter.numel() for parameter in network.parameters())
    rows = {
        "parameters": [f"{number:,}" for number in (parameters, PHASENET_PARAMETERS)],
        "multiply-adds a window": [f"{number / 1e6:.1f} million" for number in (count_multiply_adds(network), PHASENET_MULTIPLY_ADDS)],
        "receptive field": [f"{network.receptive_field} samples"],
    }
    console.say(f"{'':24}{'XiaoNet':>16}{'PhaseNet':>16}")
    for name, values in rows.items():
        console.say(f"{name:24}{''.join(f'{value:>16}' for value in values)}")
    console.info("Model", network.arguments)
    console.info("Input", input_specification())
    if path:
        content = read_model_file(path)
        console.say(f"Precision: {content['precision']}")
        console.info("Thresholds", content["thresholds"])
        console.info("Provenance", content["provenance"])
