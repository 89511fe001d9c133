"""Colours, sizes and texts that all figures share."""

import io
from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

from xiaonet.constants import PICKED_PHASES
from xiaonet.picking.picks import Pick
from xiaonet.picking.segments import Instrument

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLOURS = {"P": "#0072b2", "S": "#d55e00", "N": "#999999"}  # a palette for colour-blind readers
INK, GREY, PALE = "#333333", "#707070", "#dddddd"
SMALL, MEDIUM, LARGE = 8, 9, 11  # font sizes in points
LETTER = 0.6  # width of a letter relative to its height
DPI = 130
DAY_SECONDS = 86400


def to_png(figure: "Figure") -> bytes:
    """The content of a PNG file."""
    buffer = io.BytesIO()
    figure.savefig(buffer)
    return buffer.getvalue()


def new_figure(width: float, height: float) -> "Figure":
    """An empty figure; sizes in inches."""
    from xiaonet.plots.picture import Picture  # slow to import

    return Picture(figsize=(width, height), dpi=DPI)


def plain_text(text: str) -> str:
    """Text that matplotlib does not read as a formula."""
    return text.replace("$", r"\$")


def clock(time_ns: int) -> str:
    """Time of day, to 10 ms."""
    return str(np.datetime64(time_ns + 5_000_000, "ns"))[11:22]


def format_amplitude(amplitude: float) -> str:
    """An amplitude in few digits."""
    return f"{amplitude:.0f}" if 100 <= amplitude < 1e6 else f"{amplitude:.2g}"


def date_of(time_ns: int) -> str:
    """The UTC date of a time since 1970-01-01, such as 2014-05-01."""
    return str(np.datetime64(time_ns, "ns"))[:10]


def count_picks(picks: Iterable[Pick]) -> str:
    """Numbers of picks, such as `3 P, 2 S`."""
    found = [pick.phase for pick in picks]
    return ", ".join(f"{found.count(phase)} {phase}" for phase in PICKED_PHASES)


def name_instrument(instrument: Instrument) -> str:
    """Name and sampling rate, such as `CX.PB01..HH, 100 Hz`."""
    return f"{instrument.name}, {float(instrument.rate):g} Hz"
