"""The optional packages, and the extra that installs each."""

from typing import Final

EXTRAS: Final = {
    "torch": "train",
    "seisbench": "train",
    "lightning_fabric": "train",
    "pandas": "train",  # comes with SeisBench
    "tensorboard": "tensorboard",
    "matplotlib": "plots",
    "jinja2": "evaluate",
    "onnx": "export",
    "onnxscript": "export",
    "openvino": "openvino",
    "pyarrow": "parquet",
}


def install_command(package: str) -> str:
    """The command that installs an optional package; the name may be that of a module in it, such as `torch.nn`."""
    name = package.partition(".")[0]
    return f"pip install 'xiaonet[{EXTRAS[name]}]'" if name in EXTRAS else f"pip install {name}"
