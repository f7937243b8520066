"""DACS: which classes are drawn, pixels and labels that stay together, weights, the loss in numpy, better labels."""

from contextlib import nullcontext

import numpy as np
import pytest
import torch
from blobs import World, scores
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from eo_adapt.align import Setup, Step, View
from eo_adapt.align.augment import StrongView
from eo_adapt.align.dacs import DACS, class_mask, judged
from eo_adapt.align.source_only import SourceOnly

STILL = StrongView(0.0, 0.0, 0.0, 0.0, 0.0, False)
MIRRORED = StrongView(0.0, 0.0, 0.0, 0.0, 0.0, True)


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


class Pixels(nn.Module):
    """Somebody's model of pixels, in which (B, K, H, W) are features, logits and inputs alike."""

    def __init__(self, classes: int = 3) -> None:
        super().__init__()
        self.conv = nn.Conv2d(classes, classes, 1, bias=False)
        nn.init.dirac_(self.conv.weight)
        self.seen: list[Tensor] = []

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        self.seen.append(x)
        return self.conv(x), self.conv(x)


def step(model: nn.Module, progress: float = 0.5) -> Step:
    return Step(model, nn.CrossEntropyLoss(), lambda domain: nullcontext(), progress)


def attached(model: nn.Module, cls: type[DACS] = DACS, **options) -> DACS:
    method = cls(**{"strong": STILL, **options})
    method.attach(model, Setup(0, 1, 1, 3))
    return method


@settings(deadline=None, max_examples=60, derandomize=True)
@given(st.integers(1, 5), st.integers(2, 8), st.sampled_from([0.25, 0.5, 1.0]), st.integers(0, 999))
def test_a_mask_is_some_whole_classes_and_never_the_unknown(samples, classes, share, seed):
    torch.manual_seed(seed)
    labels = torch.randint(-1, classes, (samples, 4, 5))
    for row, mask in zip(labels, class_mask(labels, classes, share), strict=True):
        present, chosen = set(row[row >= 0].tolist()), set(row[mask].tolist())
        assert -1 not in chosen
        assert len(chosen) == int(np.ceil(share * len(present)))
        assert all(bool(mask[row == k].all()) for k in chosen)


def test_every_class_is_drawn_equally_often_and_each_image_draws_for_itself():
    labels = torch.arange(4).repeat(4000, 3, 1)
    drawn = class_mask(labels, 4)[:, 0].float()
    assert torch.equal(drawn.sum(1), torch.full((4000,), 2.0))
    torch.testing.assert_close(drawn.mean(0), torch.full((4,), 0.5), atol=0.03, rtol=0)


def test_maps_without_a_known_label_give_nothing():
    assert not class_mask(torch.full((2, 3, 3), -1), 3).any()


def test_judged_equals_numpy_and_each_image_is_judged_by_itself():
    logits = 3 * torch.randn(3, 4, 5, 6)
    logits[1] *= 0.01
    label, sure = judged(logits, 0.8)
    p = np.exp(logits.double().numpy())
    p /= p.sum(1, keepdims=True)
    np.testing.assert_array_equal(label.numpy(), p.argmax(1))
    np.testing.assert_allclose(sure.numpy(), (p.max(1) >= 0.8).mean((1, 2)), atol=1e-6)
    assert sure[1] == 0
    assert sure[0] > 0.3


def told(samples: int, side: tuple[int, int], source: bool) -> tuple[Tensor, Tensor]:
    """Images whose bands say: whose they are, which sample, and which class each pixel is; with their labels."""
    labels = torch.randint(-1 if source else 0, 3, (samples, *side))
    number = torch.arange(samples).view(-1, 1, 1).expand_as(labels)
    return torch.stack([torch.full_like(labels, source), number, labels], 1).float(), labels


@pytest.mark.parametrize("strong", [STILL, MIRRORED])
@pytest.mark.parametrize("side", [(6, 6), (4, 7)])
def test_pixels_labels_and_weights_stay_together(strong, side):
    (xs, ys), (xt, guess) = told(5, side, True), told(4, side, False)
    sure, method = torch.tensor([0.1, 0.2, 0.3, 0.4]), attached(Pixels())
    mixed, labels, weights = method.mixture(xt, guess, sure, (View(xs, xs, xs, 0, ys),))
    strong_view, follow = strong(mixed)
    whose, number, truth = strong_view.unbind(1)
    assert torch.equal(follow(labels).float(), truth), "each pixel keeps its label, through the mirror, too"
    pasted = whose == 1
    assert 0.2 < pasted.float().mean() < 0.8
    assert (truth[pasted] >= 0).all(), "unknown pixels are not pasted"
    assert torch.equal(follow(weights), torch.where(pasted, 1.0, sure.view(-1, 1, 1)))
    for i in range(4):
        assert number[i][pasted[i]].unique().numel() <= 1, "pixels of one source image each"
        assert (number[i][~pasted[i]] == i).all()


def test_images_of_several_sensors_are_pasted_at_the_same_places_and_the_rest_stays():
    ys, guess = torch.tensor([[[0, 0], [1, 1]]]), torch.full((2, 2, 2), 2)
    source = {"a": torch.ones(1, 2, 8, 8), "b": torch.ones(1, 1, 4, 4), "attributes": torch.ones(1, 5)}
    target = {"a": torch.zeros(2, 2, 8, 8), "b": torch.zeros(2, 1, 4, 4), "attributes": torch.zeros(2, 5)}
    view = View(torch.ones(1, 3, 2, 2), torch.ones(1, 3, 2, 2), source, 0, ys)
    mixed, labels, _ = attached(Pixels()).mixture(target, guess, torch.ones(2), (view,))
    for name, scale in (("a", 4), ("b", 2)):
        where = (labels < 2).repeat_interleave(scale, 1).repeat_interleave(scale, 2).float()
        assert torch.equal(mixed[name], where[:, None].expand_as(mixed[name]))
        assert 0 < where.mean() < 1
    assert torch.equal(mixed["attributes"], target["attributes"])
    assert torch.equal(target["a"], torch.zeros(2, 2, 8, 8)), "what was given is not changed"


