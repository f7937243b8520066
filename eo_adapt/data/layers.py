"""Parcel layers: outlines with their crops and no images yet, one GeoParquet a country and year, each in its own CRS.

What ``prepare`` makes of vectors (EuroCrops), and what an extraction of image series starts from. Layout::

    <out>/layers.json             format, recipe, licence, citation, size of every file
    <out>/<name>.parquet          GeoParquet: id, geometry, hcat, hcat_name, crop, country, region, year, crs
    <out>/<name>.dropped.csv      parcels left out, and why; only if there are any
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from .. import __version__
from .writer import is_empty, replace_folder

if TYPE_CHECKING:
    import geopandas
    import pandas as pd

LAYER_FORMAT = 1
NAME = "layers.json"
COLUMNS = ("id", "hcat", "hcat_name", "crop", "country", "region", "year", "crs", "geometry")


@dataclass(frozen=True)
class Layer:
    """The parcels of one country and year, as a reader hands them over.

    Attributes:
        name: File name without its ending, e.g. ``LV_2021``.
        frame: :data:`COLUMNS`, in the CRS of the source.
        dropped: Columns id and reason: parcels left out.
    """

    name: str
    frame: geopandas.GeoDataFrame
    dropped: pd.DataFrame


class LayerReader(Protocol):
    """Raw layout -> parcel layers."""

    def layers(self, root: Path) -> Iterator[Layer]:
        """Yield the layers below ``root``."""


class ParcelLayers:
    """Layers that were prepared, opened for reading.

    Args:
        path: The folder.

    Raises:
        FileNotFoundError: If there are none.
        ValueError: If they are of another format, or a file is missing or cut short.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        if not (self.path / NAME).is_file():
            raise FileNotFoundError(f"no parcel layers at {self.path}; make some with `python -m eo_adapt.prepare`")
        try:
            self.about: dict[str, Any] = json.loads((self.path / NAME).read_text())
        except json.JSONDecodeError as error:
            raise ValueError(f"{self.path / NAME} is damaged ({error}); prepare it again with force=true") from error
        if self.about.get("format") != LAYER_FORMAT:
            raise ValueError(f"the layers at {self.path} have format {self.about.get('format')}, not {LAYER_FORMAT}")
        for name, size in self.about["files"].items():
            file = self.path / name
            if not file.is_file() or file.stat().st_size != size:
                raise ValueError(f"the layers at {self.path} are damaged: {name} is missing or cut; use force=true")

    def __len__(self) -> int:
        return int(self.about["parcels"])

    @property
    def names(self) -> list[str]:
        """Names of the layers."""
        return list(self.about["layers"])

    def read(self, name: str) -> geopandas.GeoDataFrame:
        """One layer.

        Raises:
            LookupError: If there is none of that name.
        """
        import geopandas

        if name not in self.names:
            raise LookupError(f"no layer called {name!r}; there are {self.names}")
        return geopandas.read_parquet(self.path / f"{name}.parquet")


def write_layers(path: Path, recipe: str, layers: Iterator[Layer], about: Mapping[str, Any]) -> None:
    """Write layers under a temporary name, one at a time in memory, and rename the folder when it is whole.

    Args:
        path: Folder of the layers to be; layers that are there are replaced.
        recipe: Name of the recipe.
        layers: The layers.
        about: Licence, citation and the like.

    Raises:
        FileExistsError: If something else lies at ``path``.
        ValueError: If there is no parcel, or two layers of one name.
    """
    if path.exists() and not (path / NAME).is_file() and not is_empty(path):
        raise FileExistsError(
            f"{path} exists and holds no layers; it would be lost. Give the name of a folder that is not there yet"
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    try:
        counts: dict[str, int] = {}
        dropped = 0
        for layer in layers:
            if layer.name in counts:
                raise ValueError(f"two layers of the {recipe} data are called {layer.name!r}; remove one")
            layer.frame[list(COLUMNS)].to_parquet(temporary / f"{layer.name}.parquet", index=False)
            if len(layer.dropped):
                layer.dropped.to_csv(temporary / f"{layer.name}.dropped.csv", index=False)
            counts[layer.name], dropped = len(layer.frame), dropped + len(layer.dropped)
        if not sum(counts.values()):
            raise ValueError(f"the {recipe} data gave no parcel ({dropped} were left out)")
        found = {
            "format": LAYER_FORMAT,
            "kind": "parcel outlines",
            "made_with": f"eo_adapt {__version__}",
            "recipe": recipe,
            "parcels": sum(counts.values()),
            "dropped": dropped,
            "layers": counts,
            "about": dict(about),
            "files": {p.name: p.stat().st_size for p in sorted(temporary.iterdir())},
        }
        (temporary / NAME).write_text(json.dumps(found, indent=1, default=str))
        temporary.chmod(0o755)
        replace_folder(temporary, path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
