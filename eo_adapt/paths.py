"""Where the shipped yaml and csv files lie, in a checkout and in an installed wheel, and where downloads go."""

from __future__ import annotations

import os
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent


def configs_dir() -> Path:
    """Folder of the configuration groups (``configs/`` of a checkout, ``eo_adapt/configs`` of a wheel).

    Raises:
        FileNotFoundError: The folder is in neither place.
    """
    return _shipped("configs", PACKAGE)


def recipes_dir() -> Path:
    """Folder of the data recipes and legends (``data_recipes/`` of a checkout, ``eo_adapt/data_recipes`` of a wheel).

    Raises:
        FileNotFoundError: The folder is in neither place.
    """
    return _shipped("data_recipes", PACKAGE)


def cache_dir() -> Path:
    """Folder for downloads and prepared stores; it is named here, not created.

    The first of these that is set and not empty: ``$EO_ADAPT_CACHE``, ``$XDG_CACHE_HOME/eo_adapt``,
    ``~/.cache/eo_adapt``.
    """
    if own := os.environ.get("EO_ADAPT_CACHE"):
        return Path(own).expanduser()
    if xdg := os.environ.get("XDG_CACHE_HOME"):
        return Path(xdg).expanduser() / "eo_adapt"
    return Path.home() / ".cache" / "eo_adapt"


def _shipped(name: str, package: Path) -> Path:
    """Folder ``name`` beside ``package`` if that is a checkout, else inside ``package``.

    A checkout has both ``pyproject.toml`` and ``configs/``, so a stranger's ``site-packages/configs`` is never taken.
    """
    root = package.parent
    checkout = (root / "pyproject.toml").is_file() and (root / "configs").is_dir()
    places = [root / name] if checkout else []
    places.append(package / name)
    for place in places:
        if place.is_dir():
            return place
    raise FileNotFoundError(
        f"{name}/ is missing; looked in {[str(place) for place in places]}. "
        "Run from a checkout (pyproject.toml and configs/ beside eo_adapt) or reinstall the eo_adapt wheel."
    )
