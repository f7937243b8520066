"""A recipe of keys, one parcel a line, and archives of them."""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from eo_adapt.data.fetch.steps import Wishes
from eo_adapt.data.recipe import Recipe
from eo_adapt.data.records import Record, Sensor, Series

SAID: list[str] = []
QUIET = Wishes(say=SAID.append)


@dataclass
class Keys:
    """Reads a parcel a line of keys.txt."""

    sensors: dict[str, Any] = field(default_factory=lambda: {"s2": Sensor(("B04", "B08"))})

    def read(self, root: Path) -> Iterator[Record]:
        for i, key in enumerate((root / "keys.txt").read_text().split()):
            series = Series(np.full((2, 2), i + 1, np.uint16), np.array([10, 20]))
            yield Record(key, "crop", 10.0 + i, 50.0, {"s2": series})


def recipe(*sources: dict[str, Any], **more: Any) -> Recipe:
    return Recipe(
        name="toy",
        title="Toy",
        licence={"id": "CC0"},
        citation="nobody",
        reader={"_target_": "eo_adapt.data.readers.keys.Keys"},
        sources=sources,
        text=json.dumps([sources, more], default=str),
        **more,
    )


def archive(path: Path, **files: str) -> bytes:
    with zipfile.ZipFile(path, "w") as packed:
        for name, text in files.items():
            packed.writestr(name.replace("__", "/").replace("_txt", ".txt"), text)
    return path.read_bytes()


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
