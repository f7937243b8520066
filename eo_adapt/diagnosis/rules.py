"""Measures -> findings: which causes, how strong, in a sentence with its number, and what addresses them.

A pure function of plain numbers; the thresholds and their reasons are in docs/diagnosis.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from .explain import SMALL, SMALL_DATES
from .repairs import CALENDAR, PRIORS, PRIVATE, RADIOMETRY

GAPS, BANDS, LEAKAGE, DUPLICATES = "gaps", "bands", "leakage", "duplicates"
NONE, UNEXPLAINED = "none", "unexplained"
CAUSES = (CALENDAR, RADIOMETRY, PRIORS, GAPS, PRIVATE, BANDS, LEAKAGE, DUPLICATES, UNEXPLAINED, NONE)
STRONG, MODERATE = 0.10, 0.03  # of the distance of two classes that a cause removes
GAPS_STRONG, GAPS_MODERATE = 0.2, 0.05  # squared distance of dates, at most 2
NOVEL = 2.0  # times what chance gives, for the lower end of the interval
RIVAL = 0.5  # of what a calendar removes: other shares that remove as much are mentioned
SHARES = 0.2  # total variation that is mentioned, lower end of its interval
DISAGREE = 0.2  # between the total variations of two estimators
COARSER = 1.5  # times as many days between dates
NAMED = 4  # names in a sentence
METHODS: Mapping[str, tuple[str, ...]] = {
    CALENDAR: ("mmd", "dann"),
    RADIOMETRY: ("csn", "adabn", "coral"),
    PRIORS: ("few_shot",),
    PRIVATE: ("few_shot",),
    GAPS: ("few_shot",),
    BANDS: ("csn", "adabn"),
}
OPTIONS: Mapping[str, tuple[str, ...]] = {
    PRIORS: ("data.sampling=balanced",),
    PRIVATE: ("label_set=open", "label_set=partial"),
    LEAKAGE: ("data.split.buffer", "data.split.block_size"),
}
HUMAN = {
    CALENDAR: "a shifted calendar",
    RADIOMETRY: "radiometry",
    PRIORS: "class shares",
    PRIVATE: "classes of one side alone",
    GAPS: "the pattern of usable dates",
}


@dataclass(frozen=True)
class Finding:
    """One thing that was found.

    Attributes:
        cause: One of ``CAUSES``.
        severity: ``strong`` | ``moderate`` | ``weak`` | ``note``.
        sentence: What, with the number behind it.
        methods: Entries of configs/method that address it.
        options: Options that do.
    """

    cause: str
    severity: str
    sentence: str
    methods: tuple[str, ...] = ()
    options: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Plain lists and strings."""
        return asdict(self) | {"methods": list(self.methods), "options": list(self.options)}


def judge(target: str, measures: Mapping[str, Any], hygiene: Mapping[str, Any]) -> tuple[list[Finding], str]:
    """Findings of one target, the dominant cause first, and what the dominant cause is.

    Args:
        target: Name of the target.
        measures: As :func:`.measures.measure` returns them.
        hygiene: Distances, duplicates and HCAT advice of the shift.
    """
    e = measures["explanation"]
    steps = {cause: c["step"] for cause, c in e["causes"].items() if c["step"]}
    order = sorted(steps, key=lambda cause: steps[cause])
    found = [_finding(cause, target, measures, hygiene) for cause in order]
    differ = e["profiles"] > max(e["null_profiles"], SMALL * e["classes"]) or e["dates"] > max(
        e["null_dates"], SMALL_DATES
    )
    dominant = order[0] if order else UNEXPLAINED if differ else NONE
    if dominant == UNEXPLAINED:
        found.append(Finding(UNEXPLAINED, "moderate", _unexplained(target, e)))
    if dominant == NONE:
        found.append(Finding(NONE, "note", _nothing(target, e)))
    found += [note for note in _notes(target, measures, hygiene, PRIVATE in steps) if note is not None]
    return found, dominant


def _finding(cause: str, target: str, m: Mapping[str, Any], hygiene: Mapping[str, Any]) -> Finding:
    e = m["explanation"]
    c = e["causes"][cause]
    scale = (1.0, GAPS_STRONG, GAPS_MODERATE) if cause == GAPS else (e["classes"], STRONG, MODERATE)
    size = c["extra"] / max(scale[0], 1e-12)
    severity = "strong" if size >= scale[1] else "moderate" if size >= scale[2] else "weak"
    whole = e["dates"] if cause == GAPS else e["profiles"]
    what = "dates" if cause == GAPS else "profiles"
    first = c["step"] == 1 or c["extra"] == c["alone"]
    removes = (
        f"{'' if first else 'a further '}{_share(c['extra'], whole)} of the distance of the {what} (between random "
        f"halves of the sources: {_share(c['null'], whole)})"
    )
    sentence = {
        CALENDAR: _calendar, RADIOMETRY: _radiometry, PRIORS: _priors, PRIVATE: _private, GAPS: _gaps
    }[cause](target, m, removes)  # fmt: skip
    options = OPTIONS.get(cause, ())
    if cause == PRIVATE:
        options = (*_coarser(hygiene), *options)
    return Finding(cause, severity, sentence, METHODS.get(cause, ()), options)


