"""Change what the picker averages where windows overlap, in the header of model files.

    python -m xiaonet.deploy.stacking waveforms FILE.onnx FILE.pth …

Thresholds are left as they are. Choose them again if they were chosen on continuous records.
"""

import json
import sys
from pathlib import Path
from typing import get_args

from xiaonet.constants import Stacking
from xiaonet.deploy.onnx import check_packages
from xiaonet.errors import ConfigError
from xiaonet.files import write_atomically
from xiaonet.nn.checkpoint import load_model, read_model_file, save_model
from xiaonet.runtime.checksum import EMPTY_CHECKSUM, add_checksum, read_checked
from xiaonet.runtime.header import HEADER, parse_header


def set_stacking(path: Path, stacking: Stacking) -> None:
    """Write another stacking into a model file, and a checksum that fits.

    Args:
        path: `.pth` or `.onnx`.
        stacking: `probabilities` or `waveforms`.

    Raises:
        CheckpointError: the file cannot be read.
        ConfigError: the stacking is unknown, or it is a file of another kind.
        OutputError: the file cannot be written.
    """
    if stacking not in get_args(Stacking):
        raise ConfigError(f"stacking is {stacking!r}; wanted {' or '.join(get_args(Stacking))}")
    if path.suffix == ".pth":
        content = read_model_file(path)
        save_model(load_model(path), path, content["provenance"], content["thresholds"], stacking)
        return
    if path.suffix != ".onnx":
        raise ConfigError(f"{path} is neither a .pth nor a .onnx file; export it again from the .pth file")
    check_packages()
    from onnx import ModelProto

    graph = ModelProto.FromString(read_checked(path)[0])
    own = next(own for own in graph.metadata_props if own.key == HEADER)
    parse_header(path, own.value)
    own.value = json.dumps({**json.loads(own.value), "stacking": stacking, "seal": EMPTY_CHECKSUM})
    raw = add_checksum(graph.SerializeToString())
    write_atomically(path, lambda file: file.write(raw))


if __name__ == "__main__":
    for name in sys.argv[2:]:
        set_stacking(Path(name), sys.argv[1])  # type: ignore[arg-type]
