"""Pixels that nobody sees: masks of images and of image series through looks, views, scales and pseudo-labels."""

from contextlib import nullcontext

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from eo_adapt.align import Alignment, Setup, Step, View
from eo_adapt.align.augment import StrongView, recolour, turn
from eo_adapt.align.dacs import DACS, judged
from eo_adapt.align.looks import Look, band_moments, looks, shown
from eo_adapt.align.mic import MIC
from eo_adapt.align.multiscale import resize
from eo_adapt.align.self_training import SelfTraining, Thresholds
from eo_adapt.model import Normalise
from eo_adapt.selection.mixing import mix
from eo_adapt.types import Inputs, Observation

STILL = StrongView(0.0, 0.0, 0.0, 0.0, 0.0, False)


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def image(b: int = 3, c: int = 2, side: tuple[int, int] = (4, 4)) -> Observation:
    return Observation(torch.randn(b, c, *side), valid_pixels=torch.rand(b, *side) < 0.6)


def series(b: int = 3, t: int = 4, c: int = 2, side: tuple[int, int] = (4, 4)) -> Observation:
    valid = torch.rand(b, t) < 0.7
    valid[:, 0] = True
    days = torch.arange(t).expand(b, t) * 10
    return Observation(torch.randn(b, t, c, *side), days, valid, torch.rand(b, t, *side) < 0.6)


def look_of(observation: Observation) -> Look:
    return looks(observation)[""]


@pytest.mark.parametrize("made", [image, series])
def test_moments_and_colours_leave_out_what_nobody_sees(made):
    look = look_of(made())
    bands = look.bands
    seen = np.broadcast_to(np.expand_dims(look.valid_pixels.numpy(), bands), look.values.shape)
    if look.valid is not None:
        seen = seen & look.valid.numpy()[:, :, None, None, None]
    rows = np.moveaxis(np.where(seen, look.values.numpy(), np.nan), bands, 0).reshape(look.values.shape[bands], -1)
    mean, std = band_moments(look)
    np.testing.assert_allclose(mean.numpy(), np.nanmean(rows, 1), rtol=1e-5)
    np.testing.assert_allclose(std.numpy(), np.nanstd(rows, 1), rtol=1e-4)
    changed = (recolour(look, 0.3, 0.3, 0.3).values != look.values).numpy()
    np.testing.assert_array_equal(changed, seen)


def test_what_is_shown_is_the_union_of_dates_and_sensors():
    aerial, s2 = image(side=(8, 8)), series(side=(4, 4))
    per_date = (s2.valid_pixels & s2.valid[:, :, None, None]).any(1).numpy()
    np.testing.assert_array_equal(shown({"s2": s2}, (4, 4)).numpy(), per_date)
    want = aerial.valid_pixels.numpy() | per_date.repeat(2, 1).repeat(2, 2)
    np.testing.assert_array_equal(shown({"aerial": aerial, "s2": s2}, (8, 8)).numpy(), want)
    assert shown({"aerial": aerial, "dem": Observation(torch.zeros(3, 1, 2, 2))}, (8, 8)) is None
    assert shown({"parcel": Observation(torch.zeros(3, 2))}, (1, 1)) is None
    clear = Observation(s2.values, s2.days, torch.zeros_like(s2.valid))
    assert not shown({"s2": clear}, (4, 4)).any()


@pytest.mark.parametrize("made", [image, series])
def test_masks_are_mirrored_with_their_pixels(made):
    given = made()
    strong, follow = StrongView(0, 0, 0, 0, 0, True)({"x": given})
    marks = follow(torch.arange(16).view(1, 4, 4).expand(3, 4, 4))
    turned = any(not torch.equal(m, marks.new_tensor(range(16)).view(4, 4)) for m in marks)
    assert turned
    for i, places in enumerate(marks.flatten(1)):
        flat = given.valid_pixels[i].flatten(-2)[..., places]
        assert torch.equal(strong["x"].valid_pixels[i].flatten(-2), flat)


@pytest.mark.parametrize("made", [image, series])
@pytest.mark.parametrize("scale", [0.5, 2.0])
def test_masks_take_the_size_of_their_images(made, scale):
    given = look_of(made(side=(7, 7)))
    other = resize(given, scale)
    assert other.valid_pixels.shape[-2:] == other.values.shape[-2:]
    size = other.values.shape[-1]
    assert size == {0.5: 4, 2.0: 14}[scale]
    at = (np.arange(size) + 0.5) * 7 / size
    picked = given.valid_pixels.numpy()[..., at.astype(int), :][..., at.astype(int)]
    np.testing.assert_array_equal(other.valid_pixels.numpy(), picked)


def test_normalised_values_are_zero_where_nothing_was_seen():
    normalise = Normalise({"x": ([1.0, -2.0], [2.0, 4.0])})
    for given, axis in ((image(), 1), (series(), 2)):
        found = normalise({"x": given})["x"].values.numpy()
        shape = [1] * found.ndim
        shape[axis] = 2
        want = (given.values.numpy() - np.reshape([1.0, -2.0], shape)) / np.reshape([2.0, 4.0], shape)
        seen = np.expand_dims(given.valid_pixels.numpy(), axis)
        if given.valid is not None:
            seen = seen & given.valid.numpy()[:, :, None, None, None]
        np.testing.assert_allclose(found, np.where(seen, want, 0.0), rtol=1e-5, atol=1e-6)


