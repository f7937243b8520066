"""Shipped folders are found in a checkout and in a wheel, and never in a stranger's site-packages."""

from __future__ import annotations

from pathlib import Path

import pytest

from eo_adapt import paths


def test_checkout_wins_over_the_package(tmp_path: Path) -> None:
    package = tmp_path / "eo_adapt"
    for folder in (tmp_path / "configs", tmp_path / "data_recipes", package / "data_recipes"):
        folder.mkdir(parents=True)
    (tmp_path / "pyproject.toml").touch()
    assert paths._shipped("data_recipes", package) == tmp_path / "data_recipes"


def test_installed_wheel_ignores_folders_beside_it(tmp_path: Path) -> None:
    package = tmp_path / "eo_adapt"
    for folder in (tmp_path / "configs", package / "configs"):
        folder.mkdir(parents=True)
    assert paths._shipped("configs", package) == package / "configs"


def test_missing_folder_names_the_places(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"configs/ is missing; looked in .*eo_adapt"):
        paths._shipped("configs", tmp_path / "eo_adapt")


def test_cache_dir_order(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", "/xdg")
    monkeypatch.setenv("EO_ADAPT_CACHE", "/own")
    assert paths.cache_dir() == Path("/own")
    monkeypatch.setenv("EO_ADAPT_CACHE", "")
    assert paths.cache_dir() == Path("/xdg/eo_adapt")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert paths.cache_dir() == tmp_path / ".cache" / "eo_adapt"
