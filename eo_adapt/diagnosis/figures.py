"""Figures of a diagnosis, from its plain numbers alone, in the colours of Okabe and Ito, for all readers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BLUE, ORANGE, GREEN, RED, SKY, PINK, GREY = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#56B4E9", "#CC79A7", "#999999"
SOURCES, TARGET = (BLUE, SKY, GREEN, PINK), ORANGE
MOST_CLASSES = 25
MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
CAUSES = {
    "phenology": "move the calendar",
    "radiometry": "match gain and offset",
    "priors": "fit class shares",
    "private_class": "take out classes of one side",
    "gaps": "keep common dates only",
}


def _new(width: float, height: float) -> tuple[Figure, Axes]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots()
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def colours(names: Sequence[str], target: str) -> dict[str, str]:
    """Domain -> colour; the target is orange."""
    sources = [n for n in names if n != target]
    return {n: SOURCES[i % len(SOURCES)] for i, n in enumerate(sources)} | {target: TARGET}


def explanation(m: Mapping[str, Any]) -> Figure:
    """What each repair alone removes of the distance, against what it removes between random halves of the sources."""
    e = m["explanation"]
    causes = list(e["causes"])
    figure, axes = _new(7, 0.5 * len(causes) + 1.2)
    at = np.arange(len(causes))
    # Where the distance is no larger than chance, chance is the scale: shares of nothing say nothing.
    parts = {c: ("dates", "null_dates") if c == "gaps" else ("profiles", "null_profiles") for c in causes}
    whole = [max(e[parts[c][0]], e[parts[c][1]], 1e-12) for c in causes]
    share = [100 * np.clip(e["causes"][c]["alone"] / w, 0, 1) for c, w in zip(causes, whole, strict=True)]
    null = [100 * np.clip(e["causes"][c]["null"] / w, 0, 1) for c, w in zip(causes, whole, strict=True)]
    axes.barh(at, share, 0.55, color=[BLUE if e["causes"][c]["step"] else GREY for c in causes])
    axes.plot(null, at, "|", color=RED, ms=16, mew=2, label="95 % of random halves of the sources stay below")
    axes.set_yticks(at, [CAUSES.get(c, c) for c in causes])
    axes.invert_yaxis()
    axes.set(xlabel="removed alone, % of the distance of profiles (dates for the last)", xlim=(0, 105))
    figure.legend(loc="outside lower center", frameon=False, fontsize=8)
    return figure


def calendar(m: Mapping[str, Any]) -> Figure:
    """Distance over the days that the source's calendar is moved."""
    c = m["calendar"]
    figure, axes = _new(6, 3)
    axes.axvspan(c["low"], c["high"], color=ORANGE, alpha=0.25, label="95 % interval")
    axes.plot(c["moves"], c["curve"], "o-", ms=3, color=BLUE, label="class shares fitted at each move")
    axes.plot(c["moves"], c["as_is"], "s--", ms=3, color=GREY, label="class shares as they are")
    axes.axvline(c["days"], color=RED, lw=1, label=f"lowest at {c['days']:.0f} days")
    axes.set(xlabel="days that the source is moved later", ylabel="squared distance")
    axes.legend(frameon=False, fontsize=8)
    return figure


def profiles(m: Mapping[str, Any], target: str) -> Figure:
    """Median of the index over the season of each domain, and the sources moved by the estimated days."""
    figure, axes = _new(7, 3.2)
    shade = colours(list(m["profiles"]), target)
    days = m["calendar"]["days"] if m["calendar"] else 0.0
    for name, p in m["profiles"].items():
        axes.plot(p["day"], p["median"], color=shade[name], lw=2 if name == target else 1.5, label=name)
        axes.fill_between(p["day"], p["low"], p["high"], color=shade[name], alpha=0.12, lw=0)
        if name != target and abs(days) >= 1:
            moved = np.asarray(p["day"]) + days
            axes.plot(moved, p["median"], ":", color=shade[name], label=f"{name}, {days:+.0f} days")
    first = next(iter(m["profiles"].values()))
    axes.set(xlabel="day of the label year", ylabel=f"median {first['index']} (shade: quartiles)")
    axes.legend(frameon=False, fontsize=8)
    return figure


