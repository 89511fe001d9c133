"""The checksum in `.onnx` and `.xml` model files.

The header of a model file holds, as its entry `seal`, the SHA-256 of the whole file, computed with zeros
in place of the checksum. OpenVINO keeps the weights in a second file, which follows in the same checksum.
A file with a single wrong bit is refused before a runtime reads it.
"""

import hashlib
import re
from pathlib import Path

from xiaonet.errors import CheckpointError

EMPTY_CHECKSUM = "0" * 64  # in the header until `add_checksum` fills it in
EXPORT = "as xiaonet export writes it"

# JSON strings have backslashes before quotes, so this cannot match inside one. XML writes quotes as &quot;.
_CHECKSUM = re.compile(rb'("|&quot;)seal\1: \1([0-9a-f]{64})\1')
_EXTERNAL_DATA = b"\n\x08location"  # in an ONNX file, the key of the entry that names another file with weights


def add_checksum(raw: bytes, weights: bytes = b"") -> bytes:
    """Fill in the checksum of a model file; `weights` is the content of the OpenVINO `.bin` file."""
    return _CHECKSUM.sub(rb"\g<1>seal\1: \g<1>" + hashlib.sha256(raw + weights).hexdigest().encode() + rb"\1", raw, count=1)


def read_checked(path: Path) -> tuple[bytes, bytes]:
    """Read a `.onnx` or `.xml` model file.

    Returns:
        The file's content, and that of its `.bin` file, which is empty for ONNX.

    Raises:
        CheckpointError: a file is missing or damaged, has no checksum, or keeps weights in a file that the checksum does not cover.
    """
    raw = _read(path)
    found = _CHECKSUM.search(raw)
    if found is None:
        raise CheckpointError(f"{path} is damaged or not a XiaoNet model: it has no checksum; copy it again, or take one {EXPORT}")
    two_files = path.suffix == ".xml"
    weights = _read(path.with_suffix(".bin")) if two_files else b""
    content = raw[: found.start(2)] + EMPTY_CHECKSUM.encode() + raw[found.end(2) :] + weights
    if hashlib.sha256(content).hexdigest().encode() != found[2]:
        file = f"{path} or its .bin" if two_files else str(path)
        raise CheckpointError(f"{file} is damaged: its content does not match its checksum; copy it again")
    if not two_files and _EXTERNAL_DATA in raw:
        raise CheckpointError(f"{path} keeps weights in another file (ONNX external data); wanted one file with all weights, {EXPORT}")
    return raw, weights


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        fix = "; copy it too, an OpenVINO model is two files" if path.suffix == ".bin" else ""
        raise CheckpointError(f"there is no file {path}{fix}") from error
    except (OSError, ValueError) as error:  # ValueError: a null byte in the path
        raise CheckpointError(f"{path} could not be read: {error}") from error