def _share(part: float, whole: float) -> str:
    return f"{100 * min(1.0, max(0.0, part / max(whole, 1e-12))):.0f} %"


def _calendar(target: str, m: Mapping[str, Any], removes: str) -> str:
    c = m["calendar"]
    days, when = abs(c["days"]), "later" if c["days"] > 0 else "earlier"
    low, high = sorted((abs(c["low"]), abs(c["high"]))) if c["low"] * c["high"] > 0 else (c["low"], c["high"])
    causes = m["explanation"]["causes"]
    mine, rival = causes[CALENDAR], causes.get(PRIORS)
    doubt = ""
    if rival and rival["alone"] > RIVAL * mine["alone"] and not 0 < rival["step"] < mine["step"]:
        doubt = (
            f". Other class shares alone would remove {_share(rival['alone'], m['explanation']['profiles'])}: without "
            "target labels that explanation is not excluded"
        )
    return (
        f"{target} runs {days:.0f} days {when} than the sources (95 % interval {low:.0f} to {high:.0f}); moving the "
        f"source's calendar removes {removes}{doubt}."
    )


def _radiometry(target: str, m: Mapping[str, Any], removes: str) -> str:
    rows = sorted(m["bands"], key=lambda row: -row["distance"])[:3]
    said = ", ".join(f"{r['band']} {r['mean']:+.2f} (distance {r['low']:.2f} to {r['high']:.2f})" for r in rows)
    return (
        f"Values of {target} differ by band, in standard deviations of the source: {said}; matching each band's gain "
        f"and offset removes {removes}."
    )


def _priors(target: str, m: Mapping[str, Any], removes: str) -> str:
    s = m["shares"]
    if s is None:
        return f"Other class shares explain {target}: fitting them removes {removes}."
    low, high = s["variation_interval"][0]
    names = m["classes"]
    doubt = ""
    if abs(s["variation"][0] - s["variation"][1]) > DISAGREE:
        doubt = " The two estimates disagree: rely on neither."
    alone = " Classes that one side has alone count in it." if names["source_only"] or names["target_only"] else ""
    gaps = sorted(
        zip(s["classes"], s["source"], s["bbse"], strict=True), key=lambda x: -abs(x[2] - x[1])
    )[:3]  # fmt: skip
    said = ", ".join(f"{name.replace('_', ' ')} {100 * a:.0f} to {100 * b:.0f} %" for name, a, b in gaps)
    return (
        f"Class shares of {target} are estimated to differ from the source's by a total variation of "
        f"{s['variation'][0]:.2f} (BBSE, 95 % interval {low:.2f} to {high:.2f}; EM {s['variation'][1]:.2f}), mostly "
        f"{said}; fitting the shares removes {removes}.{doubt}{alone}"
    )


def _private(target: str, m: Mapping[str, Any], removes: str) -> str:
    c = m["classes"]
    parts = [f"only the sources name {_names(c['source_only'])}"] if c["source_only"] else []
    parts += [f"only {target} names {_names(c['target_only'])}"] if c["target_only"] else []
    taken = m["explanation"]["removed"]
    about = f" and about {100 * taken:.0f} % of the target's parcels" if taken else ""
    what = f"those source classes{about}" if c["source_only"] else about.removeprefix(" and ") or "them"
    return f"Classes of one side alone: {'; '.join(parts)}. Taking out {what} removes {removes}."


def _gaps(target: str, m: Mapping[str, Any], removes: str) -> str:
    probe = m["a_distance"]["dates"]["linear"]
    totals = {
        name: sum(d["valid_total"] for d in sensors.values()) for name, sensors in m["dates"].items()
    }  # fmt: skip
    said = ", ".join(f"{name} {total:.0f}" for name, total in totals.items())
    return (
        f"Usable dates give {target} away: from their number in each bin alone a linear probe has an A-distance of "
        f"{probe['value']:.2f} ({probe['low']:.2f} to {probe['high']:.2f}; 2 = always right); valid dates a parcel: "
        f"{said}. Keeping only dates that both have removes {removes}."
    )


def _unexplained(target: str, e: Mapping[str, Any]) -> str:
    return (
        f"{target} differs from the sources (squared distance {e['profiles']:.4f} of profiles, {e['dates']:.4f} of "
        f"dates; random halves of the sources: {e['null_profiles']:.4f}, {e['null_dates']:.4f}), and no single cause "
        "explains it beyond chance."
    )


def _nothing(target: str, e: Mapping[str, Any]) -> str:
    return (
        f"No shift found: {target} is no farther from the sources (squared distance {e['profiles']:.4f} of profiles, "
        f"{e['dates']:.4f} of dates) than random halves of the sources' blocks are from one another "
        f"({e['null_profiles']:.4f}, {e['null_dates']:.4f}), or less than 1 % of what separates two classes."
    )


def _names(names: list[str]) -> str:
    said = ", ".join(n.replace("_", " ") for n in names[:NAMED])
    return said + (f" and {len(names) - NAMED} more" if len(names) > NAMED else "")