def shares(m: Mapping[str, Any]) -> Figure:
    """Class shares of the source and estimated ones of the target, with intervals; the true ones where opened."""
    s, truth = m["shares"], m["truth"]
    order = np.argsort(-np.maximum(s["source"], s["bbse"]))[:MOST_CLASSES]
    figure, axes = _new(7, 0.42 * len(order) + 1.4)
    at = np.arange(len(order))
    axes.barh(at - 0.28, np.array(s["source"])[order], 0.26, color=BLUE, label="sources")
    for offset, key, colour in ((0.0, "bbse", ORANGE), (0.28, "em", GREEN)):
        value, interval = np.array(s[key])[order], np.array(s[f"{key}_interval"])[order]
        error = np.abs(np.stack([value - interval[:, 0], interval[:, 1] - value]))
        label = f"target, {key.upper()} (95 % of sampling error only)"
        axes.barh(at + offset, value, 0.26, xerr=error, color=colour, ecolor="black", capsize=2, label=label)
        for x, y in zip(value[np.isnan(error[0])], (at + offset)[np.isnan(error[0])], strict=True):
            axes.annotate("?", (x, y), (3, 0), textcoords="offset points", va="center", fontsize=8)
    if truth:
        known = dict(zip(truth["classes"], truth["target"], strict=True))
        named = [s["classes"][i] for i in order]
        axes.plot([known.get(n, 0) for n in named], at + 0.14, "kD", ms=4, label="target, opened labels")
    axes.set_yticks(at, [s["classes"][i].replace("_", " ") for i in order])
    axes.invert_yaxis()
    axes.set(xlabel="share of the parcels (? = no interval)")
    figure.legend(loc="outside upper center", ncols=2, frameon=False, fontsize=8)
    return figure


def bands(m: Mapping[str, Any]) -> Figure:
    """Wasserstein distance of each band, with intervals and what random halves of the sources show."""
    rows = m["bands"]
    figure, axes = _new(7, 3)
    at = np.arange(len(rows))
    value = np.array([r["distance"] for r in rows])
    error = np.abs(np.stack([value - [r["low"] for r in rows], [r["high"] for r in rows] - value]))
    axes.bar(at, value, 0.6, yerr=error, color=BLUE, ecolor="black", capsize=2)
    axes.plot(at, [r["null"] for r in rows], "_", color=RED, ms=14, mew=2, label="95 % of random halves of the sources")
    axes.set_xticks(at, [r["band"] for r in rows], rotation=60 if len(rows) > 8 else 0)
    axes.set(ylabel="distance, source deviations", xlim=(-0.6, max(len(rows), 4) - 0.4))
    figure.legend(loc="outside upper center", frameon=False, fontsize=8)
    return figure


def dates(m: Mapping[str, Any], target: str, sensor: str) -> Figure:
    """Valid dates a parcel and month of each domain."""
    figure, axes = _new(7, 2.8)
    shade = colours(list(m["dates"]), target)
    months = sorted({x for d in m["dates"].values() for x in d[sensor]["month"]})
    width = 0.8 / max(1, len(m["dates"]))
    for i, (name, d) in enumerate(m["dates"].items()):
        place = np.searchsorted(months, d[sensor]["month"]) + (i - (len(m["dates"]) - 1) / 2) * width
        axes.bar(place, d[sensor]["valid"], width, color=shade[name], label=name)
    axes.set_xticks(range(len(months)), [MONTHS[x % 12] for x in months])
    axes.set(ylabel="valid dates a parcel")
    figure.legend(loc="outside right upper", frameon=False, fontsize=8)
    return figure


def reliability(row: Mapping[str, Any]) -> Figure:
    """Share of right source validation parcels against confidence, before and after the temperature of one run."""
    figure, axes = _new(4.4, 4.9)
    axes.plot([0, 1], [0, 1], ":", color=GREY, label="as sure as right")
    scaled = "no temperature fitted" if row["why_not"] else f"temperature {row['temperature']:.2f}"
    for key, colour, label in (("", BLUE, "as it is"), ("_scaled", ORANGE, scaled)):
        bins = row[f"reliability{key}"]
        x, y, n = (np.array([b[k] for b in bins], float) for k in ("confidence", "accuracy", "count"))
        axes.plot(x, y, color=colour, lw=1.2, label=f"{label}: ECE {row[f'ece{key}']:.3f}")
        axes.scatter(x, y, 8 + 120 * n / max(1.0, n.sum()), color=colour)
    axes.set(xlim=(0, 1), ylim=(0, 1.02), xlabel="confidence", ylabel="share that is right", aspect="equal")
    figure.legend(loc="outside upper center", frameon=False, fontsize=8)
    return figure
