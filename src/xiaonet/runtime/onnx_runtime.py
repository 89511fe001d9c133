"""The runtime onnxruntime, which is installed with XiaoNet."""

import os
from pathlib import Path
from typing import Any

from xiaonet.runtime.checksum import read_checked
from xiaonet.runtime.header import HEADER, parse_header
from xiaonet.runtime.predictor import RuntimePredictor, Windows


class OnnxRuntimePredictor(RuntimePredictor):
    """A model file on onnxruntime. Raises as `load_predictor` does."""

    runtime, suffixes = "onnxruntime", (".onnx",)

    def __init__(self, path: Path, threads: int = 1) -> None:
        onnxruntime = _import_onnxruntime()
        from onnxruntime.capi import onnxruntime_pybind11_state as state

        raw, _ = read_checked(path)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3  # errors
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # waiting threads leave the core to others
        try:
            self._session = onnxruntime.InferenceSession(raw, options, providers=["CPUExecutionProvider"])
        except (state.Fail, state.InvalidArgument, state.InvalidGraph, state.InvalidProtobuf, state.NotImplemented) as error:
            raise self.unreadable(path, error) from error
        text = self._session.get_modelmeta().custom_metadata_map.get(HEADER, "")
        super().__init__(path, raw, parse_header(path, text), onnxruntime.__version__)

    def infer(self, windows: Windows) -> Windows:
        """Compute probabilities of windows of any length."""
        probabilities: Windows = self._session.run(["probabilities"], {"windows": windows})[0]
        return probabilities


def _import_onnxruntime() -> Any:
    """Import onnxruntime with its telemetry (since 1.29) off, unless the user has set it."""
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # onnxruntime reads it when it is imported
    import onnxruntime

    return onnxruntime
