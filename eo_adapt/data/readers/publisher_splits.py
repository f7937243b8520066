"""Split files of EuroCropsML: which parcel file is in train, val or test."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml

PARTS = ("train", "val", "test")


def read_splits(folder: Path, files: Sequence[str]) -> dict[str, str]:
    """File name -> ``train``, ``val`` or ``test`` over several split files.

    A file is a json (or yaml) mapping of these parts to lists of file names. The publisher's ``meta`` files nest the
    lists by region and class, which is flattened.

    Args:
        folder: Folder ``split`` of the data set.
        files: Paths relative to it.

    Raises:
        FileNotFoundError: A file is missing.
        ValueError: A file has another form, or two parts claim one parcel.
    """
    found: dict[str, str] = {}
    for file in files:
        path = folder / file
        if not path.is_file():
            raise FileNotFoundError(
                f"{path} is missing; split files are named relative to {folder}, "
                f"e.g. latvia_vs_estonia/finetune/region_split_all.json"
            )
        for part, names in _parts(path).items():
            for name in _flatten(names, path):
                if found.setdefault(name, part) != part:
                    raise ValueError(
                        f"{path}: {name} is in {part!r} here and in {found[name]!r} before; it must be one"
                    )
    return found


def _parts(path: Path) -> dict[str, Any]:
    text = path.read_text(encoding="utf-8")
    try:
        parts = yaml.safe_load(text) if path.suffix in (".yaml", ".yml") else json.loads(text)
    except (json.JSONDecodeError, yaml.YAMLError) as error:
        raise ValueError(f"{path} is no readable json or yaml file: {error}") from error
    if not isinstance(parts, dict) or not parts or not set(parts) <= set(PARTS):
        got = list(parts) if isinstance(parts, dict) else type(parts).__name__
        raise ValueError(f"{path}: a split file maps {list(PARTS)} to lists of file names; got {got}")
    return parts


def _flatten(names: Any, path: Path) -> Iterator[str]:
    if isinstance(names, dict):
        for inner in names.values():
            yield from _flatten(inner, path)
    elif isinstance(names, list) and all(isinstance(name, str) for name in names):
        yield from (Path(name).name for name in names)
    else:
        raise ValueError(f"{path}: expected lists of file names; got {type(names).__name__}")
