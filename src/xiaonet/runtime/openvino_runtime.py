"""The runtime OpenVINO, which is faster than onnxruntime on some processors."""

import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from xiaonet.runtime.checksum import read_checked
from xiaonet.runtime.header import HEADER, parse_header
from xiaonet.runtime.predictor import RuntimePredictor, Windows


class OpenVinoPredictor(RuntimePredictor):
    """A model file on OpenVINO. Raises as `load_predictor` does."""

    runtime, suffixes = "openvino", (".onnx", ".xml")

    def __init__(self, path: Path, threads: int = 1) -> None:
        openvino = import_openvino()
        raw, weights = read_checked(path)
        settings = {
            "INFERENCE_NUM_THREADS": threads,
            "INFERENCE_PRECISION_HINT": "f32",  # same picks as other runtimes; the default is bf16 where available
            "PERFORMANCE_HINT": "LATENCY",
            "ENABLE_CPU_PINNING": False,  # otherwise two processes share one core and leave the other idle
        }
        core, place = open_core(), ["framework", HEADER]
        try:
            model = core.read_model(raw, weights)
            header = parse_header(path, model.get_rt_info(place).value if model.has_rt_info(place) else "")
            # Requests of one compiled model wait for each other, so each request has a compiled model for itself.
            self._new_request: Callable[[], Any] = lambda: core.compile_model(model, "CPU", settings).create_infer_request()
            self._idle = [self._new_request()]  # grows to the largest number of simultaneous calls
        except RuntimeError as error:
            raise self.unreadable(path, error) from error
        super().__init__(path, raw, header, openvino.__version__.partition("-")[0])

    def infer(self, windows: Windows) -> Windows:
        """Compute probabilities of windows of any length."""
        try:
            request = self._idle.pop()
        except IndexError:
            request = self._new_request()
        try:
            probabilities: Windows = request.infer([windows], share_inputs=True)[0]
        finally:
            self._idle.append(request)
        return probabilities


@cache
def open_core() -> Any:
    """OpenVINO's `Core`, one for the life of the process.

    Each has a stack for signals. When one of several is closed, it may leave the process with a stack that is gone: the next signal,
    such as Ctrl-C, then ends Python with a segmentation fault.
    """
    return import_openvino().Core()


def import_openvino() -> Any:
    """Import OpenVINO without the telemetry message that it sends on import."""
    name, absent = "openvino_telemetry", object()
    before = sys.modules.get(name, absent)
    sys.modules[name] = None  # type: ignore[assignment]  # OpenVINO then uses its own stub
    try:
        import openvino
    finally:
        del sys.modules[name]
        if before is not absent:
            sys.modules[name] = before  # type: ignore[assignment]
    return openvino
