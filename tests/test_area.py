"""Areas against a published example, loops, and repeated sampling from a known world."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyproj
import pytest
import shapely
from data.worlds import parcels, record, series, write
from hypothesis import given, settings
from hypothesis import strategies as st

from eo_adapt.area import AreaEstimate, Z, area_report, estimate_areas, parcel_hectares
from eo_adapt.data.synthetic.parcel_table import CawaWorld
from eo_adapt.registry import config
from eo_adapt.train import run

# Olofsson et al. 2014: deforestation, forest gain, stable forest, stable non-forest; 30 m pixels.
COUNTS = np.array([[66, 0, 5, 4], [0, 55, 8, 12], [1, 0, 153, 11], [2, 1, 9, 313]])
PIXELS = np.array([200_000, 150_000, 3_200_000, 6_450_000])


def by_loops(n: list[list[float]], mapped: list[float]) -> dict[str, Any]:
    """The estimator, cell by cell."""
    k, total = len(n), sum(mapped)
    rows = [sum(row) for row in n]
    areas, errors, users, users_se, producers, producers_se = ([0.0] * k for _ in range(6))
    overall = overall_var = 0.0
    for j in range(k):
        var = others = 0.0
        for i in range(k):
            u = n[i][j] / rows[i]
            v = u * (1 - u) / (rows[i] - 1)
            areas[j] += mapped[i] * u
            var += mapped[i] ** 2 * v
            others += mapped[i] ** 2 * v if i != j else 0.0
        u = n[j][j] / rows[j]
        v = u * (1 - u) / (rows[j] - 1)
        errors[j], users[j], users_se[j] = math.sqrt(var), u, math.sqrt(v)
        overall += mapped[j] / total * u
        overall_var += (mapped[j] / total) ** 2 * v
        producers[j] = mapped[j] * u / areas[j] if areas[j] else math.nan
        bracket = mapped[j] ** 2 * (1 - producers[j]) ** 2 * v + producers[j] ** 2 * others
        producers_se[j] = math.sqrt(bracket) / areas[j] if areas[j] else math.nan
    names = ("area", "area_se", "users", "users_se", "producers", "producers_se", "overall", "overall_se")
    values = (areas, errors, users, users_se, producers, producers_se, overall, math.sqrt(overall_var))
    return dict(zip(names, values, strict=True))


# -- the estimator -----------------------------------------------------------------------------------------------------


def test_the_published_example() -> None:
    found = estimate_areas(COUNTS, PIXELS * 0.09)
    assert [round(a) for a in found.area] == [21_158, 11_686, 285_770, 581_386]
    assert [round(Z * se) for se in found.area_se] == [6_158, 3_756, 15_510, 16_282]
    assert (round(found.lower[0]), round(found.upper[0])) == (15_000, 27_315)
    assert [round(u, 2) for u in found.users] == [0.88, 0.73, 0.93, 0.96]
    assert [round(Z * se, 2) for se in found.users_se] == [0.07, 0.10, 0.04, 0.02]
    assert [round(p, 2) for p in found.producers] == [0.75, 0.85, 0.93, 0.96]
    # The paper is quoted with 0.23 for forest gain and 0.01 for stable non-forest, which its own formula does not give.
    assert [round(Z * se, 2) for se in found.producers_se] == [0.21, 0.25, 0.03, 0.02]
    assert (round(found.overall, 2), round(Z * found.overall_se, 2)) == (0.95, 0.02)
    in_pixels = estimate_areas(COUNTS, PIXELS)
    assert (round(in_pixels.area[0]), round(Z * in_pixels.area_se[0])) == (235_086, 68_418)


def rows(k: int) -> st.SearchStrategy[list[int]]:
    """Counts of one stratum, at least two."""
    return st.lists(st.integers(0, 30), min_size=k, max_size=k).filter(lambda row: sum(row) > 1)


matrices = st.integers(1, 5).flatmap(
    lambda k: st.tuples(
        st.lists(rows(k), min_size=k, max_size=k), st.lists(st.floats(0.1, 1e6), min_size=k, max_size=k)
    )
)


@given(matrices)
@settings(deadline=None, max_examples=100)
def test_it_equals_loops(drawn: tuple[list[list[int]], list[float]]) -> None:
    n, mapped = drawn
    found = estimate_areas(np.array(n), np.array(mapped))
    for name, want in by_loops(n, mapped).items():
        np.testing.assert_allclose(getattr(found, name), want, rtol=1e-7, atol=1e-9)


@given(matrices)
@settings(deadline=None, max_examples=50)
def test_areas_add_up_and_intervals_hold_them(drawn: tuple[list[list[int]], list[float]]) -> None:
    found = estimate_areas(*map(np.array, drawn))
    total = sum(drawn[1])
    assert found.area.sum() == pytest.approx(total)
    assert ((found.lower >= 0) & (found.lower <= found.area + 1e-9 * total)).all()
    assert ((found.upper <= total) & (found.upper >= found.area - 1e-9 * total)).all()


def test_a_map_without_errors_is_believed() -> None:
    found = estimate_areas(np.diag([10, 20]), np.array([3.0, 7.0]))
    assert found.area.tolist() == [3, 7]
    assert found.area_se.tolist() == [0, 0]
    assert (found.overall, found.users.tolist(), found.producers.tolist()) == (1, [1, 1], [1, 1])


MAPPED = np.array([200.0, 300.0, 500.0])
SHARES = np.array([[0.80, 0.15, 0.05], [0.10, 0.85, 0.05], [0.05, 0.10, 0.85]])  # of each reference class in a stratum


def covered(runs: list[AreaEstimate]) -> np.ndarray:
    """How often the interval of each class holds its true area."""
    truth = MAPPED @ SHARES
    return np.mean([(r.lower <= truth) & (truth <= r.upper) for r in runs], 0)


def sampled(rng: np.random.Generator, sizes: tuple[int, ...]) -> AreaEstimate:
    """One stratified random sample, evaluated."""
    return estimate_areas(np.stack([rng.multinomial(n, p) for n, p in zip(sizes, SHARES, strict=True)]), MAPPED)


def test_intervals_cover_the_truth_as_often_as_they_say() -> None:
    rng = np.random.default_rng(0)
    runs = [sampled(rng, (60, 80, 120)) for _ in range(4000)]
    np.testing.assert_allclose(covered(runs), 0.95, atol=0.015)
    truth, areas = MAPPED @ SHARES, np.array([r.area for r in runs])
    np.testing.assert_allclose(areas.mean(0), truth, rtol=0.01)
    np.testing.assert_allclose(np.mean([r.area_se for r in runs], 0), areas.std(0), rtol=0.05)
    right = SHARES.diagonal()
    accuracies = {"producers": MAPPED * right / truth, "users": right, "overall": MAPPED @ right / MAPPED.sum()}
    for name, want in accuracies.items():
        got = np.array([getattr(r, name) for r in runs])
        np.testing.assert_allclose(got.mean(0), want, rtol=0.01)
        np.testing.assert_allclose(np.mean([getattr(r, f"{name}_se") for r in runs], 0), got.std(0), rtol=0.07)


def test_they_cover_less_with_few_samples() -> None:
    rng = np.random.default_rng(0)
    assert covered([sampled(rng, (5, 5, 5)) for _ in range(1000)]).max() < 0.87


@pytest.mark.parametrize(("alike", "most"), [(0.1, 0.87), (0.3, 0.72)])
def test_they_cover_less_when_neighbours_share_their_errors(alike: float, most: float) -> None:
    rng = np.random.default_rng(0)

    def block(shares: np.ndarray) -> np.ndarray:
        """Ten parcels whose reference classes correlate by ``alike``."""
        return rng.multinomial(10, rng.dirichlet(shares * (1 - alike) / alike))

    runs = []
    for _ in range(1000):
        counts = [sum(block(p) for _ in range(n)) for n, p in zip((6, 8, 12), SHARES, strict=True)]
        runs.append(estimate_areas(np.stack(counts), MAPPED))
    assert most - 0.07 < covered(runs).max() < most


# -- thin strata -------------------------------------------------------------------------------------------------------


def test_a_stratum_without_samples_hides_anything() -> None:
    found = estimate_areas(np.array([[5, 1, 0], [1, 8, 0], [0, 0, 0]]), np.array([10.0, 20.0, 1.0]))
    assert np.isnan([*found.area, *found.lower, *found.upper, found.overall, *found.producers]).all()
    assert found.users[:2].tolist() == pytest.approx([5 / 6, 8 / 9]), "other strata are known well enough"
    assert np.isnan(found.users[2])


def test_a_single_sample_gives_an_area_but_no_interval() -> None:
    found = estimate_areas(np.array([[5, 1, 0], [1, 8, 0], [0, 0, 1]]), np.array([10.0, 20.0, 1.0]))
    assert found.area.tolist() == pytest.approx([10 * 5 / 6 + 20 / 9, 10 / 6 + 20 * 8 / 9, 1])
    assert np.isnan([*found.area_se, *found.lower, *found.upper, found.overall_se, found.users_se[2]]).all()
    assert found.overall == pytest.approx((10 * 5 / 6 + 20 * 8 / 9 + 1) / 31)


def test_a_class_that_is_never_mapped_costs_nothing() -> None:
    found = estimate_areas(np.array([[5, 1, 2], [1, 8, 0], [0, 0, 0]]), np.array([10.0, 20.0, 0.0]))
    assert found.area[2] == pytest.approx(10 * 2 / 8)
    assert np.isfinite([*found.area_se, found.overall_se]).all()
    assert found.producers[2] == 0


@pytest.mark.parametrize(
    ("matrix", "mapped", "message"),
    [
        (np.zeros((2, 3)), np.ones(2), r"got \(2, 3\) and \(2,\)"),
        (np.ones((2, 2)), np.ones(3), r"got \(2, 2\) and \(3,\)"),
        (np.array([[1, -1], [0, 2]]), np.ones(2), r"sample counts are finite and not negative; got -1"),
        (np.ones((2, 2)), np.array([1, math.nan]), r"mapped areas are finite and not negative; got nan"),
        (np.ones((2, 2)), np.zeros(2), r"add up to 0 over 2 classes"),
    ],
)
def test_bad_input(matrix: np.ndarray, mapped: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        estimate_areas(matrix, mapped)


# -- the report --------------------------------------------------------------------------------------------------------


def test_numbers_are_named_by_their_unit() -> None:
    counts, mapped = np.array([[5, 1, 0], [0, 1, 0], [0, 0, 0]]), np.array([6.0, 2.0, 0.0])
    found = area_report(["a", "b", "c"], counts, mapped, "parcels")
    assert found["area"][0].keys() == {
        "class", "unit", "mapped_parcels", "area_parcels", "lower_parcels", "upper_parcels", "se_parcels",
    }  # fmt: skip
    assert "cluster sample" in found["area_accuracy"]["note"]


def test_classes_with_few_test_parcels_widen_all_intervals() -> None:
    counts = np.array([[9, 1, 0, 0], [2, 8, 0, 0], [0, 1, 0, 0], [0, 0, 0, 0]])
    found = area_report(["a", "b", "thin", "nowhere"], counts, np.array([6.0, 4.0, 0.5, 0.0]), "ha")
    rest = estimate_areas(counts[:2, :2], np.array([6.0, 4.0]))
    table = pd.DataFrame(found["area"]).set_index("class")
    assert table["area_ha"].tolist() == pytest.approx([*rest.area, 0.5, 0])
    assert table["lower_ha"].tolist() == pytest.approx([*rest.lower, 0, 0])
    assert table["upper_ha"].tolist() == pytest.approx([*(rest.upper + 0.5), 0.5, 0.5])
    assert table["area_ha"].sum() == pytest.approx(10.5)
    accuracy = found["area_accuracy"]
    assert accuracy["too_few"] == ["thin"]
    assert accuracy["sampled_share"] == pytest.approx(10 / 10.5)
    assert accuracy["overall_accuracy"] == pytest.approx(rest.overall)
    assert accuracy["overall_accuracy_se"] == pytest.approx(rest.overall_se)
    assert accuracy["per_class"]["a"]["producers"] == pytest.approx(rest.producers[0])


@pytest.mark.parametrize("counts", [np.zeros((2, 2)), np.eye(2)], ids=["no label", "one each"])
def test_without_enough_test_parcels_nothing_is_estimated(counts: np.ndarray) -> None:
    found = area_report(["a", "b"], counts, np.array([3.0, 4.0]), "ha")
    assert [a["mapped_ha"] for a in found["area"]] == [3, 4]
    assert np.isnan([a[key] for a in found["area"] for key in ("area_ha", "lower_ha", "upper_ha", "se_ha")]).all()
    assert math.isnan(found["area_accuracy"]["overall_accuracy"])
    assert (found["area_accuracy"]["too_few"], found["area_accuracy"]["sampled_share"]) == (["a", "b"], 0)


def outlined(key: str, lon: float, lat: float, shape: shapely.Geometry | None) -> Any:
    geometry = None if shape is None else shapely.to_wkb(shape)
    return record(key, series(np.random.default_rng(0), 5), lon=lon, lat=lat, geometry=geometry)


def test_hectares_of_outlines_equal_geodesic_areas(tmp_path: Path) -> None:
    hole = shapely.box(25.801, 58.601, 25.802, 58.602)
    north = shapely.box(25.8, 58.6, 25.805, 58.604).difference(hole)
    boxes = [(-70.0, -33.0, -69.99, -32.98), (-69.9, -33.0, -69.899, -32.999)]
    south = shapely.MultiPolygon([shapely.box(*box) for box in boxes])
    store = write(
        tmp_path / "s",
        [outlined("n", 25.8, 58.6, north), outlined("p", 25.0, 58.0, None), outlined("s", -70.0, -33.0, south)],
    )
    found = parcel_hectares(store.path / "index.parquet", np.array([2, 0, 1, 0]))
    assert found is not None
    geodesic = [abs(pyproj.Geod(ellps="WGS84").geometry_area_perimeter(s)[0]) / 1e4 for s in (south, north)]
    np.testing.assert_allclose(found[:2], geodesic, rtol=1e-4)
    assert found[3] == found[1]
    assert np.isnan(found[2]), "a point has no area"


def test_points_have_no_area(tmp_path: Path) -> None:
    store = write(tmp_path / "s", parcels("EE", 4))
    assert parcel_hectares(store.path / "index.parquet", np.arange(4)) is None


def test_without_geopandas_there_are_no_hectares(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = write(tmp_path / "s", [outlined("n", 25.8, 58.6, shapely.box(25.8, 58.6, 25.9, 58.7))])
    monkeypatch.setitem(sys.modules, "geopandas", None)
    assert parcel_hectares(store.path / "index.parquet", np.arange(1)) is None


@pytest.fixture(scope="module")
def outlined_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run on parcels with outlines."""
    folder = tmp_path_factory.mktemp("cawa")
    CawaWorld(parcels=900).write(folder / "raw")
    shift = ("shift=cawa_fergana_to_samarkand", f"data.root={folder / 'raw'}", "data.split.block_size=5000")
    quick = ("encoder=tempcnn", "trainer=smoke", "trainer.progress=none", "figures=false", "logger=csv")
    run(config(*shift, *quick, "data.steps_per_epoch=6"), folder / "run")
    return folder / "run"


