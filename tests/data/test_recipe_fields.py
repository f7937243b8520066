"""Every recipe says what it has to say, in forms that programs and people can read."""

from __future__ import annotations

from typing import Any

import pytest

from eo_adapt.data import hcat
from eo_adapt.data.fetch.sources import UNKNOWN
from eo_adapt.data.recipe import Recipe, make, reads_layers, recipe_names
from eo_adapt.list import lines

PUBLISHED = (
    "eurocropsml",
    "eurocrops",
    "timematch",
    "breizhcrops",
    "timesen2crop",
    "pastis",
    "pastis_r",
    "pastis_hd",
    "flair1",
    "flair2",
    "flair_hub",
    "loveda",
    "treesatai_ts",
    "lidar_hd",
)
SENSOR = {"bands", "units", "scale", "offset", "nodata", "crs"}


@pytest.mark.parametrize("name", recipe_names())
def test_every_recipe(name: str) -> None:
    recipe = Recipe.load(name)
    assert recipe.title
    assert "\n" not in recipe.title
    assert recipe.licence["id"]
    assert recipe.licence.get("url", "https://").startswith("https://")
    text = recipe.citation["text"] if isinstance(recipe.citation, dict) else recipe.citation
    assert len(text) > 10
    assert recipe.files() is not None  # each is checked
    make(recipe.reader)
    assert lines("recipe")[name] == recipe.title


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_data_are_described_in_full(name: str) -> None:
    recipe = Recipe.load(name)
    files = [source for source in recipe.files() if not source.informs]
    assert any(source.page for source in recipe.files()), "a page for people"
    assert files
    assert any(source.url for source in files) or "<raw>" in recipe.by_hand
    for source in files:
        assert source.unpack is None or source.gives, f"{source.file}: what it gives"
        assert source.md5 or source.sha256, "a hash, or that it is unknown"
        assert isinstance(source.bytes, int) or source.bytes.startswith(UNKNOWN)
    if any(source.template or source.part for source in files):
        assert recipe.parts, "what parts= names"
    assert recipe.revision
    assert recipe.domains
    assert recipe.split["rule"]
    assert recipe.legend
    assert recipe.synthetic, "a generator"
    assert callable(make(recipe.synthetic).write)
    assert recipe.licence["url"]
    assert recipe.notes


@pytest.mark.parametrize("name", PUBLISHED)
def test_sensors_are_those_of_the_reader(name: str) -> None:
    recipe = Recipe.load(name)
    reader = make(recipe.reader)
    if reads_layers(reader):
        assert recipe.sensors == {}
        return
    assert set(recipe.sensors) == set(reader.sensors)
    for sensor, facts in recipe.sensors.items():
        assert set(facts) == SENSOR
        known: Any = reader.sensors[sensor]
        told = tuple(facts["bands"]), facts["units"], facts["scale"], facts["offset"]
        assert told == (known.bands, known.units, known.scale, known.offset)
        nodata = getattr(known, "nodata", None)
        assert facts["nodata"] == nodata if nodata is not None else facts["nodata"] is not None
        assert str(facts["crs"])


@pytest.mark.parametrize("name", PUBLISHED)
def test_codes_of_legends_are_in_hcat(name: str) -> None:
    legend = Recipe.load(name).legend
    codes = [code for code in legend.values() if code] if isinstance(legend, dict) else []
    if all(isinstance(code, str) and code.isdecimal() for code in codes):
        assert set(codes) <= set(hcat.names())


def test_hashes_that_are_known_are_not_lost() -> None:
    """Copied by hand from the publishers' pages and from libraries that verify them."""
    known = {s.file: s.known for n in PUBLISHED for s in Recipe.load(n).files() if s.known}
    assert known["PASTIS-R.zip"] == {"md5": "4887513d6c2d2b07fa935d325bd53e09"}
    assert known["Train.zip"] == {"md5": "de2b196043ed9b4af1690b3f9a7d558f"}
    assert known["LV_2021.zip"] == {"md5": "b7253f96c8699d98ca503787f577ce26"}
    assert len(known["sentinel-ts.zip"]["sha256"]) == 64
