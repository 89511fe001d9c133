"""Constants of the input and output of every model.

A window is 30 s of three components at 100 Hz, with the samples at both ends.
"""

from collections.abc import Mapping
from numbers import Real
from typing import Final, Literal

from xiaonet.errors import ConfigError

SAMPLING_RATE: Final = 100.0  # Hz
WINDOW_SAMPLES: Final = 3001  # 30.00 s at 100 Hz
COMPONENTS: Final = "ENZ"  # east, north, vertical: the order of the input channels
PHASES: Final = "PSN"  # P, S and noise: the order of the output channels
NOISE: Final = PHASES.index("N")
PICKED_PHASES: Final = "PS"  # the phases that picks are made of
SECOND_NS: Final = 10**9
SAMPLE_NS: Final = SECOND_NS // int(SAMPLING_RATE)  # between two samples

LEVELS: Final = 3  # encoder levels; each halves the length
STRIDE: Final = 2**LEVELS  # samples; lengths inside the network are multiples of it
KERNEL_SIZE: Final = 3  # of every convolution
BASE_CHANNELS: Final = 16  # channels of the first level; each further level has twice as many
LABEL_SIGMA: Final = 30  # samples (0.3 s): width of the soft label around a pick
DISTANCE: Final = 100  # samples: minimum distance of two picks of a phase, 1 s
DEFAULT_THRESHOLD: Final = 0.3  # minimum probability of a pick, unless the model file recommends another
DEFAULT_THRESHOLDS: Final[Mapping[str, float]] = {"P": DEFAULT_THRESHOLD, "S": DEFAULT_THRESHOLD}

PICK_SIDE: Final = 100  # samples on either side of a candidate pick: as far as it may move, and what its onset depends on
SEEN_SIDE: Final = 616  # samples around a candidate that a network is given: 504 around each of these; a multiple of its stride
AROUND_SAMPLES: Final = 2 * SEEN_SIDE + STRIDE - 1  # the same at all places of its stride; the candidate is number `AROUND_MIDDLE`
AROUND_MIDDLE: Final = SEEN_SIDE + STRIDE - 1
TILE_SAMPLES: Final = 512  # in which continuous records are computed: more than the network sees on either side of a sample

EventFormat = Literal["nonlinloc", "hypoinverse", "scml", "real", "pyrocko"]  # of files for other programs
Runtime = Literal["auto", "onnxruntime", "openvino", "native", "torch"]  # auto chooses by the file and the processor
Stacking = Literal["probabilities", "waveforms"]  # what is averaged where the windows of a continuous record overlap
FIRST_STACKING: Final[Stacking] = "probabilities"  # of model files that do not name one


def input_specification() -> dict[str, object]:
    """The entries of a model file that describe input and output of its model."""
    return {
        "sampling_rate": SAMPLING_RATE,
        "window_samples": WINDOW_SAMPLES,
        "component_order": COMPONENTS,
        "phases": PHASES,
        "normalisation": "demean, linear detrend, peak of each component",
    }


def input_specification_differences(found: Mapping[str, object]) -> dict[str, object]:
    """Entries of an input specification that differ from `input_specification()`, with the values found."""
    ours = input_specification()
    return {key: found.get(key) for key in {**ours, **found} if found.get(key) != ours.get(key)}


def checked_thresholds(values: object) -> dict[str, float]:
    """Minimum probabilities of a pick, for `P` and `S`, as Python floats.

    Raises:
        ConfigError: a phase is missing or unknown, or a value is not a number from 0 to 1.
    """
    if isinstance(values, Mapping) and values.keys() == DEFAULT_THRESHOLDS.keys() and all(map(_is_probability, values.values())):
        return {phase: float(values[phase]) for phase in DEFAULT_THRESHOLDS}
    raise ConfigError(f"thresholds are {values}; wanted a probability from 0 to 1 for P and S each, e.g. {DEFAULT_THRESHOLDS}")


def _is_probability(value: object) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool) and 0 <= value <= 1  # type: ignore[operator]
