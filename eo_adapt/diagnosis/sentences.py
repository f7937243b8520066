"""The sentences of a diagnosis: each says what was found with the number behind it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .repairs import CALENDAR, PRIORS

RIVAL = 0.5  # of what a calendar removes: other shares that remove as much are mentioned
DISAGREE = 0.2  # between the total variations of two estimators
NAMED = 4  # names in a sentence


def share(part: float, whole: float) -> str:
    """A part of a whole in percent, 0 to 100."""
    return f"{100 * min(1.0, max(0.0, part / max(whole, 1e-12))):.0f} %"


def calendar(target: str, m: Mapping[str, Any], removes: str) -> str:
    """How many days earlier or later."""
    c = m["calendar"]
    days, when = abs(c["days"]), "later" if c["days"] > 0 else "earlier"
    low, high = sorted((abs(c["low"]), abs(c["high"]))) if c["low"] * c["high"] > 0 else (c["low"], c["high"])
    causes = m["explanation"]["causes"]
    mine, rival = causes[CALENDAR], causes.get(PRIORS)
    doubt = ""
    if rival and rival["alone"] > RIVAL * mine["alone"] and not 0 < rival["step"] < mine["step"]:
        doubt = (
            f". Other class shares alone would remove {share(rival['alone'], m['explanation']['profiles'])}: without "
            "target labels that explanation is not excluded"
        )
    return (
        f"{target} runs {days:.0f} days {when} than the sources (95 % interval {low:.0f} to {high:.0f}); moving the "
        f"source's calendar removes {removes}{doubt}."
    )


def radiometry(target: str, m: Mapping[str, Any], removes: str) -> str:
    """Which bands differ most."""
    rows = sorted(m["bands"], key=lambda row: -row["distance"])[:3]
    said = ", ".join(f"{r['band']} {r['mean']:+.2f} (distance {r['low']:.2f} to {r['high']:.2f})" for r in rows)
    return (
        f"Values of {target} differ by band, in standard deviations of the source: {said}; matching each band's gain "
        f"and offset removes {removes}."
    )


def priors(target: str, m: Mapping[str, Any], removes: str) -> str:
    """How far the class shares differ, and which most."""
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
        f"{s['variation'][0]:.2f} (BBSE, {low:.2f} to {high:.2f} by sampling error alone; EM "
        f"{s['variation'][1]:.2f}), mostly {said}; fitting the shares removes {removes}.{doubt}{alone}"
    )


def private(target: str, m: Mapping[str, Any], removes: str) -> str:
    """Which classes one side has alone."""
    c = m["classes"]
    parts = [f"only the sources name {listing(c['source_only'])}"] if c["source_only"] else []
    parts += [f"only {target} names {listing(c['target_only'])}"] if c["target_only"] else []
    taken = m["explanation"]["removed"]
    about = f" and about {100 * taken:.0f} % of the target's parcels" if taken else ""
    what = f"those source classes{about}" if c["source_only"] else about.removeprefix(" and ") or "them"
    return f"Classes of one side alone: {'; '.join(parts)}. Taking out {what} removes {removes}."


def gaps(target: str, m: Mapping[str, Any], removes: str) -> str:
    """How well the dates alone give the target away."""
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


def unexplained(target: str, e: Mapping[str, Any]) -> str:
    """A distance that no repair explains."""
    return (
        f"{target} differs from the sources (squared distance {e['profiles']:.4f} of profiles, {e['dates']:.4f} of "
        f"dates; random halves of the sources: {e['null_profiles']:.4f}, {e['null_dates']:.4f}), and no single cause "
        "explains it beyond chance."
    )


def nothing(target: str, e: Mapping[str, Any]) -> str:
    """A distance no larger than chance."""
    return (
        f"No shift found: {target} is no farther from the sources (squared distance {e['profiles']:.4f} of profiles, "
        f"{e['dates']:.4f} of dates) than random halves of the sources' blocks are from one another "
        f"({e['null_profiles']:.4f}, {e['null_dates']:.4f}), or less than 1 % of what separates two classes."
    )


def listing(names: list[str]) -> str:
    """Class names as they are shown, the first few."""
    said = ", ".join(n.replace("_", " ") for n in names[:NAMED])
    return said + (f" and {len(names) - NAMED} more" if len(names) > NAMED else "")
