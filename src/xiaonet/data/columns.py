"""The metadata columns of SeisBench data sets that hold picks, their statuses and events."""

from collections.abc import Collection, Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from xiaonet.constants import PICKED_PHASES

# The names of phases in data sets, and the phase that XiaoNet learns for each.
PHASE_OF = {
    **dict.fromkeys(("P", "p", "Pg", "Pn", "PmP", "pP", "P1", "pwP", "pwPm"), "P"),
    **dict.fromkeys(("S", "s", "Sg", "Sn", "SmS", "S1"), "S"),
}
PICK_COLUMNS = {f"trace_{name}_arrival_sample": phase for name, phase in PHASE_OF.items()}
DEFAULT_PICK_COLUMNS = {"trace_p_arrival_sample": "P", "trace_s_arrival_sample": "S"}
STATUS_COLUMN = r"^trace_\w+_status$"
UNPICKED = "unpicked"  # status of a phase that may be in the record without a pick
ANALYST_STATUSES = ("manual", "")  # a set without statuses is assumed to hold picks of analysts
EVENT_COLUMNS = ("source_id", "source_event_id", "source_origin_time")  # each identifies the event of a record


def phase_columns(columns: Iterable[str]) -> dict[str, str]:
    """Find the pick columns of a data frame or of the metadata of one record.

    Returns:
        The phase of each, such as `{"trace_Pg_arrival_sample": "P"}`.
    """
    return {column: PICK_COLUMNS[column] for column in columns if column in PICK_COLUMNS}


def status_column(pick_column: str) -> str:
    """Name the status column that belongs to a pick column."""
    return pick_column.replace("_arrival_sample", "_status")


def picks_within(metadata: Mapping[str, Any], samples: float) -> dict[str, list[tuple[float, str]]]:
    """Collect the picks of a record from sample 0 up to, but without, `samples`.

    Returns:
        For P and S, samples and statuses in order of time. A missing status is empty.
    """
    found: dict[str, list[tuple[float, str]]] = {phase: [] for phase in PICKED_PHASES}
    for column, phase in phase_columns(metadata).items():
        if 0 <= metadata[column] < samples:
            status = metadata.get(status_column(column))
            found[phase].append((float(metadata[column]), "" if pd.isna(status) else str(status)))
    return {phase: sorted(picks) for phase, picks in found.items()}


def first_picks(metadata: Mapping[str, Any], samples: float) -> tuple[tuple[float, bool], tuple[float, bool]]:
    """Find the first P and the first S pick of a record.

    Returns:
        For P and S, the sample and whether an analyst picked it; NaN and false without a pick.
    """
    picks = picks_within(metadata, samples)
    p, s = ((picks[phase][0][0], picks[phase][0][1] in ANALYST_STATUSES) if picks[phase] else (np.nan, False) for phase in PICKED_PHASES)
    return p, s


def incomplete_phases(metadata: Mapping[str, Any], statuses: Collection[str]) -> set[str]:
    """Find the phases of a record that have one of the `statuses`, under any name of the phase."""
    return {phase for column, phase in PICK_COLUMNS.items() if metadata.get(status_column(column)) in statuses}
