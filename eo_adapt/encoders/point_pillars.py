"""Points of a patch -> maps: every pixel's points are summed up by a small network, then a backbone reads the grid."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from ..types import Features, Inputs, Observation
from .base import Encoder, pick_sensor
from .blocks.norm import SafeBatchNorm1d
from .blocks.static import exporting
from .timm_pyramid import TimmPyramid

CANVAS = "canvas"
OFFSETS = 5  # to the mean of the pillar: x, y, z; to its middle: x, y


class PointPillars(Encoder):
    """Points (B, P, F) with ``valid`` (B, P) -> the maps of a timm backbone, finest first.

    PointPillars (Lang et al. 2019, CVPR, arXiv:1812.05784): the points of a pixel are a pillar. To each point its
    offsets to the mean of its pillar (x, y, z) and to the pillar's middle (x, y) are added; a linear layer, batch norm,
    ReLU and the largest value over the pillar give the pixel's features; pixels without a point are zero. The image so
    made goes through a 2-D backbone.

    Deviations: x and y themselves are no features, so that patches may lie anywhere; all points of a pillar count (the
    paper keeps 100, and 12,000 pillars; thin them when data are prepared); the backbone is one of timm's.

    Args:
        sensors: The data's sensors, name -> number of bands. Of points the first three are x and y, in pixels from the
            left and upper edge of the patch, and z.
        size: Height and width of a patch in pixels: what ``data.crop`` says, else that of whole patches. Multiples of
            the backbone's largest stride.
        sensor: The sensor to read; "auto" takes the only one.
        width: Features of a pillar.
        backbone: Name in timm.
        output_stride: Stride of the coarsest map, 8, 16 or 32.

    Raises:
        LookupError: If the sensor is not among the data's.
        ValueError: If it has fewer than three bands, an option is out of range, or timm cannot build the backbone.
    """

    size: tuple[int, int]

    def __init__(
        self,
        sensors: Mapping[str, int],
        size: Sequence[int],
        sensor: str = "auto",
        width: int = 64,
        backbone: str = "resnet18",
        output_stride: int = 32,
    ) -> None:
        super().__init__()
        self.sensor = pick_sensor(sensors, sensor)
        self.bands = sensors[self.sensor]
        if self.bands < 3:
            raise ValueError(
                f"points have at least x, y and z; sensor {self.sensor!r} has {self.bands} bands: set data.bands"
            )
        if width < 1 or len(size) != 2 or min(size) < 1:
            raise ValueError(
                f"encoder.width is >= 1 and encoder.size is [height, width] of a patch in pixels; got {width} and "
                f"{list(size)}"
            )
        self.size, self.width = (int(size[0]), int(size[1])), width
        self.linear = nn.Linear(self.bands - 2 + OFFSETS, width, bias=False)
        self.norm = SafeBatchNorm1d(width)
        self.pyramid = TimmPyramid({CANVAS: width}, backbone=backbone, output_stride=output_stride)
        self.channels, self.strides = self.pyramid.channels, self.pyramid.strides

    def forward(self, inputs: Inputs) -> Features:
        """One map a stride. Padding, nan included, has no influence, nor has the order of the points.

        Raises:
            LookupError: If the batch lacks the sensor.
            ValueError: If the values are no points of this many bands, or points lie outside the patch.
        """
        return self.pyramid({CANVAS: Observation(self.canvas(inputs))})

    def canvas(self, inputs: Inputs) -> Tensor:
        """(B, width, H, W) features of the pillars, 0 where no point is."""
        values, valid = self._points(inputs)
        batch, (height, width) = values.shape[0], self.size
        sample = torch.arange(batch, device=values.device)[:, None].expand_as(valid)
        if exporting():  # all points; what is not valid goes to a pillar of its own, the last
            points, sample, valid = values.where(valid[..., None], 0.0).flatten(0, 1), sample.flatten(), valid.flatten()
            column, row = points[:, 0].floor(), points[:, 1].floor()
            valid = valid & (column >= 0) & (column < width) & (row >= 0) & (row < height)
            spare = batch * height * width
            pillar = ((sample * height + row.long()) * width + column.long()).where(valid, spare)
            canvas = self._pooled(points, pillar, spare + 1, column, row)[:-1]
            return canvas.view(batch, height, width, self.width).permute(0, 3, 1, 2)
        points, sample = values[valid], sample[valid]
        column, row = points[:, 0].floor(), points[:, 1].floor()
        self._check_inside(column, row)
        pillar = (sample * height + row.long()) * width + column.long()
        canvas = self._pooled(points, pillar, batch * height * width, column, row)
        return canvas.view(batch, height, width, self.width).permute(0, 3, 1, 2)

    def _pooled(self, points: Tensor, pillar: Tensor, count: int, column: Tensor, row: Tensor) -> Tensor:
        """(count, width), the largest of each feature over the points of a pillar."""
        features = self._features(points, pillar, count, column, row)
        canvas = features.new_zeros(count, self.width)
        at = pillar[:, None].expand_as(features)
        return canvas.scatter_reduce(0, at, features, "amax")  # features are >= 0: ReLU

    def _features(self, points: Tensor, pillar: Tensor, count: int, column: Tensor, row: Tensor) -> Tensor:
        """(N, width) of each point."""
        place = points[:, :3]
        sums = place.new_zeros(count, 4).index_add(0, pillar, torch.cat([place, torch.ones_like(place[:, :1])], 1))
        mean = (sums[:, :3] / sums[:, 3:].clamp_min(1))[pillar]
        middle = torch.stack([column, row], 1) + 0.5
        known = torch.cat([points[:, 2:], place - mean, place[:, :2] - middle], 1)
        features: Tensor = self.norm(self.linear(known)).relu()
        return features

    def _points(self, inputs: Inputs) -> tuple[Tensor, Tensor]:
        if self.sensor not in inputs:
            raise LookupError(f"the encoder reads sensor {self.sensor!r}; this batch holds {sorted(inputs)}")
        look = inputs[self.sensor]
        shape = tuple(look.values.shape)
        if len(shape) != 3 or shape[2] != self.bands or look.valid is None or look.valid.shape != shape[:2]:
            raise ValueError(
                f"PointPillars with {self.bands} bands reads points (B, P, {self.bands}) and valid (B, P); "
                f"{self.sensor!r} has shape {shape} and "
                f"{'no valid' if look.valid is None else f'valid {tuple(look.valid.shape)}'}: give it a sensor of "
                "points (data=lidar_points)"
            )
        return look.values, look.valid

    def _check_inside(self, column: Tensor, row: Tensor) -> None:
        height, width = self.size
        inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)  # False for nan
        if not bool(inside.all()):
            raise ValueError(
                f"{int((~inside).sum())} of {len(inside)} points lie outside the patch of {height} x {width} pixels: "
                "set encoder.size to the size of the patches, or to data.crop where they are cropped"
            )
