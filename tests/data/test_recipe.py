"""Recipes: found by name, checked key by key, prepared once for each state of the raw files."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import yaml
from worlds import S2, record, series

from eo_adapt.data import recipe as module
from eo_adapt.data.recipe import Recipe, make, recipe_names
from eo_adapt.data.records import Record

SPEC: dict[str, Any] = {
    "name": "toy",
    "title": "Toy parcels",
    "licence": {"id": "CC0", "url": "https://example.org"},
    "citation": "nobody",
    "reader": {"_target_": "eo_adapt.data.readers.toy.Toys", "prefix": "p"},
    "synthetic": {"_target_": "eo_adapt.data.readers.toy.ToyWorld", "parcels": 3},
}
READS: list[Path] = []


@dataclass
class Toys:
    """Reads keys from keys.json."""

    prefix: str
    sensors: dict[str, Any] = field(default_factory=lambda: {"s2": S2})

    def read(self, root: Path) -> Iterator[Record]:
        READS.append(root)
        rng = np.random.default_rng(0)
        for key in json.loads((root / "keys.json").read_text()):
            yield record(f"{self.prefix}{key}", series(rng, 2))


@dataclass
class ToyWorld:
    """Writes keys.json."""

    parcels: int
    broken: bool = False

    def write(self, root: Path) -> None:
        (root / "keys.json").write_text(json.dumps(list(range(self.parcels))))
        if self.broken:
            raise RuntimeError("out of toys")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of recipes with one called toy, an empty cache, and the toy's classes inside eo_adapt."""
    recipes, toys = tmp_path / "recipes", ModuleType("eo_adapt.data.readers.toy")
    recipes.mkdir()
    toys.__dict__.update(Toys=Toys, ToyWorld=ToyWorld)
    monkeypatch.setitem(sys.modules, toys.__name__, toys)
    monkeypatch.setattr(module, "recipes_dir", lambda: recipes)
    monkeypatch.setenv("EO_ADAPT_CACHE", str(tmp_path / "cache"))
    _save(tmp_path)
    READS.clear()
    return tmp_path


def _save(home: Path, file: str = "toy", **changes: Any) -> None:
    spec = {key: value for key, value in {**SPEC, **changes}.items() if value is not None}
    (home / "recipes" / f"{file}.yaml").write_text(yaml.safe_dump(spec))


def _raw(home: Path, *keys: str) -> Path:
    raw = home / "raw"
    raw.mkdir(exist_ok=True)
    (raw / "keys.json").write_text(json.dumps(keys))
    return raw


# -- loading ---------------------------------------------------------------------------------------------------------


def test_shipped_recipes_load() -> None:
    names = recipe_names()
    assert {"cawa", "timematch", "breizhcrops"} <= set(names)
    assert [Recipe.load(name).name for name in names] == names


def test_unknown_recipe_names_the_closest(home: Path) -> None:
    _save(home, "cawa", name="cawa")
    with pytest.raises(LookupError, match=r"no recipe called 'cava'; did you mean 'cawa'\? there are: \['cawa', 'to"):
        Recipe.load("cava")
    with pytest.raises(LookupError, match=r"no recipe called 'zzzzzz'; there are"):
        Recipe.load("zzzzzz")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"licnce": 1}, r"toy\.yaml has unknown keys \['licnce'\]; a recipe has \[.*'licence'"),
        ({"text": "x"}, r"unknown keys \['text'\]"),
        ({"licence": None, "citation": None}, r"toy\.yaml lacks \['citation', 'licence'\]"),
        ({"name": "other"}, r"toy\.yaml calls itself 'other'"),
    ],
)
def test_keys_are_checked(home: Path, changes: dict[str, Any], message: str) -> None:
    _save(home, **changes)
    with pytest.raises(ValueError, match=message):
        Recipe.load("toy")


@pytest.mark.parametrize("target", ["os.system", "shutil.rmtree", "eo_adaptor.Thing", "builtins.eval"])
def test_only_classes_of_this_package_are_built(target: str) -> None:
    with pytest.raises(ValueError, match=f"may only name classes of eo_adapt; got _target_: {target}"):
        make({"_target_": target})


