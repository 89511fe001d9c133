"""`xiaonet quantize` and `xiaonet export`."""

from pathlib import Path
from typing import Annotated

import typer

from xiaonet import console
from xiaonet.cli.options import DATA


def quantize(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="xiaonet, xiaonet-nano or a .pth file.")],
    data: Annotated[str, typer.Option(help=f"Records for calibration, of the split train: {DATA}")],
    out: Annotated[Path, typer.Option(help="Folder of the four model files and quantization.md.")] = Path("quantized"),
    judge: Annotated[
        str | None, typer.Option(help="Labelled records for the comparison, of the split test.", show_default="split dev of --data")
    ] = None,
    qat: Annotated[int, typer.Option("--qat", min=0, help="Epochs of quantization-aware training; 0 for none.")] = 0,
    windows: Annotated[int, typer.Option(min=1, help="Windows for calibration, and for each epoch of --qat.")] = 512,
    seed: Annotated[int, typer.Option(min=0, help="Random seed of the windows.")] = 0,
) -> None:
    """Quantize a model to INT8 and report how its accuracy, speed and size change.

    The model is written for torch and as ONNX, in float32 and INT8.
    """
    from xiaonet.deploy.comparison import compare, to_markdown
    from xiaonet.deploy.quantize import Calibration
    from xiaonet.deploy.quantize import quantize as to_int8
    from xiaonet.evaluation.evaluator import Evaluator
    from xiaonet.shipped import model_path

    with console.busy("Calibrating"):
        files = to_int8(
            model_path(model, ".pth"),
            data,
            out,
            Calibration(windows, seed, qat),
            on_epoch=lambda epoch, loss: console.say(f"Epoch {epoch}/{qat}  loss: {loss:.6f}"),
        )
    for name, path in files.items():
        console.ok("Written", name, f"{path.stat().st_size / 1000:.0f} KB")
    evaluator = Evaluator(judge or data, "test" if judge else "dev", seed=seed)
    with console.WindowProgress("Comparing", 2 * evaluator.total) as progress:
        found = compare(out, evaluator, progress.update)
    console.say(to_markdown(found))
    console.ok("Comparison", "written", f"{out / 'quantization.md'} and .json")


def export(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="Shipped model or .pth file; for format c also .onnx.")],
    kind: Annotated[str, typer.Option("--format", help="Format: onnx, openvino, executorch or c.")] = "onnx",
    out: Annotated[
        Path | None,
        typer.Option(
            help="The new file, or the folder of format c. That of a shipped model goes to the current folder.",
            show_default="beside the model",
        ),
    ] = None,
) -> None:
    """Convert a model for runtimes that need no torch."""
    from xiaonet.deploy.export import export as write
    from xiaonet.deploy.export import suffix
    from xiaonet.files import make_folder
    from xiaonet.shipped import WEIGHTS, model_path

    source = model_path(model, ".pth")
    target = out or (Path(model) if source.parent == WEIGHTS else source).with_suffix(suffix(kind))
    make_folder(target.parent)
    for path in write(source, kind, target):
        console.ok("Export", "written", f"{path}, {path.stat().st_size / 1000:.0f} KB")
