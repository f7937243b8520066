"""What made-up departments look like: light, camera, season, shares of land use, and the grain of the landscape.

Places, dates and cameras are those of real FLAIR#1 patches of these departments; everything else is made up.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields

import numpy as np

USES = ("meadow", "field", "vineyard", "soil", "forest", "water", "urban")


@dataclass(frozen=True)
class Light:
    """How reflectance becomes counts, and what season it is.

    Attributes:
        gain: Camera's gain of R, G, B, NIR; 1 gives a grey of 0.15 in the sun some 115 counts.
        gamma: Exponent of the camera's response.
        haze: Share of the signal that is airlight in blue; less in longer waves.
        dry: 0 = all green, 1 = meadows and fields are yellow, trees dull.
        soil: Factor of the brightness of soils.
        red_soil: 0 = grey soil, 1 = red soil.
        sun: Height of the sun above the horizon, degrees.
        azimuth: Where the sun stands, degrees from north, clockwise.
    """

    gain: tuple[float, float, float, float] = (1.0, 1.0, 1.0, 1.0)
    gamma: float = 0.62
    haze: float = 0.05
    dry: float = 0.3
    soil: float = 1.0
    red_soil: float = 0.4
    sun: float = 48.0
    azimuth: float = 170.0


@dataclass(frozen=True)
class Grain:
    """How fine the landscape is.

    Attributes:
        rows: Factor of the distance between rows of plants.
        crowns: Factor of the radius of tree crowns.
        slate: Share of roofs of slate instead of tile.
        rough: Factor of the contrast within a material.
        blur: Blur of the camera, pixels (standard deviation).
    """

    rows: float = 1.0
    crowns: float = 1.0
    slate: float = 0.4
    rough: float = 1.0
    blur: float = 0.5


@dataclass(frozen=True)
class Department:
    """One department.

    Attributes:
        x: Centre, metres of EPSG:2154.
        y: See ``x``.
        z: Altitude, metres.
        date: Of its flight.
        time: Of its flight, as FLAIR writes it.
        camera: Name of the camera.
        light: Its light.
        grain: Its grain.
        shares: Shares of :data:`USES`.
    """

    x: float
    y: float
    z: float
    date: str
    time: str
    camera: str
    light: Light
    grain: Grain
    shares: tuple[float, ...]


DEPARTMENTS: Mapping[str, Department] = {
    "D006_2020": Department(
        1033780.8, 6299863.2, 340.0, "2020-07-09", "08h11", "UCE-M3-f120-s06",
        Light((1.05, 1.00, 0.97, 1.05), 0.60, 0.04, 0.50, 1.10, 0.60, 52.0, 105.0),
        Grain(0.90, 0.85, 0.15, 1.10, 0.45),
        (0.15, 0.08, 0.10, 0.14, 0.16, 0.11, 0.26),
    ),
    "D033_2021": Department(
        418150.4, 6445721.6, 36.0, "2021-09-12", "10h27", "UCE-M3-f120-s07",
        Light((0.95, 1.00, 1.05, 0.98), 0.65, 0.07, 0.40, 0.95, 0.30, 40.0, 140.0),
        Grain(1.05, 1.10, 0.20, 0.95, 0.55),
        (0.14, 0.16, 0.20, 0.12, 0.14, 0.08, 0.16),
    ),
    "D058_2020": Department(
        706409.6, 6655867.2, 198.0, "2020-05-26", "13h05", "CAMERA#030",
        Light((1.00, 1.05, 0.95, 1.10), 0.62, 0.05, 0.15, 0.90, 0.35, 60.0, 195.0),
        Grain(1.10, 1.05, 0.65, 0.90, 0.60),
        (0.24, 0.20, 0.08, 0.08, 0.22, 0.06, 0.12),
    ),
    "D067_2021": Department(
        1045251.2, 6830049.6, 149.0, "2021-06-01", "12h09", "UCE-M3-f120-s07",
        Light((0.97, 0.97, 1.03, 0.92), 0.58, 0.06, 0.10, 1.00, 0.45, 58.0, 165.0),
        Grain(0.95, 1.00, 0.45, 1.05, 0.50),
        (0.15, 0.20, 0.12, 0.10, 0.16, 0.07, 0.20),
    ),
    "D064_2021": Department(
        407513.3, 6260530.8, 104.0, "2021-10-14", "14h54", "UCE-M3-f120-s06",
        Light((1.09, 0.98, 0.93, 0.88), 0.65, 0.09, 0.62, 0.92, 0.60, 35.0, 225.0),
        Grain(1.25, 1.20, 0.70, 0.85, 0.75),
        (0.20, 0.22, 0.07, 0.08, 0.18, 0.12, 0.13),
    ),
    "D071_2020": Department(
        785052.8, 6596782.4, 249.0, "2020-07-30", "13h59", "CAMERA#020",
        Light((0.93, 1.00, 1.08, 0.90), 0.60, 0.09, 0.65, 1.08, 0.25, 50.0, 215.0),
        Grain(0.85, 0.90, 0.30, 1.15, 0.80),
        (0.28, 0.13, 0.15, 0.07, 0.17, 0.05, 0.15),
    ),
}  # fmt: skip


def between(strength: float, own: Light | Grain) -> dict[str, float]:
    """A department's numbers at strength 1, those of a usual department at strength 0, by name, gains apart."""
    usual = type(own)()
    return {
        f.name: getattr(usual, f.name) + strength * (getattr(own, f.name) - getattr(usual, f.name))
        for f in fields(own)
        if f.name != "gain"
    }


def light(strength: float, own: Light) -> Light:
    """A department's light; at strength 0 all departments have the same."""
    gain = tuple(float(g**strength) for g in own.gain)
    return Light(gain=gain, **between(strength, own))  # type: ignore[arg-type]


def grain(strength: float, own: Grain) -> Grain:
    """A department's grain; at strength 0 all departments have the same."""
    return Grain(**between(strength, own))


def shares(strength: float, own: tuple[float, ...]) -> dict[str, float]:
    """Land use -> share; at strength 0 the mean of all departments."""
    mean = np.mean([department.shares for department in DEPARTMENTS.values()], axis=0)
    mixed = np.clip(mean + strength * (np.asarray(own) - mean), 0.01, None)
    return dict(zip(USES, (mixed / mixed.sum()).tolist(), strict=True))
