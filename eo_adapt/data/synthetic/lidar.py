"""Simulated laser scans of small towns, as LAZ files: rolling ground, gabled roofs, trees that let pulses through.

What is made up: where houses and trees stand, and how bright they are. What is not: pulses fall at random with a
density, roofs and soil return them once, crowns once to three times, classes are those of ASPRS, heights and places are
stored as whole centimetres in the site's CRS.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

BRIGHT = {2: 900.0, 5: 500.0, 6: 1300.0}  # mean intensity of ground, vegetation, roofs


@dataclass(frozen=True)
class LidarSite:
    """One scan.

    Attributes:
        density: Pulses a square metre.
        houses: A hectare.
        trees: A hectare.
        relief: Metres between valley and hill.
        storey: Height of the walls, metres.
        gain: Of the sensor's intensity.
        crs: Projected CRS of the file.
        unit: Metres per unit of the file's x, y and z: 0.3048 for CRS in feet.
    """

    density: float = 10.0
    houses: float = 12.0
    trees: float = 40.0
    relief: float = 4.0
    storey: float = 6.0
    gain: float = 1.0
    crs: str = "EPSG:2154"
    unit: float = 1.0


SITES = {
    "dense": LidarSite(),
    "sparse": LidarSite(density=0.8, houses=8.0, trees=60.0, relief=10.0, storey=4.0, gain=0.4),
}


@dataclass(frozen=True)
class LidarWorld:
    """Writes ``<root>/<site>.laz`` for every site.

    Attributes:
        sites: Name -> :class:`LidarSite`, or a mapping of its arguments.
        size: Side of a site, metres.
        seed: Of everything.
    """

    sites: Mapping[str, Any] = field(default_factory=lambda: dict(SITES))
    size: float = 192.0
    seed: int = 0

    def __post_init__(self) -> None:
        built = {name: s if isinstance(s, LidarSite) else LidarSite(**s) for name, s in self.sites.items()}
        object.__setattr__(self, "sites", built)
        if not built or self.size < 32:
            raise ValueError(f"a world of scans has sites of at least 32 m; got {list(built)} of {self.size} m")

    def write(self, root: Path) -> None:
        """Write all sites below ``root``."""
        root.mkdir(parents=True, exist_ok=True)
        for i, (name, site) in enumerate(self.sites.items()):
            rng = np.random.default_rng([self.seed, zlib.crc32(name.encode())])
            cloud = scan(site, self.size, rng)
            corner = np.array([700_000.0 + 5000 * i, 6_600_000.0, 100.0])
            cloud["xyz"] = (cloud["xyz"] + corner) / site.unit
            write_cloud(root / f"{name}.laz", **cloud, crs=site.crs)


def scan(site: LidarSite, size: float, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Returns of one site: xyz (N, 3) metres, kind, intensity, number and returns (N,)."""
    pulses = rng.poisson(site.density * size**2)
    x, y = rng.uniform(0, size, (2, pulses))
    phase = rng.uniform(0, 2 * np.pi, 2)
    soil = site.relief / 2 * (np.sin(x / 40 + phase[0]) + np.cos(y / 55 + phase[1]))
    roof = _roofs(x, y, site, size, rng)
    crown = np.where(roof > 0, 0.0, _crowns(x, y, site, size, rng))
    leafy = crown > 1
    through = leafy & (rng.random(pulses) < 0.4)
    middle = through & (rng.random(pulses) < 0.5)
    returns = 1 + through + middle
    first = soil + np.where(roof > 0, roof, np.where(leafy, crown * rng.uniform(0.8, 1.0, pulses), 0.0))
    kind = np.where(roof > 0, 6, np.where(leafy, 5, 2))
    parts = [
        (np.ones(pulses, bool), first, kind, np.ones(pulses, int)),
        (middle, soil + crown * rng.uniform(0.3, 0.7, pulses), np.full(pulses, 5), np.full(pulses, 2)),
        (through, soil, np.full(pulses, 2), returns),
    ]
    z, kinds, number, at = (
        np.concatenate([part[i][part[0]] if i < 4 else np.flatnonzero(part[0]) for part in parts]) for i in (1, 2, 3, 4)
    )
    z = z + rng.normal(0, 0.03, len(z))
    bright = np.array([BRIGHT.get(k, 0.0) for k in range(7)])[kinds] * site.gain / returns[at]
    intensity = np.clip(bright * rng.lognormal(0, 0.2, len(z)), 0, 65535)
    return {
        "xyz": np.column_stack([x[at], y[at], z]),
        "kind": kinds,
        "intensity": intensity,
        "number": number,
        "returns": returns[at],
    }


def _roofs(x: np.ndarray, y: np.ndarray, site: LidarSite, size: float, rng: np.random.Generator) -> np.ndarray:
    """Height of roofs above the ground, 0 where none is."""
    height = np.zeros_like(x)
    for _ in range(rng.poisson(site.houses * size**2 / 1e4)):
        centre, half = rng.uniform(0, size, 2), rng.uniform(4, 9, 2)
        wall = site.storey * rng.uniform(0.7, 1.4)
        inside = (np.abs(x - centre[0]) < half[0]) & (np.abs(y - centre[1]) < half[1])
        height[inside] = wall + 0.5 * (half[1] - np.abs(y[inside] - centre[1]))
    return height


def _crowns(x: np.ndarray, y: np.ndarray, site: LidarSite, size: float, rng: np.random.Generator) -> np.ndarray:
    """Height of crowns above the ground, 0 where none is."""
    height = np.zeros_like(x)
    for _ in range(rng.poisson(site.trees * size**2 / 1e4)):
        centre, radius, top = rng.uniform(0, size, 2), rng.uniform(1.5, 5), rng.uniform(4, 18)
        share = 1 - ((x - centre[0]) ** 2 + (y - centre[1]) ** 2) / radius**2
        height = np.maximum(height, top * np.sqrt(np.maximum(share, 0)))
    return height


def write_cloud(
    path: Path,
    xyz: np.ndarray,
    kind: np.ndarray | Sequence[int],
    crs: str = "",
    intensity: np.ndarray | float = 0.0,
    number: np.ndarray | int = 1,
    returns: np.ndarray | int = 1,
    withheld: np.ndarray | int = 0,
) -> None:
    """Write points as LAZ 1.4 (point format 6), places in hundredths of a unit.

    Args:
        path: File to be.
        xyz: (N, 3) in units of the CRS.
        kind: (N,) classes of ASPRS.
        crs: "" = the file states none.
        intensity: (N,) counts.
        number: (N,) number of the return.
        returns: (N,) returns of its pulse.
        withheld: (N,) flag.
    """
    import laspy
    from pyproj import CRS

    head = laspy.LasHeader(point_format=6, version="1.4")
    head.scales, head.offsets = np.full(3, 0.01), np.floor(xyz.min(0)) if len(xyz) else np.zeros(3)
    if crs:
        head.add_crs(CRS.from_user_input(crs))
    las = laspy.LasData(head)
    las.x, las.y, las.z = xyz.T
    everywhere = np.ones(len(xyz), np.int64)
    las.classification = np.asarray(kind, np.uint8)
    las.intensity = np.asarray(intensity * everywhere, np.uint16)
    las.return_number, las.number_of_returns = number * everywhere, returns * everywhere
    las.withheld = withheld * everywhere
    las.write(str(path))
