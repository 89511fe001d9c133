"""The header of `.onnx` and `.xml` model files: JSON in their metadata."""

import json
from pathlib import Path
from typing import Any

from xiaonet.constants import checked_thresholds, input_specification, input_specification_differences
from xiaonet.errors import CheckpointError, ConfigError
from xiaonet.runtime.checksum import EXPORT

HEADER = "xiaonet"  # key of the header in the metadata
FORMAT = "xiaonet-onnx"
VERSION = 1


def parse_header(path: Path, text: str) -> dict[str, Any]:
    """Read the header of a model file whose checksum is right.

    Raises:
        CheckpointError: the header is not JSON, of another version, or lacks a field; the model has another input
            specification; or a field has a wrong type or value.
    """
    try:
        header = json.loads(text or "{}")
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"the header of {path} is not valid JSON: {error}; take a model file {EXPORT}") from error
    if not isinstance(header, dict):
        raise _wrong(path, "itself", header, "an object")
    found = header.get("format"), header.get("version")
    if found != (FORMAT, VERSION):
        raise CheckpointError(f"{path} has an unknown format: found {found}, wanted {(FORMAT, VERSION)}; take a model file {EXPORT}")
    for name in ("contract", "thresholds"):
        if not isinstance(header.get(name), dict):
            raise _wrong(path, name, header.get(name), "an object")
    if not isinstance(header.get("parameters"), int) or header["parameters"] is True or header["parameters"] < 1:
        raise _wrong(path, "parameters", header.get("parameters"), "a positive integer")
    if differences := input_specification_differences(header["contract"]):
        raise CheckpointError(f"{path} has another input specification: {differences}; this XiaoNet wants {input_specification()}")
    try:
        return {**header, "thresholds": checked_thresholds(header["thresholds"])}
    except ConfigError as error:
        raise CheckpointError(f"the header of {path} is wrong: {error}; take a model file {EXPORT}") from error


def _wrong(path: Path, name: str, found: object, wanted: str) -> CheckpointError:
    return CheckpointError(f"the header of {path} is wrong: {name} is {found!r:.200}; wanted {wanted}; take a model file {EXPORT}")
