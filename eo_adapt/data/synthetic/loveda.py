"""Made-up data in the raw layout of LoveDA; see :mod:`eo_adapt.data.readers.loveda`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..readers.loveda import PARTS, SCENES, image_scene
from ..scenes.records import Scene
from .aerial_departments import Grain, Light
from .aerial_land import BUILDING, DECIDUOUS, FIELD, HERBACEOUS, IMPERVIOUS, SOIL, VINEYARD, WATER, Painter
from .aerial_light import counts, reflectance

# class of the painted land -> LoveDA
NUMBERS = {
    HERBACEOUS: 1,
    BUILDING: 2,
    IMPERVIOUS: 3,
    WATER: 4,
    SOIL: 5,
    DECIDUOUS: 6,
    VINEYARD: 7,
    FIELD: 7,
}
USES = {
    "Urban": ("urban", "urban", "urban", "meadow", "soil", "water", "forest", "field"),
    "Rural": ("field", "field", "vineyard", "meadow", "soil", "water", "forest", "urban"),
}
LIGHTS = {"Urban": Light(dry=0.2, haze=0.08), "Rural": Light((1.06, 1.0, 0.95, 1.0), dry=0.5, haze=0.05)}
FIRST = {("Train", "Urban"): 1366, ("Train", "Rural"): 0, ("Val", "Urban"): 3514, ("Val", "Rural"): 2522}
FIRST |= {("Test", "Urban"): 5167, ("Test", "Rural"): 4191}  # numbers of the first images, as published


@dataclass(frozen=True)
class LoveDAWorld:
    """Generator of data like LoveDA.

    Attributes:
        images: Images of each of Urban and Rural, in each of Train, Val and Test.
        size: Edge of an image, pixels (1024 in LoveDA).
        seed: Seed of all draws.
    """

    images: int = 8
    size: int = 128
    seed: int = 0

    def write(self, root: Path) -> None:
        """Write all images below ``root``."""
        self.write_known(root)

    def write_known(self, root: Path) -> list[Scene]:
        """Write all images and return what a reader of all parts should find."""
        rng = np.random.default_rng(self.seed)
        return [
            self._image(Path(root), part, scene, FIRST[part, scene] + i, rng)
            for part in PARTS
            for scene in SCENES
            for i in range(self.images)
        ]

    def _image(self, root: Path, part: str, scene: str, number: int, rng: np.random.Generator) -> Scene:
        parcels = max(9, (self.size // 36) ** 2)
        uses = rng.permutation([USES[scene][i % len(USES[scene])] for i in range(parcels)]).tolist()
        land = Painter(rng, uses, self.size, Grain()).paint()
        image = counts(rng, reflectance(land, LIGHTS[scene]), LIGHTS[scene], 0.5)[:3]
        mask = np.zeros_like(land.labels)
        for label, n in NUMBERS.items():
            mask[land.labels == label] = n
        if number % 4 == 0:  # a corner without data, as at the edge of a scene
            edge = self.size // 8
            mask[:edge, :edge], image[:, :edge, :edge] = 0, 0
        folder = root / part / scene
        _write(folder / "images_png" / f"{number}.png", image)
        if part != "Test":
            _write(folder / "masks_png" / f"{number}.png", mask[None])
        return image_scene(root, part, scene, f"{number}.png", part != "Test")


def _write(path: Path, values: np.ndarray) -> None:
    import warnings

    import rasterio
    from rasterio.errors import NotGeoreferencedWarning

    path.parent.mkdir(parents=True, exist_ok=True)
    bands, rows, columns = values.shape
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(
            path, "w", driver="PNG", width=columns, height=rows, count=bands, dtype="uint8"
        ) as file:  # fmt: skip
            file.write(values)
