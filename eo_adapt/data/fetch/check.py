"""Whether a copy of the raw files is whole: what is missing, what is another file, and whether the reader reads it.

Nothing is fetched, nothing is written but to a temporary folder.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from .hashing import Hashes, mismatch, verified_by
from .sources import Source
from .steps import found, is_unpacked

if TYPE_CHECKING:
    from ..recipe import Recipe

SAMPLES = 20


@dataclass(frozen=True)
class Finding:
    """One line of what a check found.

    Attributes:
        state: ``ok``, ``missing`` or ``bad``.
        text: For people.
    """

    state: str
    text: str

    def __str__(self) -> str:
        return f"{self.state:<8} {self.text}"


def check(recipe: Recipe, raw: Path, sources: Sequence[Source]) -> list[Finding]:
    """Look at a copy of the raw files.

    Args:
        recipe: Of the data.
        raw: The copy.
        sources: The files that are wanted (:func:`.sources.select`).
    """
    if not raw.is_dir():
        return [Finding("missing", f"there is no folder {raw}; give the place of the raw files as raw=")]
    findings = [_file(raw, source) for source in sources]
    return [*findings, _read(recipe, raw)]


def _file(raw: Path, source: Source) -> Finding:
    path = raw / source.file
    if source.template:
        name = " ".join(source.gives) or source.url
        where = Finding("ok", f"{name}: some are there")
        return where if found(raw, source) else Finding("missing", f"{name}: none is there; name parts to fetch")
    if path.is_file():
        size = path.stat().st_size
        if source.size is not None and size != source.size:  # no need to hash 50 GB then
            return Finding("bad", f"{source.file} {mismatch(source, {}, size)}; fetch it again")
        problem = mismatch(source, Hashes().add_file(path).hex(), size) if source.known else ""
        if problem:
            return Finding("bad", f"{source.file} {problem}; it is damaged or another version")
        return Finding("ok", f"{source.file}: {size:,} bytes, verified by {verified_by(source)}")
    if is_unpacked(raw, source) or found(raw, source):
        return Finding("ok", f"{source.file}: unpacked")
    lacking = [glob for glob in source.gives if next(raw.glob(glob), None) is None]
    what = f" (nor {', '.join(lacking)})" if lacking else ""
    return Finding("missing", f"{source.file}{what}; from {source.url or 'its publisher, by hand'}")


def _read(recipe: Recipe, raw: Path) -> Finding:
    with tempfile.TemporaryDirectory() as folder:
        try:
            some = recipe.prepare(raw, Path(folder) / "some", limit=SAMPLES)
        except (ValueError, OSError, LookupError, TypeError, RuntimeError) as error:
            return Finding("bad", f"the reader: {error}")
        return Finding("ok", f"the reader: {len(some)} samples read")