def test_the_loss_equals_numpy():
    model = Pixels()
    method = attached(model, threshold=0.6)
    xs, xt = 2 * torch.randn(3, 3, 4, 4), 2 * torch.randn(2, 3, 4, 4)
    ys = torch.randint(-1, 3, (3, 4, 4))
    views = (View(*model(xs), xs, 0, ys),), (View(*model(xt), xt, 1),)
    torch.manual_seed(5)
    found = method(*views, step(model))["mixed"]
    torch.manual_seed(5)
    label, sure = judged(xt, 0.6)
    mixed, labels, weights = method.mixture(xt, label, sure, views[0])
    z = mixed.double().numpy()
    logp = z - np.log(np.exp(z).sum(1, keepdims=True))
    nll = -np.take_along_axis(logp, labels.numpy()[:, None], 1)[:, 0]
    assert found.item() == pytest.approx((weights.numpy() * nll).mean(), rel=1e-4)
    assert method.monitors()["sure"].item() == pytest.approx(sure.mean().item())
    found.backward()
    assert model.conv.weight.grad.abs().sum() > 0
    assert method.teacher.network.conv.weight.grad is None


def test_nothing_is_mixed_before_the_start():
    model = Pixels()
    method, x = attached(model, start=0.4), torch.randn(2, 3, 4, 4)
    views = (View(x, x, x, 0, torch.zeros(2, 4, 4).long()),), (View(x, x, x, 1),)
    assert method(*views, step(model, 0.3)) == {"mixed": 0}
    assert not model.seen
    assert method(*views, step(model, 0.4))["mixed"] > 0


def test_the_teacher_averages_buffers_and_stays_in_eval_mode():
    model = nn.Sequential(nn.BatchNorm2d(3))
    method = attached(model, decay=0.5)
    model.train()(5 + torch.randn(4, 3, 4, 4))
    method.train()
    for _ in range(3):
        method.after_step(model)
    assert not method.teacher.network.training
    assert method.teacher.network[0].running_mean.mean() > 0.1


def refused(source: Tensor, target: Tensor, labels: Tensor) -> None:
    model = Pixels()
    logits = torch.randn(len(target), 3, *target.shape[-2:])
    sources = (View(source, source, source, 0, labels),)
    attached(model).loss(sources, (View(logits, logits, target, 1),), step(model))


def test_parcels_series_and_other_sizes_are_refused_with_what_to_do():
    x, y = torch.randn(2, 3, 4, 4), torch.zeros(2, 4, 4).long()
    parcels = torch.randn(2, 3)
    with pytest.raises(ValueError, match=r"DACS changes parts of images.*\(2, 3\).*method=self_training"):
        DACS().loss((), (View(parcels, parcels, parcels, 1),), step(Pixels()))
    with pytest.raises(ValueError, match=r"\(3, 4, 4\) a target sample and \(2, 4, 4\) a source sample: crop"):
        refused(x[:, :2], x, y)
    with pytest.raises(ValueError, match=r"label maps of one size.*\(4, 5\).*\(4, 4\): crop all images alike"):
        refused(x, x, torch.zeros(2, 4, 5).long())
    with pytest.raises(ValueError, match="without a time axis"):
        attached(Pixels()).mixture(x[:, None], y, torch.ones(2), (View(x, x, x[:, None], 0, y),))


@pytest.mark.parametrize(
    "options", [{"threshold": 1.1}, {"share": 0.0}, {"share": 1.5}, {"decay": 1.5}, {"start": 1.0}, {"start": -0.1}]
)
def test_impossible_options_are_refused(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        DACS(**options)


def test_the_number_of_classes_is_needed():
    with pytest.raises(ValueError, match=r"DACS draws classes.*Setup\(\.\.\., classes=K\)"):
        DACS().attach(Pixels(), Setup(3))


def test_listed_bands_keep_their_colours_and_follow_the_mirror():
    """Elevation beside reflectances."""
    x = torch.randn(6, 5, 4, 4)
    changed = StrongView(mirror=False, leave_bands={"aerial": [4], "other": [9]})({"aerial": x, "dsm": x})[0]
    assert torch.equal(changed["aerial"][:, 4], x[:, 4])
    assert (changed["aerial"][:, :4] != x[:, :4]).all()
    assert (changed["dsm"] != x).all()
    view, follow = StrongView(leave_bands={"": [4]})(x)
    assert torch.equal(view[:, 4], follow(x[:, 4]))
    assert not torch.equal(view[:, 4], x[:, 4])
    with pytest.raises(ValueError, match=r"leave_bands names bands \[5\] of input 'aerial', which has 5: .* 0 to 4"):
        StrongView(leave_bands={"aerial": [5]})({"aerial": x})


def test_colours_that_differ_are_learnt():
    source, target = World(), World(offset=(1.3, 0.0, -0.6))
    plain, ours = (scores(align, source, target, seeds=2, steps=150) for align in (SourceOnly, DACS))
    assert plain.mean() < 0.72
    assert ours.mean() > plain.mean() + 0.1, (plain, ours)
