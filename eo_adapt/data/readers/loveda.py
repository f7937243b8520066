"""LoveDA: three Chinese cities and their countryside, 0.3 m, seven classes (Wang et al. 2021, arXiv:2110.08733).

Raw layout::

    <root>/{Train,Val,Test}/{Urban,Rural}/images_png/<n>.png    uint8 (1024, 1024, 3): R, G, B
    <root>/{Train,Val}/{Urban,Rural}/masks_png/<n>.png          uint8 (1024, 1024): 0 = no data, 1..7

Numbers ``n`` do not repeat between the folders. There is no georeferencing, so places are not known: methods that need
lonlat cannot be used, and every image is a zone of its own. Neighbouring tiles of one scene can then lie on both sides
of a split made here; the published Train and Val are of different areas.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..scenes.land_cover import loveda_classes
from ..scenes.records import Classes, Imagery, Raster, Scene
from .files import need

SOURCE = "LoveDA (https://doi.org/10.5281/zenodo.5706578)"
SCENES = ("Urban", "Rural")
PARTS = {"Train": "train", "Val": "val", "Test": "test"}
GSD = 0.3


@dataclass(frozen=True)
class LoveDA:
    """Reads LoveDA.

    Attributes:
        legend: ``loveda7`` | ``lovecs4`` | ``land_cover``; see :mod:`eo_adapt.data.scenes.land_cover`.
        parts: Which of the folders Train, Val, Test; Test has no masks.
    """

    legend: str = "loveda7"
    parts: Sequence[str] = ("Train", "Val")

    def __post_init__(self) -> None:
        object.__setattr__(self, "parts", tuple(self.parts))
        loveda_classes(self.legend)
        if not self.parts or (odd := [part for part in self.parts if part not in PARTS]):
            raise ValueError(f"parts of LoveDA are {list(PARTS)}; got {list(self.parts)}, of which {odd} are none")

    @property
    def sensors(self) -> Mapping[str, Imagery]:
        """One sensor, ``aerial``."""
        return {"aerial": Imagery(("red", "green", "blue"))}

    @property
    def classes(self) -> Classes:
        """The legend, by the numbers 1..7 of the masks."""
        return loveda_classes(self.legend)

    def read(self, root: Path) -> Iterator[Scene]:
        """Yield the images part by part, scene by scene, by number.

        Raises:
            FileNotFoundError: If a folder or a mask is missing.
            ValueError: If an image is not named by a number.
        """
        for part in self.parts:
            for scene in SCENES:
                yield from _folder(Path(root), part, scene)


def _folder(root: Path, part: str, scene: str) -> Iterator[Scene]:
    folder = need(root / part / scene / "images_png", SOURCE)
    images = list(folder.glob("*.png"))
    if odd := sorted(path.name for path in images if not path.stem.isdecimal()):
        raise ValueError(f"{folder}: images of LoveDA are named by a number, as 1366.png; got {odd[:5]}")
    labelled = (root / part / scene / "masks_png").is_dir() or part != "Test"
    for path in sorted(images, key=lambda path: int(path.stem)):
        yield image_scene(root, part, scene, path.name, labelled)


def image_scene(root: Path, part: str, scene: str, name: str, labelled: bool) -> Scene:
    """The record of one image.

    Raises:
        FileNotFoundError: If it is labelled and its mask is missing.
    """
    mask = f"{part}/{scene}/masks_png/{name}"
    if labelled:
        need(root / mask, f"the mask of {part}/{scene}/images_png/{name}")
    key = f"{part}-{scene}-{Path(name).stem}"
    return Scene(
        key=key,
        images={"aerial": Raster(f"{part}/{scene}/images_png/{name}")},
        mask=Raster(mask) if labelled else None,
        lon=math.nan,
        lat=math.nan,
        x=math.nan,
        y=math.nan,
        crs="",
        gsd=GSD,
        zone=key,
        country="CN",
        region=scene,
        split=PARTS[part],
    )
