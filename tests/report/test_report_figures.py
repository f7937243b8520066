"""Drawing: which domains, which colours, which classes."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from made_up import made_up
from matplotlib.figure import Figure

from eo_adapt.report import maps
from eo_adapt.report.figures import READABLE, class_bars, confusion_matrix, curves, shown
from eo_adapt.report.look import FILLS, LINES, spoken, style
from eo_adapt.report.maps import CLASSES, Atlas, scale_bar
from eo_adapt.report.series import Series, examples, profiles, vegetation_index

# Machado et al. 2009, full severity: what deuteranopes and protanopes see, in linear RGB.
BLIND = {
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
}


def seen(colour: str, kind: str) -> np.ndarray:
    rgb = np.array([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    linear = np.clip(np.array(BLIND[kind]) @ linear, 0, 1) if kind else linear
    return 255 * np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)


@pytest.mark.parametrize("kind", ["", *BLIND])
@pytest.mark.parametrize("colours", [FILLS, LINES], ids=["fills", "lines"])
def test_colours_differ_for_everybody(colours: tuple[str, ...], kind: str) -> None:
    for a, b in combinations(colours, 2):
        assert np.linalg.norm(seen(a, kind) - seen(b, kind)) > 25, (a, b)


@pytest.mark.parametrize(
    ("side", "length", "label"),
    [
        (100_000, 20_000, "20 km"),
        (90_000, 20_000, "20 km"),
        (5_000, 1_000, "1 km"),
        (1_999, 200, "200 m"),
        (200, 50, "50 m"),
    ],
)
def test_scale_bars_are_round(side: float, length: float, label: str) -> None:
    assert scale_bar(side) == (length, label)


def test_of_many_domains_the_worst_and_best_are_shown() -> None:
    domains = {f"s{i}": {"role": "source", "macro_f1": i / 100} for i in range(50)}
    domains |= {f"t{i}": {"role": "target", "macro_f1": i / 100} for i in range(50)}
    domains |= {f"u{i}": {"role": "target", "macro_f1": None} for i in range(50)}
    names = shown({"domains": domains})
    assert len(names) <= 12
    assert {"t0", "t49", "s0", "s49"} <= set(names)
    assert not [name for name in names if name.startswith("u")]
    assert names[0].startswith("t"), "targets first"
    few = {"s": domains["s0"], "u": domains["u0"]}
    assert shown({"domains": few}) == ["u", "s"]
    unlabelled = {f"u{i}": domains[f"u{i}"] for i in range(50)}
    assert 0 < len(shown({"domains": unlabelled})) <= 12


def test_many_classes_become_the_most_frequent_and_the_others() -> None:
    rng = np.random.default_rng(0)
    matrix = rng.integers(0, 5, (500, 500))
    matrix[7] *= 100
    axes = Figure().subplots()
    confusion_matrix(axes, matrix, [f"class_{i}" for i in range(500)], "A")
    labels = [t.get_text() for t in axes.get_yticklabels()]
    assert len(labels) == READABLE
    assert labels[-1].startswith("461 other classes (")
    assert any(label.startswith("class 7 (") for label in labels)
    assert len(axes.texts) == 0
    counts = [int(label.rpartition("(")[2].rstrip(")")) for label in labels]
    assert sum(counts) == matrix.sum()


def test_few_classes_keep_their_numbers_and_unused_ones_are_left_out() -> None:
    axes = Figure().subplots()
    confusion_matrix(axes, np.array([[3, 1, 0], [0, 0, 0], [0, 0, 0]]), ["a", "b", "c"], "A")
    assert [t.get_text() for t in axes.texts] == ["75", "25"]
    assert [t.get_text() for t in axes.get_xticklabels()] == ["a", "b"]
    empty = Figure().subplots()
    confusion_matrix(empty, np.zeros((2, 2), int), ["a", "b"], "A")
    assert empty.texts[0].get_text() == "no labelled test parcels"


def test_bars_are_of_the_most_frequent_classes(tmp_path: Path) -> None:
    made = made_up(tmp_path, classes=60, parcels=600)
    axes = class_bars(made.report).axes[0]
    assert len(axes.get_yticklabels()) == READABLE
    assert len(axes.patches) == 2 * READABLE


def test_curves_of_one_epoch_and_of_scores_that_are_missing() -> None:
    figure = curves(pd.DataFrame({"a": [0.5], "b": [np.nan]}, index=[1]), 1)
    assert len(figure.axes) == 2
    assert curves(pd.DataFrame({f"c{i}": [0.1, 0.2] for i in range(7)}, index=[1, 2]), None).axes[6].get_visible()


def test_maps_colour_a_few_classes_alike_in_all_domains(tmp_path: Path) -> None:
    made = made_up(tmp_path, classes=30, parcels=240, outlines=True)
    atlas = Atlas(made.data, made.predictions)
    assert len(atlas.look) == CLASSES - 1
    assert len(set(atlas.look.values())) == CLASSES - 1
    with style():
        sheet = atlas.sheet("region 1")
    assert sheet is not None
    labels = [t.get_text() for t in sheet.legends[0].get_texts()]
    assert labels[0] == "other classes"
    assert len(labels) == CLASSES
    texts = [t.get_text() for axes in sheet.axes for t in axes.texts]
    assert texts.count("N") == 2
    assert sum(t.endswith(" km") for t in texts) == 2


def test_maps_of_many_parcels_draw_some(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = made_up(tmp_path, parcels=100)
    monkeypatch.setattr(maps, "MOST", 30)
    atlas = Atlas(made.data, made.predictions)
    assert atlas.remark("region 1") == "Drawn: every 4th of 100 parcels."
    assert atlas.sheet("region 1") is not None


def test_maps_need_places_and_geopandas(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nowhere = made_up(tmp_path / "a", places=False)
    assert Atlas(nowhere.data, nowhere.predictions).sheet("region 1") is None
    made = made_up(tmp_path / "b")
    monkeypatch.setitem(__import__("sys").modules, "geopandas", None)
    assert Atlas(made.data, made.predictions).sheet("region 1") is None


def test_the_index_is_ndvi_where_the_bands_allow() -> None:
    values = np.array([[0.1, 0.3]])
    assert vegetation_index(values, ("B04", "B08"))[0] == pytest.approx([0.5])
    assert vegetation_index(values, ("ndvi", "x")) == (pytest.approx([0.1]), "NDVI")
    assert vegetation_index(values, ("VV", "VH"))[1] == "VV"


def test_a_median_is_the_median(tmp_path: Path) -> None:
    made = made_up(tmp_path)
    series, rows = Series(made.data), np.arange(7)
    days, values = series.median(rows)  # type: ignore[misc]
    raw = np.stack([y for _, y in series.of(rows)])  # type: ignore[union-attr]
    np.testing.assert_allclose(values, np.median(raw, 0), rtol=1e-6)
    assert np.all(np.abs(days - np.arange(5, 365, 30)) <= 16)


def test_examples_are_test_parcels_right_and_wrong(tmp_path: Path) -> None:
    made = made_up(tmp_path)
    figure = examples(made.data, made.predictions)
    assert figure is not None
    titles = [axes.get_title() for axes in figure.axes if axes.get_visible()]
    assert sum(t.startswith("right: ") for t in titles) == 4
    assert sum(t.startswith("is ") for t in titles) == 4
    assert all("region 1" in t for t in titles), "of the target"
    assert examples(made.data, made.predictions.assign(label="")) is None
    only_right = made.predictions.assign(prediction=made.predictions["label"])
    assert examples(made.data, only_right) is not None


def test_profiles_of_many_domains_are_pooled(tmp_path: Path) -> None:
    made = made_up(tmp_path, domains=8)
    figure = profiles(made.data, made.predictions)
    assert figure is not None
    assert [t.get_text() for t in figure.legends[0].get_texts()] == ["sources", "targets"]


def test_dollars_in_names_are_dollars(tmp_path: Path) -> None:
    with style():
        figure = Figure()
        figure.text(0, 0, r"$\frac{")
        figure.savefig(tmp_path / "a.svg")
    assert spoken("a_b" * 50).endswith("...")
    assert len(spoken("x" * 500)) == 60
