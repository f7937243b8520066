"""Recipes for people: a table of all, and all about one."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .sources import UNKNOWN, Source

if TYPE_CHECKING:
    from ..recipe import Recipe


def access(sources: Iterable[Source]) -> str:
    """How the files are to be had: embedded, download, parts or by hand."""
    files = [source for source in sources if not source.informs]
    if any(source.template for source in files):
        return "parts"
    if files and all(source.url for source in files):
        return "download"
    return "by hand"


def size(sources: Iterable[Source]) -> str:
    """Bytes of all files, as far as they are known."""
    known = [source.size for source in sources if not source.informs]
    total = sum(n for n in known if n is not None)
    if not total:
        return "size unknown"
    return f"{human(total)}{' and more' if None in known else ''}"


def human(count: float) -> str:
    """``28.8 GB``; a GB is 10^9 bytes, as publishers count."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if count < 1000 or unit == "GB":
            return f"{count:.0f} {unit}" if unit == "bytes" else f"{count:.1f} {unit}"
        count /= 1000
    raise AssertionError  # pragma: no cover


def table(recipes: Iterable[Recipe]) -> str:
    """One line a recipe: name, how it is to be had, licence, title."""
    rows = []
    for recipe in recipes:
        files = recipe.files()
        how = "embedded" if recipe.synthetic and not files else access(files)
        rows.append((recipe.name, how, str(recipe.licence.get("id", "?")).split(",")[0].split(";")[0], recipe.title))
    widths = [max(len(row[i]) for row in rows) for i in range(3)]
    widths[2] = min(widths[2], 24)
    return "\n".join(f"{n:<{widths[0]}}  {h:<{widths[1]}}  {li[:24]:<{widths[2]}}  {t}" for n, h, li, t in rows)


def text(recipe: Recipe, raw: Path, out: Path) -> str:
    """All about one recipe."""
    files = recipe.files()
    lines = [f"{recipe.name}: {recipe.title}", ""]
    lines += _fact("revision", recipe.revision) + _fact("licence", f"{_join(recipe.licence)}")
    lines += _fact("citation", _join(recipe.citation) if isinstance(recipe.citation, Mapping) else recipe.citation)
    lines += _fact("files", f"{access(files) if files else 'embedded'}, {size(files)}")
    lines += [f"    {line}" for source in files for line in _source(source)]
    lines += _fact("by hand", recipe.by_hand) + _fact("parts", recipe.parts)
    for name, sensor in recipe.sensors.items():
        lines += _fact(f"sensor {name}", _join(sensor))
    lines += _fact("domains", recipe.domains) + _fact("split", recipe.split) + _fact("legend", recipe.legend)
    if not recipe.extracts:  # else each option is a word of its own
        lines += _fact("reader=", {name: str(value) for name, value in recipe.options().items()})
    lines += _fact("notes", recipe.notes)
    lines += [f"raw files  {raw}", f"result     {out}"]
    return "\n".join(lines)


def _source(source: Source) -> list[str]:
    if source.informs:
        return [f"see {source.page}"]
    known = "; ".join(f"{name} {digits}" for name, digits in source.known.items()) or f"hash {UNKNOWN}"
    much = human(source.size) if source.size is not None else str(source.bytes).removeprefix(UNKNOWN).strip(" ()")
    first = f"{source.file or source.url}  {much or 'size unknown'}; {known}"
    return [first, *([f"  {source.url}"] if source.url and source.file else [])]


def _fact(name: str, value: Any) -> list[str]:
    if not value:
        return []
    told = _join(value) if isinstance(value, Mapping | list) else str(value)
    body = textwrap.wrap(told, 105, break_long_words=False, break_on_hyphens=False)
    return [f"{name:<10} {body[0]}", *(f"{'':<10} {line}" for line in body[1:])]


def _join(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{k} {_join(v)}" for k, v in value.items() if v not in ("", None))
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
