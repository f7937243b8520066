"""Who trains, validates and tests, and which classes are learnt."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyproj
import pytest
from worlds import HCAT, S2, domain, parcels, permuted, shift, write

from eo_adapt.data import hcat, parts
from eo_adapt.data.parts import DomainParcels, Split, choose_classes, divide, splits_frame
from eo_adapt.data.store import Store
from eo_adapt.types import Domain, Shift

SPLIT = Split(buffer=2000.0)
# One projection for a store from Portugal to Estonia: distances in it are off by some 2 %.
OFF = 0.025
METRES = pyproj.Geod(ellps="WGS84")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """EE and LV in 2021, EE's first crops again in 2020 on other fields of the same place, PT far away."""
    made = [*parcels("EE"), *parcels("LV", 150), *parcels("EE", 70, 2020), *parcels("PT", 90)]
    return write(tmp_path_factory.mktemp("parts") / "store", made)


def _nearest(store: Store, a: np.ndarray, b: np.ndarray) -> float:
    """Smallest distance in metres on the ellipsoid, all pairs."""
    i, j = (grid.ravel() for grid in np.meshgrid(a, b))
    lon, lat = (store.index[c].to_numpy() for c in ("lon", "lat"))
    return float(METRES.inv(lon[i], lat[i], lon[j], lat[j])[2].min())


# -- splits ----------------------------------------------------------------------------------------------------------


def test_splits_divide_each_domain_and_keep_their_distance(store: Store) -> None:
    found = divide(store, shift("EE PT", "LV"), SPLIT)
    assert [(d.domain.name, d.role) for d in found] == [
        ("EE-2021", "source"), ("PT-2021", "source"), ("LV-2021", "target"),
    ]  # fmt: skip
    for d in found:
        assert d.rows.tolist() == store.rows(d.domain.select).tolist()
        assert d.labels.tolist() == store.index["label"].iloc[d.rows].tolist()
        rows = {name: d.of(name)[0] for name in ("train", "val", "test")}
        assert sum(map(len, rows.values())) + int((d.split == "buffer").sum()) == len(d.rows)
        for a, b in (("train", "test"), ("val", "test"), ("train", "val")):
            metres = _nearest(store, rows[a], rows[b])
            assert metres > (1 - OFF) * SPLIT.buffer
            assert d.distances[f"{a}-{b}"] == pytest.approx(metres, rel=OFF)
    assert (found[0].split == "buffer").any()  # otherwise the buffer was not needed


def _two_years(**changes: Any) -> Shift:
    return Shift((domain("EE", 2021),), (replace(domain("EE", 2020), **changes),))


def test_domains_of_one_place_are_divided_together(store: Store) -> None:
    for seed in range(4):
        a, b = divide(store, _two_years(), replace(SPLIT, seed=seed))
        for one, other in ((a, b), (b, a)):
            assert _nearest(store, one.of("train")[0], other.of("test")[0]) > (1 - OFF) * SPLIT.buffer
            assert _nearest(store, one.of("val")[0], other.of("test")[0]) > (1 - OFF) * SPLIT.buffer


def test_that_pair_would_leak_if_divided_apart(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "touching", lambda places, margin: [[i] for i in range(len(places))])
    a, b = divide(store, _two_years(), SPLIT)
    assert _nearest(store, a.of("train")[0], b.of("test")[0]) < SPLIT.buffer


def test_a_parcel_of_two_domains_has_one_split(store: Store) -> None:
    part = Domain("EE-some", "toy", {"country": "EE", "year": 2021, "label": ["wheat", "barley"]})
    whole, some = divide(store, Shift((domain("EE"),), (part,)), SPLIT)
    of = dict(zip(whole.rows.tolist(), whole.split.tolist(), strict=True))
    assert [of[row] for row in some.rows.tolist()] == some.split.tolist()


def testtouching_boxes_form_groups() -> None:
    def box(x: float) -> tuple[np.ndarray, np.ndarray]:
        return np.array([x, x + 10]), np.array([0.0, 10.0])

    def groups(*xs: float, margin: float = 0.0) -> set[frozenset[int]]:
        return {frozenset(g) for g in parts.touching([box(x) for x in xs], margin)}

    assert groups(0, 100, 200) == {frozenset({0}), frozenset({1}), frozenset({2})}
    assert groups(0, 100, 5) == {frozenset({0, 2}), frozenset({1})}
    assert groups(0, 16, 8) == {frozenset({0, 1, 2})}  # the third joins two that were apart
    assert groups(0, 15, margin=3) == {frozenset({0, 1})}


