"""Raw files -> a prepared store, fetched first if need be.

``python -m eo_adapt.prepare recipe=cawa [raw=<folder>] [out=<store>]``, ``... list``, ``... show recipe=cawa``,
``... check recipe=cawa [raw=<folder>]``.
"""

from __future__ import annotations

import difflib
import sys
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

if __name__ == "__main__":
    from eo_adapt.cli import guard, launch

from omegaconf import DictConfig, OmegaConf

if TYPE_CHECKING:
    from .data.fetch.sources import Source
    from .data.recipe import Recipe

WORDS = ("make", "list", "show", "check")


def words(arguments: list[str]) -> list[str]:
    """A plain first word becomes an option: ``check recipe=cawa`` -> ``do=check recipe=cawa``.

    Raises:
        ValueError: If it is no word that is known; names the closest.
    """
    if not arguments or "=" in arguments[0] or arguments[0].startswith("-"):
        return arguments
    if arguments[0] not in WORDS:
        near = difflib.get_close_matches(arguments[0], WORDS, n=1)
        hint = f" did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"prepare knows no {arguments[0]!r};{hint} it has {list(WORDS[1:])}, or recipe=<name>")
    return [f"do={arguments[0]}", *arguments[1:]]


def main(cfg: DictConfig) -> None:
    """What the command line runs.

    Raises:
        ValueError: If the recipe is missing, ``do`` unknown, or a file is not the one that the recipe describes.
        FileNotFoundError: If files are missing that no program may fetch.
        FileExistsError: If there is a store of other inputs already and force is false.
    """
    from .data.recipe import Recipe, recipe_names

    if cfg.do not in WORDS:
        raise ValueError(f"do is one of {list(WORDS)}; got {cfg.do!r}")
    if cfg.do == "list":
        from .data.fetch.describe import table

        print(table(map(Recipe.load, recipe_names())))
        return
    if not cfg.recipe:
        raise ValueError(
            "prepare needs recipe=<name>: `python -m eo_adapt.prepare list` shows all, `show recipe=<name>` one"
        )
    recipe = Recipe.load(cfg.recipe)
    if cfg.reader is not None:
        recipe = recipe.with_options(_reader(cfg.reader))
    raw, out = _places(recipe, cfg)
    if cfg.do == "make" and (options := _extraction(cfg)):
        _extract(recipe, out, options, cfg)
        return
    if cfg.do == "show":
        from .data.fetch.describe import text

        print(text(recipe, raw, out))
        return
    sources = _wanted(recipe, cfg)
    if cfg.do == "check":
        _check(recipe, raw, sources)
    else:
        _make(recipe, raw, out, sources, cfg)


def _reader(given: Any) -> dict[str, Any]:
    """What ``reader=`` says.

    Raises:
        ValueError: If it is no mapping.
    """
    plain = OmegaConf.to_container(given) if OmegaConf.is_config(given) else given
    if not isinstance(plain, dict):
        raise ValueError(f"reader= takes options of the recipe's reader, e.g. reader={{sentinel2:true}}; got {plain!r}")
    return {str(name): value for name, value in plain.items()}


def _places(recipe: Recipe, cfg: DictConfig) -> tuple[Path, Path]:
    """Raw folder and result, by default below the cache."""
    from .paths import cache_dir

    name = Path(recipe.name).stem
    raw = Path(cfg.raw).expanduser() if cfg.raw else cache_dir() / "raw" / name
    return raw, Path(cfg.out).expanduser() if cfg.out else cache_dir() / "prepared" / name


def _wanted(recipe: Recipe, cfg: DictConfig) -> tuple[Source, ...]:
    from .data.fetch.sources import read_parts, select

    parts = OmegaConf.to_container(cfg.parts) if OmegaConf.is_config(cfg.parts) else cfg.parts
    return select(recipe.files(), read_parts(parts), recipe.name)


def _check(recipe: Recipe, raw: Path, sources: tuple[Source, ...]) -> None:
    from .data.fetch.check import check

    findings = check(recipe, raw, sources)
    print("\n".join(map(str, findings)))
    wrong = sum(finding.state != "ok" for finding in findings)
    if wrong:
        raise ValueError(f"{raw} is not a whole copy of {recipe.name}: {wrong} of {len(findings)} findings are not ok")


def _make(recipe: Recipe, raw: Path, out: Path, sources: tuple[Source, ...], cfg: DictConfig) -> None:
    from .data.fetch.making import make_result
    from .data.fetch.steps import Wishes, bring

    pages = [source.page for source in recipe.files() if source.page]
    how = recipe.by_hand
    print(f"{recipe.title}\nlicence: {recipe.licence.get('id', '?')}; cite: {recipe.citation}")
    steps = bring(raw, sources, Wishes(cfg.verify, cfg.keep, cfg.fetch), how, list(dict.fromkeys(pages)))
    options = {name: str(cfg[name]) for name in ("recipe", "reader", "raw", "out", "parts", "fetch", "verify", "keep")}
    result, made = make_result(recipe, raw, out, steps, options, cfg.force)
    about = result.about
    counts = [(what, n) for what in ("dropped", "skipped") if (n := about.get(what))]
    left = "".join(
        f", {n} {what} ({', '.join(p.name for p in result.path.glob(f'*{what}.csv'))})" for what, n in counts
    )
    done = "" if made else " (nothing to do: made before, of the same inputs)"
    print(f"{len(result)} {about.get('kind', 'parcels')}{left}: {out}{done}")


def _extraction(cfg: DictConfig) -> dict[str, Any]:
    """Options of an extraction (``parcels=... images=...``) that were given; {} for any other recipe."""
    from .data.extract.reader import ParcelExtraction

    names = [f.name for f in fields(ParcelExtraction) if f.init]
    given = {name: cfg[name] for name in names if cfg[name] is not None}
    return {name: OmegaConf.to_container(x) if OmegaConf.is_config(x) else x for name, x in given.items()}


def _extract(recipe: Recipe, out: Path, options: dict[str, Any], cfg: DictConfig) -> None:
    from .data.extract.making import make_store

    print(f"{recipe.title}\nlicence: {recipe.licence.get('id', '?')}; cite: {recipe.citation}", flush=True)
    store = make_store(recipe, Path(cfg.raw or "."), out, options, cfg.force)
    dropped = store.about.get("dropped")
    print(f"{len(store)} parcels{f', {dropped} dropped (dropped.csv)' if dropped else ''}: {out}")


def start() -> None:
    """Understand a plain first word before hydra sees the arguments."""
    sys.argv[1:] = words(sys.argv[1:])


if __name__ == "__main__":
    guard(start)
    launch("prepare", main)
