"""Points beside an image in one fusion, whichever leads: sizes, missing looks, dropout of dates."""

from __future__ import annotations

from functools import partial

import pytest
import torch

from eo_adapt.encoders.fusion import Fusion
from eo_adapt.encoders.point_pillars import PointPillars
from eo_adapt.encoders.timm_pyramid import TimmPyramid
from eo_adapt.types import Observation

SIZE = (64, 64)
POINTS = partial(PointPillars, size=SIZE, backbone="test_resnet", width=8)


def made(*modalities: str, **options: object) -> Fusion:
    torch.manual_seed(0)
    image = partial(TimmPyramid, backbone="test_resnet")
    sensors = {"lidar": 2, "points": 4}
    return Fusion(sensors, image, {"points": POINTS}, modalities, **options).eval()  # type: ignore[arg-type]


def inputs(points: bool = True) -> dict[str, Observation]:
    g = torch.Generator().manual_seed(0)
    image = Observation(torch.rand(3, 2, *SIZE, generator=g), valid_pixels=torch.ones(3, *SIZE).bool())
    values = torch.rand(3, 50, 4, generator=g) * torch.tensor([64.0, 64, 5, 5])
    return {"lidar": image, "points": Observation(values, valid=torch.full((3, 50), points))}


@pytest.mark.parametrize("scheme", ["late", "added", "decision"])
@pytest.mark.parametrize("modalities", [("points", "lidar"), ("lidar", "points")])
@pytest.mark.parametrize("grid", ["auto", "lidar", "points"])
def test_points_may_lead_and_may_be_missing(scheme: str, modalities: tuple[str, ...], grid: str) -> None:
    fused = made(*modalities, scheme=scheme, grid=grid)
    given = inputs()
    with torch.no_grad():
        whole = fused(given)
        assert whole.size == SIZE
        for name in given:
            nobody = {
                "points": Observation(given["points"].values, valid=torch.zeros(3, 50).bool()),
                "lidar": Observation(given["lidar"].values, valid_pixels=torch.zeros(3, *SIZE).bool()),
            }[name]
            found = fused({**given, name: nobody})
            assert found.size == SIZE
            assert [m.shape for m in found.maps] == [m.shape for m in whole.maps]


def test_points_that_no_branch_reads_are_no_grid() -> None:
    with pytest.raises(
        ValueError, match=r"encoder.grid=points .* have no rows and columns: set encoder.grid to a sens"
    ):
        made("lidar", grid="points")(inputs())


def test_points_have_no_dates_to_drop() -> None:
    fused = made("points", "lidar", drop_dates=0.9).train()
    given = inputs()
    thin, _ = fused._thinned(given, torch.ones(3, 2).bool())
    assert thin["points"].valid is not None
    assert thin["points"].valid.all()
