"""Made-up data in the raw layout of PASTIS-R's pixel sets: the patches of PastisWorld, cut into their parcels."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ..readers.pastis import METADATA
from ..readers.pastis_pixelset import PARCELS
from .pastis import FOLDS, Known, PastisWorld


@dataclass(frozen=True)
class Parcel:
    """What was written of one parcel.

    Attributes:
        number: ID_PARCEL.
        patch: The patch it was cut from.
        label: 1 to 19, of which 19 is void.
        shape: Its GF_ columns.
        pixels: Satellite -> (T, C, N).
    """

    number: int
    patch: Known
    label: int
    shape: dict[str, float]
    pixels: dict[str, np.ndarray] = field(default_factory=dict)


class PastisPixelSetWorld(PastisWorld):
    """Generator of data like PASTIS-R's pixel sets; see :class:`.pastis.PastisWorld` for its knobs."""

    def write(self, root: Path) -> None:
        """Write all files below ``root``."""
        self.write_parcels(root)

    def write_parcels(self, root: Path) -> list[Parcel]:
        """Write all files and return what a reader should find, and the parcels of void, by id."""
        root = Path(root)
        root.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory() as folder:
            patches = self.write_known(Path(folder))
            shutil.copy(Path(folder) / METADATA, root / METADATA)
        known = [parcel for patch in patches for parcel in _cut(patch)]
        for name in patches[0].images:
            (root / f"DATA_{name}").mkdir()
            for parcel in known:
                np.save(root / f"DATA_{name}/{name}_{parcel.number}.npy", parcel.pixels[name])
            _write_norm(root / f"NORM_PARCEL_{name}_set.json", name, known)
        head: list[str | float] = ["ID_PARCEL", "ID_PATCH", "Fold", "Label", *known[0].shape]
        rows: list[list[str | float]] = [
            [p.number, p.patch.number, p.patch.fold, p.label, *p.shape.values()] for p in known
        ]
        lines = [",".join(str(value) for value in row) + "\n" for row in (head, *rows)]
        (root / PARCELS).write_text("".join(lines))
        return known


def _cut(patch: Known) -> Iterator[Parcel]:
    classes, instances = patch.target[0], patch.target[1]
    for number in np.unique(instances[instances > 0]):
        mask = instances == number
        inside = np.pad(mask, 1)
        around = sum(int((inside != np.roll(inside, 1, axis)).sum()) for axis in (0, 1))
        rows, columns = (np.flatnonzero(mask.any(axis)) for axis in (1, 0))
        box = (rows[-1] - rows[0] + 1) * (columns[-1] - columns[0] + 1)
        shape = {
            "GF_perimeter": 10.0 * around,
            "GF_pixels": float(mask.sum()),
            "GF_cover": round(float(mask.sum() / box), 4),
            "GF_ratio": round(float(around / mask.sum()), 4),
        }
        pixels = {name: images[:, :, mask] for name, images in patch.images.items()}
        yield Parcel(100 * patch.number + int(number), patch, int(classes[mask][0]), shape, pixels)


def _write_norm(path: Path, name: str, known: Sequence[Parcel]) -> None:
    """Mean and standard deviation of each band, fold by fold."""
    found = {}
    for fold in range(1, FOLDS + 1):
        some = [np.moveaxis(p.pixels[name], 1, 0).reshape(p.pixels[name].shape[1], -1) for p in known
                if p.patch.fold == fold]  # fmt: skip
        if some:
            values = np.concatenate(some, 1).astype(np.float64)
            found[f"Fold_{fold}"] = {"mean": values.mean(1).tolist(), "std": values.std(1).tolist()}
    path.write_text(json.dumps(found))
