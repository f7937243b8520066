"""Labels from several scales: sizes, gaps, means of probabilities, ground sampling distances, and lovecs."""

import math
import warnings

import numpy as np
import pytest
import torch
from bench import Bench, Tiny
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from eo_adapt.align import Setup, Step, View
from eo_adapt.align.augment import StrongView
from eo_adapt.align.looks import Look
from eo_adapt.align.multiscale import check_scales, multiscale, resize, side_at
from eo_adapt.align.self_training import SelfTraining
from eo_adapt.registry import build

SCALES = (0.75, 1.0, 1.25)


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


@settings(deadline=None, max_examples=100, derandomize=True)
@given(st.integers(1, 700), st.floats(0.05, 4.0))
def test_sides_keep_their_divisors_and_come_as_near_as_these_allow(side, scale):
    got, step = side_at(side, scale), math.gcd(side, 32)
    assert got % step == 0
    assert abs(got - side * scale) <= step / 2 or got == step
    assert side_at(side, 1.0) == side


def test_sides_of_common_crops():
    assert [side_at(512, scale) for scale in SCALES] == [384, 512, 640]
    assert side_at(64, 0.75) in (32, 64)
    assert side_at(5, 2.0) == 10


def test_scales_too_near_for_small_images_are_told():
    ask, x = lambda x: torch.zeros(len(x), 2, *x.shape[-2:]), torch.randn(1, 3, 64, 64)
    with pytest.warns(UserWarning, match=r"64 x 64 pixels have the sizes .* scales further apart"):
        multiscale(ask, x, (0.75, 1.0, 1.25), (64, 64))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        multiscale(ask, x, (0.5, 1.0, 1.5), (64, 64))


def test_resize_equals_interpolate_and_knows_series():
    x = torch.randn(2, 3, 8, 6)
    got = resize(Look(x), 1.5).values
    expected = F.interpolate(x, size=(side_at(8, 1.5), side_at(6, 1.5)), mode="bilinear", align_corners=False)
    torch.testing.assert_close(got, expected)
    series = torch.stack([x, 2 * x], 1)
    assert torch.equal(resize(Look(series), 1.5).values[:, 1], resize(Look(2 * x), 1.5).values)
    assert resize(Look(x.bfloat16()), 2.0).values.dtype == torch.bfloat16


@pytest.mark.parametrize("scale", [0.5, 2.0, 1.3])
def test_gaps_do_not_spread_and_have_no_say(scale):
    x = torch.full((1, 1, 16, 16), 7.0)
    x[..., :4, :4] = torch.nan
    got = resize(Look(x), scale).values
    torch.testing.assert_close(got[~got.isnan()], torch.full_like(got[~got.isnan()], 7.0))
    assert got.isnan().float().mean().item() == pytest.approx(1 / 16, abs=0.05)


class Asked:
    """A network of pixels that notes what it is asked."""

    def __init__(self, sharp: float = 1.0) -> None:
        self.sizes: list[tuple[int, ...]] = []
        self.mix = torch.randn(4, 3)
        self.sharp = sharp

    def __call__(self, inputs: Tensor) -> Tensor:
        self.sizes.append(tuple(inputs.shape))
        factor = self.sharp if inputs.shape[-1] == 8 else 1.0
        return factor * torch.einsum("kc,bc...->bk...", self.mix, inputs)


@pytest.mark.parametrize("x", [torch.randn(5, 3, 4, 4), torch.randn(5, 3)])
def test_one_scale_of_one_and_parcels_are_one_question_answered_as_it_is(x):
    asked = Asked()
    scales = (1.0,) if x.ndim == 4 else SCALES
    assert torch.equal(multiscale(asked, x, scales, x.shape[2:]), Asked.__call__(asked, x))
    assert len(asked.sizes) == 2


def test_probabilities_are_averaged_after_softmax():
    """One scale with huge logits has one vote, and no more."""
    asked, x = Asked(sharp=1e4), torch.randn(2, 3, 1, 1).expand(2, 3, 8, 8)
    got = multiscale(asked, x, (1.0, 2.0, 0.5), (8, 8)).exp().numpy()
    assert asked.sizes == [(2, 3, 8, 8), (2, 3, 16, 16), (2, 3, 8, 8)]
    z = torch.einsum("kc,bc...->bk...", asked.mix, x).double().numpy()

    def softmax(z: np.ndarray) -> np.ndarray:
        e = np.exp(z - z.max(1, keepdims=True))
        return e / e.sum(1, keepdims=True)

    np.testing.assert_allclose(got, (2 * softmax(1e4 * z) + softmax(z)) / 3, atol=1e-5)


