"""``PROVENANCE.json`` in every result: what made it, from which files, with which code and options."""

from __future__ import annotations

import contextlib
import hashlib
import json
import platform
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from ... import __version__
from .ledger import FOLDER, now, write_json

NAME = "PROVENANCE.json"
LIBRARIES = ("numpy", "pandas", "pyarrow", "geopandas", "rasterio", "h5py", "zarr", "laspy")


def listing(raw: Path, out: Path, times: bool = False) -> dict[str, Any]:
    """Number, bytes and one hash of the names and sizes of all files below a folder.

    Args:
        raw: The folder.
        out: What is made of them; it does not count where it lies below ``raw``.
        times: Whether a file that was written again counts as another one.
    """
    raw, digest, count, total = raw.resolve(), hashlib.sha256(), 0, 0
    within = out.parent.is_relative_to(raw)
    for path in sorted(p for p in raw.rglob("*") if FOLDER not in p.parts and p.is_file()):
        first = path.relative_to(out.parent).parts[0] if within and path.is_relative_to(out.parent) else ""
        if first == out.name or first.startswith(f".{out.name}."):
            continue
        about = path.stat()
        when = f" {about.st_mtime_ns}" if times else ""
        digest.update(f"{path.relative_to(raw).as_posix()} {about.st_size}{when}\n".encode())
        count, total = count + 1, total + about.st_size
    return {"files": count, "bytes": total, "listing_sha256": digest.hexdigest()}


def libraries() -> dict[str, str]:
    """Versions of what a result may depend on."""
    found = {"python": platform.python_version()}
    for name in LIBRARIES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found


def write(
    result: Path,
    key: str,
    recipe: Mapping[str, Any],
    raw: Mapping[str, Any],
    steps: Sequence[Mapping[str, Any]],
    options: Mapping[str, Any],
) -> None:
    """Write the record of a result into its folder.

    Args:
        result: The folder of the store or layers, otherwise whole.
        key: Of all inputs.
        recipe: Its name, revision, licence, citation and text.
        raw: The raw folder: path and :func:`listing`.
        steps: What :func:`.steps.bring` did.
        options: Options of the command.
    """
    facts = {name: value for name, value in recipe.items() if name not in ("text", "code")}
    outputs = {p.relative_to(result).as_posix(): p.stat().st_size for p in sorted(result.rglob("*")) if p.is_file()}
    content = {
        "key": key,
        "made_with": f"eo_adapt {__version__}",
        "code_sha256": recipe["code"],
        "libraries": libraries(),
        "when": now(),
        "recipe": {**facts, "sha256": hashlib.sha256(recipe["text"].encode()).hexdigest()},
        "options": dict(options),
        "steps": [
            *(dict(step) for step in steps),
            {"prepare": {"raw": dict(raw), "outputs": outputs}},
        ],
    }
    write_json(result / NAME, content)


def key_of(result: Path) -> str:
    """The key of the inputs that a result was made of; "" = it does not say."""
    with contextlib.suppress(OSError, json.JSONDecodeError, AttributeError):
        return str(json.loads((result / NAME).read_text()).get("key", ""))
    return ""