def test_other_domains_do_not_move_a_split(store: Store) -> None:
    alone = divide(store, shift("EE", ""), SPLIT)[0]
    beside = divide(store, shift("PT EE", "LV"), SPLIT)[1]
    assert alone.split.tolist() == beside.split.tolist()


def test_seed_moves_the_test_blocks(store: Store) -> None:
    one, other = (divide(store, shift(), replace(SPLIT, seed=seed))[0].split for seed in (0, 1))
    assert one.tolist() != other.tolist()


def test_splits_frame_calls_target_train_adapt(store: Store) -> None:
    found = divide(store, shift(), SPLIT)
    frame = splits_frame(store, found)
    assert list(frame.columns) == ["parcel_id", "domain", "role", "split", "x", "y"]
    assert len(frame) == 120 + 150
    source, target = frame[frame.role == "source"], frame[frame.role == "target"]
    assert set(source.split) == {"train", "val", "test", "buffer"}
    assert set(target.split) == {"adapt", "val", "test", "buffer"}
    assert (target.split == "adapt").to_numpy().tolist() == (found[1].split == "train").tolist()
    assert source.parcel_id.tolist() == store.index.parcel_id[:120].tolist()
    assert np.hypot(source.x - store.index.x[:120], source.y - store.index.y[:120]).max() == 0


def test_published_splits_are_taken_as_they_are(tmp_path: Path) -> None:
    cycle = ["train", "val", "test", "", "block07"]
    made = [replace(r, split=cycle[i % 5], lon=np.nan, lat=np.nan) for i, r in enumerate(parcels("EE", 20))]
    (found,) = divide(write(tmp_path / "s", made), shift("EE", ""), Split(kind="published"))
    assert found.split.tolist() == ["train", "val", "test", "buffer", "buffer"] * 4
    assert found.distances == {}  # nobody knows where they are


def test_published_split_without_a_part_says_what_there_is(tmp_path: Path) -> None:
    made = [replace(r, split="train" if i % 2 else "test") for i, r in enumerate(parcels("EE", 6))]
    store = write(tmp_path / "s", made)
    with pytest.raises(ValueError, match=r"'EE-2021' has 6 parcels but none in \['val'\]; .*published got .*'test': 3"):
        divide(store, shift("EE", ""), Split(kind="published"))


def test_blocks_that_are_too_large_say_so(store: Store) -> None:
    with pytest.raises(ValueError, match=r"no parcel is left in .* Lower block_size"):
        divide(store, shift(), Split(block_size=1e7))


def test_an_empty_domain_lists_what_there_is(store: Store) -> None:
    with pytest.raises(
        ValueError, match=r"'EE-1999' selects no parcel .*country: \['EE', 'LV', 'PT'\]; .*year: \[2020, 2021\]"
    ):
        divide(store, Shift((domain("EE", 1999),)), SPLIT)


def test_misspelt_choices(store: Store) -> None:
    with pytest.raises(ValueError, match=r"data\.split\.kind must be one of \['blocks', 'published'\]; got 'block'"):
        Split(kind="block")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"data\.coarsen must be one of .*got 'share'"):
        divide(store, shift(), SPLIT, coarsen="share")


# -- class names -----------------------------------------------------------------------------------------------------


def _names(found: list[DomainParcels]) -> list[set[str]]:
    return [set(d.labels.tolist()) for d in found]


def test_join(store: Store) -> None:
    joined = divide(store, shift(), SPLIT, join={"bread": ["wheat", "rye"]})
    assert _names(joined) == [{"bread", "barley", "oats"}, {"bread", "barley"}]
    before = divide(store, shift(), SPLIT)
    for old, new in zip(before, joined, strict=True):
        assert ((new.labels == "bread") == np.isin(old.labels, ["wheat", "rye"])).all()
    with pytest.raises(ValueError, match=r"data\.join\.bread names \['spelt'\]; the data have \['barley'"):
        divide(store, shift(), SPLIT, join={"bread": ["wheat", "spelt"]})
    with pytest.raises(ValueError, match="use one of them"):
        divide(store, shift(), SPLIT, coarsen="3", join={"bread": ["wheat", "rye"]})


def test_a_joined_name_may_be_longer_than_the_old_ones(store: Store) -> None:
    name = "a_very_long_name_for_bread_cereals"
    assert name in _names(divide(store, shift(), SPLIT, join={name: ["wheat"]}))[0]


