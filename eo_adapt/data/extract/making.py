"""The command's last steps: a store under a temporary name, its provenance, and the rename."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..fetch import provenance
from ..writer import is_empty, replace_folder
from .errors import FatalError, cannot_write

if TYPE_CHECKING:
    from ..recipe import Recipe
    from ..store import Store


def make_store(recipe: Recipe, raw: Path, out: Path, options: Mapping[str, Any], force: bool = False) -> Store:
    """Extract a store with a record of what made it; one that is there is replaced once the new one is whole.

    Args:
        recipe: One whose reader is a :class:`.reader.ParcelExtraction`.
        raw: What relative paths are relative to.
        out: The store to be; the work in progress is kept in ``<out>.work``, unless the options name another folder.
        options: Arguments of the reader that differ from the recipe's.
        force: Whether a store that is there is replaced.

    Raises:
        FileExistsError: If there is a store and ``force`` is False, or something else.
        FatalError: If another run makes the same store, or nothing can be written there.
        ValueError: If options, parcels or images are not as they should be.
    """
    from filelock import FileLock, Timeout

    out = out.resolve()
    if (out / "store.json").exists() and not force:
        raise FileExistsError(
            f"there is a store at {out}; force=true replaces it once the new one is whole (finished units are not "
            "computed again)"
        )
    if out.exists() and not (out / "store.json").exists() and not is_empty(out):
        raise FileExistsError(f"{out} exists and is no store; it would be lost. Give the name of a folder that is new")
    recipe = recipe.with_options({"work": f"{out}.work", **options})
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(str(out.with_name(f".{out.name}.lock")))
        lock.acquire(timeout=0)
    except Timeout as error:
        raise FatalError(f"another run is making {out}; wait for it, or give another out") from error
    except OSError as error:
        raise cannot_write(out, error) from error
    try:
        return _made(recipe, raw, out, options)
    finally:
        lock.release()


def _made(recipe: Recipe, raw: Path, out: Path, options: Mapping[str, Any]) -> Store:
    from ..recipe import code_hash
    from ..store import Store

    making = out.with_name(f".{out.name}.making")  # what a run that was killed left behind goes with it
    shutil.rmtree(making, ignore_errors=True)
    result = making / "result"
    try:
        recipe.prepare(raw, result)
        facts = {f.name: getattr(recipe, f.name) for f in dataclasses.fields(recipe)}
        names = ("name", "title", "revision", "licence", "citation", "text")
        listed = (result / "acquisitions.parquet").read_bytes() + (result / "index.parquet").read_bytes()
        key = hashlib.sha256(json.dumps(dict(options), sort_keys=True, default=str).encode() + listed).hexdigest()
        about = {"path": str(raw.resolve()), "listing_sha256": hashlib.sha256(listed).hexdigest()}
        made_by = {**{name: facts[name] for name in names}, "code": code_hash()}
        provenance.write(result, key, made_by, about, (), options)
        replace_folder(result, out)
    finally:
        shutil.rmtree(making, ignore_errors=True)
    return Store(out)
