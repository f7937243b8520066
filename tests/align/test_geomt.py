"""GeoMultiTask: positions against pyproj and numpy, a head that learns where samples are, skill against a constant."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pyproj import Geod, Transformer
from torch import Tensor, nn

from eo_adapt.align import Setup, Step, View
from eo_adapt.align.coral import CORAL
from eo_adapt.align.geomt import ENCODINGS, ORIGIN, RADIUS_KM, GeoMT, encode, lambert93, unit_sphere, year_circle
from eo_adapt.align.stack import Stack
from eo_adapt.types import Observation

STEP = Step(nn.Identity(), nn.CrossEntropyLoss(), None, 0.5)


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def france(n: int) -> Tensor:
    return torch.tensor([-4.0, 42.0]) + torch.rand(n, 2) * torch.tensor([11.0, 8.0])


def view(features: Tensor, lonlat: Tensor | None, domain: int, days: Tensor | None = None, inputs=None) -> View:
    return View(features, features, inputs, domain, None, lonlat, days)


def attached(width: int = 6, **options) -> GeoMT:
    method = GeoMT(**options)
    method.attach(nn.Linear(2, width), Setup(width, sources=2))
    return method


def test_lambert_93_equals_pyproj():
    lonlat = torch.cat([france(50), torch.tensor([[3.0, 46.5], [-70.0, -30.0], [140.0, 36.0]])]).double()
    expected = np.stack(Transformer.from_crs(4326, 2154, always_xy=True).transform(*lonlat.numpy().T), 1)
    np.testing.assert_allclose(lambert93(lonlat).numpy(), expected, atol=1e-3)


def test_the_published_encoding_equals_numpy():
    """Per axis 64 sines and cosines of the metres from an origin, at 10000^(-2 i / 128)."""
    lonlat = france(20)
    metres = np.stack(Transformer.from_crs(4326, 2154, always_xy=True).transform(*lonlat.double().numpy().T), 1)
    angle = (metres - np.array(ORIGIN))[:, :, None] * 10_000.0 ** (-2 * np.arange(64) / 128)
    expected = np.stack([np.sin(angle), np.cos(angle)], -1).reshape(20, 256)
    np.testing.assert_allclose(encode(lonlat, "metres").numpy(), expected, atol=2e-3)


def test_unit_sphere_knows_distances_across_the_date_line_and_the_poles():
    a = torch.tensor([[179.99, 10.0], [0.0, 89.99], [10.0, 45.0], [0.0, 0.0]])
    b = torch.tensor([[-179.99, 10.0], [180.0, 89.99], [10.5, 45.2], [180.0, 0.0]])
    x, y = unit_sphere(a), unit_sphere(b)
    torch.testing.assert_close(x.norm(dim=1), torch.ones(4))
    arc = 2 * RADIUS_KM * torch.asin((x - y).norm(dim=1) / 2)
    ellipsoid = Geod(ellps="WGS84").inv(*a.double().numpy().T, *b.double().numpy().T)[2] / 1000
    np.testing.assert_allclose(arc.numpy(), ellipsoid, rtol=5e-3)


@settings(deadline=None, max_examples=20, derandomize=True)
@given(st.integers(1, 5), st.integers(1, 9), st.floats(1, 100), st.floats(1, 100), st.integers(0, 9))
def test_wavelengths_equal_numpy(n, frequencies, short, ratio, seed):
    torch.manual_seed(seed)
    lonlat = torch.rand(n, 2) * torch.tensor([360.0, 180.0]) - torch.tensor([180.0, 90.0])
    xyz = RADIUS_KM * unit_sphere(lonlat).double().numpy()
    got = encode(lonlat, "wavelengths", short, short * ratio, frequencies)
    assert got.shape == (n, 6 * frequencies)
    lengths = np.geomspace(short, short * ratio, frequencies)
    angle = 2 * np.pi * xyz[:, :, None] / lengths
    expected = np.stack([np.sin(angle), np.cos(angle)], -1).reshape(n, -1)
    np.testing.assert_allclose(got.numpy(), expected, atol=1e-2)


def test_near_places_look_alike_in_wavelengths_and_not_in_metres():
    """Why the published encoding cannot be learnt: half a kilometre away it is another place."""
    here = france(200)
    there = here + torch.tensor([0.0, 0.0046])  # 512 m north
    errors = {e: (encode(here, e) - encode(there, e)).square().mean().item() for e in ("metres", "wavelengths")}
    constant = {e: encode(here, e).var(0).mean().item() for e in errors}
    assert errors["metres"] / constant["metres"] > 0.8
    assert errors["wavelengths"] / constant["wavelengths"] < 0.05


def test_the_year_is_a_circle():
    circle = year_circle(torch.tensor([0.0, 365.25, -10.0, 355.25, 365.25 / 4]))
    torch.testing.assert_close(circle[0], circle[1], atol=1e-5, rtol=0)
    torch.testing.assert_close(circle[2], circle[3], atol=1e-5, rtol=0)
    torch.testing.assert_close(circle[4], torch.tensor([1.0, 0.0]), atol=1e-5, rtol=0)


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_term_is_the_mean_over_domains_of_each_ones_squared_error(encoding):
    method = attached(encoding=encoding, frequencies=4)
    sizes = (5, 40, 3)
    views = [view(torch.randn(n, 6), france(n), i) for i, n in enumerate(sizes)]
    with torch.no_grad():
        errors = [
            np.mean((method.head(v.features).numpy() - encode(v.lonlat, encoding, frequencies=4).numpy()) ** 2)
            for v in views
        ]
    term = method(tuple(views[:2]), tuple(views[2:]), STEP)["position"]
    assert term.item() == pytest.approx(np.mean(errors), rel=1e-5)


def test_maps_are_pooled():
    method, lonlat, features = attached(), france(4), torch.randn(4, 6, 5, 3)
    flat = method((view(features.mean((2, 3)), lonlat, 0),), (), STEP)["position"]
    torch.testing.assert_close(method((view(features, lonlat, 0),), (), STEP)["position"], flat)
    assert method((view(features.bfloat16(), lonlat, 0),), (), STEP)["position"].dtype == torch.float32


def test_season_reads_the_dates_that_are_there():
    method = attached(season=True)
    assert method.needs == {"lonlat", "days"}
    assert GeoMT().needs == {"lonlat"}
    days, lonlat, features = torch.tensor([[100, 200, 0], [10, 20, 30]]), france(2), torch.randn(2, 6)
    valid = torch.tensor([[True, True, False], [True, True, True]])
    inputs = {"s2": Observation(torch.zeros(2, 3, 1), days, valid)}
    goal = method.goal(view(features, lonlat, 0, days, inputs))
    torch.testing.assert_close(goal[:, -2:], year_circle(torch.tensor([150.0, 20.0])))
    goal = method.goal(view(features, lonlat, 0, days))
    torch.testing.assert_close(goal[:, -2:], year_circle(torch.tensor([100.0, 20.0])))
    with pytest.raises(ValueError, match=r"needs \['days', 'lonlat'\] of every domain; domain 3"):
        method.goal(view(features, lonlat, 3))
    with pytest.raises(ValueError, match="lonlat"):
        attached().goal(view(features, None, 0))


def test_a_nan_position_is_not_passed_over():
    lonlat = france(4)
    lonlat[2, 0] = torch.nan
    assert attached()((view(torch.randn(4, 6), lonlat, 0),), (), STEP)["position"].isnan()


@pytest.mark.parametrize("features", [torch.zeros(9, 6), 1e3 + torch.randn(9, 6), torch.randn(1, 6)])
def test_finite_on_collapsed_offset_and_single_rows(features):
    method = attached()
    features.requires_grad_()
    term = method((view(features, france(len(features)), 0),), (), STEP)["position"]
    assert torch.autograd.grad(term, features)[0].isfinite().all()
    assert method.monitors()["skill"].isfinite()


def train(method: GeoMT, seen: bool) -> Tensor:
    """Features that tell the place, or not; both domains. Returns the last skill."""
    optimiser = torch.optim.Adam(method.parameters(), 1e-2)
    for _ in range(200):
        views = []
        for domain in (0, 1):
            lonlat = france(64)
            place = unit_sphere(lonlat - torch.tensor([1.5, 46.0])) * 8
            features = torch.cat([place if seen else torch.randn(64, 3), torch.randn(64, 3)], 1)
            views.append(view(features, lonlat, domain))
        optimiser.zero_grad()
        method((views[0],), (views[1],), STEP)["position"].backward()
        optimiser.step()
    return method.monitors()["skill"]


def test_skill_is_high_where_features_tell_the_place_and_none_where_not():
    told = train(attached(min_km=1000.0, frequencies=3), True)
    assert not told.requires_grad
    assert told > 0.8
    assert -0.3 < train(attached(min_km=1000.0, frequencies=3), False) < 0.1


def test_a_stack_names_the_part_that_reports():
    stack = Stack({"geo": GeoMT(), "coral": CORAL()})
    stack.attach(nn.Linear(2, 6), Setup(6))
    assert not stack.monitors()
    views = [view(torch.randn(9, 6), france(9), domain) for domain in (0, 1)]
    stack((views[0],), (views[1],), STEP)
    assert stack.monitors() == {"geo/skill": stack.parts["geo"].skill}


def test_skill_of_the_best_constant_is_zero():
    method, lonlat = attached(), france(30)
    goals = encode(lonlat, "wavelengths")
    nn.init.zeros_(method.head[2].weight)
    with torch.no_grad():
        method.head[2].bias.copy_(goals.mean(0))
    method((view(torch.randn(30, 6), lonlat, 0),), (), STEP)
    assert method.skill.item() == pytest.approx(0, abs=1e-5)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"encoding": "utm"}, "encoding must be one of"),
        ({"min_km": 0.0}, "min_km"),
        ({"min_km": 50.0, "max_km": 5.0}, "max_km"),
        ({"frequencies": 0}, "frequencies"),
        ({"hidden": 0}, "hidden"),
    ],
)
def test_impossible_options_are_refused(options, words):
    with pytest.raises(ValueError, match=words):
        GeoMT(**options)
