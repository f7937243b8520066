"""Shifts of images: each composes, names its data and recipe, and selects what the recipe's generator or files hold."""

from __future__ import annotations

from pathlib import Path

import pytest

from eo_adapt.data.recipe import Recipe, make
from eo_adapt.data.scenes.flair_splits import GEOMT_SOURCES, GEOMT_TARGETS
from eo_adapt.registry import config, instantiate, names
from eo_adapt.types import Shift

REAL = Path(__file__).parents[3] / "../shared/data"
SHIFTS = [name for name in names("shift") if name.split("_")[0] in ("flair", "loveda", "vhr", "floods")]


@pytest.mark.parametrize("name", SHIFTS)
def test_shifts_compose(name: str) -> None:
    cfg = config(f"shift={name}")
    shift: Shift = instantiate(cfg.shift)
    assert {domain.recipe for domain in shift.domains} == {cfg.data.recipe}
    assert Recipe.load(cfg.data.recipe).name == cfg.data.recipe
    assert cfg.data.recipe.startswith(cfg.choices.data)


def test_flair_domains() -> None:
    geomt: Shift = instantiate(config("shift=flair_geomt").shift)
    assert [d.name for d in geomt.sources] == GEOMT_SOURCES.split()
    assert [d.name for d in geomt.targets] == GEOMT_TARGETS.split()
    assert geomt.targets[2].select == {"region": "D071", "year": 2020}
    cfg = config("shift=flair_uda_nas")
    assert cfg.data.split.kind == "published"
    assert Recipe.load("flair1_uda_nas").reader["splits"] == "uda_nas"
    assert Recipe.load("flair1").reader | {"splits": "uda_nas"} == Recipe.load("flair1_uda_nas").reader


@pytest.mark.parametrize("name", ["loveda", "flair1"])
def test_recipes_read_what_their_generators_write(name: str, tmp_path: Path) -> None:
    recipe = Recipe.load(name)
    less = {"loveda": {"images": 1, "size": 64}, "flair1": {"zones": 1, "grid": 1, "size": 16}}[name]
    make({**recipe.synthetic, **less}).write(tmp_path)
    found = list(make(recipe.reader).read(tmp_path))
    assert len(found) == {"loveda": 4, "flair1": 6}[name]
    if name == "loveda":
        shift: Shift = instantiate(config("shift=loveda_urban_to_rural").shift)
        assert {s.region for s in found} == {str(d.select["region"]) for d in shift.domains}


@pytest.mark.skipif(not (REAL / "sen1floods11").is_dir(), reason="no ../shared/data")
@pytest.mark.parametrize("name", [name for name in SHIFTS if name.startswith(("vhr", "floods"))])
def test_domains_select_what_is_there(name: str) -> None:
    cfg = config(f"shift={name}")
    there = {s.region for s in make(Recipe.load(cfg.data.recipe).reader).read(REAL / cfg.data.recipe)}
    shift: Shift = instantiate(cfg.shift)
    wanted = [d.select["region"] for d in shift.domains]
    regions = [r for one in wanted for r in ([one] if isinstance(one, str) else one)]
    assert sorted(regions) == sorted(there)  # leave one out: each region once
