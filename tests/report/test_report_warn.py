"""Every warning: when it speaks, when it is silent, and that its number is right."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from eo_adapt.metrics import scores
from eo_adapt.report import warn

NAMES = ("oats", "rye", "wheat")


def domain(role: str, matrix: Any, gap: float | None = 5000.0) -> dict[str, Any]:
    """A domain's part of a report, from its confusion matrix."""
    found = scores(torch.tensor(matrix), NAMES, NAMES)
    distances = {} if gap is None else {"train-test": gap}
    return {"role": role, "split": "test", "distances_m": distances, **found}


def report(**changes: Any) -> dict[str, Any]:
    """A report with nothing to warn of."""
    balanced = np.diag([100, 100, 100]).tolist()
    usual = {
        "selector": "source_val",
        "uses_target_labels": False,
        "labels_opened": 1,
        "classes": {"learnt": NAMES, "shared": NAMES, "source_private": [], "target_private": []},
        "domains": {"A": domain("source", balanced), "B": domain("target", balanced)},
    }
    return {**usual, **changes}


def predictions(made: dict[str, Any]) -> pd.DataFrame:
    """Test parcels as the confusion matrices tell them."""
    rows = []
    for name, d in made["domains"].items():
        for i, line in enumerate(d["confusion"]["matrix"]):
            for j, n in enumerate(line):
                rows += [(name, d["role"], "test", NAMES[i], NAMES[j])] * n
    frame = pd.DataFrame(rows, columns=["domain", "role", "split", "label", "prediction"])
    return frame.assign(p_oats=0.3, p_rye=0.3, p_wheat=0.4)


def texts(made: dict[str, Any], **more: Any) -> list[str]:
    return [alarm.text for alarm in warn.alarms(made, more.pop("frame", predictions(made)), **more)]


def only(found: list[str]) -> str:
    assert len(found) == 1, found
    assert re.search(r"\d", found[0]), "a number in each sentence"
    return found[0]


def test_nothing_to_say() -> None:
    assert texts(report()) == []
    assert texts(report(), scores=pd.DataFrame({"source_val": [0.1, 0.2]}, [1, 2]), chosen=2, companion=report()) == []


def test_target_labels_and_repeated_openings() -> None:
    assert "1 target domain (B)" in only(texts(report(uses_target_labels=True)))
    assert "opened 3 times" in only(texts(report(labels_opened=3)))


@pytest.mark.parametrize(("gap", "said"), [(0.0, "0 m"), (499.0, "499 m"), (500.0, None)])
def test_leakage(gap: float, said: str | None) -> None:
    made = report()
    made["domains"]["B"]["distances_m"]["train-test"] = gap
    found = texts(made)
    assert found == [] if said is None else f"in B {said}" in only(found)


def test_tokens_that_nothing_taught() -> None:
    assert "none of s2, s1 (encoder.drop_modality=0)" in only(texts(report(untrained=["s2", "s1"])))
    assert texts(report(untrained=[])) == []


def test_places_that_nobody_knows() -> None:
    made = report()
    made["domains"]["B"]["distances_m"] = {}
    assert "not known in 1 domain" in only(texts(made))


def test_label_shift_is_the_total_variation() -> None:
    made = report()
    made["domains"]["B"] = domain("target", np.diag([250, 25, 25]).tolist())
    expected = abs(np.array([250, 25, 25]) / 300 - 1 / 3).sum() / 2
    assert f"Label shift: {100 * expected:.0f} %" in only(texts(made))


def test_wrong_shares_of_the_target() -> None:
    made = report()
    made["domains"]["B"] = domain("target", [[100, 0, 0], [90, 10, 0], [0, 0, 100]])
    text = only(texts(made))
    assert "wrong for 30 %" in text
    assert "rye: 3 % predicted, 33 % true" in text or "oats: 63 % predicted, 33 % true" in text


