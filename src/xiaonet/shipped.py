"""The models that come with XiaoNet, by name."""

import difflib
import os
from collections.abc import Sequence
from pathlib import Path

from xiaonet.errors import CheckpointError

WEIGHTS = Path(__file__).with_name("weights")  # importlib.resources would take as long to import as the whole package


def shipped_models() -> list[str]:
    """Names of the models that come with XiaoNet."""
    return sorted(path.stem for path in WEIGHTS.glob("*.onnx"))


def model_path(model: str | Path, suffix: str) -> Path:
    """The file of a shipped model of that suffix, or the given path of a model file.

    Raises:
        CheckpointError: it is neither.
    """
    if "\0" not in str(model) and (Path(model).suffix in (".onnx", ".xml", ".pth") or os.path.isfile(model)):
        return Path(os.path.expanduser(model))  # unlike Path's own methods, these two never raise
    if str(model) in shipped_models():
        return WEIGHTS / f"{model}{suffix}"
    raise CheckpointError(
        f"there is no model {str(model)!r}{suggestion(str(model), shipped_models())}, or the path of a .onnx, .xml or .pth file"
    )


def suggestion(name: str, known: Sequence[str]) -> str:
    """The end of an error message about an unknown name: the closest known names, and all of them."""
    near = difflib.get_close_matches(name, known)
    return f"; did you mean {' or '.join(near)}? There are {', '.join(known)}" if near else f"; there are {', '.join(known)}"