def _notes(target: str, m: Mapping[str, Any], hygiene: Mapping[str, Any], named: bool) -> list[Finding | None]:
    return [
        None if named else _class_note(target, m, hygiene),
        _shares_note(target, m),
        _novelty_note(target, m),
        *_sensor_notes(target, m),
        *_hygiene_notes(hygiene),
    ]


def _class_note(target: str, m: Mapping[str, Any], hygiene: Mapping[str, Any]) -> Finding | None:
    c = m["classes"]
    if not c["known"]:
        return Finding(
            PRIVATE, "note", f"{target} names no class: whether it has others than the sources is not known."
        )
    if not (c["source_only"] or c["target_only"]):
        return None
    parts = [f"only the sources name {_names(c['source_only'])}"] if c["source_only"] else []
    parts += [f"only {target} names {_names(c['target_only'])}"] if c["target_only"] else []
    said = f"Class names differ: {'; '.join(parts)}."
    return Finding(PRIVATE, "note", said, (), (*_coarser(hygiene), *OPTIONS[PRIVATE]))


def _shares_note(target: str, m: Mapping[str, Any]) -> Finding | None:
    """Estimated shares that differ, where they were not chosen as a cause of their own."""
    s = m["shares"]
    if s is None or m["explanation"]["causes"].get(PRIORS, {}).get("step"):
        return None
    low, high = s["variation_interval"][0]
    if low < SHARES or m["explanation"]["profiles"] <= m["explanation"]["null_profiles"]:
        return None
    said = (
        f"After these repairs the class shares of {target} are estimated to differ by a total variation of "
        f"{s['variation'][0]:.2f} (BBSE, 95 % interval {low:.2f} to {high:.2f}; EM {s['variation'][1]:.2f}); errors of "
        "the repairs count in it."
    )
    return Finding(PRIORS, "note", said, METHODS[PRIORS], OPTIONS[PRIORS])


def _coarser(hygiene: Mapping[str, Any]) -> tuple[str, ...]:
    option = hygiene["coarser"]["option"]
    return (f"data.coarsen={option}",) if option else ()


def _novelty_note(target: str, m: Mapping[str, Any]) -> Finding | None:
    n = m["novelty"]
    if n["low"] <= NOVEL * n["expected"]:
        return None
    sentence = (
        f"{100 * n['share']:.0f} % of {target}'s parcels (95 % interval {100 * n['low']:.0f} to {100 * n['high']:.0f}) "
        f"lie farther from every source parcel than {100 * (1 - n['expected']):.0f} % of source parcels do from other "
        "villages: they may be of classes that the sources lack."
    )
    return Finding(PRIVATE, "weak", sentence, METHODS[PRIVATE], OPTIONS[PRIVATE])


def _sensor_notes(target: str, m: Mapping[str, Any]) -> list[Finding]:
    notes = []
    mine = m["sensors"][target]
    others = [s for name, s in m["sensors"].items() if name != target]
    names = sorted({n for s in others for n in s["names"]})
    if mine["names"] and names and mine["names"] != names:
        said = f"{target} was seen by {', '.join(mine['names'])}, the sources by {', '.join(names)}."
        notes.append(Finding(BANDS, "moderate", said, METHODS[BANDS]))
    for sensor, step in mine["step"].items():
        known = [s["step"][sensor] for s in others if s["step"].get(sensor)]
        if known and step and max(step / min(known), max(known) / step) >= COARSER:
            said = f"Dates of {sensor} are {step:.0f} days apart in {target}, {min(known):.0f} in a source."
            notes.append(Finding(BANDS, "weak", said, METHODS[BANDS]))
    for sensor, domains in m.get("lacking", {}).items():
        said = f"Sensor {sensor} is missing in {', '.join(domains)} and was not compared."
        notes.append(Finding(BANDS, "strong", said, METHODS[BANDS], ("data.bands",)))
    return notes


def _hygiene_notes(hygiene: Mapping[str, Any]) -> list[Finding]:
    notes = []
    for domain, pairs in hygiene["within"].items():
        near = pairs.get("train-test")
        if near is not None and near < hygiene["buffer"]:
            asked = f"the buffer asked for is {hygiene['buffer']:.0f} m"
            said = f"Test parcels of {domain} lie {near:.0f} m from training parcels; {asked}."
            notes.append(Finding(LEAKAGE, "moderate", said, (), OPTIONS[LEAKAGE]))
    for pair, metres in hygiene["between"].items():
        if metres < hygiene["block"]:
            said = f"The domains {pair} lie {metres:.0f} m apart, less than a block ({hygiene['block']:.0f} m)."
            notes.append(Finding(LEAKAGE, "note", said, (), OPTIONS[LEAKAGE]))
    d = hygiene["duplicates"]
    if d["domains"] or d["splits"]:
        said = (
            f"{d['domains']} pairs of identical series lie in two domains and {d['splits']} in two splits of one, e.g. "
            f"{d['first'][0]}."
        )
        notes.append(Finding(DUPLICATES, "strong" if d["splits"] else "moderate", said))
    return notes