def test_misspelt_arguments_are_refused(home: Path) -> None:
    with pytest.raises(TypeError, match="prefx"):
        make({**SPEC["reader"], "prefx": "p"})


# -- preparing -------------------------------------------------------------------------------------------------------


def test_prepare_writes_a_store_that_knows_its_recipe(home: Path) -> None:
    store = Recipe.load("toy").prepare(_raw(home, "a", "b"), home / "out")
    assert store.index["parcel_id"].tolist() == ["pa", "pb"]
    assert store.about["recipe"] == "toy"
    assert store.about["about"] == {"title": "Toy parcels", "licence": SPEC["licence"], "citation": "nobody"}


def test_prepare_needs_the_raw_folder(home: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no folder .*nowhere with the raw files of toy \(Toy parcels\)"):
        Recipe.load("toy").prepare(home / "nowhere", home / "out")


@pytest.mark.parametrize("out", ["raw", "."])
def test_prepare_never_replaces_the_raw_files(home: Path, out: str) -> None:
    raw = _raw(home, "a")
    (home / out / "store.json").write_text("{}")  # even if something made it look like a store
    with pytest.raises(FileExistsError, match="would be replaced; choose another out"):
        Recipe.load("toy").prepare(raw, home / out)
    assert (raw / "keys.json").is_file()


def test_prepare_keeps_the_old_store_if_reading_fails(home: Path) -> None:
    toy, raw = Recipe.load("toy"), _raw(home, "a")
    toy.prepare(raw, home / "out")
    with pytest.raises(ValueError, match="occurs twice"):
        toy.prepare(_raw(home, "b", "b"), home / "out")
    assert module.Store(home / "out").index["parcel_id"].tolist() == ["pa"]


# -- the cache -------------------------------------------------------------------------------------------------------


def test_cached_prepares_once(home: Path) -> None:
    raw = _raw(home, "a")
    first, second = Recipe.load("toy").cached(raw), Recipe.load("toy").cached(raw)
    assert first.path == second.path
    assert [raw] == READS
    assert first.path.parent == home / "cache" / "stores"


def test_cached_prepares_again_when_the_raw_files_change(home: Path) -> None:
    assert len(Recipe.load("toy").cached(_raw(home, "a"))) == 1
    assert len(Recipe.load("toy").cached(_raw(home, "a", "b"))) == 2
    raw = _raw(home, "c", "b")  # same size: only the time tells
    os.utime(raw / "keys.json", ns=(10**18, 10**18))
    assert Recipe.load("toy").cached(raw).index["parcel_id"].tolist() == ["pc", "pb"]
    (raw / "deeper").mkdir()
    (raw / "deeper" / "more.json").write_text("[]")
    Recipe.load("toy").cached(raw)
    assert len(READS) == 4


def test_cached_prepares_again_when_the_recipe_changes(home: Path) -> None:
    raw = _raw(home, "a")
    Recipe.load("toy").cached(raw)
    _save(home, reader={**SPEC["reader"], "prefix": "q"})
    assert Recipe.load("toy").cached(raw).index["parcel_id"].tolist() == ["qa"]


def test_cached_synthetic_data(home: Path) -> None:
    toy = Recipe.load("toy")
    assert len(toy.cached(None)) == len(toy.cached(None)) == 3
    assert len(READS) == 1
    assert len(toy.cached(None, {"_target_": "eo_adapt.data.readers.toy.ToyWorld", "parcels": 5})) == 5
    assert len(toy.cached(None, ToyWorld(7))) == len(toy.cached(None, ToyWorld(7))) == 7
    assert len(READS) == 3
    assert all(p.name.startswith("toy-") for p in (home / "cache" / "stores").iterdir())  # no raw files left


def test_failing_generator_leaves_nothing(home: Path) -> None:
    with pytest.raises(RuntimeError, match="out of toys"):
        Recipe.load("toy").cached(None, ToyWorld(3, broken=True))
    with pytest.raises(ValueError, match="gave no usable parcel"):
        Recipe.load("toy").cached(None, ToyWorld(0))
    assert list((home / "cache" / "stores").iterdir()) == []
    assert len(Recipe.load("toy").cached(None, ToyWorld(3))) == 3
