"""Which component a channel records, and which channels belong to one instrument, by their names alone.

The last letter of a channel code names the component, and what comes before it the instrument: `HHZ` is the vertical of `HH`.
A code of one letter, such as `Z`, is the component of an instrument without a code.

K-NET and KiK-net name channels `EW`, `NS` and `UD`. A number after that names the sensor of KiK-net: 1 is in the borehole and
2 at the surface. So `UD1` is the vertical of the instrument `1`.
"""

import re
from collections.abc import Collection, Mapping
from itertools import takewhile
from typing import NamedTuple

from xiaonet.constants import COMPONENTS
from xiaonet.errors import ConfigError

# Last letters of the channels of a component, preferred ones first. The direction of 1, 2, R, T, X, Y, U and V is unknown; any
# two of them that belong together are horizontals at a right angle.
LETTERS: Mapping[str, str] = {"E": "E2TXU", "N": "N1RYV", "Z": "Z3W"}
KIK_NET = re.compile(r"(EW|NS|UD)(\d?)")
PRESSURE = "D"  # instrument code of hydrophones, microphones and barometers
NO_COMPONENTS: Mapping[str, str] = {}  # the user gives none
EXAMPLE = "E=HHX,N=HHY,Z=HHZ"


class Place(NamedTuple):
    """The place of a channel in an instrument.

    Attributes:
        instrument: NET.STA.LOC and the code of the instrument, such as `CX.PB01..HH`.
        component: `E`, `N` or `Z`.
        rank: of several channels of a component, the lowest rank is preferred.
    """

    instrument: str
    component: str
    rank: int


def parse_components(given: str | Mapping[str, str] | None) -> dict[str, str]:
    """The channel code of each component, from text such as `E=HHX,N=HHY,Z=HHZ` or from a mapping.

    Raises:
        ConfigError: this is neither, or names something other than one channel for each of E, N and Z.
    """
    pairs = list(given.items()) if isinstance(given, Mapping) else [item.strip().partition("=")[::2] for item in (given or "").split(",")]
    found = {component.strip(): code.strip() for component, code in pairs} if given else {}
    if given and (not found.keys() <= set(COMPONENTS) or not all(found.values()) or len(set(found.values())) < len(pairs)):
        raise ConfigError(f"components are {given!r}; wanted a channel code for E, N and Z each, such as {EXAMPLE}")
    return found


def place(seed_id: str, components: Mapping[str, str], present: Collection[str] = ()) -> Place | None:
    """The place of a channel; None if its name shows no component.

    Args:
        seed_id: NET.STA.LOC.CHA.
        components: channel codes that the user gives for components. They come before the rules above.
        present: names of all channels. `U` is up, unless there is a `V` beside it.
    """
    station, _, code = seed_id.rpartition(".")
    for component, given in components.items():
        if code == given:
            same = takewhile(lambda letters: len(set(letters)) == 1, zip(*(name[:-1] for name in components.values()), strict=False))
            return Place(f"{station}.{''.join(letters[0] for letters in same)}", component, -1)
    if match := KIK_NET.fullmatch(code):
        return Place(f"{station}.{match[2]}", {"EW": "E", "NS": "N", "UD": "Z"}[match[1]], 0)
    if seed_id[-1:] == "U" and f"{seed_id[:-1]}V" not in present:
        return Place(seed_id[:-1], "Z", len(LETTERS["Z"]))
    for component, letters in LETTERS.items():
        if code and code[-1] in letters:
            return Place(seed_id[:-1], component, letters.index(code[-1]))
    return None


def instrument_name(seed_id: str, components: Mapping[str, str] = NO_COMPONENTS) -> str:
    """NET.STA.LOC and the code of the instrument that a channel belongs to, or would if its name showed a component."""
    found = place(seed_id, components)
    return found.instrument if found else seed_id[:-1]


def why_no_component(seed_id: str, components: Mapping[str, str]) -> str:
    """Why a channel belongs to no component; empty if it belongs to one."""
    if seed_id.count(".") != 3:
        return "wanted a name NET.STA.LOC.CHA with three dots"
    code = seed_id.rpartition(".")[2]
    has_own_rule = code in components.values() or KIK_NET.fullmatch(code)
    if not has_own_rule and (code.endswith("H") or (len(code) == 3 and code[1] == PRESSURE)):
        return f"channel code {code!r} is that of a hydrophone or another pressure sensor; wanted ground motion"
    if place(seed_id, components) is None:
        letters = ", ".join("".join(LETTERS.values()))
        return f"channel code {code!r} has no component; wanted a code that ends in {letters}, or components such as {EXAMPLE}"
    return ""
