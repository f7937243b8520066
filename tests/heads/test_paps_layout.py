"""How PaPs lays out parcels: by falling heat, cut by edges, whatever is covered left out; thresholds; classes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from shapes_only import Stub
from torch import Tensor, nn

from eo_adapt.heads.paps import PaPs, Points
from eo_adapt.types import IGNORE, Features

CLASSES = 3


class Said(PaPs):
    """A head that says of a point what a list says of its place."""

    known: dict[tuple[int, int, int], tuple[float, tuple[int, int], int]]

    def __init__(self, known: dict[tuple[int, int, int], tuple[float, tuple[int, int], int]], **options: Any) -> None:
        super().__init__(Stub(1), CLASSES, shape=8, **options)
        self.known = known
        for p in self.masks.parameters():
            nn.init.zeros_(p)
        self.masks.convs[-1].bias.data.fill_(20.0)  # type: ignore[union-attr, operator]  # the mask is the shape alone

    def _maps(self, features: Features) -> tuple[Tensor, Tensor]:
        heat = torch.full(features.maps[0][:, 0].shape, -20.0)
        for place, (p, _, _) in self.known.items():
            heat[place] = float(np.log(p / (1 - p)))
        return heat, torch.zeros_like(heat)

    def _points(self, features: Features, patch: Tensor, places: Tensor) -> Points:
        keys = [(b, i, j) for b, (i, j) in zip(patch.tolist(), places.tolist(), strict=True)]
        size = torch.tensor([self.known[key][1] for key in keys], dtype=torch.float)
        label = nn.functional.one_hot(torch.tensor([self.known[key][2] for key in keys]), CLASSES).float()
        return Points(size, label, torch.full((len(keys), 8, 8), 20.0))


OVERLAPPING = {
    (0, 3, 3): (0.9, (4, 4), 1),  # rows and columns 1..4
    (0, 3, 6): (0.8, (4, 4), 2),  # 4..7: three quarters are new
    (0, 5, 4): (0.7, (2, 2), 1),  # a row of two of it is covered: half is new, which is not more than half
    (0, 9, 9): (0.3, (6, 6), 0),  # cut by the edge
    (1, 0, 0): (0.6, (1, 1), 2),
}


def test_masks_are_laid_out_by_falling_heat() -> None:
    head, features = Said(OVERLAPPING), Features((torch.zeros(2, 8, 10, 12),))
    found = head.panoptic(features, torch.zeros(2, CLASSES, 10, 12))
    want = np.zeros((2, 10, 12), int)
    want[0, 1:5, 1:5] = 1
    want[0, 1:5, 5:8] = 2
    want[0, 6:10, 6:12] = 5
    want[1, 0, 0] = 4
    np.testing.assert_array_equal(found.segments.numpy(), want)
    classes = np.choose(want, [IGNORE, 1, 2, 0, 2, 0])
    np.testing.assert_array_equal(found.classes.numpy(), classes)
    np.testing.assert_allclose(found.confidence.numpy(), np.choose(want, [0, 0.9, 0.8, 0.7, 0.6, 0.3]), rtol=1e-5)


def test_a_threshold_afterwards_is_a_threshold_before() -> None:
    features, logits = Features((torch.zeros(2, 8, 10, 12),)), torch.zeros(2, CLASSES, 10, 12)
    every = Said(OVERLAPPING).panoptic(features, logits)
    for least in (0.25, 0.65, 0.85, 0.95):
        before = Said(OVERLAPPING, min_confidence=least).panoptic(features, logits)
        after = every.surer(least)
        assert before.segments.equal(after.segments)
        assert before.classes.equal(after.classes)


def test_points_and_covered_masks_are_limited() -> None:
    features, logits = Features((torch.zeros(2, 8, 10, 12),)), torch.zeros(2, CLASSES, 10, 12)
    hottest = Said(OVERLAPPING, most=1).panoptic(features, logits).confidence.unique().tolist()
    assert hottest == pytest.approx([0.0, 0.6, 0.9], rel=1e-5)
    strict = Said(OVERLAPPING, min_remain=0.8).panoptic(features, logits)
    assert not strict.segments[0, 1:5, 5:8].any()
    nothing = Said({}).panoptic(features, logits)
    assert not nothing.segments.any()
    assert (nothing.classes == IGNORE).all()


def test_the_class_may_be_that_of_the_map_within_the_mask() -> None:
    features, logits = Features((torch.zeros(2, 8, 10, 12),)), torch.zeros(2, CLASSES, 10, 12)
    logits[0, 2, 1:5, 1:3], logits[0, 1, 1:5, 3:5] = 3.0, 2.0  # half and half: the surer one
    logits[1, 1] = 5.0
    found = Said(OVERLAPPING, label_by="map").panoptic(features, logits)
    assert found.classes[0, 1, 1] == 2
    assert found.classes[1, 0, 0] == 1
    assert found.classes[1, 0, 1] == IGNORE
