"""The optional packages, and the extra that installs each."""

from importlib import import_module
from typing import Any, Final

EXTRAS: Final = {
    "obspy": "obspy",
    "scipy": "obspy",
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
    "obstore": "archive",
    "dask": "archive",
    "distributed": "archive",
    "dask_jobqueue": "archive",
    "pyocto": "associate",
    "pyproj": "associate",
}


def install_command(package: str) -> str:
    """The command that installs an optional package; the name may be that of a module in it, such as `torch.nn`."""
    name = package.partition(".")[0]
    return f"pip install 'xiaonet[{EXTRAS[name]}]'" if name in EXTRAS else f"pip install {name}"


class MissingPackageError(ModuleNotFoundError):
    """An optional package is not installed; the message says what needs it and names the extra."""


def import_for(user: str, module: str) -> Any:
    """Import an optional module for something that needs it, such as `a stream`.

    Raises:
        MissingPackageError: its package is not installed.
    """
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        package = module.partition(".")[0]
        raise MissingPackageError(f"{user} needs {package}, which is not installed: {install_command(package)}", name=error.name) from error
