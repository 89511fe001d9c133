"""What all runtimes have in common: windows in, probabilities out."""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from xiaonet.constants import COMPONENTS, WINDOW_SAMPLES
from xiaonet.errors import CheckpointError, WaveformError
from xiaonet.extras import install_command

Windows = NDArray[np.float32]


class Predictor(Protocol):
    """A network that the picker can call, also from several threads at once."""

    @property
    def runtime(self) -> str:
        """`onnxruntime`, `openvino`, `native` or `torch`."""

    @property
    def version(self) -> str:
        """Version of the runtime."""

    @property
    def thresholds(self) -> Mapping[str, float]:
        """Minimum probabilities of a pick that the model file recommends, for `P` and `S`."""

    @property
    def description(self) -> str:
        """Model, size and runtime in one line."""

    @property
    def digest(self) -> str:
        """SHA-256 of the model file."""

    def __call__(self, windows: Windows) -> Windows:
        """Compute probabilities `(batch, 3, 3001)` of P, S and noise.

        Args:
            windows: `(batch, 3, 3001)` in E, N, Z order at 100 Hz, normalised.
        """


class RuntimePredictor(ABC):
    """One model file on one runtime.

    Attributes:
        runtime: its name, which is also the name of its Python package if it has one.
        suffixes: of the files that it reads.
        header: what the file says of its model.
    """

    runtime: ClassVar[str]
    suffixes: ClassVar[tuple[str, ...]]

    def __init__(self, path: Path, raw: bytes, header: Mapping[str, Any], version: str) -> None:
        self.header = header
        self.thresholds: Mapping[str, float] = header["thresholds"]
        self.digest = hashlib.sha256(raw).hexdigest()
        self.version = version
        self.description = f"{path.name}, {header['parameters']:,} parameters, {self.runtime} {version}"

    def __call__(self, windows: Windows) -> Windows:
        """Compute probabilities `(batch, 3, 3001)` in P, S, noise order.

        Args:
            windows: `(batch, 3, 3001)`, float32, in E, N, Z order at 100 Hz, normalised.

        Raises:
            WaveformError: the shape or the type is wrong.
        """
        if windows.shape[1:] != (len(COMPONENTS), WINDOW_SAMPLES) or windows.dtype != np.float32:
            raise WaveformError(
                f"windows are {windows.dtype} {windows.shape}; wanted float32 (batch, {len(COMPONENTS)}, {WINDOW_SAMPLES}), "
                "as xiaonet.picking.windows.normalize returns them"
            )
        return self.infer(np.require(windows, requirements="W")) if len(windows) else np.empty_like(windows)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.description}>"

    @classmethod
    def missing(cls) -> str:
        """Why the runtime cannot run here; empty if it can."""
        return "" if find_spec(cls.runtime) else f"the runtime {cls.runtime} is not installed: {install_command(cls.runtime)}"

    @abstractmethod
    def infer(self, windows: Windows) -> Windows:
        """Compute probabilities of at least one window, of any length."""

    @classmethod
    def unreadable(cls, path: Path, error: Exception) -> CheckpointError:
        """The error for a file that the runtime refuses although it is not damaged."""
        lines = [line for line in str(error).splitlines() if line.strip() and not line.startswith("Exception from")]  # places in C++
        upgrade = install_command(cls.runtime).replace("install", "install -U", 1)
        return CheckpointError(f"{path} requires a newer {cls.runtime}: {' '.join(lines[:3])}; {upgrade}")
