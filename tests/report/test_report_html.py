"""report.html of runs of every size, and of runs that lack something."""

from __future__ import annotations

import re
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from made_up import EVIL, MadeUp, made_up

from eo_adapt.report.figures import draw
from eo_adapt.report.frames import without
from eo_adapt.report.html import chosen_epoch, lead, read_metrics, write_run_page
from eo_adapt.report.sections import Run


def page_of(made: MadeUp, **more: object) -> str:
    path = write_run_page(made.folder, made.report, made.data, made.predictions, **more)  # type: ignore[arg-type]
    assert path == made.folder / "report.html"
    text = path.read_text()
    assert "<script>alert" not in text
    assert "<b>region" not in text
    plain = re.sub(r"<svg.*?</svg>|<script>.*?</script>", "", text, flags=re.S)
    assert not re.search(r"\bnan\b", plain, re.IGNORECASE)
    return text


def sections(text: str) -> list[str]:
    return re.findall(r"<h2 id=[^>]*>([^<]*)</h2>", text.split("<main")[1])


@pytest.mark.parametrize(
    ("classes", "domains", "parcels"),
    [
        (1, 1, 24),
        (1, 2, 24),
        (40, 30, 160),
        *(pytest.param(*n, marks=pytest.mark.slow) for n in ((500, 2, 2000), (6, 500, 24))),
    ],
)
def test_any_number_of_classes_and_domains(tmp_path: Path, classes: int, domains: int, parcels: int) -> None:
    made = made_up(tmp_path, classes, domains, parcels)
    start = time.process_time()
    text = page_of(made)
    assert time.process_time() - start < 60, "seconds of one core"
    assert len(text) < 10_000_000
    assert sections(text)[0] == "Result"
    rows = text.split("Scores on the test parcels")[1].split("</table>")[0].count("<tr>") - 1
    assert rows == domains, "tables hold every domain"
    assert text.count("<svg") + text.count("<img") <= 12 * 2 + 6, "figures are for a few"
    assert text.count("Confusion matrix of") <= 12


def test_the_first_paragraph_says_what_happened(tmp_path: Path) -> None:
    made = made_up(tmp_path)
    text = page_of(made)
    assert not {"Confidence", "Areas", "Training and choice of the checkpoint"} & set(sections(text))
    first = text.split('<p class="lead">')[1].split("</p>")[0]
    assert "1 source (&lt;b&gt;region 0&lt;/b&gt;) and adapted to 1 target (region 1) without labels" in first
    for name in ("<b>region 0</b>", "region 1"):
        assert f"{made.report['domains'][name]['closed_macro_f1']:.3f}" in first


def test_the_first_paragraph_of_other_kinds_of_runs(tmp_path: Path) -> None:
    made = made_up(tmp_path)

    def said() -> str:
        return lead(Run(made.folder, made.report, made.data, made.predictions, {}, pd.DataFrame(), 3, []))

    assert "Epoch 3 of 3 was scored; it was chosen by source_val" in said()
    made.report["chosen_by"] = "auto (infomax)"
    assert "it was chosen by auto (infomax)." in said()
    made.data.targets_in_fit = False
    assert "alone; 1 target (region 1) took no part" in said()
    made.report["selector"] = "last"
    assert "it is the last" in said()
    made.data.oracle = True
    assert "learnt from labels of 1 target (region 1) itself" in said()
    made.data.shots = 5
    assert "learnt from 5 labels a class of 1 target" in said()


@pytest.mark.parametrize("missing", [None, float("nan")])
def test_domains_without_labels_places_or_a_second_band(tmp_path: Path, missing: float | None) -> None:
    made = made_up(tmp_path, bands=("VV",), places=False, labelled=False)
    assert made.report["domains"]["region 1"]["n"] == 0
    assert made.report["domains"]["region 1"]["macro_f1"] is None
    for score in ("overall_accuracy", "macro_f1", "closed_macro_f1", "kappa"):
        made.report["domains"]["region 1"][score] = missing
    text = page_of(made)
    assert "Maps" not in sections(text)
    assert "No scores for 1 domain" in text
    assert "not known in 2 domains" in text
    assert "median VV" in text


def test_nobody_has_labels(tmp_path: Path) -> None:
    made = made_up(tmp_path, domains=2, labelled=False)
    for name in made.report["domains"]:
        made.report["domains"][name] |= {"n": 0, "overall_accuracy": None, "macro_f1": None, "closed_macro_f1": None}
        made.report["domains"][name]["kappa"] = None
        made.report["domains"][name]["confusion"]["matrix"] = np.zeros((4, 4), int).tolist()
    made.predictions["label"] = ""
    text = page_of(made)
    assert "No class has labelled test parcels." in text
    assert "Confusions" not in sections(text)
    assert "Maps" in sections(text)


