"""Which scenes a user means, and many of them mapped one after the other, with a manifest."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import yaml

from ..rundir import write_text
from .figure import draw_map
from .mapper import Mapper
from .maps import Settings, map_scene

RASTERS = (".tif", ".tiff", ".vrt", ".jp2")
MANIFEST = "manifest.json"
FREE = ("overwrite", "readers", "scheduler", "workers", "device")  # do not change a map
OURS = ("started", "done", "failed")  # states of a scene whose map, if it is there, is of an earlier call


def scenes_of(given: Any) -> dict[str, Any] | list[Path] | Path:
    """What ``input=`` stands for: sensors of one scene, many files, or one file.

    Args:
        given: A file, a folder, a pattern (``*``, ``?``), a yaml file of sensors, or sensor -> what lies where.

    Raises:
        FileNotFoundError: If nothing is there.
        ValueError: If it says nothing, or a yaml holds no mapping.
    """
    if isinstance(given, Mapping):
        if not given:
            raise ValueError("say what to map: input=<file, folder, pattern or yaml>, or input.<sensor>=<...>")
        return dict(given)
    path = Path(str(given))
    if path.suffix in (".yaml", ".yml"):
        return _from_yaml(path)
    if path.is_dir():
        found = sorted(p for p in path.iterdir() if p.suffix.lower() in RASTERS and not p.name.startswith("."))
        if not found:
            raise FileNotFoundError(f"no raster ({', '.join(RASTERS)}) lies in {path}")
        return found
    if path.is_file():
        return path
    if any(c in str(path) for c in "*?["):
        base = Path(path.anchor) if path.is_absolute() else Path()
        found = sorted(p for p in base.glob(str(path.relative_to(base))) if p.is_file())
        if found:
            return found
    raise FileNotFoundError(f"there is no {path}: give a raster, a folder or pattern of them, or a yaml")


def _from_yaml(path: Path) -> dict[str, Any]:
    """Sensors of a scene; paths in it are relative to the yaml."""
    if not path.is_file():
        raise FileNotFoundError(f"there is no {path}")
    spec = yaml.safe_load(path.read_text())
    if not isinstance(spec, dict) or not spec:
        raise ValueError(f"{path} must say <sensor>: <file or pattern>, or <sensor>: {{path, bands, dates, masks}}")

    def placed(text: Any) -> str:
        return str(path.parent / str(text))

    found: dict[str, Any] = {}
    for name, entry in spec.items():
        if isinstance(entry, dict):
            found[name] = {key: placed(x) if key in ("path", "masks") else x for key, x in entry.items()}
        else:
            found[name] = placed(entry)
    return found


def map_scenes(
    mapper: Mapper,
    files: list[Path],
    output: Path,
    settings: Settings,
    command: str = "",
    told: Callable[[str], None] = lambda line: None,
    figures: bool = False,
) -> dict[str, Any]:
    """Map many files, each by itself, into a folder; ``manifest.json`` says what became of each.

    A file that fails is written down and the others go on. The same command again maps what is missing and tries again
    what failed; a map of the same file, checkpoint and settings is kept. What lies under a map's name and was not made
    by an earlier call stays, and counts as ``refused``.

    Args:
        mapper: The network.
        files: The scenes.
        output: The folder; a map is called like its scene.
        settings: How.
        command: What to write into the files as their origin.
        told: Called with lines on the progress.
        figures: Draw each map that is made, beside it.

    Returns:
        What the manifest holds.

    Raises:
        ValueError: If two scenes would get the same name, the scenes lie in the folder, or it holds maps of other
            settings.
        RuntimeError: At the end, if files failed; names them.
    """
    _check(files, output)
    output.mkdir(parents=True, exist_ok=True)
    manifest = _manifest(output, _about(mapper, settings), settings.overwrite)
    entries = manifest["scenes"]
    for i, path in enumerate(files, 1):
        state = [path.stat().st_size, path.stat().st_mtime_ns]
        target = output / f"{path.stem}.tif"
        earlier = entries.get(path.name, {})
        if earlier.get("status") == "done" and earlier.get("state") == state and target.exists():
            told(f"{i}/{len(files)} {path.name}: there already")
            continue
        known = earlier.get("status") in OURS
        if known or not target.exists():  # a call that is killed right after the map is there has said that it is ours
            entries[path.name] = {"status": "started", "state": state}
            write_text(output / MANIFEST, json.dumps(manifest, indent=1))
        try:
            mine = replace(settings, overwrite=settings.overwrite or known)
            facts = map_scene(mapper, str(path), target, mine, command=command, told=told)
            if figures:
                draw_map(target, target.with_suffix(".png"), path.stem)
            entries[path.name] = {"status": "done", "state": state, "map": target.name, "pixels": facts["pixels"]}
        except (ValueError, OSError, LookupError, RuntimeError) as error:
            status = "refused" if isinstance(error, FileExistsError) else "failed"
            entries[path.name] = {"status": status, "state": state, "error": str(error)}
        told(f"{i}/{len(files)} {path.name}: {entries[path.name]['status']}")
        write_text(output / MANIFEST, json.dumps(manifest, indent=1))
    if failed := [f"{name}: {e['error']}" for name, e in entries.items() if "error" in e]:
        raise RuntimeError(
            f"{len(failed)} of {len(files)} scenes failed, the others are mapped; the same command tries them again "
            f"({output / MANIFEST}). First: {failed[0]}"
        )
    return manifest


def _check(files: list[Path], output: Path) -> None:
    """Refuse a folder in which maps would clash with scenes or with each other."""
    if output.suffix:
        raise ValueError(f"{len(files)} scenes make as many maps: output must be a folder; got {output}")
    if any(path.parent.resolve() == output.resolve() for path in files):
        raise ValueError(f"the scenes lie in {output}: maps there would be taken for scenes; set another output=")
    names = [path.stem for path in files]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"scenes are called alike, {twice}: their maps would be, too; map the folders one by one")


def _about(mapper: Mapper, settings: Settings) -> dict[str, Any]:
    """What the maps of a folder have in common."""
    kept = {key: value for key, value in asdict(settings).items() if key not in FREE}
    about = {"checkpoint": mapper.digest, "domain": mapper.domain, "settings": kept}
    plain: dict[str, Any] = json.loads(json.dumps(about))
    return plain


def _manifest(output: Path, about: dict[str, Any], overwrite: bool) -> dict[str, Any]:
    path = output / MANIFEST
    if path.is_file():
        found: dict[str, Any] = json.loads(path.read_text())
        if found.get("about") == about:
            return found
        if not overwrite:
            raise ValueError(
                f"{output} holds maps of another checkpoint or other settings; set another output=, or overwrite=true"
            )
    return {"about": about, "scenes": {}}
