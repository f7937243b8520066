"""Views of batches: labels follow, elevation stays, resizing is torch's own."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter1d
from torch.nn import functional as F

from eo_adapt.data.scenes.augment import RADIUS, Augment, Image, blurred, picked, resized
from eo_adapt.data.scenes.sampling import rare_classes, wanted_classes

STATISTICS = {"a": ([10.0, 20.0, 30.0], [2.0, 4.0, 8.0])}
BANDS = {"a": ("red", "nir", "elevation")}


def images(shape: tuple[int, ...] = (8, 3, 6, 6)) -> dict[str, Image]:
    stream = torch.Generator().manual_seed(0)
    values = 20 + 5 * torch.randn(shape, generator=stream)
    return {"a": Image(values, torch.rand(shape[0], *shape[2:], generator=stream) < 0.9)}


def view(
    augment: Augment, given: dict[str, Image], labels: torch.Tensor | None = None
) -> tuple[dict, torch.Tensor | None]:
    return augment(given, labels, BANDS, STATISTICS, torch.Generator().manual_seed(1))


@given(st.integers(1, 9), st.integers(2, 7), st.integers(2, 7))
@settings(deadline=None, max_examples=20)
def test_labels_and_masks_follow_the_pixels(batch: int, height: int, width: int) -> None:
    given_ = images((batch, 3, height, width))
    labels = given_["a"].values[:, 0].round().long()
    changed, followed = view(Augment(), given_, labels)
    assert torch.equal(changed["a"].values[:, 0].round().long(), followed)
    want = torch.where(given_["a"].seen, given_["a"].values[:, 0], -1.0).flatten(1).sort(1).values
    got = torch.where(changed["a"].seen, changed["a"].values[:, 0], -1.0).flatten(1).sort(1).values
    assert torch.equal(want, got)


def test_all_eight_symmetries_come_and_no_other() -> None:
    square = torch.arange(9.0).view(1, 1, 3, 3).expand(300, 3, 3, 3)
    changed, _ = view(Augment(), {"a": Image(square, torch.ones(300, 3, 3, dtype=torch.bool))})
    found = {tuple(x.flatten().tolist()) for x in changed["a"].values[:, 0]}
    grid = np.arange(9).reshape(3, 3)
    assert found == {tuple(np.rot90(g, k).ravel()) for g in (grid, grid.T) for k in range(4)}


def test_colours_change_by_band_and_sample_and_elevation_stays() -> None:
    given_ = images((4000, 3, 2, 2))
    augment = Augment(d4=False, gain=0.3, bias=0.5, leave=("elevation",))
    x, y = given_["a"].values, view(augment, given_)[0]["a"].values
    assert torch.equal(x[:, 2], y[:, 2])
    mean, std = (torch.tensor(s)[None, :, None] for s in STATISTICS["a"])
    before, after = ((v.flatten(2) - mean) / std for v in (x, y))
    # after = (1 + g) before + b for each sample and band: two pixels tell g, a third proves it
    slope = (after[..., 0] - after[..., 1]) / (before[..., 0] - before[..., 1])
    offset = after[..., 0] - slope * before[..., 0]
    np.testing.assert_allclose(slope * before[..., 2] + offset, after[..., 2], atol=1e-2)
    assert (slope[:, :2] - 1).std() == pytest.approx(0.3, rel=0.05)
    assert offset[:, :2].std() == pytest.approx(0.5, rel=0.05)
    assert abs(np.corrcoef(slope[:, 0], slope[:, 1])[0, 1]) < 0.1


def test_noise_is_as_large_as_said() -> None:
    given_ = images((500, 3, 4, 4))
    y = view(Augment(d4=False, noise=0.25), given_)[0]["a"].values
    np.testing.assert_allclose((y - given_["a"].values).std((0, 2, 3)), [0.5, 1.0, 2.0], rtol=0.05)


def test_nothing_asked_changes_nothing() -> None:
    given_ = images()
    assert torch.equal(view(Augment(d4=False), given_)[0]["a"].values, given_["a"].values)


def test_blur_is_scipys() -> None:
    x = images()["a"].values
    sigma = torch.tensor([0.0, 0.3, 0.5, 0.8, 1.0, 1.2, 1.5, 2.0])
    got = blurred(x, sigma)
    assert torch.allclose(got[0], x[0])
    for i in range(1, 8):
        want = x[i].double().numpy()
        for axis in (-1, -2):
            want = gaussian_filter1d(want, float(sigma[i]), axis=axis, mode="nearest", radius=RADIUS)
        np.testing.assert_allclose(got[i], want, rtol=1e-4, atol=1e-3)


@given(st.integers(2, 12), st.integers(2, 12), st.integers(1, 15), st.integers(1, 15))
@settings(deadline=None, max_examples=30)
def test_resizing_is_torchs(height: int, width: int, rows: int, columns: int) -> None:
    x = torch.rand(2, 3, height, width)
    want = F.interpolate(x, (rows, columns), mode="bilinear", align_corners=False)
    torch.testing.assert_close(resized(x, rows, columns), want, atol=1e-5, rtol=1e-4)
    near = F.interpolate(x, (rows, columns), mode="nearest-exact")[:, 0]
    assert torch.equal(picked(x[:, 0], rows, columns), near)


def test_magnification_is_within_its_range() -> None:
    drawn = [Augment(scale=(0.5, 2.0)).magnification(torch.Generator().manual_seed(i)) for i in range(200)]
    assert 0.5 <= min(drawn) < 0.6 < 1.7 < max(drawn) <= 2.0
    assert np.median(drawn) == pytest.approx(1.0, rel=0.2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"gain": -1.0}, "gain, bias, noise >= 0"),
        ({"blur": 9.0}, "blur <= 3"),
        ({"scale": (2.0, 1.0)}, "within 0.25 and 4"),
    ],
)
def test_options_out_of_range(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Augment(**options)


def test_rare_classes_by_numpy() -> None:
    counts = torch.tensor([900, 90, 10, 0])
    share = np.array([0.9, 0.09, 0.01])
    want = np.exp((1 - share) / 0.1) / np.exp((1 - share) / 0.1).sum()
    np.testing.assert_allclose(rare_classes(counts, 0.1), [*want, 0], rtol=1e-9)
    assert rare_classes(counts, 0.01)[2] > 0.99
    np.testing.assert_allclose(rare_classes(counts, 1e9)[:3], [1 / 3] * 3, rtol=1e-6)


def test_patches_are_drawn_for_the_classes_that_they_hold() -> None:
    counts = torch.tensor([[100, 0, 0], [50, 50, 0], [99_999, 0, 1], [10, 90, 0]])
    wanted = wanted_classes(counts, torch.tensor([0.2, 0.5, 0.3]))
    assert wanted[:, 0].tolist() == pytest.approx([0.05] * 4)
    assert wanted[:, 1].tolist() == pytest.approx([0, 0.25, 0, 0.25])
    assert wanted[:, 2].tolist() == pytest.approx([0, 0, 0.3, 0])  # little of it, but nowhere more
