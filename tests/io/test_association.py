"""Picks of the Ridgecrest aftershocks, from our CSV file, in PyOcto's hands.

Four stations recorded 80 minutes of 2019-07-07. The events are those that PyOcto finds in the
picks of both of SeisBench's PhaseNets, `original` and `stead`, at places that differ by less than
3 km. Stations' coordinates are those of the stations.csv in GaMMA's repository.
"""

from pathlib import Path

import numpy as np
import obspy
import pandas as pd
import pytest

from xiaonet import Picker
from xiaonet.io.picks import write_picks

pyocto = pytest.importorskip("pyocto", reason="needs pyocto: pip install pyocto")

STATIONS = pd.DataFrame(
    [
        ("PB.B916.", 36.193, -117.668, 1859.9),
        ("PB.B917.", 35.405, -117.259, 1192.0),
        ("PB.B918.", 35.936, -117.602, 1042.6),
        ("PB.B921.", 35.587, -117.462, 694.5),
    ],
    columns=["id", "latitude", "longitude", "elevation"],  # degrees, m
)
EVENTS = [  # origin time on 2019-07-07, latitude, longitude
    ("07:52:27.9", 36.015, -117.429),
    ("08:02:17.2", 35.871, -117.642),
    ("08:03:25.7", 36.101, -117.827),
    ("08:13:36.6", 35.883, -117.628),
    ("08:28:43.6", 35.640, -117.571),
    ("08:38:27.3", 35.499, -117.487),
    ("08:39:05.8", 35.656, -117.599),
    ("08:48:52.0", 35.715, -117.508),
    ("08:56:40.3", 35.656, -117.571),
    ("09:02:11.3", 35.695, -117.543),
    ("09:09:24.7", 35.656, -117.564),
]


@pytest.fixture(scope="module")
def picks(sds: Path, tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    """Our picks of the Ridgecrest records as pandas reads them from our CSV file."""
    stream = obspy.Stream(trace for path in sorted((sds / "2019").rglob("PB.*")) if path.is_file() for trace in obspy.read(path))
    path = tmp_path_factory.mktemp("picks") / "picks.csv"
    write_picks(Picker().pick(stream), path, {})
    return pd.read_csv(path)


def associate(picks: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Events with at least 7 of the 8 picks that four stations can have, each within 0.5 s; and these picks."""
    associator = pyocto.OctoAssociator.from_area(
        lat=(35.3, 36.3),
        lon=(-118.0, -117.1),
        zlim=(0, 15),
        velocity_model=pyocto.VelocityModel0D(p_velocity=6.0, s_velocity=6.0 / 1.73, tolerance=1.0),
        time_before=60,
        n_picks=7,
        pick_match_tolerance=0.5,
        edt_pick_std=0.3,
        min_pick_fraction=0.0,
        n_threads=1,
    )
    events, assignments = associator.associate(picks, associator.transform_stations(STATIONS.copy()))
    return associator.transform_events(events) if len(events) else events, assignments


def found(events: pd.DataFrame) -> list[str]:
    """Those of `EVENTS` that are among the events: within 1.5 s and 10 km."""
    return [
        time
        for time, latitude, longitude in EVENTS
        if any(
            abs(event.time - pd.Timestamp(f"2019-07-07T{time}Z").timestamp()) < 1.5
            and np.hypot((event.latitude - latitude) * 111.2, (event.longitude - longitude) * 90.2) < 10  # km a degree, at 35.8° north
            for event in events.itertuples()
        )
    ]


def test_pyocto_finds_the_aftershocks_in_our_csv_file(picks: pd.DataFrame) -> None:
    events, assignments = associate(picks)
    assert len(found(events)) >= 8, found(events)
    assert assignments["residual"].abs().median() < 0.2  # s, of constant velocities
    assert {"PB.B916.", "PB.B917.", "PB.B918.", "PB.B921."} == set(assignments["station"])


def test_xiaonet_associate_finds_the_aftershocks(sds: Path) -> None:
    from inventories import inventory_of
    from xiaonet.events.association import AssociationSettings
    from xiaonet.events.association import associate as associate_picks

    stream = obspy.Stream(trace for path in sorted((sds / "2019").rglob("PB.*")) if path.is_file() for trace in obspy.read(path))
    places = {row.id.rstrip("."): (row.latitude, row.longitude, row.elevation) for row in STATIONS.itertuples()}
    events = associate_picks(Picker().pick(stream), inventory_of(places=places), AssociationSettings(min_picks=7)).events
    table = pd.DataFrame([event.hypocentre for event in events]).assign(time=lambda held: held["time_ns"] / 1e9)
    assert len(found(table)) >= 8, found(table)
    assert np.median([event.rms for event in events]) < 0.4  # s, of constant velocities


def test_the_same_picks_at_other_stations_are_no_aftershocks(picks: pd.DataFrame) -> None:
    shuffled = picks.assign(station=np.random.default_rng(0).permutation(picks["station"]))
    mirrored = picks.assign(station=picks["station"].map(dict(zip(STATIONS["id"], STATIONS["id"][[1, 0, 3, 2]], strict=True))))
    assert [] == found(associate(shuffled)[0]) + found(associate(mirrored)[0])