def test_a_run_reports_hectares(outlined_run: Path) -> None:
    report = json.loads((outlined_run / "report.json").read_text())
    frame = pd.read_parquet(outlined_run / "predictions.parquet")
    geod = pyproj.Geod(ellps="WGS84")
    for name, d in report["domains"].items():
        here = frame[frame["domain"] == name]
        hectares = np.array([abs(geod.geometry_area_perimeter(shapely.from_wkb(g))[0]) / 1e4 for g in here["geometry"]])
        assert [a["class"] for a in d["area"]] == d["confusion"]["classes"]
        for a in d["area"]:
            assert a["unit"] == "ha"
            mapped = hectares[(here["prediction"] == a["class"]).to_numpy()].sum()
            assert a["mapped_ha"] == pytest.approx(mapped, rel=1e-4)
        counts, mapped = np.array(d["confusion"]["matrix"]).T, np.array([a["mapped_ha"] for a in d["area"]])
        want = area_report(d["confusion"]["classes"], counts, mapped, "ha")
        assert [a["area_ha"] for a in d["area"]] == pytest.approx([a["area_ha"] for a in want["area"]])
        assert d["area_accuracy"]["too_few"] == want["area_accuracy"]["too_few"]
        assert sum(a["area_ha"] for a in d["area"]) == pytest.approx(hectares.sum(), rel=1e-4)
