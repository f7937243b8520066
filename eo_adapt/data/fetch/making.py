"""The last step: a raw folder becomes a store, or parcel layers, renamed from a temporary name when all is well."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock

from ..recipe import code_hash, open_result
from ..writer import is_empty, replace_folder
from . import provenance

if TYPE_CHECKING:
    from ..layers import ParcelLayers
    from ..recipe import Recipe
    from ..scenes.store import SceneStore
    from ..store import Store


def make_result(
    recipe: Recipe,
    raw: Path,
    out: Path,
    steps: Sequence[Mapping[str, Any]] = (),
    options: Mapping[str, Any] | None = None,
    force: bool = False,
) -> tuple[Store | SceneStore | ParcelLayers, bool]:
    """Prepare a raw folder, unless it has been done with the same inputs.

    Args:
        recipe: How.
        raw: The raw files.
        out: Where to.
        steps: How the raw files came, for the record.
        options: Options of the command, for the record.
        force: Whether a result of other inputs is replaced, once the new one is whole.

    Returns:
        The result, and whether it was made now.

    Raises:
        FileNotFoundError: If there is no raw folder.
        FileExistsError: If ``out`` holds a result of other inputs and ``force`` is False, something else, or the raw
            files.
    """
    if not raw.is_dir():
        raise FileNotFoundError(f"no folder {raw} with the raw files of {recipe.name} ({recipe.title})")
    out = out.resolve()
    if raw.resolve().is_relative_to(out):
        raise FileExistsError(f"the raw files at {raw} lie in {out}, which would be replaced; choose another out")
    out.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(str(out.with_name(f".{out.name}.lock"))):
        key = _key(recipe, raw, out)
        if _is_result(out) and not force:
            if provenance.key_of(out) == key:
                return open_result(out), False
            raise FileExistsError(
                f"there is a store at {out}, made of other inputs; force=true replaces it once the new one is whole"
            )
        if out.exists() and not _is_result(out) and not is_empty(out):
            raise FileExistsError(
                f"{out} exists and is no store; it would be lost. Give the name of a folder that is not there yet"
            )
        making = out.with_name(f".{out.name}.making")
        result = making / "result"  # what the writers leave behind when they are killed lies in `making`, too
        if provenance.key_of(result) != key:  # else a run was killed just before the last rename
            shutil.rmtree(making, ignore_errors=True)
            recipe.prepare(raw, result)
            about = {"path": str(raw.resolve()), **provenance.listing(raw, out)}
            provenance.write(result, key, _facts(recipe), about, steps, options or {})
        replace_folder(result, out)
        shutil.rmtree(making, ignore_errors=True)
        for left in out.parent.glob(f".{out.name}.old.*"):  # of a run killed between two renames
            shutil.rmtree(left, ignore_errors=True)
    return open_result(out), True


def _is_result(out: Path) -> bool:
    return any((out / name).is_file() for name in ("store.json", "layers.json"))


def _facts(recipe: Recipe) -> dict[str, Any]:
    names = ("name", "title", "revision", "licence", "citation")
    return {**{name: getattr(recipe, name) for name in names}, "text": recipe.text, "code": code_hash()}


def _key(recipe: Recipe, raw: Path, out: Path) -> str:
    known = {
        "recipe": recipe.text,
        "reader": dict(recipe.reader),
        "code": code_hash(),
        "raw": provenance.listing(raw, out, times=True),
    }
    return hashlib.sha256(json.dumps(known, sort_keys=True).encode()).hexdigest()
