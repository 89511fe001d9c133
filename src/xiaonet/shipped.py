"""The models that come with XiaoNet, by name."""

import difflib
from collections.abc import Sequence
from os.path import expanduser, isfile
from pathlib import Path

from xiaonet.errors import CheckpointError

WEIGHTS = Path(__file__).with_name("weights")  # faster than importlib.resources, which takes as long to import as the package


def shipped_models() -> list[str]:
    """Names of the models that come with XiaoNet."""
    return sorted(path.stem for path in WEIGHTS.glob("*.onnx"))


def model_path(model: str | Path, suffix: str) -> Path:
    """Find a model file.

    Args:
        model: name of a shipped model, or path of a model file.
        suffix: of the file of a shipped model, such as `.onnx`.

    Raises:
        CheckpointError: there is no such model.
    """
    path = expanduser(model)  # this and isfile never raise, unlike the methods of Path
    if "\0" not in path and (Path(path).suffix in (".onnx", ".xml", ".pth") or isfile(path)):
        return Path(path)
    if str(model) in shipped_models():
        return WEIGHTS / f"{model}{suffix}"
    raise CheckpointError(
        f"there is no model {str(model)!r}{suggestion(str(model), shipped_models())}, or the path of a .onnx, .xml or .pth file"
    )


def suggestion(name: str, known: Sequence[str]) -> str:
    """The end of an error message about an unknown name: the closest known names, and all of them."""
    near = difflib.get_close_matches(name, known)
    return f"; did you mean {' or '.join(near)}? There are {', '.join(known)}" if near else f"; there are {', '.join(known)}"
