"""The contract between XiaoNet and everything around it: one window in, one window out.

A window is 30 s of three components; the extra sample closes the interval.
"""

from typing import Final

SAMPLING_RATE: Final = 100.0  # Hz
WINDOW_SAMPLES: Final = 3001  # 30.00 s at 100 Hz, both ends included
COMPONENTS: Final = "ENZ"  # east, north, vertical: the order of the input channels
PHASES: Final = "PSN"  # P, S and noise: the order of the output channels
NOISE: Final = PHASES.index("N")

LEVELS: Final = 3  # encoder levels, each halving the time axis
STRIDE: Final = 2**LEVELS  # 8 samples: lengths inside the network are multiples of it
KERNEL_SIZE: Final = 3  # of every convolution
BASE_CHANNELS: Final = 16  # channels of the first level; they double with each level
LABEL_SIGMA: Final = 30  # samples: 0.3 s, width of the soft label around a pick


def contract() -> dict[str, object]:
    """What a model file says of the windows that its model takes and gives."""
    return {
        "sampling_rate": SAMPLING_RATE,
        "window_samples": WINDOW_SAMPLES,
        "component_order": COMPONENTS,
        "phases": PHASES,
        "normalisation": "demean, linear detrend, peak of each component",
    }
