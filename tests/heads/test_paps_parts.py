"""Parcels, heat, zones and boxes of PaPs against numpy loops; what is beside a box does not change it."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from torch import Tensor
from torch.nn import functional as F

from eo_adapt.heads.boxes import AT_ONCE, BoxMasks, BoxNorm, Filled, boxes_around, cross_entropy, probability
from eo_adapt.heads.paps import centre_loss
from eo_adapt.heads.parcels import Parcels, best_places, heat_of, parcels_of
from eo_adapt.types import IGNORE

SHAPE = (2, 5, 6)
MAPS = arrays(np.int64, SHAPE, elements=st.sampled_from([0, 0, 3, 7, 8]))
LABELS = arrays(np.int64, SHAPE, elements=st.integers(IGNORE, 2))


def by_hand(instances: np.ndarray, labels: np.ndarray) -> list[tuple[int, ...]]:
    found = []
    for b in range(len(instances)):
        for number in sorted(set(instances[b].flatten().tolist()) - {0}):
            rows, columns = np.nonzero(instances[b] == number)
            votes = Counter(labels[b][instances[b] == number].tolist())
            label = min(votes, key=lambda k: (-votes[k], k))
            middle = ((rows.min() + rows.max()) // 2, (columns.min() + columns.max()) // 2)
            found.append((b, number, *middle, np.ptp(rows) + 1, np.ptp(columns) + 1, label))
    return [tuple(map(int, one)) for one in found]


@settings(deadline=None, max_examples=80)
@given(instances=MAPS, labels=LABELS)
def test_parcels_heat_and_zones_are_those_of_loops(instances: np.ndarray, labels: np.ndarray) -> None:
    parcels = parcels_of(torch.from_numpy(instances), torch.from_numpy(labels))
    want = by_hand(instances, labels)
    columns = [parcels.patch, parcels.number, *parcels.centre.T, *parcels.size.T, parcels.label]
    assert list(zip(*(c.tolist() for c in columns), strict=True)) == want
    heat = np.zeros(SHAPE)
    for b, i, j in np.ndindex(*SHAPE):
        for patch, _, r, c, h, w, _ in want:
            if patch == b:
                away = ((i - r) / (h * 0.3 / 1.7 / 3)) ** 2 + ((j - c) / (w * 0.3 / 1.7 / 3)) ** 2
                heat[b, i, j] = max(heat[b, i, j], math.exp(-away / 2))
    np.testing.assert_allclose(heat_of(parcels, SHAPE).numpy(), heat, atol=1e-6)
    said = np.random.default_rng(0).normal(size=SHAPE).astype(np.float32)
    places, there = best_places(torch.from_numpy(said), parcels)
    zones: dict[int, list[tuple[int, int]]] = {}
    for b, i, j in np.ndindex(*SHAPE):
        mine = [(n, (i - r) ** 2 + (j - c) ** 2) for n, (patch, _, r, c, *_) in enumerate(want) if patch == b]
        if mine:
            zones.setdefault(min(mine, key=lambda one: (one[1], one[0]))[0], []).append((i, j))
    assert there.tolist() == [n in zones for n in range(len(want))]
    for n, zone in zones.items():
        assert tuple(places[n].tolist()) == max(zone, key=lambda place: said[want[n][0]][place])


def parcels(*each: tuple[int, int, int, int, int, int]) -> Parcels:
    """Patch, row, column, height, width, label."""
    patch, row, column, height, width, label = torch.tensor(each, dtype=torch.long).view(-1, 6).T
    number = torch.arange(len(patch)) + 1
    return Parcels(patch, number, torch.stack([row, column], 1), torch.stack([height, width], 1), label)


def test_centre_loss_by_hand() -> None:
    torch.manual_seed(0)
    said = torch.randn(2, 6, 7)
    two = parcels((0, 2, 3, 20, 30, 1), (0, 5, 0, 4, 4, 0))
    known = torch.ones(2, 6, 7, dtype=torch.bool)
    known[1, 3:], known[0, 2, 3] = False, False  # a centre is learnt even where its pixel has no label
    truth, p = heat_of(two, (2, 6, 7)).numpy(), said.sigmoid().numpy()
    total = 0.0
    for place in np.ndindex(2, 6, 7):
        if place in ((0, 2, 3), (0, 5, 0)):
            total -= math.log(p[place])
        elif known[place]:
            total -= (1 - truth[place]) ** 4 * math.log(1 - p[place])
    assert float(centre_loss(said, two, known)) == pytest.approx(total / 3, rel=1e-5)  # the second patch counts as one
    extreme = centre_loss(torch.full((1, 4, 4), 200.0), parcels(), torch.ones(1, 4, 4, dtype=torch.bool))
    assert float(extreme) == pytest.approx(16 * 200)


def filled(
    sizes: list[list[int]], first: list[list[int]], shapes: Tensor, saliency: Tensor, masks: BoxMasks
) -> list[Filled]:
    centre = torch.tensor(first) + torch.tensor(sizes) // 2
    patch = torch.zeros(len(sizes), dtype=torch.long)
    limit = (saliency.shape[1], saliency.shape[2])
    return list(masks(boxes_around(patch, centre, torch.tensor(sizes), limit), shapes, saliency))


def test_a_box_is_the_stretched_shape_and_the_saliency_there() -> None:
    torch.manual_seed(0)
    shapes, saliency = torch.randn(1, 8, 8), torch.randn(1, 20, 30)
    for size, first in (
        ([5, 13], [3, 4]),
        ([1, 1], [0, 0]),
        ([20, 30], [0, 0]),
        ([9, 9], [-4, 25]),
        ([16, 8], [10, -3]),
    ):
        (one,) = filled([size], [first], shapes, saliency, BoxMasks())
        whole = F.interpolate(shapes[None], size, mode="bilinear", align_corners=False)[0, 0]
        rows, columns = (torch.arange(n) + at for n, at in zip(size, first, strict=True))
        inside = ((rows >= 0) & (rows < 20))[:, None] & ((columns >= 0) & (columns < 30))
        assert one.inside[0].equal(inside)
        want = whole + saliency[0][rows.clamp(0, 19)[:, None], columns.clamp(0, 29)]
        torch.testing.assert_close(one.rough[0][inside], want[inside])
        assert not probability(one)[0][~inside].any()


def test_what_is_filled_together_does_not_change_a_box() -> None:
    torch.manual_seed(0)
    masks, saliency = BoxMasks(), torch.randn(1, 24, 24)
    count = AT_ONCE + 9
    sizes = torch.randint(1, 25, (count, 2)).tolist()
    first = torch.randint(-5, 20, (count, 2)).tolist()
    shapes = torch.randn(count, 4, 4)
    together = {
        int(at): (some, i) for some in filled(sizes, first, shapes, saliency, masks) for i, at in enumerate(some.at)
    }
    assert sorted(together) == list(range(count))
    for n in (0, 7, count - 1):
        (alone,) = filled([sizes[n]], [first[n]], shapes[n : n + 1], saliency, masks)
        some, i = together[n]
        height, width = sizes[n]
        where = alone.inside[0]
        torch.testing.assert_close(some.fine[i, :height, :width][where], alone.fine[0][where], rtol=1e-4, atol=1e-5)
        assert int(some.inside[i].sum()) == int(where.sum())


def test_a_norm_over_a_whole_box_is_group_norm() -> None:
    x, norm = torch.randn(3, 8, 5, 4), BoxNorm(8)
    with torch.no_grad():
        norm.weight.uniform_(), norm.bias.uniform_()
    want = F.group_norm(x, 1, norm.weight.flatten(), norm.bias.flatten())
    torch.testing.assert_close(norm(x, torch.ones(3, 1, 5, 4)), want)


def test_shape_loss_is_the_cross_entropy_of_the_product_and_has_no_floor() -> None:
    torch.manual_seed(0)
    a, b = torch.randn(2, 3, 4, 5) * 3
    inside, truth = torch.rand(3, 4, 5) > 0.3, torch.rand(3, 4, 5) > 0.5
    inside[2] = False
    at = torch.zeros(3, 4, dtype=torch.long)
    found = cross_entropy(Filled(at, at, at, inside, a, b), truth)
    each = F.binary_cross_entropy((a.double().sigmoid() * b.double().sigmoid()), truth.double(), reduction="none")
    want = [float(each[i][inside[i]].mean()) if inside[i].any() else 0.0 for i in range(3)]
    np.testing.assert_allclose(found.numpy(), want, rtol=1e-5)
    sure = torch.where(truth, 60.0, -60.0).requires_grad_()
    perfect = cross_entropy(Filled(at, at, at, inside, sure, sure), truth)
    assert float(perfect.detach().sum()) < 1e-6  # two probabilities through a softmax cannot fall below 0.313
    wrong = cross_entropy(Filled(at, at, at, inside, -200 * sure, -200 * sure), truth).sum()
    wrong.backward()  # type: ignore[no-untyped-call]
    assert wrong.isfinite()
    assert sure.grad is not None
    assert sure.grad.isfinite().all()
