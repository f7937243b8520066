"""GeoMultiTask: tell from the features where (and when) a sample is."""

from __future__ import annotations

from math import pi
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .base import Alignment, Setup, Step, View, Views
from .looks import mean_day
from .options import check_choice, check_number

Encoding = Literal["wavelengths", "unit_sphere", "metres"]
ENCODINGS = ("wavelengths", "unit_sphere", "metres")

RADIUS_KM = 6371.0088  # of the sphere with the Earth's mean radius
YEAR = 365.25  # days
ORIGIN = 489353.59, 6587552.2  # Lambert-93 metres that the published encoding subtracts
PUBLISHED = 64  # its frequencies an axis
# Lambert-93 (EPSG:2154): GRS80 excentricity; exponent, constant and pole of the projection (IGN, NTG 71).
_E, _N, _C, _X, _Y = 0.0818191910428158, 0.7256077650532670, 11754255.4261, 700000.0, 12655612.0499


def unit_sphere(lonlat: Tensor) -> Tensor:
    """(B, 2) degrees -> (B, 3) point on the unit sphere: no seam at 180 degrees, no poles."""
    lon, lat = torch.deg2rad(lonlat.float()).unbind(1)
    return torch.stack([lat.cos() * lon.cos(), lat.cos() * lon.sin(), lat.sin()], 1)


def lambert93(lonlat: Tensor) -> Tensor:
    """(B, 2) degrees -> (B, 2) metres in Lambert-93, float64; far from France distorted, but defined."""
    lon, lat = torch.deg2rad(lonlat.double()).unbind(1)
    isometric = torch.atanh(lat.sin()) - _E * torch.atanh(_E * lat.sin())
    radius, angle = _C * torch.exp(-_N * isometric), _N * (lon - pi / 60)  # 3 degrees east
    return torch.stack([_X + radius * angle.sin(), _Y - radius * angle.cos()], 1)


def waves(x: Tensor, wavelengths: Tensor) -> Tensor:
    """Sine and cosine of each coordinate x (B, A) at each wavelength (F,), in its units: (B, 2 A F) float32."""
    angle = 2 * pi * x[:, :, None] / wavelengths
    return torch.stack([angle.sin(), angle.cos()], -1).flatten(1).float()


def encode(
    lonlat: Tensor, encoding: Encoding, min_km: float = 20.0, max_km: float = 4000.0, frequencies: int = 16
) -> Tensor:
    """A position as numbers in [-1, 1] that a network can regress.

    Args:
        lonlat: (B, 2) degrees, WGS 84.
        encoding: ``unit_sphere``: 3 numbers. ``wavelengths``: sine and cosine of the three coordinates on the sphere at
            ``frequencies`` wavelengths, geometric from ``min_km`` to ``max_km``: 6 * frequencies numbers. ``metres``:
            the published one, Lambert-93 metres at angular frequencies 10000^(-i / 64): 256 numbers.
        min_km: Shortest wavelength, km.
        max_km: Longest wavelength, km.
        frequencies: Number of wavelengths.

    Returns:
        (B, E) float32.
    """
    check_choice("encoding", encoding, ENCODINGS)
    if encoding == "unit_sphere":
        return unit_sphere(lonlat)
    if encoding == "wavelengths":
        ratio = torch.linspace(0, 1, frequencies, device=lonlat.device)
        return waves(RADIUS_KM * unit_sphere(lonlat), min_km * (max_km / min_km) ** ratio)
    metres = lambert93(lonlat)
    order = torch.arange(PUBLISHED, dtype=metres.dtype, device=metres.device)
    return waves(metres - metres.new_tensor(ORIGIN), 2 * pi * 10_000 ** (order / PUBLISHED))


def year_circle(day: Tensor) -> Tensor:
    """Days since 1 January (B,) -> (B, 2) sine and cosine on the year circle."""
    angle = 2 * pi * day / YEAR
    return torch.stack([angle.sin(), angle.cos()], 1)


