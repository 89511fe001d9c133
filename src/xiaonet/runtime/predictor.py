"""What all runtimes have in common: windows in, probabilities out."""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from xiaonet.constants import (
    COMPONENTS,
    PHASES,
    PICK_SIDE,
    SEEN_SIDE,
    STRIDE,
    TILE_SAMPLES,
    WINDOW_SAMPLES,
    Stacking,
)
from xiaonet.errors import CheckpointError, ConfigError, WaveformError
from xiaonet.extras import install_command

Windows = NDArray[np.float32]
Record = NDArray[np.float32]
Tiles = NDArray[np.bool_]

LONGEST_PART = 28  # tiles of a record that are computed at once, besides the two that are only seen


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
    def stacking(self) -> Stacking:
        """What is averaged where windows overlap: `probabilities` of the network, or `waveforms` before it sees them."""

    @property
    def description(self) -> str:
        """Model, size and runtime in one line: all that its probabilities depend on."""

    @property
    def note(self) -> str:
        """What else to tell about the runtime, such as its instructions; empty if there is nothing."""

    @property
    def digest(self) -> str:
        """SHA-256 of the model file."""

    def __call__(self, windows: Windows) -> Windows:
        """Compute probabilities `(batch, 3, samples)` of P, S and noise.

        Args:
            windows: `(batch, 3, samples)` in E, N, Z order at 100 Hz, normalised: 3001 samples, or a multiple of 8.
        """

    def curves(self, record: Record, wanted: Tiles) -> Record:
        """Compute probabilities `(3, samples)` of P, S and noise of a record, where they are wanted; zeros elsewhere.

        Args:
            record: `(3, samples)` in E, N, Z order at 100 Hz, normalised: a whole number of tiles of 512 samples.
            wanted: `(tiles,)`; the first and the last tile are only seen.
        """

    def around(self, cuts: Windows) -> Windows:
        """Compute mean probabilities `(cuts, 3, 201)` of P, S and noise around the middle of cuts from windows.

        Pooling makes a network see a signal in eight ways, so the mean is that of eight places, one sample apart.

        Args:
            cuts: `(cuts, 3, 1239)` in E, N, Z order at 100 Hz, of normalised windows, the middle at sample 623.
        """


class RuntimePredictor(ABC):
    """One model file on one runtime.

    Attributes:
        runtime: its name, which is also the name of its Python package if it has one.
        suffixes: of the files that it reads.
        together: number of windows that it is fastest with.
        header: what the file says of its model.
        note: as in `Predictor`.
    """

    runtime: ClassVar[str]
    suffixes: ClassVar[tuple[str, ...]]
    together: ClassVar[int] = 1

    def __init__(self, path: Path, raw: bytes, header: Mapping[str, Any], version: str) -> None:
        self.header = header
        self.thresholds: Mapping[str, float] = header["thresholds"]
        self.stacking: Stacking = header["stacking"]
        self.digest = hashlib.sha256(raw).hexdigest()
        self.version, self.note = version, ""
        self.description = f"{path.name}, {header['parameters']:,} parameters, {self.runtime} {version}"

    def __call__(self, windows: Windows) -> Windows:
        """Compute probabilities `(batch, 3, samples)` in P, S, noise order.

        Args:
            windows: `(batch, 3, samples)`, float32, in E, N, Z order at 100 Hz, normalised: 3001 samples, or a multiple of 8.

        Raises:
            WaveformError: the shape or the type is wrong.
        """
        whole = windows.ndim == 3 and (windows.shape[2] == WINDOW_SAMPLES or windows.shape[2] % STRIDE == 0 < windows.shape[2])
        if not whole or windows.shape[1] != len(COMPONENTS) or windows.dtype != np.float32:
            raise WaveformError(
                f"windows are {windows.dtype} {windows.shape}; wanted float32 (batch, {len(COMPONENTS)}, {WINDOW_SAMPLES}), "
                "as xiaonet.picking.windows.normalize returns them"
            )
        return self.infer(np.require(windows, requirements="W")) if len(windows) else np.empty_like(windows)

    def curves(self, record: Record, wanted: Tiles) -> Record:
        """Compute probabilities `(3, samples)` of a record `(3, samples)` in the tiles that are wanted; zeros elsewhere.

        The network sees one more tile on either side, so the result does not depend on what else is wanted.
        """
        curves = np.zeros_like(record)
        for tiles, starts in _parts(wanted).items():
            for group in range(0, len(starts), self.together):
                parts = [first * TILE_SAMPLES for first in starts[group : group + self.together]]
                self.infer_parts(record, curves, parts, tiles * TILE_SAMPLES)
        return curves

    def infer_parts(self, record: Record, curves: Record, starts: Sequence[int], samples: int) -> None:
        """Compute the probabilities of parts of a record into `curves`; the network sees a tile more on either side.

        Args:
            record: `(3, samples)` in E, N, Z order, normalised.
            curves: `(3, samples)` in P, S, noise order, changed in these parts.
            starts: first samples of the parts, in order, `together` at most.
            samples: length of each part.
        """
        seen = np.stack([record[:, first - TILE_SAMPLES : first + samples + TILE_SAMPLES] for first in starts])
        for first, found in zip(starts, self.infer(seen), strict=True):
            curves[:, first : first + samples] = found[:, TILE_SAMPLES:-TILE_SAMPLES]

    def around(self, cuts: Windows) -> Windows:
        """Compute mean probabilities `(cuts, 3, 201)` around the middle of cuts `(cuts, 3, 1239)`, as `Predictor` says."""
        return around_by_places(self, cuts, self.together) if len(cuts) else np.empty((0, len(PHASES), 2 * PICK_SIDE + 1), np.float32)

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


def around_by_places(network: Callable[[Windows], Windows], cuts: Windows, together: int = 1) -> Windows:
    """Mean probabilities around the middle of cuts, as `Predictor.around`, from tiles that start at each place; `together` cuts at once."""
    results = []
    for group in range(0, len(cuts), together):
        part = cuts[group : group + together]
        tiles = np.stack([part[:, :, STRIDE - 1 - place :][:, :, : 2 * SEEN_SIDE] for place in range(STRIDE)])
        curves = network(tiles.reshape(-1, *tiles.shape[2:])).reshape(tiles.shape)
        middles = [SEEN_SIDE + place for place in range(STRIDE)]
        around = [curve[..., middle - PICK_SIDE : middle + PICK_SIDE + 1] for curve, middle in zip(curves, middles, strict=True)]
        results.append(np.mean(around, axis=0, dtype=np.float32))
    return np.concatenate(results)


def common_stacking(predictors: Sequence[Predictor]) -> Stacking:
    """What all of these networks average where windows overlap.

    Raises:
        ConfigError: they differ.
    """
    if len({predictor.stacking for predictor in predictors}) > 1:
        found = ", ".join(f"{predictor.stacking} ({predictor.description})" for predictor in predictors)
        raise ConfigError(f"these models average different things where windows overlap: {found}; wanted models with the same stacking")
    return predictors[0].stacking


def _parts(wanted: Tiles) -> dict[int, list[int]]:
    """Cut runs of tiles into parts that fit into the processor's cache: their first tiles by the number of tiles."""
    parts: dict[int, list[int]] = {}
    edges = np.flatnonzero(np.diff(wanted, prepend=False, append=False)).reshape(-1, 2)
    for first, end in edges.tolist():
        number = -(-(end - first) // LONGEST_PART)
        bounds = [first + (end - first) * part // number for part in range(number + 1)]
        for low, high in pairwise(bounds):
            parts.setdefault(high - low, []).append(low)
    return parts
