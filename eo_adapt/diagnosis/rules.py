"""Measures -> findings: which causes, how strong, in a sentence with its number, and what addresses them.

A pure function of plain numbers; the thresholds and their reasons are in docs/diagnosis.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from . import sentences
from .advice import ADVICE, AVOID, BANDS, LEAKAGE, MISSING, OPEN, PARTIAL, Advice, for_dates, for_names
from .explain import GAPS, SMALL, SMALL_DATES
from .repairs import CALENDAR, PRIORS, PRIVATE, RADIOMETRY

DUPLICATES, NONE, UNEXPLAINED = "duplicates", "none", "unexplained"
CAUSES = (CALENDAR, RADIOMETRY, PRIORS, GAPS, PRIVATE, BANDS, LEAKAGE, DUPLICATES, UNEXPLAINED, NONE)
STRONG, MODERATE = 0.10, 0.03  # of the distance of two classes that a cause removes
GAPS_STRONG, GAPS_MODERATE = 0.2, 0.05  # squared distance of dates, at most 2
NOVEL = 2.0  # times what chance gives, for the lower end of the interval
SHARES = 0.2  # total variation that is mentioned, lower end of its interval
COARSER = 1.5  # times as many days between dates
SAY = {
    CALENDAR: sentences.calendar,
    RADIOMETRY: sentences.radiometry,
    PRIORS: sentences.priors,
    PRIVATE: sentences.private,
    GAPS: sentences.gaps,
}


@dataclass(frozen=True)
class Finding:
    """One thing that was found.

    Attributes:
        cause: One of ``CAUSES``.
        severity: ``strong`` | ``moderate`` | ``weak`` | ``note``.
        sentence: What, with the number behind it.
        advice: What addresses it, each with its reason; the best first.
        avoid: What does not help or harms, as a sentence; "" = nothing to say.
    """

    cause: str
    severity: str
    sentence: str
    advice: tuple[Advice, ...] = ()
    avoid: str = ""

    @property
    def methods(self) -> tuple[str, ...]:
        """Entries of configs/method that address it."""
        return tuple(word.partition("=")[2] for word in self._words if word.startswith("method="))

    @property
    def options(self) -> tuple[str, ...]:
        """Other words for the command line that do."""
        return tuple(word for word in self._words if not word.startswith("method="))

    @property
    def _words(self) -> tuple[str, ...]:
        return tuple(word for one in self.advice for word in one.words)

    @property
    def tries(self) -> str:
        """What to try, with reasons, and what to beware of; "" without advice."""
        tries = f"Try: {'; '.join(str(one) for one in self.advice)}." if self.advice else ""
        return f"{tries} {self.avoid}".strip()

    def to_dict(self) -> dict[str, Any]:
        """Plain lists and strings."""
        advice = [{"words": list(one.words), "why": one.why} for one in self.advice]
        more = {"methods": list(self.methods), "options": list(self.options), "try": self.tries}
        return {**asdict(self), "advice": advice, **more}


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
        found.append(Finding(UNEXPLAINED, "moderate", sentences.unexplained(target, e)))
    if dominant == NONE:
        found.append(Finding(NONE, "note", sentences.nothing(target, e)))
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
    much = f"{'' if first else 'a further '}{sentences.share(c['extra'], whole)} of the distance of the {what}"
    removes = f"{much} (between random halves of the sources: {sentences.share(c['null'], whole)})"
    sentence = SAY[cause](target, m, removes)
    return Finding(cause, severity, sentence, _advice(cause, m, hygiene), AVOID.get(cause, ""))


def _advice(cause: str, m: Mapping[str, Any], hygiene: Mapping[str, Any]) -> tuple[Advice, ...]:
    if cause == PRIVATE:
        return for_names(m["classes"], hygiene["coarser"]["option"])
    return for_dates(m["presence"]) if cause == GAPS else ADVICE[cause]


def recommend(measures: Mapping[str, Any]) -> tuple[str, str]:
    """The one method to take if nothing else is known, and why: careful, for most methods lose as often as they win.

    ``timematch`` where the calendar explains more of the profiles than anything else and no class is private to one
    side; else ``source_only``. Which rules these are was decided on docs/results/cawa.md.

    Args:
        measures: As :func:`.measures.measure` returns them.

    Returns:
        Entry of configs/method, and a sentence.
    """
    causes = measures["explanation"]["causes"]
    steps = {cause: c["step"] for cause, c in causes.items() if c["step"] and cause != GAPS}
    names = measures["classes"]
    private = PRIVATE in steps or names["source_only"] or names["target_only"]
    if steps and min(steps, key=lambda cause: steps[cause]) == CALENDAR and not private:
        return "timematch", "the calendar explains most, and both sides name the same classes."
    if private and CALENDAR in steps:
        why = "the calendar differs, but classes that one side has alone make its estimate unsafe"
    elif not steps:
        why = "no shift that a method could close was found"
    else:
        first = min(steps, key=lambda cause: steps[cause])
        why = f"{first.replace('_', ' ')} comes first, for which no method has been shown to be safe"
    return "source_only", f"{why}. With a few labels of the target, compare shift.target_labels=5 method=fine_tune."


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
        said = f"{target} names no class: whether it has others than the sources is not known."
        return Finding(PRIVATE, "note", said, (PARTIAL,))
    if not (c["source_only"] or c["target_only"]):
        return None
    parts = [f"only the sources name {sentences.listing(c['source_only'])}"] if c["source_only"] else []
    parts += [f"only {target} names {sentences.listing(c['target_only'])}"] if c["target_only"] else []
    said = f"Class names differ: {'; '.join(parts)}."
    return Finding(PRIVATE, "note", said, for_names(c, hygiene["coarser"]["option"]))


def _shares_note(target: str, m: Mapping[str, Any]) -> Finding | None:
    """Estimated shares that differ, where they were not chosen as a cause of their own."""
    s = m["shares"]
    if s is None or m["explanation"]["causes"].get(PRIORS, {}).get("step"):
        return None
    low, high = s["variation_interval"][0]
    if low <= SHARES or m["explanation"]["profiles"] <= m["explanation"]["null_profiles"]:
        return None
    said = (
        f"After these repairs the class shares of {target} are estimated to differ by a total variation of "
        f"{s['variation'][0]:.2f} (BBSE, {low:.2f} to {high:.2f} by sampling error alone; EM "
        f"{s['variation'][1]:.2f}); errors of the repairs count in it."
    )
    return Finding(PRIORS, "note", said, ADVICE[PRIORS], AVOID[PRIORS])


def _novelty_note(target: str, m: Mapping[str, Any]) -> Finding | None:
    n = m["novelty"]
    if n["low"] <= NOVEL * n["expected"]:
        return None
    sentence = (
        f"{100 * n['share']:.0f} % of {target}'s parcels (95 % interval {100 * n['low']:.0f} to {100 * n['high']:.0f}) "
        f"lie farther from every source parcel than {100 * (1 - n['expected']):.0f} % of source parcels do from other "
        "villages: they may be of classes that the sources lack."
    )
    return Finding(PRIVATE, "weak", sentence, (OPEN,))


def _sensor_notes(target: str, m: Mapping[str, Any]) -> list[Finding]:
    notes = []
    mine = m["sensors"][target]
    others = [s for name, s in m["sensors"].items() if name != target]
    names = sorted({n for s in others for n in s["names"]})
    if mine["names"] and names and mine["names"] != names:
        said = f"{target} was seen by {', '.join(mine['names'])}, the sources by {', '.join(names)}."
        notes.append(Finding(BANDS, "moderate", said, ADVICE[BANDS]))
    for sensor, step in mine["step"].items():
        known = [s["step"][sensor] for s in others if s["step"].get(sensor)]
        if known and step and max(step / min(known), max(known) / step) >= COARSER:
            said = f"Dates of {sensor} are {step:.0f} days apart in {target}, {min(known):.0f} in a source."
            notes.append(Finding(BANDS, "weak", said, ADVICE[GAPS]))
    for sensor, domains in m.get("lacking", {}).items():
        said = f"Sensor {sensor} is missing in {', '.join(domains)} and was not compared."
        notes.append(Finding(BANDS, "strong", said, (MISSING,)))
    return notes


def _hygiene_notes(hygiene: Mapping[str, Any]) -> list[Finding]:
    notes = []
    for domain, pairs in hygiene["within"].items():
        near = pairs.get("train-test")
        if near is not None and near < hygiene["buffer"]:
            asked = f"the buffer asked for is {hygiene['buffer']:.0f} m"
            said = f"Test parcels of {domain} lie {near:.0f} m from training parcels; {asked}."
            notes.append(Finding(LEAKAGE, "moderate", said, ADVICE[LEAKAGE]))
    for pair, metres in hygiene["between"].items():
        if metres < hygiene["block"]:
            said = f"The domains {pair} lie {metres:.0f} m apart, less than a block ({hygiene['block']:.0f} m)."
            notes.append(Finding(LEAKAGE, "note", said, ADVICE[LEAKAGE]))
    d = hygiene["duplicates"]
    if d["domains"] or d["splits"]:
        said = (
            f"{d['domains']} pairs of identical series lie in two domains and {d['splits']} in two splits of one, e.g. "
            f"{d['first'][0]}."
        )
        notes.append(Finding(DUPLICATES, "strong" if d["splits"] else "moderate", said))
    return notes
