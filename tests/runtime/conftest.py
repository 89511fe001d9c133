"""Windows that every runtime sees."""

import numpy as np
import obspy
import pytest

from xiaonet.picking.windows import normalize


@pytest.fixture(scope="session")
def windows() -> np.ndarray:
    """17 windows: a local earthquake at several places in noise, then noise alone, then nothing."""
    stream = obspy.read()
    record = np.stack([stream.select(component=component)[0].data for component in "ENZ"])
    rng = np.random.default_rng(0)
    shifted = [np.roll(np.pad(record, ((0, 0), (0, 1)), mode="edge"), 173 * shift, axis=1) for shift in range(12)]
    return normalize(np.stack([*shifted, *rng.standard_normal((4, 3, 3001)), np.zeros((3, 3001))]))
