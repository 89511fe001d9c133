import numpy as np
import pandas as pd
import pytest

from xiaonet.data.columns import first_picks, incomplete_phases, phase_columns, picks_within

NAMES = {
    "P": ("P", "p", "Pg", "Pn", "PmP", "pP", "P1", "pwP", "pwPm"),
    "S": ("S", "s", "Sg", "Sn", "SmS", "S1"),
}


@pytest.mark.parametrize(("name", "phase"), [(name, phase) for phase, names in NAMES.items() for name in names])
def test_every_name_of_a_phase_is_known(name: str, phase: str) -> None:
    column = f"trace_{name}_arrival_sample"
    assert {column: phase} == phase_columns(pd.DataFrame({column: [1]}))


@pytest.mark.parametrize(
    "column", ["trace_PKP_arrival_sample", "trace_Lg_arrival_sample", "trace_p_arrival_time", "p_arrival_sample", "trace_p_status", "split"]
)
def test_other_columns_hold_no_picks(column: str) -> None:
    assert {} == phase_columns(pd.DataFrame({column: [1]}))


def test_picks_of_all_names_are_found_in_order_of_time_with_their_statuses() -> None:
    metadata = {
        "trace_name": "a",
        "trace_Pn_arrival_sample": 50.0,
        "trace_Pn_status": "automatic",
        "trace_Pg_arrival_sample": 20.0,
        "trace_Pg_status": np.nan,
        "trace_PmP_arrival_sample": np.nan,
        "trace_s_arrival_sample": 100,
        "trace_SmS_arrival_sample": -1.0,
        "trace_Lg_arrival_sample": 70.0,
    }
    assert {"P": [(20.0, ""), (50.0, "automatic")], "S": [(100.0, "")]} == picks_within(metadata, 101)
    assert {"P": [(20.0, "")], "S": []} == picks_within(metadata, 50)


def test_the_first_pick_of_each_phase_counts_as_an_analysts_unless_its_status_says_otherwise() -> None:
    metadata = {"trace_Pn_arrival_sample": 50.0, "trace_Pg_arrival_sample": 20.0, "trace_s_arrival_sample": np.nan}
    assert (20.0, True) == first_picks(metadata, 100)[0]
    assert (20.0, False) == first_picks({**metadata, "trace_Pg_status": "autopicker"}, 100)[0]
    assert (20.0, True) == first_picks({**metadata, "trace_Pg_status": "manual", "trace_Pn_status": "automatic"}, 100)[0]
    missing, analyst = first_picks(metadata, 100)[1]
    assert (True, False) == (np.isnan(missing), analyst)


def test_a_phase_is_incomplete_by_its_status_under_any_name() -> None:
    metadata = {"trace_Pg_status": "unpicked", "trace_s_status": "manual", "trace_PKP_status": "unpicked", "trace_Sn_status": np.nan}
    assert [{"P"}, {"S"}, set()] == [incomplete_phases(metadata, statuses) for statuses in (("unpicked",), ["manual"], ())]
