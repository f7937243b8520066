"""Strong views: any rank and number of bands, masked places untouched, labels that follow, draws of the right size."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from eo_adapt.align.augment import StrongView, drop_dates, jitter_days, recolour, turn
from eo_adapt.align.looks import Look, looks
from eo_adapt.types import Observation

SHAPES = {
    "attributes": (6, 3),
    "image": (6, 3, 4, 5),
    "series": (6, 7, 3),
    "pixels": (6, 7, 3, 5),
    "video": (6, 7, 3, 4, 4),
}


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def observed(kind: str, share: float = 0.7) -> Observation:
    """With holes of every kind that fits the rank."""
    shape = SHAPES[kind]
    values = torch.randn(shape).masked_fill(torch.rand(shape) < 0.1, torch.nan)
    if kind in ("attributes", "image"):
        return Observation(values)
    days, valid = torch.randint(0, 300, shape[:2]).sort(1)[0], torch.rand(shape[:2]) < share
    pixels = torch.rand(6, 7, 5) < 0.8 if kind == "pixels" else None
    return Observation(values, days, valid, pixels)


@pytest.mark.parametrize("kind", SHAPES)
@pytest.mark.parametrize("form", ["dataclass", "mapping", "sensors"])
def test_every_rank_and_form(kind, form):
    given = observed(kind)
    fields = {k: v for k, v in vars(given).items() if v is not None}
    inputs = {"dataclass": given, "mapping": fields, "sensors": {"s2": given}}[form]
    strong, follow = StrongView(mirror=False, jitter=5.0)(inputs)
    assert type(strong) is type(inputs)
    (before,), (after,) = looks(inputs).values(), looks(strong).values()
    assert after.values.shape == before.values.shape
    seen = before.seen()
    assert not torch.isclose(after.values[seen], before.values[seen]).any(dim=0).all()
    assert torch.equal(after.values[~seen].nan_to_num(99), before.values[~seen].nan_to_num(99))
    if before.valid is not None:
        assert not (after.valid & ~before.valid).any(), "a missing date came back"
        assert torch.equal(after.valid.any(1), before.valid.any(1))
        assert (after.valid != before.valid).any()
        assert torch.equal(after.days[~before.valid], before.days[~before.valid])
    labels = torch.arange(6)
    assert follow(labels) is labels


@pytest.mark.parametrize("shape", [(4, 5), (4, 10, 3, 2), (4, 6, 2)])
def test_plain_tensors(shape):
    x = torch.randn(shape)
    strong, _ = StrongView()(x)
    assert strong.shape == x.shape
    assert not torch.equal(strong, x)


def test_without_strength_it_is_the_identity():
    given = observed("pixels")
    strong, _ = StrongView(0, 0, 0, 0, 0, False)(given)
    assert torch.equal(strong.values.nan_to_num(9), given.values.nan_to_num(9))
    assert torch.equal(strong.valid, given.valid)
    assert torch.equal(strong.days, given.days)


def test_what_is_left_stays():
    inputs = {"s2": observed("series"), "attributes": Observation(torch.randn(6, 3))}
    strong, _ = StrongView()(inputs)
    assert strong["attributes"] is inputs["attributes"]
    assert not torch.equal(strong["s2"].values, inputs["s2"].values)
    assert StrongView(leave=())(inputs)[0]["attributes"] is not inputs["attributes"]


def test_gain_and_bias_belong_to_a_sample_and_band():
    """On noise-free change, (after - mean) is a straight line of (before - mean) for each sample and band."""
    x = torch.randn(5, 3, 8, 8, dtype=torch.float64) * 4 + 100
    after = recolour(Look(x), 0.3, 0.2, 0.0).values
    mean, spread = x.mean((0, 2, 3)), x.std((0, 2, 3), correction=0)
    gains = torch.empty(5, 3)
    for i in range(5):
        for band in range(3):
            before, new = (y[i, band].flatten() - mean[band] for y in (x, after))
            slope, offset = torch.linalg.lstsq(torch.stack([before, torch.ones(64)], 1).double(), new).solution
            torch.testing.assert_close(new, slope * before + offset, rtol=1e-4, atol=1e-3)
            assert abs(offset) < 5 * 0.2 * spread[band]
            gains[i, band] = slope - 1
    assert 0.1 < gains.std() < 0.6
    assert gains.unique().numel() == 15


@pytest.mark.parametrize(("option", "index"), [("gain", 0), ("bias", 1), ("noise", 2)])
def test_strength_is_measured_in_spreads_of_the_band(option, index):
    """Decibels and reflectances change alike: the mean squared change is (option * spread)^2 in each band."""
    scale = torch.tensor([0.01, 1.0, 50.0])
    x = torch.randn(4000, 3) * scale + 10 * scale
    options = [0.0, 0.0, 0.0]
    options[index] = 0.2
    change = recolour(Look(x), *options).values - x
    torch.testing.assert_close(change.square().mean(0).sqrt() / scale, torch.full((3,), 0.2), rtol=0.1, atol=0)


def test_a_constant_band_stays():
    x = torch.full((4, 2, 3, 3), 7.0)
    assert torch.equal(recolour(Look(x), 1.0, 1.0, 1.0).values, x)


@settings(deadline=None, max_examples=30, derandomize=True)
@given(st.integers(1, 9), st.floats(0, 0.99), st.integers(0, 99))
def test_at_least_one_date_stays(dates, share, seed):
    torch.manual_seed(seed)
    valid = torch.rand(40, dates) < 0.5
    left = drop_dates(Look(torch.zeros(40, dates, 1), valid=valid), share).valid
    assert torch.equal(left.any(1), valid.any(1))
    assert not (left & ~valid).any()


def test_dates_are_dropped_in_the_given_share_and_made_known_where_there_was_no_mask():
    left = drop_dates(Look(torch.zeros(400, 50, 1), days=torch.zeros(400, 50)), 0.3).valid
    assert left.float().mean().item() == pytest.approx(0.7, abs=0.01)


def test_jitter_moves_a_sample_as_one_within_bounds():
    look = Look(torch.zeros(300, 4, 1), days=torch.arange(4.0).expand(300, 4), valid=torch.ones(300, 4).bool())
    moves = jitter_days(look, 10.0).days - look.days
    torch.testing.assert_close(moves, moves[:, :1].expand(300, 4), atol=1e-5, rtol=0)
    assert 8 < moves.abs().max() <= 10
    whole = jitter_days(replace(look, days=look.days.long()), 10.0).days
    assert whole.dtype == torch.int64


def plain_turn(image: Tensor, turns: Tensor) -> Tensor:
    image = torch.fliplr(image) if turns[0] else image
    image = torch.flipud(image) if turns[1] else image
    return image.T if turns[2] else image


def test_turns_are_the_eight_symmetries_of_a_square():
    square = torch.arange(9.0).view(3, 3)
    choices = torch.tensor([[i & 1, i >> 1 & 1, i >> 2] for i in range(8)]).bool().T
    turned = turn(square.expand(8, 1, 3, 3), choices)
    assert len({tuple(x.flatten().tolist()) for x in turned}) == 8
    for x, how in zip(turned, choices.T, strict=True):
        assert torch.equal(x[0], plain_turn(square, how))


@pytest.mark.parametrize("size", [(4, 4), (3, 5)])
def test_maps_of_labels_follow_the_images(size):
    """Every pixel keeps its label, in images and series and in company."""
    image = torch.randn(12, 2, *size)
    labels = (image[:, 0] > 0).long()
    series = image[:, None].expand(12, 3, 2, *size)
    for inputs in (image, series, {"a": image, "b": series}):
        strong, follow = StrongView(0, 0, 0, 0)(inputs)
        for look in looks(strong).values():
            first = look.values[:, 0] if look.values.ndim == 4 else look.values[:, 0, 0]
            assert torch.equal((first > 0).long(), follow(labels))
            assert not torch.equal(follow(labels), labels)


def test_one_oblong_image_keeps_the_square_ones_upright():
    """All images of a sample are mirrored alike, so none is transposed unless all can be."""
    inputs = {"a": torch.randn(40, 1, 4, 4), "b": torch.randn(40, 1, 3, 5)}
    strong, _ = StrongView(0, 0, 0)(inputs)
    for x, y in zip(inputs["a"], strong["a"], strict=True):
        assert any(torch.equal(y, m) for m in (x, x.flip(-1), x.flip(-2), x.flip(-1, -2)))


@pytest.mark.parametrize("options", [{"gain": -0.1}, {"drop": 1.0}, {"drop": -0.1}, {"noise": -1.0}, {"jitter": -1.0}])
def test_impossible_options_are_refused(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        StrongView(**options)


def test_half_precision_and_large_offsets_stay_what_they_are():
    x = torch.randn(6, 3, 4, 4)
    assert StrongView()(x.bfloat16())[0].dtype == torch.bfloat16
    change = StrongView(mirror=False)(x + 1e4)[0] - (x + 1e4)
    assert change.abs().max() < 2
