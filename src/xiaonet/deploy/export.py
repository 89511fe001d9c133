"""Export of model files to the formats of other runtimes. Each new file is checked against torch."""

import json
import os
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO

import torch

from xiaonet.constants import COMPONENTS, WINDOW_SAMPLES
from xiaonet.deploy.c_export import to_c
from xiaonet.deploy.onnx import check, export_onnx, header_of
from xiaonet.errors import ConfigError, OutputError
from xiaonet.extras import install_command
from xiaonet.files import write_atomically
from xiaonet.nn.checkpoint import INT8, load_model, read_model_file
from xiaonet.runtime.checksum import EMPTY_CHECKSUM, add_checksum
from xiaonet.runtime.header import HEADER
from xiaonet.runtime.openvino_runtime import OpenVinoPredictor, import_openvino, open_core

NOT_HERE: Mapping[str, str] = {
    "litert": "its converter, litert-torch, takes 2 GB with JAX and wants other versions of packages than XiaoNet is tested with",
}
LARGEST_BATCH = 64  # windows that an ExecuTorch file accepts at once


def export(model_file: Path, kind: str, out: Path) -> list[Path]:
    """Convert a model file to another format. The new file holds the header of the model, too.

    Args:
        model_file: written by `xiaonet.save_model`, in float32 or quantized. Format c reads `.onnx`, too.
        kind: `onnx`, `openvino`, `executorch` or `c`.
        out: the new file, or the new folder of format c; an OpenVINO model has a second file with the suffix `.bin` beside it.

    Returns:
        The new files.

    Raises:
        ConfigError: the format is unknown or not available, a package is missing, or the format does not support
            quantized models.
        CheckpointError: the model file cannot be read.
        OutputError: the new file cannot be written, or it gives other probabilities than torch.
    """
    if kind in NOT_HERE:
        raise ConfigError(f"format {kind} is not available, because {NOT_HERE[kind]}; use one of {', '.join(FORMATS)}")
    if kind not in FORMATS:
        raise ConfigError(f"format is {kind!r}; wanted one of {', '.join((*FORMATS, *NOT_HERE))}")
    return FORMATS[kind][1](model_file, out)


def suffix(kind: str) -> str:
    """The usual suffix of a format's files, or an empty text for an unknown format."""
    return FORMATS[kind][0] if kind in FORMATS else ""


def _to_onnx_file(model_file: Path, out: Path) -> list[Path]:
    export_onnx(model_file, out)
    return [out]


def _to_openvino(model_file: Path, out: Path) -> list[Path]:
    if not find_spec("openvino"):
        raise ConfigError(f"format openvino needs OpenVINO: {install_command('openvino')}")
    openvino = import_openvino()
    targets = [out.with_suffix(".xml"), out.with_suffix(".bin")]
    try:
        with TemporaryDirectory(dir=out.parent, prefix=".export-") as folder:
            bare = Path(folder) / "model.onnx"
            export_onnx(model_file, bare, resize=True)
            core, place = open_core(), ["framework", HEADER]
            xml = bare.with_suffix(".xml")
            model = core.read_model(bare)
            header = json.loads(model.get_rt_info(place).value)
            model.set_rt_info(json.dumps({**header, "seal": EMPTY_CHECKSUM}), place)
            openvino.save_model(model, xml, compress_to_fp16=False)
            xml.write_bytes(add_checksum(xml.read_bytes(), xml.with_suffix(".bin").read_bytes()))
            check(model_file, OpenVinoPredictor(xml).infer, targets[0])
            for target in reversed(targets):
                os.replace(xml.with_suffix(target.suffix), target)
    except OSError as error:
        raise OutputError(f"{targets[0]} could not be written: {error}; free some space or choose another folder") from error
    return targets


def _to_executorch(model_file: Path, out: Path) -> list[Path]:
    """Write the network in float32 for up to 64 windows of 3001 samples, and the header as the method `xiaonet`."""
    if not find_spec("executorch"):
        raise ConfigError(f"format executorch needs ExecuTorch: {install_command('executorch')}")
    if read_model_file(model_file)["precision"] == INT8:
        raise ConfigError(
            f"{model_file} is quantized, and ExecuTorch would take seconds for a window; "
            "wanted the model in float32 that it was made from, or the format onnx or openvino"
        )
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
    from executorch.exir import to_edge_transform_and_lower
    from executorch.runtime import Runtime

    batch = torch.export.Dim("batch", min=1, max=LARGEST_BATCH)
    example = torch.zeros(2, len(COMPONENTS), WINDOW_SAMPLES)
    program = torch.export.export(load_model(model_file).float(), (example,), dynamic_shapes={"windows": {0: batch}})
    lowered = to_edge_transform_and_lower(
        program, partitioner=[XnnpackPartitioner()], constant_methods={HEADER: json.dumps(header_of(model_file))}
    )

    def write(file: IO[bytes]) -> None:
        file.write(lowered.to_executorch().buffer)
        file.flush()
        method = Runtime.get().load_program(file.name).load_method("forward")
        check(model_file, lambda windows: method.execute([torch.from_numpy(windows)])[0].numpy(), out, lengths=(WINDOW_SAMPLES,))

    write_atomically(out, write)
    return [out]


FORMATS: Mapping[str, tuple[str, Callable[[Path, Path], list[Path]]]] = {
    "onnx": (".onnx", _to_onnx_file),
    "openvino": (".xml", _to_openvino),
    "executorch": (".pte", _to_executorch),
    "c": ("", to_c),
}