def test_coarsen_by_depth_and_by_what_is_shared(tmp_path: Path) -> None:
    fine = {"wheat": "3301010101", "barley": "3301010102", "oats": "3301010500"}  # EE tells winter from spring wheat
    made = [replace(r, hcat=fine[r.label]) for r in parcels("EE")] + parcels("LV", crops=("wheat", "rye"))
    store, spelt = write(tmp_path / "s", made), hcat.names()
    assert _names(divide(store, shift(), SPLIT, coarsen="3")) == [{spelt["3301010000"]}] * 2
    wheat, rye, oats = spelt[HCAT["wheat"]], spelt[HCAT["rye"]], spelt["3301010500"]
    assert _names(divide(store, shift(), SPLIT, coarsen="shared")) == [{wheat, oats}, {wheat, rye}]
    assert len(_names(divide(store, shift(), SPLIT, coarsen="5"))[0]) == 3
    nameless = write(tmp_path / "t", [replace(r, hcat="" if r.label == "rye" else r.hcat) for r in made])
    with pytest.raises(ValueError, match="needs HCAT codes; 60 parcels of this shift have none"):
        divide(nameless, shift(), SPLIT, coarsen="shared")


# -- classes ---------------------------------------------------------------------------------------------------------


def _classes(store: Store, kind: str, classes: tuple[str, ...] = (), least: int = 1, **domains: str) -> Any:
    return choose_classes(divide(store, shift(**domains), SPLIT), kind, classes, least)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("kind", "learnt"),
    [("closed", ("barley", "wheat")), ("partial", ("barley", "oats", "wheat")), ("open", ("barley", "oats", "wheat"))],
)
def test_kinds_of_label_sets(store: Store, kind: str, learnt: tuple[str, ...]) -> None:
    found = _classes(store, kind)
    assert found.legend.names == learnt
    assert (found.shared, found.source_private, found.target_private) == (("barley", "wheat"), ("oats",), ("rye",))
    assert found.unknown == (kind == "open")


def test_only_these_classes(store: Store) -> None:
    found = _classes(store, "partial", ("wheat", "oats"))
    assert found.legend.names == ("oats", "wheat")
    assert found.target_private == ()
    with pytest.raises(ValueError, match=r"no source training parcel has the classes \['rye'\] .* \['barley', 'oats'"):
        _classes(store, "closed", ("wheat", "rye"))


def test_nothing_shared(store: Store) -> None:
    with pytest.raises(ValueError, match="source and target share no class"):
        _classes(store, "closed", ("oats",))  # LV has none: not to be taken for a shift without targets
    with pytest.raises(ValueError, match="source and target share no class"):
        _classes(store, "closed", least=10_000)


def test_without_targets_all_source_classes_are_learnt(store: Store) -> None:
    assert _classes(store, "closed", sources="EE PT", targets="").legend.names == ("barley", "oats", "rye", "wheat")


def test_rare_source_classes_are_not_learnt(tmp_path: Path) -> None:
    made = [replace(r, label="flax", hcat=HCAT["flax"]) if i < 9 else r for i, r in enumerate(parcels("EE"))]
    store = write(tmp_path / "s", made + parcels("LV", crops=("wheat", "flax")))
    there = int((divide(store, shift(), SPLIT)[0].of("train")[1] == "flax").sum())
    assert 0 < there < 9  # only those that train count
    assert _classes(store, "closed", least=there).legend.names == ("flax", "wheat")
    assert _classes(store, "closed", least=there + 1).legend.names == ("wheat",)
    assert "flax" in _classes(store, "open", least=there + 1).target_private


@pytest.mark.parametrize("options", [{}, {"coarsen": "shared"}, {"join": {"bread": ["wheat", "rye"]}}])
def test_dealing_target_labels_anew_changes_no_split_and_no_class(tmp_path: Path, options: Mapping[str, Any]) -> None:
    made = [*parcels("EE"), *parcels("LV")]
    found = [
        divide(write(tmp_path / name, records, {"s2": S2}), shift(), SPLIT, **options)
        for name, records in (("true", made), ("dealt", permuted(made, "LV")))
    ]
    assert found[0][1].labels.tolist() != found[1][1].labels.tolist()
    for a, b in zip(*found, strict=True):
        assert a.split.tolist() == b.split.tolist()
    for kind in ("closed", "partial", "open"):
        assert choose_classes(found[0], kind, (), 5) == choose_classes(found[1], kind, (), 5)  # type: ignore[arg-type]
