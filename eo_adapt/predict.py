"""A trained network -> files for GIS: ``python -m eo_adapt.predict run=<run directory> input=<scene> output=<map>``.

Scenes become Cloud-Optimised GeoTIFFs, parcels a GeoParquet or GeoPackage, and a class map, given without a run,
polygons. A killed call goes on with the same command.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if __name__ == "__main__":
    from eo_adapt.cli import launch

from omegaconf import DictConfig

if TYPE_CHECKING:
    from .mapping.maps import Settings

OF_SETTINGS = (
    "tile", "overlap", "batch", "probabilities", "entropy", "tta", "scales", "precision", "device", "readers",
    "resample", "year", "bands", "adapt", "adapt_windows", "scheduler", "workers", "overwrite",
)  # fmt: skip


def predict_scenes(cfg: dict[str, Any], command: str) -> str:
    """Map what a config says.

    Returns:
        What was done, in a line.
    """
    from .mapping.mapper import of_path
    from .mapping.maps import map_scene
    from .mapping.scenes import map_scenes, scenes_of

    told = _print if cfg["progress"] == "lines" else _silent
    scenes, settings = scenes_of(cfg["input"]), _settings(cfg)
    mapper = of_path(cfg["run"], cfg["domain"] or None, cfg["checkpoint"])
    output = Path(cfg["output"])
    if isinstance(scenes, list):
        manifest = map_scenes(mapper, scenes, output, settings, command, told, cfg["figure"])
        return f"{len(manifest['scenes'])} maps: {output}"
    facts = map_scene(mapper, scenes, output, settings, command=command, told=told)
    if cfg["figure"]:
        from .mapping.figure import draw_map

        facts["files"].append(str(draw_map(output, output.with_suffix(".png"), output.stem)))
    note = "" if facts["seen"] else " (nothing was seen: all pixels are nodata)"
    rate = facts["megapixels"] / max(facts["computing"], 1e-9)
    return f"{facts['megapixels']:.2f} megapixels, {rate:.2f} a second{note}: {', '.join(facts['files'])}"


def predict_table(cfg: dict[str, Any], command: str) -> str:
    """Predict the parcels that a config names.

    Returns:
        What was done, in a line.
    """
    from .data.recipe import Recipe
    from .data.store import Store
    from .mapping.parcels import predict_parcels

    given = Path(str(cfg["input"]))
    store = Store(Recipe.load(cfg["recipe"]).cached(given).path if cfg["recipe"] else given)
    told = _print if cfg["progress"] == "lines" else _silent
    how = {key: cfg[key] for key in ("checkpoint", "row_group", "batch", "device", "adapt", "overwrite")}
    facts = predict_parcels(
        cfg["run"],
        store,
        cfg["output"],
        cfg["domain"] or None,
        **how,
        command=command,
        told=told,
    )
    return f"{facts['parcels']} parcels, {facts['parcels'] / facts['seconds']:.0f} a second: {cfg['output']}"


def predict_vectors(cfg: dict[str, Any]) -> str:
    """Outline a class map, or give the parcels of a layer their class.

    Returns:
        What was done, in a line.
    """
    from .mapping.vectors import per_parcel, polygons

    source, output = Path(str(cfg["input"])), Path(cfg["output"])
    if not cfg["parcels"]:
        count = polygons(source, output, cfg["minimum"], cfg["simplify"], cfg["overwrite"])
        return f"{count} polygons: {output}"
    beside = source.with_name(f"{source.stem}_probabilities{source.suffix}")
    probabilities = beside if beside.exists() else ""
    count = per_parcel(source, cfg["parcels"], output, probabilities, cfg["overwrite"])
    return f"{count} parcels: {output}"


def _settings(cfg: dict[str, Any]) -> Settings:
    from .mapping.maps import Settings

    return Settings(**{**{key: cfg[key] for key in OF_SETTINGS}, "bands": cfg["bands"] or ()})


def _print(line: str) -> None:
    print(line, flush=True)


def _silent(line: str) -> None:
    pass


def main(cfg: DictConfig) -> None:
    """What the command line runs.

    Raises:
        ValueError: If run, input or output is missing.
    """
    from omegaconf import OmegaConf

    plain: Any = OmegaConf.to_container(cfg, resolve=True)
    table = Path(str(plain["output"])).suffix in (".parquet", ".gpkg")
    of_map = table and Path(str(plain["input"])).suffix.lower() in (".tif", ".tiff")
    if missing := [key for key in ("run", "input", "output") if not plain[key] and not (key == "run" and of_map)]:
        raise ValueError(
            f"predict needs {missing}: python -m eo_adapt.predict run=<run directory> input=<scene> output=<map.tif>"
        )
    if plain["progress"] not in ("lines", "none"):
        raise ValueError(f"progress is lines or none; got {plain['progress']!r}")
    command = "python -m eo_adapt.predict " + " ".join(sys.argv[1:])
    if of_map:
        print(predict_vectors(plain))
    else:
        print((predict_table if table else predict_scenes)(plain, command))


if __name__ == "__main__":
    launch("predict", main)
