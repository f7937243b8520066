"""HCAT codes: form, depth, ancestry, and harmonising domains of different granularity."""

from __future__ import annotations

import csv
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eo_adapt.data import hcat
from eo_adapt.paths import recipes_dir

MAPPINGS = Path(__file__).parents[3] / "shared" / "data" / "hcat" / "country_mappings"
OUTSIDE_HCAT3 = {"fr_2018.csv": {"3301290900"}, "nl_2020.csv": {"3301290900"}}
BARLEY, WINTER, SPRING, SEASONLESS = "3301010400", "3301010401", "3301010402", "3301010499"
CODES = st.lists(st.sampled_from(["00", "01", "02", "99"]), min_size=4, max_size=4).map(
    lambda pairs: "33" + "".join(pairs)
)
DOMAINS = st.dictionaries(st.sampled_from("ABC"), st.sets(CODES, max_size=12), max_size=3)


def _related(code: str, other: str) -> bool:
    return other == code or other in hcat.ancestors(code)


def test_table_has_the_published_depths_and_no_orphans() -> None:
    names = hcat.names()
    assert Counter(map(hcat.depth, names)) == {1: 2, 2: 9, 3: 60, 4: 193, 5: 120}
    assert all(above in names for code in names for above in hcat.ancestors(code))
    assert names[WINTER] == "winter_barley"
    assert len(set(names.values())) == len(names)


def test_callers_cannot_change_the_table() -> None:
    hcat.names().clear()
    assert hcat.names()


@pytest.mark.parametrize(
    "bad", ["", "330101040", "33010104011", "33o1010401", "3301010401 ", "٣٣٠١٠١٠٤٠١", "0001010401"]
)
def test_check_refuses_malformed_text(bad: str) -> None:
    with pytest.raises(ValueError, match="10 digits"):
        hcat.check(bad)


@pytest.mark.parametrize("bad", [3301010401, 3301010401.0, float("nan"), None])
def test_check_refuses_what_is_no_text_and_says_why(bad: object) -> None:
    with pytest.raises(ValueError, match="leading zeros"):
        hcat.check(bad)


def test_depth_parent_ancestors_of_known_codes() -> None:
    assert [hcat.depth(code) for code in ("3300000000", "3301000000", "3301010000", BARLEY, WINTER)] == [1, 2, 3, 4, 5]
    assert hcat.parent("3300000000") is None
    assert hcat.parent(WINTER) == hcat.parent(SEASONLESS) == BARLEY
    assert hcat.ancestors(WINTER) == (BARLEY, "3301010000", "3301000000", "3300000000")
    assert hcat.ancestors("3399000000") == ("3300000000",)


def test_coarsen_keeps_order_and_shallow_codes() -> None:
    assert hcat.coarsen([WINTER, "3301000000", SPRING], 4) == [BARLEY, "3301000000", BARLEY]
    with pytest.raises(ValueError, match="1 to 5"):
        hcat.coarsen([WINTER], 0)


@given(CODES, st.integers(1, 5))
def test_coarsen_is_the_ancestor_at_that_depth(code: str, depth: int) -> None:
    (coarse,) = hcat.coarsen([code], depth)
    assert _related(code, coarse)
    assert hcat.depth(coarse) <= depth
    assert hcat.depth(coarse) == depth or hcat.depth(code) <= depth or code[2 * depth - 2 : 2 * depth] == "00"


def test_granularity_shift_only_coarsens_its_branch() -> None:
    wheat = {"3301010101", "3301010102"}
    shared = hcat.shared_depth({"A": {BARLEY} | wheat, "B": {WINTER, SPRING} | wheat, "C": {"3302000000"}})
    assert shared == {BARLEY: BARLEY, WINTER: BARLEY, SPRING: BARLEY, "3302000000": "3302000000"} | {
        w: w for w in wheat
    }


def test_unspecified_season_is_a_leaf_unless_read_as_its_parent() -> None:
    domains = {"PT": {SEASONLESS, "3301019900"}, "DK": {WINTER}}
    assert hcat.shared_depth(domains) == {code: code for code in (SEASONLESS, "3301019900", WINTER)}
    merged = hcat.shared_depth(domains, unspecified="parent")
    assert merged == {SEASONLESS: BARLEY, WINTER: BARLEY, "3301019900": "3301019900"}


@given(DOMAINS, st.sampled_from(["leaf", "parent"]))
def test_shared_depth_invariants(domains: dict[str, set[str]], unspecified: str) -> None:
    shared = hcat.shared_depth(domains, unspecified=unspecified)  # type: ignore[arg-type]
    assert set(shared) == set().union(*domains.values())
    assert all(_related(code, result) for code, result in shared.items())
    results = set(shared.values())
    assert not any(above in results for result in results for above in hcat.ancestors(result))
    again = hcat.shared_depth(
        {name: {shared[code] for code in codes} for name, codes in domains.items()},
        unspecified=unspecified,  # type: ignore[arg-type]
    )
    assert again == {result: result for result in results}


@given(DOMAINS)
def test_shared_depth_is_no_coarser_than_needed(domains: dict[str, set[str]]) -> None:
    used = set().union(*domains.values())
    assert all(result in used for result in hcat.shared_depth(domains).values())


def test_shared_depth_refuses_strings_and_misspelt_choices() -> None:
    with pytest.raises(ValueError, match="collection"):
        hcat.shared_depth({"A": WINTER})
    with pytest.raises(ValueError, match="'leaf' or 'parent'"):
        hcat.shared_depth({}, unspecified="leave")  # type: ignore[arg-type]


def test_import_needs_no_torch() -> None:
    check = "import sys, eo_adapt.data.hcat, eo_adapt.data.legend; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", check], check=False).returncode == 0


@pytest.mark.skipif(not MAPPINGS.is_dir(), reason="the EuroCrops mappings are not beside this checkout")
def test_national_mappings_have_no_orphans() -> None:
    domains = {}
    for file in sorted(MAPPINGS.glob("*.csv")):
        with file.open(encoding="utf-8-sig", newline="") as rows:
            codes = {row["HCAT3_code"] for row in csv.DictReader(rows)}
        assert {code for code in codes if code not in hcat.names()} == OUTSIDE_HCAT3.get(file.name, set()), file.name
        assert all(above in hcat.names() for code in codes for above in hcat.ancestors(code)), file.name
        domains[file.name] = codes
    assert len(domains) == 27
    results = set(hcat.shared_depth(domains).values())
    assert results <= set(hcat.names())


def test_a_named_legend_takes_the_nearest_listed_ancestor() -> None:
    found = hcat.classes(["3301010401", "3301010400", "3301090400", "3302000000", "3301150200"], "broad_crops")
    assert found == {
        "3301010401": "barley",
        "3301010400": "barley",
        "3301090400": "maize",
        "3302000000": "grassland",
        "3301150200": "other",
    }
    with pytest.raises(LookupError, match="broad_crops"):
        hcat.classes([], "broad_crop")


def test_named_legends_list_real_codes_only() -> None:
    for legend in hcat.legends():
        rows = (recipes_dir() / "legends" / f"{legend}.csv").read_text().splitlines()[1:]
        assert {row.split(",")[0] for row in rows} <= set(hcat.names())
