"""The runtime native: the network in C (`native.c`), compiled when XiaoNet is installed if there is a C compiler."""

import ctypes
import itertools
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from xiaonet import __version__
from xiaonet.compiled import REBUILD, find_library, open_library
from xiaonet.constants import AROUND_MIDDLE, AROUND_SAMPLES, COMPONENTS, PHASES, PICK_SIDE, STRIDE, TILE_SAMPLES
from xiaonet.errors import ConfigError, WaveformError
from xiaonet.runtime.native_weights import Array, NativeWeights, read_weights
from xiaonet.runtime.predictor import Record, RuntimePredictor, Windows

INTERFACE = 3  # the same number is in native.c
VARIABLE = "XIAONET_INSTRUCTIONS"  # environment variable with the set of instructions to use
FOLDER = Path(__file__).parent
PORTABLE = "portable"  # the set of instructions that every processor has
TOGETHER = 2  # windows that fill the vectors of every processor
TOGETHER_AROUND = 16  # the same for what is computed around candidates
_MIDDLE = AROUND_MIDDLE - PICK_SIDE, 2 * PICK_SIDE + 1  # first sample and number of samples that are computed around a candidate
FIX = f"{REBUILD}, or use --runtime onnxruntime"

_Pointer = ctypes.POINTER(ctypes.c_float)


