"""Training windows of records: the prescribed augmentations in the prescribed order."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import seisbench.generate as sbg

from xiaonet.constants import LABEL_SIGMA, PHASES, WINDOW_SAMPLES
from xiaonet.data.columns import DEFAULT_PICK_COLUMNS, incomplete_phases, phase_columns
from xiaonet.data.sets import WaveformData
from xiaonet.picking.windows import fill_nonfinite, silence_dead

State = dict[str, tuple[Any, Any]]
SEARCH_SAMPLES = 6000  # the stretch around a pick in which the training window lies
NORM_EPSILON = 1e-300  # avoids 0/0; SeisBench's 1e-10 would flatten records in m/s


class Windows(sbg.GenericGenerator):
    """Training windows of a data set. The same seed, round and record give the same window.

    SeisBench's augmentations draw from NumPy's global generator, so it is seeded for each window. The
    number of workers and processes, or an interruption, therefore changes nothing.

    Items are dictionaries: `X` `(3, 3001)` float32 in E, N, Z order; `y` `(3, 3001)` float32 soft labels in
    P, S, noise order; `incomplete` `(3,)` bool, true for a phase that may be in the record without a pick;
    and the record's `name`.

    Args:
        data: opened by `open_data`.
        seed: of the positions of the windows.
        incomplete_statuses: values of `trace_p_status`, `trace_s_status` (or of the status under any other
            name of the phase) that make a phase incomplete.
    """

    def __init__(self, data: WaveformData, *, seed: int = 0, incomplete_statuses: Sequence[str] = ()) -> None:
        super().__init__(data)
        self.seed = seed
        columns = phase_columns(data.metadata)
        labelled = {**DEFAULT_PICK_COLUMNS, **columns}  # SeisBench skips columns that a data set lacks
        self.add_augmentations(
            [
                CleanRecord(incomplete_statuses),
                sbg.WindowAroundSample(
                    list(columns),
                    samples_before=SEARCH_SAMPLES // 2,
                    windowlen=SEARCH_SAMPLES,
                    selection="random",
                    strategy="variable",
                ),
                sbg.RandomWindow(windowlen=WINDOW_SAMPLES, strategy="pad"),
                silence_dead_components,
                sbg.Normalize(demean_axis=-1, detrend_axis=-1, amp_norm_axis=-1, amp_norm_type="peak", eps=NORM_EPSILON),
                sbg.ChangeDtype(np.float32),
                sbg.ProbabilisticLabeller(label_columns=labelled, model_labels=PHASES, sigma=LABEL_SIGMA, dim=0),
                sbg.ChangeDtype(np.float32, key="y"),
            ]
        )

    def __getitem__(self, index: int | tuple[int, int]) -> dict[str, Any]:
        """The window of `(round, row)`. A row alone means round 0."""
        turn, row = index if isinstance(index, tuple) else (0, index)
        with _seeded(self.seed, turn, row):
            item: dict[str, Any] = super().__getitem__(row)
        return item


class CleanRecord:
    """Prepare a record for windowing: fill missing samples, remove picks outside, flag incomplete phases.

    Writes `incomplete`, three flags in P, S, noise order. Noise is never incomplete.

    Args:
        incomplete_statuses: as in `Windows`.
    """

    def __init__(self, incomplete_statuses: Iterable[str]) -> None:
        self.incomplete_statuses = frozenset(incomplete_statuses)

    def __call__(self, state: State) -> None:
        """Clean the record under the key `X`, in place."""
        waveform, metadata = state["X"]
        waveform = fill_nonfinite(waveform)
        waveform -= waveform[..., :1]  # SeisBench pads with zeros; without an offset, the padding makes no step
        samples = waveform.shape[-1] if waveform.any() else 0  # a dead trace shows no onsets
        for column in phase_columns(metadata):
            if not 0 <= metadata[column] < samples:
                metadata[column] = np.nan
        incomplete = incomplete_phases(metadata, self.incomplete_statuses)
        state["X"] = (waveform, metadata)
        state["incomplete"] = (np.array([phase in incomplete for phase in PHASES]), None)
        state["name"] = (str(metadata["trace_name"]), None)


def silence_dead_components(state: State) -> None:
    """Zero the components that are constant within the window. Otherwise, rounding errors would be scaled up to a signal."""
    window, metadata = state["X"]
    state["X"] = (silence_dead(window), metadata)


@contextmanager
def _seeded(*seed: int) -> Iterator[None]:
    before = np.random.get_state()
    np.random.seed([value % 2**32 for value in seed])
    try:
        yield
    finally:
        np.random.set_state(before)
