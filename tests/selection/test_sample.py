"""Class-balanced pixels of maps."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from eo_adapt.selection.base import SelectionError
from eo_adapt.selection.sample import balanced_pixels, fixed_choice
from eo_adapt.types import IGNORE, Output


def stream(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def maps(b: int, k: int, size: int, coarse: int, d: int = 3) -> Output:
    """Every feature cell and every logit differ from all others, so that where they came from can be told."""
    g = stream(b * 100 + k)
    features = torch.arange(b * d * (size // coarse) ** 2).view(b, d, size // coarse, size // coarse).float()
    return Output(features, torch.randn(b, k, size, size, generator=g))


@settings(deadline=None, max_examples=30, derandomize=True)
@given(
    b=st.integers(1, 3), k=st.integers(2, 5), cells=st.integers(1, 4), coarse=st.sampled_from([1, 2, 3]),
    most=st.integers(1, 20), labelled=st.booleans(),
)  # fmt: skip
def test_pixels_are_genuine_balanced_and_known(
    b: int, k: int, cells: int, coarse: int, most: int, labelled: bool
) -> None:
    size = cells * coarse
    output = maps(b, k, size, coarse)
    labels = torch.randint(-1, k, (b, size, size), generator=stream(1)) if labelled else None
    logits, features, known = balanced_pixels(output, labels, most, stream())
    guess, found = output.logits.argmax(1), logits.argmax(1)
    for c in range(k):
        there = int(((guess == c) & (labels != IGNORE)).sum()) if labelled else int((guess == c).sum())
        assert int((found == c).sum()) == min(most, there)
    where = {
        tuple(output.logits[i, :, y, x].tolist()): (i, y, x) for i in range(b) for y in range(size) for x in range(size)
    }
    places = [where[tuple(row)] for row in logits.tolist()]
    assert len(set(places)) == len(places)  # none twice
    for n, (i, y, x) in enumerate(places):
        assert torch.equal(features[n], output.features[i, :, y // coarse, x // coarse])
        assert known is None or (known[n] == labels[i, y, x] != IGNORE)
    assert (known is None) is (labels is None)


def test_the_draw_follows_from_the_generator_alone() -> None:
    output = maps(2, 3, 12, 2)
    torch.manual_seed(0)
    before = torch.get_rng_state()
    a, b, c = (balanced_pixels(output, None, 5, stream(seed))[0] for seed in (1, 1, 2))
    assert torch.equal(a, b)
    assert not torch.equal(a, c)
    assert torch.equal(before, torch.get_rng_state())


def test_every_pixel_of_a_class_may_be_drawn() -> None:
    output = maps(1, 2, 6, 1)
    drawn = {tuple(row) for seed in range(60) for row in balanced_pixels(output, None, 4, stream(seed))[0].tolist()}
    assert len(drawn) == 36


def test_samples_with_one_prediction_come_back_as_they_are() -> None:
    output, labels = Output(torch.randn(5, 3), torch.randn(5, 4)), torch.tensor([0, -1, 2, 3, 1])
    logits, features, known = balanced_pixels(output, labels, 1, stream())
    assert logits is output.logits
    assert features is output.features
    assert known is labels
    pooled = balanced_pixels(Output(torch.randn(5, 3, 2, 4), torch.randn(5, 4)), None, 1, stream())[1]
    assert pooled.shape == (5, 3)


def test_cells_that_do_not_divide_the_map() -> None:
    output = Output(torch.arange(4.0).view(1, 1, 2, 2), torch.stack([torch.zeros(5, 5), torch.ones(5, 5)])[None])
    features = balanced_pixels(output, None, 99, stream())[1][:, 0].view(5, 5)
    assert features[0].tolist() == [0, 0, 0, 1, 1]
    assert features[:, 0].tolist() == [0, 0, 0, 2, 2]


def test_a_batch_without_a_known_label_gives_no_pixels() -> None:
    logits, features, labels = balanced_pixels(maps(1, 3, 4, 2), torch.full((1, 4, 4), IGNORE), 5, stream())
    assert (logits.shape, features.shape, labels.shape) == ((0, 3), (0, 3), (0,))


@pytest.mark.parametrize(
    ("features", "logits", "labels"),
    [
        ((2, 3), (2, 4, 8, 8), None), ((2, 3, 16, 16), (2, 4, 8, 8), None), ((1, 3, 4, 4), (2, 4, 8, 8), None),
        ((2, 3, 4), (2, 4, 8), None), ((2, 3, 4, 4), (2, 4, 8, 8), (2, 4, 4)),
    ],
)  # fmt: skip
def test_shapes_that_do_not_fit_are_refused(features, logits, labels) -> None:
    known = None if labels is None else torch.zeros(labels, dtype=torch.int64)
    with pytest.raises(SelectionError, match=r"got .*\("):
        balanced_pixels(Output(torch.zeros(features), torch.zeros(logits)), known, 5, stream())


def test_a_fixed_choice_is_fixed() -> None:
    assert fixed_choice(5, 5).tolist() == fixed_choice(5, 9).tolist() == [0, 1, 2, 3, 4]
    chosen = fixed_choice(100, 10).tolist()
    assert chosen == fixed_choice(100, 10).tolist() == sorted(set(chosen))
    assert len(chosen) == 10
    assert chosen != list(range(10))
