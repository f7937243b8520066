"""What the tests of the data layer share."""

from __future__ import annotations

import numpy as np
import pytest


@pytest.fixture
def rng() -> np.random.Generator:
    """A fixed stream, anew for each test."""
    return np.random.default_rng(0)
