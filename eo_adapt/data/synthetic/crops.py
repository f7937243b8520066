"""The crops of the simulated countries: HCAT3 code and growth in thermal time.

Numbers are rounded so that a farmer of the Beauce would recognise the calendar (winter wheat turns green in early
April and is cut in July; maize is sown at 11 degree C, closes in June, is cut around 1 September). They are choices of
this simulation.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Crop:
    """Growth of one crop.

    Attributes:
        hcat: HCAT3 code.
        name: HCAT3 name.
        base: Base temperature of development, degree C.
        sown: Temperature at which it is sown, degree C; None = in the ground on 1 January (winter crops, grassland).
        up: Thermal time from sowing (or 1 January) to half cover, degree C x day.
        up_width: Width of the rise, degree C x day.
        down: Thermal time to half ripe, degree C x day.
        down_width: Width of the fall, degree C x day.
        harvest: Thermal time to harvest, degree C x day; it comes earlier where the season ends before.
        killed: Autumn temperature that ends the season, degree C.
        winter: Cover before the rise (0..1).
        peak: Cover at the peak (0..1).
        nir: Near infrared reflectance of a closed canopy relative to the common leaf.
        visible: Visible reflectance relative to it.
        swir: Short-wave infrared reflectance relative to it.
        flower: (thermal time, width, share of the canopy that shows yellow petals); None = no showy bloom.
        cuts: Thermal times of mowing.
        cut_depth: Share of the cover that a cut takes.
    """

    hcat: str
    name: str
    base: float
    sown: float | None
    up: float
    up_width: float
    down: float
    down_width: float
    harvest: float
    killed: float
    winter: float
    peak: float
    nir: float = 1.0
    visible: float = 1.0
    swir: float = 1.0
    flower: tuple[float, float, float] | None = None
    cuts: tuple[float, ...] = ()
    cut_depth: float = 0.0

    @property
    def perennial(self) -> bool:
        """Grassland and lucerne: mown, not harvested; their cover returns to the winter value."""
        return bool(self.cuts)


_ANNUAL = (
    Crop("3301010101", "winter_common_soft_wheat", 0, None, 300, 90, 1580, 75, 1830, 4, 0.30, 0.90),
    Crop("3301010401", "winter_barley", 0, None, 235, 85, 1310, 75, 1540, 4, 0.33, 0.86, 0.97, 1.05),
    Crop("3301010301", "winter_rye", 0, None, 175, 85, 1470, 85, 1810, 4, 0.36, 0.82, 0.93, 1.08, 1.04),
    Crop("3301010402", "spring_barley", 0, 5, 430, 90, 1330, 75, 1560, 4, 0.10, 0.85, 0.97, 1.05),
    Crop("3301010500", "oats", 0, 5, 500, 95, 1580, 85, 1830, 4, 0.10, 0.87, 1.0, 1.0, 0.97),
    Crop("3301060401", "winter_rapeseed_rape", 0, None, 160, 80, 1450, 110, 1740, 4, 0.46, 0.88, 1.10, 1.05, 0.92,
         flower=(590, 110, 0.28)),
    Crop("3301060402", "spring_rapeseed_rape", 0, 5, 430, 90, 1480, 100, 1750, 4, 0.10, 0.85, 1.10, 1.05, 0.92,
         flower=(860, 100, 0.28)),
    Crop("3301010600", "grain_maize_corn_popcorn", 8, 11, 330, 60, 1150, 80, 1400, 9, 0.08, 0.86, 0.96, 0.95, 0.97),
    Crop("3301060500", "sunflower", 6, 9.5, 400, 65, 1220, 80, 1500, 9, 0.08, 0.82, 1.05, 1.05, 1.0,
         flower=(900, 80, 0.12)),
    Crop("3301010700", "rice", 10, 14, 330, 60, 1080, 70, 1300, 10, 0.05, 0.88, 0.92, 0.92, 0.80),
    Crop("3301030000", "potatoes", 4, 8, 430, 75, 1500, 90, 1750, 7, 0.08, 0.84, 1.06, 1.04, 0.93),
    Crop("3301290700", "sugar_beet", 3, 7, 640, 100, 3200, 150, 3500, 7, 0.08, 0.90, 1.10, 0.97, 0.90),
    Crop("3301020600", "peas", 0, 5, 460, 80, 1130, 60, 1350, 4, 0.10, 0.84, 1.05, 1.0, 0.97),
)  # fmt: skip
_PERENNIAL = (
    Crop("3302000000", "pasture_meadow_grassland_grass", 0, None, 180, 100, 4000, 250, 9999, 3, 0.48, 0.84, 0.96, 1.02,
         cuts=(800, 1600, 2400), cut_depth=0.35),
    Crop("3301090301", "alfalfa_lucerne", 0, None, 270, 100, 4000, 250, 9999, 3, 0.36, 0.90, 1.08, 0.97, 0.95,
         cuts=(700, 1300, 1900, 2500), cut_depth=0.62),
)  # fmt: skip
CROPS: dict[str, Crop] = {crop.name: crop for crop in (*_ANNUAL, *_PERENNIAL)}
