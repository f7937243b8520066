"""Panoptic quality against counting pixel by pixel; void; what a perfect, a shifted and an empty answer score."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from eo_adapt.panoptic import mean_quality, panoptic_counts, panoptic_scores, per_class_quality
from eo_adapt.types import IGNORE, Panoptic

CLASSES = 3
THINGS = (False, True, True)
Pixel = tuple[int, int]


def by_hand(number: np.ndarray, label: np.ndarray, segment: np.ndarray, kind: np.ndarray) -> np.ndarray:
    """Kirillov et al. 2019 with sets of pixels, one pair after the other."""

    def sets(numbers: np.ndarray) -> dict[int, set[Pixel]]:
        found: dict[int, set[Pixel]] = {}
        for place in np.ndindex(*numbers.shape):
            if numbers[place] > 0:
                found.setdefault(int(numbers[place]), set()).add(place)  # type: ignore[arg-type]
        return found

    def most(pixels: set[Pixel], of: np.ndarray) -> int:
        votes = Counter(int(of[p]) for p in pixels)
        return min(votes, key=lambda k: (-votes[k], k))  # of equally frequent ones the smallest

    parcels = {i: (pixels, most(pixels, label)) for i, pixels in sets(number).items()}
    void = {p for p in np.ndindex(*label.shape) if label[p] < 0}
    void |= {p for pixels, k in parcels.values() if k < 0 for p in pixels}
    truths = [(pixels - void, k) for pixels, k in parcels.values() if k >= 0 and THINGS[k] and pixels - void]
    segments = [(pixels, most(pixels, kind)) for pixels in sets(segment).values()]
    segments = [(pixels, k) for pixels, k in segments if THINGS[k]]
    counts, used = np.zeros((CLASSES, 4)), set()
    for pixels, k in truths:
        hits = []
        for i, (others, other) in enumerate(segments):
            clear = others - void
            overlap = len(pixels & clear) / len(pixels | clear)
            if other == k and overlap > 0.5:
                hits.append((i, overlap))
        assert len(hits) <= 1
        counts[k, 2 if not hits else 0] += 1
        for i, overlap in hits:
            used.add(i)
            counts[k, 3] += overlap
    for i, (pixels, k) in enumerate(segments):
        if i not in used and len(pixels & void) <= 0.5 * len(pixels):
            counts[k, 1] += 1
    return counts


def counts_of(number: np.ndarray, label: np.ndarray, segment: np.ndarray, kind: np.ndarray) -> np.ndarray:
    n, y, s, k = (torch.from_numpy(x.astype(np.int64))[None] for x in (number, label, segment, kind))
    return panoptic_counts(n, y, Panoptic(s, k, (s > 0).float()), THINGS)[0].numpy()


GRID = arrays(np.int64, (4, 5), elements=st.integers(0, 3))


@settings(deadline=None, max_examples=150)
@given(
    number=GRID,
    segment=GRID,
    label=arrays(np.int64, (4, 5), elements=st.integers(IGNORE, CLASSES - 1)),
    of=st.lists(st.integers(0, CLASSES - 1), min_size=4, max_size=4),
    like=st.booleans(),
)
def test_counts_are_those_of_sets_of_pixels(
    number: np.ndarray, segment: np.ndarray, label: np.ndarray, of: list[int], like: bool
) -> None:
    if like:  # an answer that is mostly right finds something
        segment = np.where(segment == 3, segment, number)
        label = np.where(label < 0, label, np.array(of)[number])
    kind = np.where(segment > 0, np.array(of)[segment], IGNORE)
    np.testing.assert_allclose(counts_of(number, label, segment, kind), by_hand(number, label, segment, kind))


FIELD = np.array([[1, 1, 1, 2, 2, 2, 0, 0]] * 4)
CROPS = np.where(FIELD == 1, 1, np.where(FIELD == 2, 2, 0))


def test_a_perfect_answer_scores_one_whatever_its_numbers() -> None:
    found = counts_of(FIELD, CROPS, FIELD * 7, np.where(FIELD > 0, CROPS, IGNORE))
    np.testing.assert_array_equal(found, [[0, 0, 0, 0], [1, 0, 0, 1], [1, 0, 0, 1]])
    quality = mean_quality(torch.from_numpy(found))
    assert {name: float(q) for name, q in quality.items()} == {"pq": 1, "sq": 1, "rq": 1}


def test_half_of_a_parcel_is_not_enough_and_another_class_is_none() -> None:
    half = np.where(np.arange(8) < 4, FIELD * 0, 0) + np.array([[1, 1, 0, 2, 2, 0, 0, 0]] * 4)
    kind = np.where(half == 1, 1, np.where(half == 2, 1, IGNORE))  # the second by the name of the first
    found = counts_of(FIELD, CROPS, half, kind)
    np.testing.assert_allclose(found, [[0, 0, 0, 0], [1, 1, 0, 2 / 3], [0, 0, 1, 0]])
    exactly = np.array([[1, 1, 1, 1, 1, 1, 0, 0]] * 4)  # IoU 1/2 with both
    np.testing.assert_array_equal(
        counts_of(FIELD, CROPS, exactly, np.where(exactly > 0, 1, IGNORE)), [[0, 0, 0, 0], [0, 1, 1, 0], [0, 0, 1, 0]]
    )


def test_void_is_part_of_no_union_and_what_lies_on_it_is_no_mistake() -> None:
    label = CROPS.copy()
    label[:, 3:6] = IGNORE  # the second parcel is void
    wide = np.array([[1, 1, 1, 1, 2, 2, 0, 0]] * 4)  # the first reaches into void, the second lies on it
    found = counts_of(FIELD, label, wide, np.where(wide > 0, 1, IGNORE))
    np.testing.assert_array_equal(found, [[0, 0, 0, 0], [1, 0, 0, 1], [0, 0, 0, 0]])
    stray = np.array([[0, 0, 0, 0, 0, 3, 3, 3]] * 4)  # a third on void, the rest on background: a mistake
    np.testing.assert_array_equal(
        counts_of(FIELD, label, stray, np.where(stray > 0, 2, IGNORE)), [[0, 0, 0, 0], [0, 0, 1, 0], [0, 1, 0, 0]]
    )
    everything = np.full_like(label, IGNORE)
    assert not counts_of(FIELD, everything, wide, np.where(wide > 0, 1, IGNORE)).any()


def test_classes_that_are_no_things_do_not_count() -> None:
    found = counts_of(FIELD, np.zeros_like(CROPS), FIELD, np.where(FIELD > 0, 0, IGNORE))
    assert not found.any()
    assert math.isnan(float(mean_quality(torch.from_numpy(found))["pq"]))


def test_a_higher_confidence_leaves_the_surer_things() -> None:
    segments = torch.tensor([[[1, 1, 2, 0]]])
    said = Panoptic(segments, torch.tensor([[[0, 0, 1, IGNORE]]]), torch.tensor([[[0.9, 0.9, 0.4, 0.0]]]))
    left = said.surer(0.5)
    assert left.segments.tolist() == [[[1, 1, 0, 0]]]
    assert left.classes.tolist() == [[[0, 0, IGNORE, IGNORE]]]
    assert said.surer(0.4).segments.equal(segments)


def test_scores_of_a_domain() -> None:
    counts = torch.tensor([[[0, 0, 0, 0], [3, 1, 1, 2.4], [0, 2, 0, 0]], [[0, 0, 0, 0], [1, 0, 2, 0.6], [0, 0, 0, 0]]])
    found = panoptic_scores(counts, ["a", "b"], ["land", "wheat", "corn"], ["land", "wheat"])
    assert found["per_class"]["wheat"] == {"pq": pytest.approx(0.5), "sq": pytest.approx(0.75),
                                           "rq": pytest.approx(2 / 3), "found": 4, "false": 1, "missed": 3}  # fmt: skip
    assert found["pq"] == pytest.approx(0.25)  # corn is predicted where there is none, and counts
    assert found["closed_pq"] == pytest.approx(0.5)
    assert (found["things"], found["segments"]) == (7, 7)
    assert list(found["per_class"]) == ["wheat", "corn"]
    each = [float(per_class_quality(c)["pq"][1]) for c in counts]
    bounds = found["closed_pq_interval"]
    assert bounds["zones"] == 2
    assert bounds["lower"] == pytest.approx(min(each))
    assert bounds["upper"] == pytest.approx(max(each))
    assert math.isnan(panoptic_scores(counts, ["a", "a"], "abc", "ab")["closed_pq_interval"]["lower"])
