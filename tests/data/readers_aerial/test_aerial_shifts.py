"""Shifts of images: each composes, names its data and recipe, and selects what the recipe's generator or files hold."""

from __future__ import annotations

from pathlib import Path

import pytest

from eo_adapt.data.recipe import Recipe, make
from eo_adapt.data.scenes.flair_splits import GEOMT_SOURCES, GEOMT_TARGETS
from eo_adapt.registry import config, instantiate, names
from eo_adapt.types import Shift

REAL = Path(__file__).parents[3] / "../shared/data"
SHIFTS = [
    name for name in names("shift") if name.split("_")[0] in ("flair", "flair2", "isprs", "loveda", "vhr", "floods")
]


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


SMALL = {"zones": 1, "grid": 1, "size": 16}
LESS = {  # recipe -> generator's knobs, scenes, shift
    "loveda": ({"images": 1, "size": 64}, 4, "loveda_urban_to_rural"),
    "flair1": (SMALL, 6, ""),
    "flair2": (SMALL, 6, "flair2_test"),
    "flair_hub": (SMALL, 6, "flair_hub_fold1"),
    "isprs": ({"size": 64}, 11, "isprs_potsdam_to_vaihingen"),
}


@pytest.mark.parametrize("name", LESS)
def test_recipes_read_what_their_generators_write(name: str, tmp_path: Path) -> None:
    less, scenes, of = LESS[name]
    recipe = Recipe.load(name)
    make({**recipe.synthetic, **less}).write(tmp_path)
    found = list(make(recipe.reader).read(tmp_path))
    assert len(found) == scenes
    if of:
        shift: Shift = instantiate(config(f"shift={of}").shift)
        for domain in shift.domains:
            ((column, wanted),) = domain.select.items()
            assert {getattr(s, column) for s in found} & set([wanted] if isinstance(wanted, str) else wanted)


@pytest.mark.skipif(not (REAL / "sen1floods11").is_dir(), reason="no ../shared/data")
@pytest.mark.parametrize("name", [name for name in SHIFTS if name.startswith(("vhr", "floods"))])
def test_domains_select_what_is_there(name: str) -> None:
    cfg = config(f"shift={name}")
    there = {s.region for s in make(Recipe.load(cfg.data.recipe).reader).read(REAL / cfg.data.recipe)}
    shift: Shift = instantiate(cfg.shift)
    wanted = [d.select["region"] for d in shift.domains]
    regions = [r for one in wanted for r in ([one] if isinstance(one, str) else one)]
    assert sorted(regions) == sorted(there)  # leave one out: each region once
