"""Bands are normalised along their own axis, whatever the kind of look; what masks hide becomes 0."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from eo_adapt.model import Normalise
from eo_adapt.types import Observation

MEAN, STD = [1.0, -2.0, 3.0], [2.0, 0.5, 4.0]
KINDS = {  # values, axis of the bands, masks: valid, valid_pixels
    "attributes": ((2, 3), 1, None, None),
    "image": ((2, 3, 5, 4), 1, None, None),
    "image with masked pixels": ((2, 3, 5, 4), 1, None, (2, 5, 4)),
    "parcel series": ((2, 6, 3), 2, (2, 6), None),
    "parcel series without masks": ((2, 6, 3), 2, None, None),
    "pixel sets": ((2, 6, 3, 7), 2, (2, 6), (2, 6, 7)),
    "image series": ((2, 6, 3, 5, 4), 2, (2, 6), None),
    "image series with masked pixels": ((2, 6, 3, 5, 4), 2, (2, 6), (2, 6, 5, 4)),
    "image series of masked pixels alone": ((2, 6, 3, 5, 4), 2, None, (2, 6, 5, 4)),
    "image series without masks": ((2, 6, 3, 5, 4), 2, None, None),
}


@pytest.mark.parametrize("kind", KINDS)
def test_bands_by_their_axis_and_zeros_where_masked(kind: str) -> None:
    shape, axis, valid, pixels = KINDS[kind]
    stream = torch.Generator().manual_seed(0)
    masks = [None if size is None else torch.rand(size, generator=stream) > 0.4 for size in (valid, pixels)]
    values = torch.randn(shape, generator=stream)
    there = np.ones(shape, bool)
    if masks[0] is not None:
        there &= masks[0].numpy().reshape(*valid, *[1] * (len(shape) - 2))
    if masks[1] is not None:
        there &= np.expand_dims(masks[1].numpy(), axis)
    junk = values.where(torch.from_numpy(there), torch.nan)
    look = Observation(junk, valid=masks[0], valid_pixels=masks[1])
    found = Normalise({"a": (MEAN, STD)})({"a": look})["a"].values.numpy()
    bands = np.moveaxis(values.numpy(), axis, -1)
    want = np.where(there, np.moveaxis((bands - MEAN) / STD, -1, axis), 0.0)
    np.testing.assert_allclose(found, want, rtol=1e-5, atol=1e-6)
