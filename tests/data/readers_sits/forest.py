"""Files of TreeSatAI time series, found and changed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py

from eo_adapt.data.readers.treesatai_ts import FOLDER


def first(root: Path) -> Path:
    return min((root / FOLDER).glob("*.h5"))


def change(root: Path, key: str, value: Any) -> None:
    """Write one array of the first patch again; a function changes it, None takes it away."""
    with h5py.File(first(root), "a") as file:
        found = file[key][()]
        del file[key]
        if value is not None:
            file[key] = value(found) if callable(value) else value
