from xiaonet.picking.pairs import with_lone_s
from xiaonet.picking.picks import Pick


def pick(second: float, phase: str, seed_id: str = "XX.ABC..HHZ") -> Pick:
    return Pick(round(second * 1e9), seed_id, phase, 0.5, 0.1, 1.0, 10.0)


def test_an_s_needs_a_p_of_its_station_in_the_30_s_before() -> None:
    picks = [
        (pick(-100, "S"), True),  # before 1970, before any P
        (pick(0, "P"), False),
        (pick(0, "S", "XX.ABC.10.HNN"), False),  # another instrument of the station
        (pick(3, "S", "XX.DEF..HHN"), True),
        (pick(30, "S"), False),
        (pick(30.01, "S"), True),
        (pick(40, "P", "YY.ABC..HHZ"), False),
        (pick(41, "S"), True),
        (pick(60, "P"), False),
        (pick(61, "S"), False),
        (pick(62, "S"), False),
    ]
    assert picks == list(with_lone_s(one for one, _ in picks))