def pooled(features: Tensor) -> Tensor:
    """Mean over all places of features (B, D, *S): (B, D) float32."""
    return features.float().reshape(*features.shape[:2], -1).mean(2)


class GeoMT(Alignment):
    """A small head regresses the encoded position of every sample, sources and targets, from its pooled features.

    The term is the mean squared error, averaged over domains. It makes features tell places apart, not alike: an
    auxiliary task that ties both domains to one geography.

    Source: Marsocci et al. 2023 (GeoMultiTaskNet, arXiv:2304.07750).

    Args:
        weight: Factor of the term.
        encoding: See :func:`encode`.
        min_km: Shortest wavelength of ``wavelengths``, km.
        max_km: Longest wavelength of ``wavelengths``, km.
        frequencies: Number of its wavelengths.
        season: Also regress the mean day of the year; needs ``days``.
        hidden: Width of the head's hidden layer.

    Attributes:
        skill: 1 - error / error of the best constant, on the last step; 0 is no skill, 1 is perfect. Detached.

    Raises:
        ValueError: If an option is misspelt or out of its range.
    """

    needs_target = True
    on_branches = "each"

    def __init__(
        self,
        weight: float = 1.0,
        encoding: Encoding = "wavelengths",
        min_km: float = 20.0,
        max_km: float = 4000.0,
        frequencies: int = 16,
        season: bool = False,
        hidden: int = 256,
    ) -> None:
        super().__init__(weight)
        check_choice("geomt.encoding", encoding, ENCODINGS)
        check_number("geomt.min_km", min_km, above=0)
        check_number("geomt.max_km", max_km, least=min_km)
        check_number("geomt.frequencies", frequencies, least=1, whole=True)
        check_number("geomt.hidden", hidden, least=1, whole=True)
        self.encoding, self.min_km, self.max_km, self.frequencies = encoding, min_km, max_km, frequencies
        self.season, self.hidden = season, hidden
        self.needs = frozenset({"lonlat", "days"} if season else {"lonlat"})
        self.skill: Tensor | None = None

    def attach(self, model: nn.Module, setup: Setup) -> None:
        super().attach(model, setup)
        size = {"unit_sphere": 3, "wavelengths": 6 * self.frequencies, "metres": 4 * PUBLISHED}[self.encoding]
        out = nn.Linear(self.hidden, size + 2 * self.season)
        self.head = nn.Sequential(nn.Linear(setup.width, self.hidden), nn.ReLU(), out)
        if (like := next(model.parameters(), None)) is not None:
            self.head.to(like.device)

    def goal(self, view: View) -> Tensor:
        """What the head should say of a domain's samples: (B, E)."""
        if view.lonlat is None or (self.season and view.days is None):
            raise ValueError(f"geomt needs {sorted(self.needs)} of every domain; domain {view.domain} lacks some")
        goal = encode(view.lonlat, self.encoding, self.min_km, self.max_km, self.frequencies)
        if self.season and view.days is not None:
            goal = torch.cat([goal, year_circle(mean_day(view.inputs, view.days))], 1)
        return goal.to(view.features.device)

    def loss(self, sources: Views, targets: Views, step: Step) -> dict[str, Tensor]:
        views = (*sources, *targets)
        goals = [self.goal(view) for view in views]
        said = [self.head(pooled(view.features)) for view in views]
        self._judge(torch.cat(said).detach(), torch.cat(goals))
        return {"position": torch.stack([F.mse_loss(a, b) for a, b in zip(said, goals, strict=True)]).mean()}

    def _judge(self, said: Tensor, goals: Tensor) -> None:
        constant = (goals - goals.mean(0)).square().sum()
        error = (said - goals).square().sum()
        self.skill = 1 - error / constant.clamp_min(torch.finfo(goals.dtype).eps)

    def monitors(self) -> dict[str, Tensor]:
        """Skill against the best constant."""
        return {} if self.skill is None else {"skill": self.skill}