def test_shift_without_labels_is_told_by_the_predictions() -> None:
    made = report()
    frame = predictions(made)
    made["domains"]["B"] = domain("target", np.zeros((3, 3), int).tolist())
    frame.loc[frame["role"] == "target", ["label", "prediction"]] = "", "oats"
    found = texts(made, frame=frame)
    assert any("By the predictions, 67 %" in text for text in found)
    assert any("No scores for 1 domain" in text for text in found)
    assert any("Nearly constant predictions in 1 domain: in B 100 %" in text for text in found)


def test_constant_predictions_that_are_true_are_no_mistake() -> None:
    made = report()
    made["domains"]["A"] = domain("source", np.diag([300, 0, 0]).tolist())
    made["domains"]["B"] = domain("target", np.diag([300, 0, 0]).tolist())
    assert [t for t in texts(made) if "constant" in t] == []
    made["domains"]["B"] = domain("target", [[100, 0, 0], [100, 0, 0], [100, 0, 0]])
    assert any("called oats, 33 % of its labelled test parcels are" in t for t in texts(made))


def test_small_tests_and_rare_classes() -> None:
    made = report()
    made["domains"]["B"] = domain("target", np.diag([30, 30, 9]).tolist())
    found = texts(made)
    assert any("69 of B" in t and f"{98 / 69**0.5:.0f} percentage points" in t for t in found)
    assert any("1 shared class with fewer than 10" in t and "wheat (9)" in t for t in found)


def test_private_classes() -> None:
    classes = {"learnt": NAMES[:2], "shared": ["oats"], "source_private": ["rye"], "target_private": ["wheat"]}
    found = texts(report(classes=classes))
    assert any("1 class of the targets not learnt" in t and "wheat; 100 test parcels" in t for t in found)
    assert any("1 class of the sources alone: rye" in t for t in found)
    opened = report(classes=classes)
    for d in opened["domains"].values():
        d["confusion"] = {**d["confusion"], "classes": ["oats", "rye", "unknown"]}
    told = texts(opened, frame=predictions(report()))
    assert any("wheat; 100 test parcels can only be right as unknown" in t for t in told)


def test_negative_transfer_needs_a_companion_that_is_better() -> None:
    made, before = report(), report()
    made["domains"]["B"] = domain("target", np.diag([80, 80, 80]).tolist())
    made["domains"]["B"]["closed_macro_f1"] = 0.5
    before["domains"]["B"]["closed_macro_f1"] = 0.56
    assert "is 0.560, here 0.500 (-0.060)" in only(texts(made, companion=before))
    before["domains"]["B"]["closed_macro_f1"] = 0.505
    assert texts(made, companion=before) == []
    before["domains"]["B"]["closed_macro_f1"] = None
    assert texts(made, companion=before) == []


def test_criteria_that_disagree() -> None:
    epochs = range(1, 11)
    up, down = np.linspace(0.50, 0.52, 10), np.linspace(0.9, 0.1, 10)
    table = pd.DataFrame({"source_val": up, "infomax": down, "last": range(10), "chosen": up}, epochs)
    assert "(infomax 1, source_val 10)" in only(texts(report(), scores=table, chosen=10))
    table = pd.DataFrame({"source_val": np.linspace(0.5, 0.6, 10), "infomax": np.nan, "chosen": down}, epochs)
    assert "chosen epoch 1 has source-val macro-F1 0.500, 0.100 less than epoch 10" in only(
        texts(report(), scores=table, chosen=1)
    )
    assert texts(report(), scores=pd.DataFrame(), chosen=None) == []


def test_warnings_name_a_few_and_count_the_rest() -> None:
    made = report()
    many = {f"d{i}": domain("target", np.diag([100, 100, 100]).tolist(), None) for i in range(500)}
    made["domains"] |= many
    text = only(texts(made))
    assert "500 domains" in text
    assert "and 496 more" in text
    assert len(text) < 300
