"""How often the faults of this folder are tried: a few times within the test suite, often by `make faults`."""

import os

import numpy as np

SEED = int(os.environ.get("FAULTS_SEED", "0"))  # other seeds, other faults
LONG = "takes long: make faults"


def rounds(name: str, few: int) -> int:
    """The number in the environment variable `FAULTS_<name>`, or a few."""
    return int(os.environ.get(f"FAULTS_{name}", few))


def is_long(name: str) -> bool:
    """Whether a long round was asked for."""
    return f"FAULTS_{name}" in os.environ


def dice(*numbers: int) -> np.random.Generator:
    """A random generator that is the same for the same numbers."""
    return np.random.default_rng((SEED, *numbers))
