"""PASTIS-HD: PASTIS-R, and one SPOT 6/7 image a patch at 1 m.

Astruc, Gonthier, Mallet & Landrieu 2024 (OmniSat, ECCV, arXiv:2404.08351). To the layout of :mod:`.pastis` it adds::

    <root>/DATA_SPOT/PASTIS_SPOT6_RVB_1M00_2019/SPOT6_RVB_1M00_2019_10000.tif    uint8 (3, 1280, 1280), RGB, 1 m
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path

from ..scenes.records import Imagery, Raster, Scene
from .files import need
from .pastis import Pastis

SPOT = "DATA_SPOT/PASTIS_SPOT6_RVB_1M00_2019/SPOT6_RVB_1M00_2019_{}.tif"
SOURCE = "PASTIS-HD (https://huggingface.co/datasets/IGNF/PASTIS-HD)"


class PastisHD(Pastis):
    """Reads the patches of PASTIS-HD; see :class:`.pastis.Pastis` for its attributes.

    Labels and grid are those of the first satellite; ``spot``, the last sensor, shows the same ground in finer pixels.
    """

    @property
    def sensors(self) -> Mapping[str, Imagery]:
        """A sensor each satellite, and ``spot``."""
        return {**super().sensors, "spot": Imagery(("red", "green", "blue"))}

    def read(self, root: Path) -> Iterator[Scene]:
        """Yield the patches by their ids.

        Raises:
            FileNotFoundError: If the metadata, or the folder of a satellite or of SPOT, are missing.
            ValueError: If the metadata are damaged, lack a column or give no dates.
        """
        need((Path(root) / SPOT).parent, SOURCE)
        for scene in super().read(root):
            yield dataclasses.replace(scene, images={**scene.images, "spot": Raster(SPOT.format(scene.key))})
