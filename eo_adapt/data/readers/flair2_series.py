"""The Sentinel-2 series of FLAIR#2: one superpatch a zone, of which each aerial patch covers 10 x 10 pixels.

Raw layout (Garioud et al. 2023, arXiv:2310.13336)::

    <root>/flair_sen_train/D004_2021/Z10_AU/sen/SEN2_sp_D004_2021-Z10_AU_data.npy       uint16 (T, 10, H, W), counts
                                                SEN2_sp_D004_2021-Z10_AU_masks.npy      (T, 2, H, W), % of snow, cloud
                                                SEN2_sp_D004_2021-Z10_AU_products.txt   a product a line, with its date
    <root>/flair_2_sen_test                                                             the same
    <root>/flair-2_centroids_sp_to_patch.json    {"IMG_000826.tif": [row, column]}, its middle in the superpatch

The publisher's baseline feeds 40 x 40 pixels around a patch. Here a series shows what the image shows, so that crops
and turns hold for both; its 100 m stand for the patch's 102.4 m. Dates are kept by the baseline's rule: less than half
of the pixels at 60 % of snow or cloud.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..scenes.records import Hidden, Imagery, Series
from .files import damaged, need
from .flair_hub_series import BANDS

SENSOR = "s2"
SENTINEL2 = Imagery(
    BANDS, "reflectance", 1e-4, dtype="uint16", kind="series", hidden=Hidden(2, (60.0, 60.0), clear=0.5)
)
FOLDERS: Mapping[str, str] = {"flair_aerial_train": "flair_sen_train", "flair_2_aerial_test": "flair_2_sen_test"}
CENTRES = "flair-2_centroids_sp_to_patch.json"
SIDE = 10  # pixels of a patch
PRODUCT = re.compile(r"S2._MSIL\w{2}_(\d{4})(\d\d)(\d\d)T")


@dataclass(frozen=True)
class Superpatches:
    """Where the patches lie in the superpatches.

    Attributes:
        root: Raw folder.
        centres: File name of a patch -> row and column of its middle.
        source: Where the data come from, for messages.
        dates: Dates by superpatch that were read already.
    """

    root: Path
    centres: Mapping[str, Any]
    source: str
    dates: dict[str, tuple[str, ...]] = field(default_factory=dict)

    @classmethod
    def open(cls, root: Path, source: str) -> Superpatches:
        """Read the json of centres.

        Raises:
            FileNotFoundError: If it is missing.
            ValueError: If it is damaged.
        """
        path = need(root / CENTRES, source)
        try:
            centres = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:  # also broken UTF-8
            raise damaged(path, error) from error
        if not isinstance(centres, dict):
            raise damaged(path, "it should map names of patches to [row, column]")
        return cls(root, centres, source)

    def series(self, image: str) -> Series:
        """The series on the footprint of one aerial image, by its path below the root.

        Raises:
            FileNotFoundError: If the superpatch is missing.
            ValueError: If the patch has no centre, or a product no date.
        """
        part, domain, zone, _, name = image.split("/")
        if part not in FOLDERS:
            raise ValueError(
                f"{image}: folders with superpatches are known of {list(FOLDERS)}; name those in the reader's parts, "
                "or set its sentinel2: false"
            )
        stem = f"{FOLDERS[part]}/{domain}/{zone}/sen/SEN2_sp_{domain}-{zone}"
        for end in ("data.npy", "masks.npy"):
            need(self.root / f"{stem}_{end}", self.source)
        row, column = self._centre(name)
        window = (row - SIDE // 2, column - SIDE // 2, SIDE, SIDE)
        return Series((f"{stem}_data.npy",), self._dates(f"{stem}_products.txt"), window, masks=(f"{stem}_masks.npy",))

    def _centre(self, name: str) -> tuple[int, int]:
        found = self.centres.get(name)
        try:
            row, column = found  # type: ignore[misc]  # None is not iterable: an error
            return int(row), int(column)
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"{self.root / CENTRES} has {found!r} for {name}; it should be [row, column] in the superpatch: fetch "
                "it again"
            ) from error

    def _dates(self, products: str) -> tuple[str, ...]:
        if products not in self.dates:
            path = need(self.root / products, self.source)
            lines = [line for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
            days = [PRODUCT.search(line) for line in lines]
            if wrong := [line for line, day in zip(lines, days, strict=True) if day is None]:
                raise ValueError(f"{path} has lines without the date of a Sentinel-2 product, as {wrong[0][:60]!r}")
            self.dates[products] = tuple("-".join(day.groups()) for day in days if day)
        return self.dates[products]