def test_answers_of_a_coarser_output_come_in_the_size_that_is_asked_for():
    def coarse(x: Tensor) -> Tensor:
        return F.avg_pool2d(x, 4)

    assert multiscale(coarse, torch.randn(2, 3, 32, 32), (0.5, 2.0), (8, 8)).shape == (2, 3, 8, 8)


def test_images_among_other_inputs_are_resized_alone():
    seen = []

    def predict(inputs: dict[str, Tensor]) -> Tensor:
        seen.append({name: tuple(x.shape[2:]) for name, x in inputs.items()})
        return inputs["a"]

    multiscale(predict, {"a": torch.randn(2, 3, 8, 8), "attributes": torch.randn(2, 5)}, (1.0, 2.0), (8, 8))
    assert seen == [{"a": (8, 8), "attributes": ()}, {"a": (16, 16), "attributes": ()}]


@pytest.mark.parametrize(("scales", "ratio"), [([], 1.0), ([0.0], 1.0), ([1.0], -1.0), ([float("nan")], 1.0)])
def test_impossible_scales_are_refused(scales, ratio):
    with pytest.raises(ValueError, match=r"SelfTraining\.(scales|gsd_ratio)"):
        SelfTraining(scales=scales, gsd_ratio=ratio)
    assert check_scales("x", [0.6, 1.0], 3.0) == pytest.approx((1.8, 3.0))


class Texture(nn.Module):
    """Tells coarse stripes from fine ones by how steep the image is, in pixels of the source."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        steep = F.avg_pool2d((x - x.roll(1, -1)).abs(), 9, 1, 4)
        logits = 40 * torch.cat([0.3 - steep, steep - 0.3], 1)
        return logits, logits


def stripes(period: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """A field of one period, in pixels, beside one of another."""
    x = torch.arange(64.0)
    waves = [torch.sin(2 * math.pi * x / p) for p in period]
    labels = (x >= 32).long().expand(1, 64, 64)
    return torch.where(x < 32, *waves).expand(1, 1, 64, 64).clone(), labels


@pytest.mark.parametrize(("ratio", "right"), [(1.0, False), (2.0, True)])
def test_the_ratio_of_pixel_sizes_makes_the_teacher_see_objects_at_the_size_it_knows(ratio, right):
    """Fields of 24 and 10 source pixels a wave; a target pixel is twice as large."""
    model = Texture()
    x, labels = stripes((24, 10))
    assert (model(x)[1].argmax(1) == labels).float().mean() > 0.8
    coarse, labels = stripes((12, 5))
    method = SelfTraining(scales=(1.0,), gsd_ratio=ratio)
    said = multiscale(lambda z: model(z)[1], coarse, method.scales, (64, 64)).argmax(1)
    assert bool((said == labels).float().mean() > 0.8) is right


@pytest.mark.parametrize(("scales", "looks"), [((1.0,), 1), (SCALES, 3)])
def test_self_training_asks_the_teacher_once_a_scale(scales, looks):
    bench = Bench(align=SelfTraining(scales=scales, start=0.0), maps=True)
    calls: list[int] = []
    teacher = next(part for part in bench.align.teacher.modules() if isinstance(part, Tiny))
    teacher.register_forward_hook(lambda *_: calls.append(1))
    terms = bench.terms(bench.views())
    assert len(calls) == looks
    assert terms["pseudo"].isfinite()
    assert terms["pseudo"] > 0


def test_with_equal_answers_at_all_scales_the_labels_are_those_of_one():
    """A network of pixels on flat images: the term of several scales is that of one."""
    net = nn.Conv2d(3, 3, 1)

    class Flat(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = net

        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            return x, self.net(x)

    x, found = torch.randn(4, 3, 1, 1).expand(4, 3, 8, 8).contiguous(), []
    for scales in ((1.0,), (0.5, 1.0, 2.0)):
        method, model = SelfTraining(scales=scales, strong=StrongView(0, 0, 0, 0, 0, False), start=0.0), Flat()
        method.attach(model, Setup(3, 1, 1, 3))
        view = View(*model(x), x, 1)
        found.append(method((), (view,), Step(model, nn.CrossEntropyLoss(), method.scope, 0.5))["pseudo"])
    torch.testing.assert_close(*found)


def test_lovecs_is_csn_and_balanced_self_training_at_several_scales():
    method = build("method", "lovecs")
    csn, trained = method
    assert (type(csn).__name__, type(trained).__name__) == ("CSN", "SelfTraining")
    assert (trained.keep, trained.scales, method.start) == (0.1, SCALES, 0.5)
    bench = Bench("lovecs", maps=True).fit(last=4)
    assert bench.weights().isfinite().all()
    assert bench.align.monitors()["self_training/kept"] < 0.9
    with pytest.raises(RuntimeError, match=r"alignment\.scope"):
        bench.model(bench.batch(2, 1)[0])
