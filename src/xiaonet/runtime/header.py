"""The header of `.onnx` and `.xml` model files: JSON in their metadata."""

import json
from pathlib import Path
from typing import Any, get_args

from xiaonet.constants import FIRST_STACKING, Stacking, checked_thresholds, input_specification, input_specification_differences
from xiaonet.errors import CheckpointError, ConfigError
from xiaonet.runtime.checksum import EXPORT

HEADER = "xiaonet"  # key of the header in the metadata
FORMAT = "xiaonet-onnx"
VERSION = 1


def parse_header(path: Path, text: str) -> dict[str, Any]:
    """Read the header of a model file whose checksum is right.

    Raises:
        CheckpointError: the header is not a JSON object or of another version; a field is missing or has a wrong type or
            value; or the model has another input specification.
    """
    try:
        header: dict[str, Any] = json.loads(text or "{}")
        found = header.get("format"), header.get("version")
    except (ValueError, RecursionError, AttributeError) as error:
        raise CheckpointError(f"the header of {path} is not a JSON object: {error}; take a model file {EXPORT}") from error
    if found != (FORMAT, VERSION):
        raise CheckpointError(f"{path} has an unknown format: found {found}, wanted {(FORMAT, VERSION)}; take a model file {EXPORT}")
    header = {"precision": "fp32", "stacking": FIRST_STACKING, "arguments": {}, "provenance": {}, **header}  # older files may lack these
    checks = {
        **{name: (isinstance(header.get(name), dict), "an object") for name in ("contract", "thresholds", "arguments", "provenance")},
        "precision": (header["precision"] in ("fp32", "int8"), "fp32 or int8"),
        "stacking": (header["stacking"] in get_args(Stacking), " or ".join(get_args(Stacking))),
        "parameters": (type(header.get("parameters")) is int and header["parameters"] > 0, "a positive integer"),
    }
    for name, (right, wanted) in checks.items():
        if not right:
            raise _wrong(path, f"{name} is {header.get(name)!r:.200}; wanted {wanted}")
    if differences := input_specification_differences(header["contract"]):
        raise CheckpointError(f"{path} has another input specification: {differences}; this XiaoNet wants {input_specification()}")
    try:
        return {**header, "thresholds": checked_thresholds(header["thresholds"])}
    except ConfigError as error:
        raise _wrong(path, str(error)) from error


def _wrong(path: Path, reason: str) -> CheckpointError:
    return CheckpointError(f"the header of {path} is wrong: {reason}; take a model file {EXPORT}")
