"""Raw files -> a prepared store: ``python -m eo_adapt.prepare recipe=cawa raw=<folder> out=<store>``."""

from __future__ import annotations

from pathlib import Path

if __name__ == "__main__":
    from eo_adapt.cli import launch

from omegaconf import DictConfig


def main(cfg: DictConfig) -> None:
    """What the command line runs.

    Raises:
        ValueError: If recipe, raw or out is missing.
        FileExistsError: If there is a store already and force is false.
    """
    from .data.recipe import Recipe

    missing = [key for key in ("recipe", "raw", "out") if not cfg[key]]
    if missing:
        raise ValueError(f"prepare needs {missing}: python -m eo_adapt.prepare recipe=<name> raw=<folder> out=<folder>")
    recipe, out = Recipe.load(cfg.recipe), Path(cfg.out)
    if (out / "store.json").exists() and not cfg.force:
        raise FileExistsError(f"there is a store at {out}; force=true replaces it once the new one is whole")
    store = recipe.prepare(Path(cfg.raw), out)
    print(f"{recipe.title}\nlicence: {recipe.licence.get('id', '?')}; cite: {recipe.citation}")
    left = "".join(f", {n} {what} ({what}.csv)" for what in ("dropped", "skipped") if (n := store.about.get(what)))
    print(f"{len(store)} {store.about.get('kind', 'parcels')}{left}: {out}")


if __name__ == "__main__":
    launch("prepare", main)