def test_calibration_and_areas_are_shown_where_the_report_has_them(tmp_path: Path) -> None:
    made = made_up(tmp_path)
    bins = [
        {"lower": 0.0, "upper": 0.5, "count": 0, "confidence": None, "accuracy": None},
        {"lower": 0.5, "upper": 1.0, "count": 9, "confidence": 0.8, "accuracy": 0.6},
    ]
    area = {"class": EVIL, "unit": "ha", "mapped_ha": 10.0, "area_ha": 12.25, "lower_ha": 9.0, "upper_ha": 15.0}
    for d in made.report["domains"].values():
        d["calibration"] = {"ece": 0.1234, "ece_uncalibrated": 0.2, "bins": bins}
        d["area"] = [
            area,
            {**area, "class": "nothing", "mapped_ha": 0.0, "area_ha": 0.0, "lower_ha": None, "upper_ha": None},
        ]
        d["area_accuracy"] = {"note": "Beware.", "too_few": ["crop_001"]}
    made.report |= {"temperature": 1.5, "temperature_from": "source-val, 99 parcels"}
    text = page_of(made)
    assert {"Confidence", "Areas"} <= set(sections(text))
    assert "0.123" in text
    assert "12.2" in text
    assert "Beware." in text
    assert "fewer than two are called crop 001" in text
    assert "guo2017calibration" in text
    assert "olofsson2014area" in text


def test_what_lies_in_the_folder_is_used(tmp_path: Path) -> None:
    made = made_up(tmp_path)
    table = pd.DataFrame(
        {
            "epoch": [0, 0, 1, 1, 2, 2],
            "loss/coral": [None, 3.0, None, 2.0, None, 1.0],
            "select/chosen": [0.1, None, 0.3, None, 0.2, None],
            "select/source_val": [0.1, None, 0.3, None, 0.2, None],
            "select/infomax": [float("nan")] * 6,
        }
    )
    table.to_csv(tmp_path / "metrics.csv", index=False)
    (tmp_path / "checkpoints").mkdir()
    torch.save({"epoch": 1}, tmp_path / "checkpoints" / "best.ckpt")
    (tmp_path / "config.yaml").write_text("method: {parts: {dann: {}}}\n")
    (tmp_path / "env.txt").write_text("eo_adapt 0.1.0+abc\npython 3.11.7\ntorch==2.0\nother==1\n")
    assert chosen_epoch(tmp_path / "checkpoints" / "best.ckpt") == 2
    assert read_metrics(tmp_path / "metrics.csv").columns.tolist() == [
        "loss/coral",
        "select/chosen",
        "select/source_val",
    ]
    text = page_of(made)
    assert "Training and choice of the checkpoint" in sections(text)
    assert "Epoch 2 of 3 was scored; it was chosen by source_val." in text
    assert "Terms of the training loss" in text
    assert "0.1.0+abc" in text
    assert "ganin2016dann" in text
    assert f"evaluate run={tmp_path}" in text


def test_target_labels_and_a_companion_are_told(tmp_path: Path) -> None:
    made = made_up(tmp_path)
    made.report["uses_target_labels"] = True
    better = {"domains": {"region 1": {"closed_macro_f1": 0.99}}}
    text = page_of(made, companion=better)
    top = text.split("<main")[0]
    assert "a yardstick for adaptation" in top
    assert "Negative transfer in 1 target domain" in top
    assert "<dt>target labels used</dt><dd>yes</dd>" in text


def test_what_a_fusion_loses_without_each_sensor(tmp_path: Path) -> None:
    made = made_up(tmp_path)
    assert "Sensors" not in sections(page_of(made))
    whole = {name: d["closed_macro_f1"] for name, d in made.report["domains"].items()}
    made.report["without"] = {
        "s2": {name: {"closed_macro_f1": score - 0.25} for name, score in whole.items()},
        EVIL: {name: {"closed_macro_f1": None} for name in whole},
    }
    made.report["untrained"] = ["s2"]
    page = page_of(made)
    assert "Sensors" in sections(page)
    assert "Closed macro-F1 with each sensor removed in turn" in page
    assert page.count("-0.250") == len(whole)
    assert EVIL not in page
    assert "Training dropped none of s2" in page
    table = without(made.report)
    assert next(iter(table["without"])) == "s2"
    name = next(iter(whole))
    assert table.iloc[0, 1] == pytest.approx(whole[name] - 0.25)
    assert table.iloc[1, 1:].isna().all()


def test_png_figures_of_odd_names(tmp_path: Path) -> None:
    made = made_up(tmp_path, outlines=True)
    made.report["domains"]["a/b"] = made.report["domains"].pop("region 1")
    draw(tmp_path / "figures", made.data, made.predictions, made.report)
    names = {p.name for p in (tmp_path / "figures").iterdir()}
    assert {"classes.png", "profiles.png", "confusion_a_b.png", "confusion__b_region_0_b_.png"} <= names
