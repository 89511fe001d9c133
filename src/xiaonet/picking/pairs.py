"""Tell which S picks follow a P pick of their station."""

from collections.abc import Iterable, Iterator

from xiaonet.constants import SECOND_NS
from xiaonet.picking.picks import Pick

PAIR_NS = 30 * SECOND_NS  # between P and S of one earthquake: about 250 km away, and as long as a window


def with_lone_s(picks: Iterable[Pick]) -> Iterator[tuple[Pick, bool]]:
    """Each pick, and whether it is an S without a P on the same station within 30 s before it.

    Args:
        picks: of any stations, in order of time.
    """
    latest: dict[str, int] = {}  # time of the last P of each station
    for pick in picks:
        if pick.phase == "P":
            latest[pick.station] = pick.time_ns
        yield pick, pick.phase == "S" and pick.time_ns - latest.get(pick.station, pick.time_ns - PAIR_NS - 1) > PAIR_NS
