"""Measures -> findings, on made-up measures."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from eo_adapt.diagnosis.advice import ADVICE, AVOID, OPEN, PARTIAL
from eo_adapt.diagnosis.core import Diagnosis, TargetDiagnosis
from eo_adapt.diagnosis.rules import CAUSES, judge
from eo_adapt.registry import config, names


def cause(alone: float, step: int = 0, null: float = 0.002) -> dict[str, float]:
    return {"alone": alone, "null": null, "step": step, "extra": alone if step else 0.0}


def measures() -> dict[str, Any]:
    sensor = {"names": ["s2"], "years": [2021], "step": {"s2": 5.0}, "pixels": {"s2": 1.0}, "bands": {"s2": ["B04"]}}
    dates = {"s2": {"month": [0], "all": [3], "valid": [3], "valid_total": 40.0, "lost": 0.1}}
    return {
        "classes": {"known": True, "source_only": [], "target_only": []},
        "explanation": {
            "profiles": 0.001, "dates": 0.0, "null_profiles": 0.003, "null_dates": 0.01, "classes": 0.6, "removed": 0.0,
            "causes": {c: cause(0.0) for c in ("phenology", "radiometry", "priors", "gaps")},
        },
        "calendar": {"days": 12.0, "low": 9.0, "high": 15.0, "moves": [0], "curve": [0], "as_is": [0]},
        "shares": {
            "classes": ["wheat", "oats"], "source": [0.7, 0.3], "bbse": [0.4, 0.6], "em": [0.45, 0.55],
            "variation": [0.3, 0.25], "variation_interval": [[0.2, 0.4], [0.2, 0.3]],
        },
        "novelty": {"share": 0.05, "low": 0.03, "high": 0.07, "expected": 0.05},
        "bands": [{"band": "B04", "distance": 0.8, "low": 0.7, "high": 0.9, "mean": 0.8, "std": 1.0, "null": 0.1}],
        "a_distance": {"dates": {"linear": {"value": 1.9, "low": 1.8, "high": 2.0}}},
        "dates": {"FR": dates, "EE": dates},
        "sensors": {"FR": sensor, "EE": copy.deepcopy(sensor)},
        "lacking": {},
        "presence": {"day": [8.0, 24.0, 40.0, 56.0], "presence": {"FR": [1.0] * 4, "EE": [0.1, 0.6, 0.5, 0.4]}},
    }  # fmt: skip


def hygiene() -> dict[str, Any]:
    return {
        "within": {"FR": {"train-test": 1500.0}}, "between": {"FR-EE": 1e6}, "buffer": 1000.0, "block": 20_000.0,
        "duplicates": {"domains": 0, "splits": 0, "first": []}, "coarser": {"option": "", "classes": 0, "joined": {}},
    }  # fmt: skip


def test_nothing_is_found_where_nothing_exceeds_chance() -> None:
    found, dominant = judge("EE", measures(), hygiene())
    assert dominant == "none"
    assert [f.cause for f in found] == ["none"]
    assert "No shift found" in found[0].sentence


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("phenology", "EE runs 12 days later than the sources (95 % interval 9 to 15)"),
        ("radiometry", "B04 +0.80"),
        ("priors", "total variation of 0.30 (BBSE, 0.20 to 0.40 by sampling error alone; EM 0.25), mostly "),
        ("gaps", "A-distance of 1.90"),
        ("private_class", "only the sources name sunflower; only EE names rice"),
    ],
)
def test_each_cause_has_its_number(name: str, words: str) -> None:
    m, h = measures(), hygiene()
    m["explanation"] |= {"profiles": 0.05, "dates": 0.3 if name == "gaps" else 0.0}
    m["explanation"]["causes"][name] = cause(0.25 if name == "gaps" else 0.04, step=1)
    if name == "private_class":
        m["classes"] |= {"source_only": ["sunflower"], "target_only": ["rice"]}
        h["coarser"]["option"] = "3"
    found, dominant = judge("EE", m, h)
    assert dominant == name
    assert words in found[0].sentence
    assert " 80 % of the distance" in found[0].sentence or name == "gaps"
    assert found[0].severity == ("strong" if name == "gaps" else "moderate")
    if name == "private_class":
        assert found[0].options == ("data.coarsen=3", "label_set=partial", "label_set=open")
    else:
        assert found[0].advice[name == "gaps" :] == ADVICE[name]


def test_the_order_is_that_of_what_is_explained_and_a_rival_is_mentioned() -> None:
    m = measures()
    m["explanation"]["profiles"] = 0.05
    m["explanation"]["causes"] |= {"phenology": cause(0.03, 1), "radiometry": cause(0.01, 2), "priors": cause(0.025)}
    found, dominant = judge("EE", m, hygiene())
    assert [f.cause for f in found] == ["phenology", "radiometry"]
    assert dominant == "phenology"
    assert "Other class shares alone would remove 50 %" in found[0].sentence


@pytest.mark.parametrize(
    ("presence", "words"),
    [
        ([0.1, 0.6, 0.5, 0.4], ["data.days=[16,48]"]),
        ([0.9, 0.1, 0.5, 0.6], ["data.days=[32,64]"]),
        ([0.9, 0.5, 0.5, 0.6], []),
        ([0.1, 0.2, 0.3, 0.4], []),
    ],
)
def test_dates_that_give_a_domain_away_can_be_left_out(presence: list[float], words: list[str]) -> None:
    """The longest run of bins that all domains see; nothing to say where that is everything or nothing."""
    m = measures()
    m["presence"]["presence"]["EE"] = presence
    m["explanation"] |= {"dates": 0.3}
    m["explanation"]["causes"]["gaps"] = cause(0.25, step=1)
    said = [word for one in judge("EE", m, hygiene())[0][0].advice for word in one.words]
    assert [word for word in said if word.startswith("data.days")] == words


def test_one_method_is_recommended_and_only_where_the_calendar_comes_first() -> None:
    def one(steps: dict[str, int], **classes: list[str]) -> str:
        m = measures()
        m["classes"] |= classes
        m["explanation"]["causes"] |= {name: cause(0.03, step) for name, step in steps.items()}
        method, why = TargetDiagnosis("EE", "", (), m).recommended
        assert ("shift.target_labels=5" in why) is (method == "source_only")
        return method

    assert one({}) == "source_only"
    assert one({"phenology": 1}) == "timematch"
    assert one({"gaps": 1, "phenology": 2, "priors": 3}) == "timematch", "dates can be left out"
    assert one({"priors": 1, "phenology": 2}) == "source_only"
    assert one({"radiometry": 1}) == "source_only"
    assert one({"phenology": 1, "private_class": 2}) == "source_only"
    assert one({"phenology": 1}, target_only=["rice"]) == "source_only"
    calendar, priors = measures(), measures()
    calendar["explanation"]["causes"]["phenology"] = cause(0.03, 1)
    both = tuple(TargetDiagnosis(name, "", (), m) for name, m in (("EE", calendar), ("LV", priors)))
    assert Diagnosis(both, ("FR",), {}).recommended[0] == "source_only", "the careful answer for all"
    assert Diagnosis(both[:1], ("FR",), {}).recommended[0] == "timematch"


def test_a_distance_without_a_cause_is_said() -> None:
    m = measures()
    m["explanation"]["profiles"] = 0.2
    found, dominant = judge("EE", m, hygiene())
    assert dominant == "unexplained"
    assert "no single cause explains it" in found[0].sentence


def test_notes_on_sensors_names_novelty_and_leaks() -> None:
    m, h = measures(), hygiene()
    m["sensors"]["EE"] |= {"names": ["l8"], "step": {"s2": 16.0}}
    m["lacking"] = {"s1": ["FR"]}
    m["classes"]["target_only"] = ["rice"]
    m["novelty"] = {"share": 0.3, "low": 0.2, "high": 0.4, "expected": 0.05}
    h["within"]["FR"]["train-test"] = 3.0
    h["between"]["FR-EE"] = 10.0
    h["duplicates"] = {"domains": 1, "splits": 2, "first": ["a (FR, train) = b (FR, test)"]}
    said = {f.cause: [g.sentence for g in judge("EE", m, h)[0] if g.cause == f.cause] for f in judge("EE", m, h)[0]}
    assert len(said["bands"]) == 3
    assert len(said["private_class"]) == 2
    assert len(said["leakage"]) == 2
    assert "a (FR, train) = b (FR, test)" in said["duplicates"][0]
    m["classes"] = {"known": False, "source_only": [], "target_only": []}
    assert any("names no class" in f.sentence for f in judge("EE", m, h)[0])


ADVISED = [one for several in (*ADVICE.values(), (OPEN, PARTIAL)) for one in several]


@pytest.mark.parametrize("word", sorted({word for one in ADVISED for word in one.words}))
def test_what_is_recommended_exists(word: str) -> None:
    key, _, name = word.partition("=")
    if key in ("method", "encoder"):
        assert name in names(key)
    else:
        config(word.replace("<metres>", "1000"))


def test_advice_has_reasons_and_is_about_causes() -> None:
    assert {*ADVICE, *AVOID} <= set(CAUSES)
    assert all(len(one.why) > 20 and one.why[-1] != "." for one in ADVISED)


def test_what_moves_no_calendar_and_what_harms_is_not_recommended() -> None:
    marginal = {"coral", "mmd", "dann"}
    for name in ("phenology", "priors"):
        m = measures()
        m["explanation"]["profiles"] = 0.05
        m["explanation"]["causes"][name] = cause(0.04, step=1)
        first = judge("EE", m, hygiene())[0][0]
        assert not marginal & set(first.methods)
        assert "coral, mmd" in first.avoid
    assert judge("EE", m, hygiene())[0][0].methods[0] == "label_shift"


def test_the_sentences_say_what_to_try_and_why_but_only_once() -> None:
    m = measures()
    m["explanation"]["profiles"] = 0.05
    m["explanation"]["causes"]["phenology"] = cause(0.04, 1)
    m["sensors"]["EE"]["names"] = ["l8"]
    m["lacking"] = {"s1": ["FR"], "s3": ["FR"]}
    found, dominant = judge("EE", m, hygiene())
    one = TargetDiagnosis("EE", dominant, tuple(found), m)
    said = Diagnosis((one, one), ("FR",), hygiene()).sentences
    assert len(said) == len(set(said)) == len(found)
    assert said[0].startswith("EE runs 12 days later")
    assert " Try: method=timematch (it estimates the days" in said[0]
    assert said[0].endswith("moves no calendar.")
    assert "Try: method=csn or method=adabn (normalisation statistics" in said[1]
    assert sum("data.bands=" in s for s in said) == 1
    plain = found[0].to_dict()
    assert plain["methods"] == ["timematch"]
    assert plain["try"] in said[0]
    assert plain["advice"][0]["words"] == ["method=timematch"]


def test_estimators_that_disagree_are_not_relied_on() -> None:
    m = measures()
    m["explanation"]["profiles"] = 0.05
    m["explanation"]["causes"]["priors"] = cause(0.04, 1)
    m["shares"]["variation"] = [0.9, 0.4]
    assert "rely on neither" in judge("EE", m, hygiene())[0][0].sentence


def test_shares_that_were_not_chosen_are_a_note() -> None:
    m = measures()
    m["explanation"]["profiles"] = 0.05
    m["explanation"]["causes"]["phenology"] = cause(0.04, 1)
    m["shares"]["variation_interval"] = [[0.25, 0.4], [0.2, 0.3]]
    (note,) = [f for f in judge("EE", m, hygiene())[0] if f.cause == "priors"]
    assert note.severity == "note"
    assert "total variation of 0.30" in note.sentence
