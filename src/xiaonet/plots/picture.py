"""A figure that shows itself in a notebook. Importing this module loads matplotlib."""

from matplotlib.figure import Figure

from xiaonet.plots.style import to_png


class Picture(Figure):
    """A figure that a notebook shows when it is the last line of a cell, also without pyplot and its inline backend."""

    def _repr_png_(self) -> bytes:
        return to_png(self)