class NativePredictor(RuntimePredictor):
    """A model file on kernels of XiaoNet's own. Raises as `load_predictor` does.

    A window gives the same bits in any batch. INT8 gives the logits of torch, to the bit.
    """

    runtime, suffixes, together = "native", (".onnx",), TOGETHER

    def __init__(self, path: Path, threads: int = 1) -> None:
        self._library, self._threads = load_library(), threads
        kind, name = instructions(self._library)
        raw, weights = read_weights(path)
        self._model = _Model(self._library, kind, weights)
        super().__init__(path, raw, weights.header, f"{__version__} ({name})" if name == PORTABLE else __version__)
        self.note = "" if name == PORTABLE else name  # all sets of vectors give the same bits

    @classmethod
    def missing(cls) -> str:
        """Why it cannot run here; empty if it can."""
        try:
            load_library()
        except ConfigError as error:
            return str(error)
        return ""

    @classmethod
    def is_fast(cls) -> bool:
        """Whether it is the fastest runtime on this processor. Without AVX2, onnxruntime is as fast or faster."""
        return instructions(load_library())[1] != PORTABLE

    def infer(self, windows: Windows) -> Windows:
        """Compute probabilities of windows of any length of at least 8 samples."""
        return self._run(windows, logits=False)

    def logits(self, windows: Windows) -> Windows:
        """Compute the input of the softmax."""
        return self._run(windows, logits=True)

    def around(self, cuts: Windows) -> Windows:
        """Compute mean probabilities `(cuts, 3, 201)` around the middle of cuts `(cuts, 3, 1239)`, as `Predictor` says.

        The places share what they have in common, and each layer computes only what the result depends on.
        """
        if not self._model.fits_around:
            return super().around(cuts)
        results = np.empty((len(cuts), len(PHASES), _MIDDLE[1]), np.float32)
        self._on_threads(self._library.xn_around, cuts, results, TOGETHER_AROUND, *_MIDDLE)
        return results

    def _run(self, windows: Windows, logits: bool) -> Windows:
        if windows.shape[-1] < STRIDE:
            raise WaveformError(f"windows have {windows.shape[-1]} samples; wanted at least {STRIDE}")
        results = np.empty(windows.shape, np.float32)
        samples = windows.shape[-1]
        self._on_threads(self._library.xn_run, windows, results, TOGETHER, logits, len(COMPONENTS) * samples, samples, samples, 0)
        return results

    def infer_parts(self, record: Record, curves: Record, starts: Sequence[int], samples: int) -> None:
        """Compute the probabilities of one or two parts of a record, as `RuntimePredictor.infer_parts`, without copies."""
        first, seen = starts[0] - TILE_SAMPLES, samples + 2 * TILE_SAMPLES
        rows = [array.strides[0] // array.itemsize for array in (record, curves)]
        given, wanted = _at(record[:, first:]), _at(curves[:, first:])
        count, step = len(starts), starts[-1] - starts[0]
        if not self._library.xn_run(self._model.handle, given, wanted, count, seen, False, step, *rows, TILE_SAMPLES):
            raise MemoryError(f"no memory for windows of {seen} samples")

    def _on_threads(self, function: Callable[..., int], windows: Windows, results: Windows, together: int, *rest: int) -> None:
        """Compute the results of windows with a function of the library, some for each thread."""
        windows = np.ascontiguousarray(windows)
        count, _, samples = windows.shape
        each = max(-(-count // self._threads // together), 1) * together

        def part(start: int) -> int:
            given, wanted = windows[start : start + each], results[start : start + each]
            return function(self._model.handle, _at(given), _at(wanted), len(given), samples, *rest)

        if count > each:
            with ThreadPoolExecutor(-(-count // each)) as pool:
                done = all(pool.map(part, range(0, count, each)))
        else:
            done = bool(part(0))
        if not done:
            raise MemoryError(f"no memory for windows of {samples} samples")


class _Model:
    """A network in the memory of the library."""

    def __init__(self, library: ctypes.CDLL, kind: int, weights: NativeWeights) -> None:
        parts: tuple[Sequence[Array | None], ...] = weights.weights, weights.biases, weights.scales
        tables = [(_Pointer * len(arrays))(*(_at(array) for array in arrays)) for arrays in parts]
        dilations = (ctypes.c_int * len(weights.dilations))(*weights.dilations)
        int8 = weights.header["precision"] == "int8"
        self._free = library.xn_free  # a module may be gone before its last object
        self.handle = library.xn_new(kind, len(weights.biases[0]), dilations, int8, *tables)
        if not self.handle:
            raise MemoryError("no memory for the network")
        self.fits_around = library.xn_around(self.handle, None, None, 0, AROUND_SAMPLES, *_MIDDLE) > 0  # it sees no further than the cuts

    def __del__(self) -> None:
        if handle := getattr(self, "handle", None):
            self._free(handle)


def _at(array: Array | None) -> Any:
    return None if array is None else array.ctypes.data_as(_Pointer)


def load_library() -> ctypes.CDLL:
    """Load the compiled `native.c` from `FOLDER`. The interpreter runs other threads while it computes.

    Raises:
        ConfigError: it was not built, it cannot be loaded, or it was built from another version of XiaoNet.
    """
    if (found := find_library(FOLDER, "_native")) is None:
        raise ConfigError(f"the runtime native was not built, because there was no C compiler or it failed: {FIX}")
    return _loaded(found)


@cache
def _loaded(path: Path) -> ctypes.CDLL:
    library = open_library(path, "the runtime native", ("xn_interface", INTERFACE), FIX)
    library.xn_name.restype = ctypes.c_char_p
    library.xn_new.restype = ctypes.c_void_p
    library.xn_free.argtypes, library.xn_free.restype = [ctypes.c_void_p], None
    library.xn_peak.restype = ctypes.c_double
    common: list[Any] = [ctypes.c_void_p, _Pointer, _Pointer, ctypes.c_int, ctypes.c_int, ctypes.c_int]
    library.xn_run.argtypes = [*common, *3 * [ctypes.c_ssize_t], ctypes.c_int]
    library.xn_around.argtypes = [*common, ctypes.c_int]
    return library


def instructions(library: ctypes.CDLL) -> tuple[int, str]:
    """Number and name of the set of instructions to use: the one in the environment variable `XIAONET_INSTRUCTIONS`, or the fastest.

    Raises:
        ConfigError: there is no such set, or this processor does not have it.
    """
    usable = usable_instructions(library)
    wanted = os.environ.get(VARIABLE) or usable[-1]
    if wanted not in usable:
        raise ConfigError(f"{VARIABLE} is {wanted!r}; this processor has {', '.join(usable)}")
    return number_of(library, wanted), wanted


def usable_instructions(library: ctypes.CDLL) -> list[str]:
    """Names of the sets of instructions that this processor has, the fastest last."""
    return [name for number, name in enumerate(_known_instructions(library)) if library.xn_supported(number)]


def number_of(library: ctypes.CDLL, name: str) -> int:
    """The number of a set of instructions in the library."""
    return _known_instructions(library).index(name)


def _known_instructions(library: ctypes.CDLL) -> list[str]:
    return [name.decode() for name in itertools.takewhile(bool, map(library.xn_name, itertools.count()))]