def test_between_cuts_the_masks_of_image_series():
    given = series(t=5)
    cut = given.between(5, 25)
    assert cut.values.shape[1] == cut.valid_pixels.shape[1] <= 2
    inside = (given.valid & (given.days >= 5) & (given.days <= 25))[:, 1:3]
    want = given.valid_pixels[:, 1:3] & inside[:, :, None, None]
    assert torch.equal(cut.valid_pixels, want[:, inside.any(0)])


@pytest.mark.parametrize("made", [image, series])
def test_mixtures_keep_masked_places(made):
    given = made()
    partner = torch.tensor([1, 2, 0])
    mixed = mix({"x": given}, partner, 0.6)["x"]
    hidden = ~given.valid_pixels.unsqueeze(look_of(given).bands).expand_as(given.values)
    assert torch.equal(mixed.values[hidden], given.values[hidden])
    assert mixed.values.shape == given.values.shape
    assert not torch.equal(mixed.values, given.values)
    if given.valid is None:
        both = (given.valid_pixels & given.valid_pixels[partner])[:, None].expand_as(given.values)
        want = 0.6 * given.values + 0.4 * given.values[partner]
        torch.testing.assert_close(mixed.values[both], want[both])


class Says(nn.Module):
    """Says of each pixel what its first values say, also of those that nobody sees."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 3, 1)

    def forward(self, inputs: Inputs) -> tuple[Tensor, Tensor]:
        x = inputs["x"].values
        logits = self.conv(x if x.ndim == 4 else x.mean(1))
        return logits, logits


def loss_of(method: Alignment, model: nn.Module, target: Observation, source: Observation, labels: Tensor) -> Tensor:
    torch.manual_seed(3)
    step = Step(model, nn.CrossEntropyLoss(), lambda domain: nullcontext(), 0.9)
    views = (View(*model({"x": source}), {"x": source}, 0, labels),), (View(*model({"x": target}), {"x": target}, 1),)
    return sum(method.loss(*views, step).values())


@pytest.mark.parametrize(
    ("made", "method"),
    [
        (image, SelfTraining(start=0.0, strong=STILL, keep=0.5)),
        (series, SelfTraining(start=0.0, strong=STILL, keep=0.5)),
        (image, DACS(strong=STILL, threshold=0.5)),
        (image, MIC(strong=STILL, threshold=0.5, hidden=0.0)),
        (series, MIC(strong=STILL, threshold=0.5, hidden=0.0)),
    ],
)
def test_no_pseudo_label_is_learnt_where_nothing_is_seen(made, method):
    model = Says()
    target, source = made(), made()
    labels = torch.randint(0, 3, (3, 4, 4)).masked_fill(~shown({"x": source}, (4, 4)), -1)
    hidden = ~shown({"x": target}, (4, 4))
    assert hidden.any()
    method.attach(model, Setup(3, 1, 1, 3))
    plain = loss_of(method, model, target, source, labels)
    lift = 9.0 * hidden.float()
    lifted = target.values + (lift[:, None] if target.values.ndim == 4 else lift[:, None, None])
    other = Observation(lifted, target.days, target.valid, target.valid_pixels)
    assert loss_of(method, model, other, source, labels).item() == pytest.approx(plain.item(), rel=1e-6)
    everywhere = Observation(lifted, target.days, target.valid)
    if made is image:
        assert loss_of(method, model, everywhere, source, labels).item() != pytest.approx(plain.item(), rel=1e-3)


def test_pasted_pixels_bring_their_masks():
    method = DACS(strong=STILL)
    method.attach(Says(), Setup(3, 1, 1, 3))
    source, target = image(), image()
    labels = torch.zeros(3, 4, 4, dtype=torch.int64)
    labels[:, :, 2:] = -1  # never pasted
    view = View(torch.zeros(3, 3, 4, 4), torch.zeros(3, 3, 4, 4), {"x": source}, 0, labels)
    mixed, _, weights = method.mixture({"x": target}, torch.ones_like(labels), torch.full((3,), 0.5), (view,))
    assert torch.equal(mixed["x"].valid_pixels[..., 2:], target.valid_pixels[..., 2:])
    assert (weights[..., :2] == 1).all()
    assert torch.equal(weights[..., 2:], 0.5 * target.valid_pixels[..., 2:])
    matched = (mixed["x"].valid_pixels[:, None, :, :2] == source.valid_pixels[None, :, :, :2]).all((2, 3))
    assert matched.any(1).all()


def test_thresholds_and_judgement_leave_out_what_does_not_count():
    certain, label, there = torch.tensor([1.0, 2.0, 50.0]), torch.tensor([0, 0, 0]), torch.tensor([True, True, False])
    some, few = Thresholds(1, 2, 0.5, 0.1), Thresholds(1, 2, 0.5, 0.1)
    kept = some.note(0, certain, label, there)
    assert kept.tolist() == [False, True, False]
    assert few.note(0, certain[:2], label[:2]).tolist() == [False, True]
    some.move()
    few.move()
    assert torch.equal(some.quantile, few.quantile)
    assert some.quantile[0, 0] == 1.5
    logits = torch.tensor([[[9.0, 0.0, 0.0], [0.0, 0.1, 9.0]]])
    assert judged(logits, 0.9)[1].item() == pytest.approx(2 / 3)
    assert judged(logits, 0.9, torch.tensor([[True, True, False]]))[1].item() == 0.5


def test_a_turned_mask_is_the_mask_of_the_turned():
    mask = torch.rand(2, 3, 4, 4) < 0.5
    turns = torch.tensor([[True, False], [False, True], [True, True]])
    assert torch.equal(turn(mask.float(), turns) > 0.5, turn(mask, turns))
