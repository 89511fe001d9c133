"""From a record to a training window: the prescribed augmentations, in the prescribed order."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import seisbench.generate as sbg

from xiaonet.constants import LABEL_SIGMA, PHASES, WINDOW_SAMPLES
from xiaonet.data.sets import PHASE_OF, WaveformData, phase_columns
from xiaonet.picking.windows import fill_nonfinite, silence_dead

State = dict[str, tuple[Any, Any]]
SEARCH_SAMPLES = 6000  # the stretch around a pick in which the training window falls
NO_COLUMNS = {"trace_p_arrival_sample": "P", "trace_s_arrival_sample": "S"}  # SeisBench skips those that a set lacks
UNIT_FREE = 1e-300  # keeps 0/0 away; SeisBench's 1e-10 would flatten records in m/s


class Windows(sbg.GenericGenerator):
    """Training windows of a data set, the same for the same seed, round and record.

    SeisBench's augmentations draw from NumPy's global generator, so it is seeded for each
    window: the number of workers and processes, and whether a run was interrupted, change nothing.
    Items are dictionaries: `X` `(3, 3001)` float32, `y` `(3, 3001)` float32 soft labels in
    P, S, noise order, `incomplete` `(3,)` bool, and the record's `name`.

    Args:
        data: opened by `open_data`.
        seed: of the windows' positions.
        incomplete_statuses: values of `trace_p_status`, `trace_s_status` (or the same with any
            other name of a phase) that say: this phase may be in the record and nobody picked it.
    """

    def __init__(self, data: WaveformData, *, seed: int = 0, incomplete_statuses: Sequence[str] = ()) -> None:
        super().__init__(data)
        self.seed = seed
        columns = phase_columns(data.metadata)
        labelled = {**NO_COLUMNS, **columns}
        self.add_augmentations(
            [
                Tidy(columns, incomplete_statuses),
                sbg.WindowAroundSample(
                    list(columns),
                    samples_before=SEARCH_SAMPLES // 2,
                    windowlen=SEARCH_SAMPLES,
                    selection="random",
                    strategy="variable",
                ),
                sbg.RandomWindow(windowlen=WINDOW_SAMPLES, strategy="pad"),
                silence_dead_components,
                sbg.Normalize(demean_axis=-1, detrend_axis=-1, amp_norm_axis=-1, amp_norm_type="peak", eps=UNIT_FREE),
                sbg.ChangeDtype(np.float32),
                sbg.ProbabilisticLabeller(label_columns=labelled, model_labels=PHASES, sigma=LABEL_SIGMA, dim=0),
                sbg.ChangeDtype(np.float32, key="y"),
            ]
        )

    def __getitem__(self, index: int | tuple[int, int]) -> dict[str, Any]:
        """The window of `(round, row)`; a bare row means round 0."""
        turn, row = index if isinstance(index, tuple) else (0, index)
        with _seeded(self.seed, turn, row):
            item: dict[str, Any] = super().__getitem__(row)
        return item


class Tidy:
    """Make a record fit to be windowed: finite samples, picks inside, what is unpicked said.

    Writes `incomplete`, three flags in P, S, noise order. Noise is never incomplete.
    """

    def __init__(self, columns: dict[str, str], incomplete_statuses: Sequence[str]) -> None:
        self.columns = columns
        self.incomplete_statuses = frozenset(incomplete_statuses)

    def __call__(self, state: State) -> None:
        """Tidy the record under the key `X`, in place."""
        waveform, metadata = state["X"]
        for column in self.columns:
            if column in metadata and not 0 <= metadata[column] < waveform.shape[-1]:
                metadata[column] = np.nan
        waveform = fill_nonfinite(waveform)
        # SeisBench pads with zeros: without the offset, padding makes no step.
        waveform -= waveform[..., :1]
        if not waveform.any():
            metadata.update(dict.fromkeys(self.columns, np.nan))  # nothing to see is nothing to teach
        incomplete = np.zeros(len(PHASES), dtype=bool)
        for name, phase in PHASE_OF.items():
            if metadata.get(f"trace_{name}_status") in self.incomplete_statuses:
                incomplete[PHASES.index(phase)] = True
        state["X"] = (waveform, metadata)
        state["incomplete"] = (incomplete, None)
        state["name"] = (str(metadata["trace_name"]), None)


def silence_dead_components(state: State) -> None:
    """Zero the components that stand still within the window, lest rounding be blown up to a signal."""
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
