"""Figures of a run, colour-blind safe; drawn alike for the PNG files and for the page."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch

from ..data.datamodule import DomainDataModule
from ..metrics import per_class
from .look import LINES, RED, SOURCE, TARGET, spoken, style
from .series import profiles

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FEW = 12  # domains that get figures of their own
READABLE = 40  # classes whose names fit into a confusion matrix, or bars into a chart
NUMBERED = 25  # classes up to which its cells hold numbers


def shown(report: Mapping[str, Any], few: int = FEW) -> list[str]:
    """Domains that get figures, targets first: all if they are few, else those with the worst and best macro-F1."""
    domains: Mapping[str, Any] = report["domains"]
    ordered = sorted(domains, key=lambda name: domains[name]["role"] != "target")
    if len(domains) <= few:
        return ordered
    chosen: set[str] = set()
    for role, worst, best in (("target", few // 3, few // 4), ("source", few // 4, few // 6)):
        names = [name for name, d in domains.items() if d["role"] == role]
        scored = sorted((n for n in names if known(domains[n]["macro_f1"])), key=lambda n: domains[n]["macro_f1"])
        scored = scored or names
        chosen |= {*scored[:worst], *scored[-best:]}
    return [name for name in ordered if name in chosen]


def known(score: float | None) -> bool:
    """Whether a score exists; what has no test labels has none (null, or NaN before it is written)."""
    return score is not None and score == score


def pooled(report: Mapping[str, Any], role: str) -> torch.Tensor | None:
    """Summed confusion matrix (K, K) of all domains of a role; None without such domains."""
    found = [np.array(d["confusion"]["matrix"]) for d in report["domains"].values() if d["role"] == role]
    return torch.from_numpy(np.sum(found, 0)) if found else None


def draw(folder: Path, data: DomainDataModule, predictions: pd.DataFrame, report: Mapping[str, Any]) -> None:
    """Write confusion_<domain>.png, classes.png, profiles.png and map_<domain>.png.

    Of more than twelve domains, only the worst and best are drawn.

    Args:
        folder: Where to; made if missing.
        data: The domains.
        predictions: As :func:`.predictions.write_predictions` made it.
        report: As :func:`.run.write_report` made it.
    """
    from .maps import Atlas

    folder.mkdir(exist_ok=True)
    with style():
        atlas = Atlas(data, predictions)
        class_bars(report).savefig(folder / "classes.png", dpi=120)
        if (lines := profiles(data, predictions)) is not None:
            lines.savefig(folder / "profiles.png", dpi=120)
        for name in shown(report):
            file = re.sub(r"[^\w.-]+", "_", name)
            confusion_figure(report, name).savefig(folder / f"confusion_{file}.png", dpi=120)
            if (sheet := atlas.sheet(name)) is not None:
                sheet.savefig(folder / f"map_{file}.png", dpi=120)


# -- confusion -------------------------------------------------------------------------------------------------------


def confusion_figure(report: Mapping[str, Any], domain: str) -> Figure:
    """Confusion matrix of one domain, as large as its classes need."""
    from matplotlib.figure import Figure

    confusion = report["domains"][domain]["confusion"]
    matrix = np.array(confusion["matrix"])
    used = int(np.count_nonzero(matrix.sum(0) + matrix.sum(1)))
    side = 3.2 + (0.3 if used <= NUMBERED else 0.18) * min(used, READABLE)
    figure = Figure(figsize=(side + 0.6, side), layout="constrained")
    confusion_matrix(figure.subplots(), matrix, confusion["classes"], domain, report.get("unit", "parcel"))
    return figure


def confusion_matrix(axes: Axes, matrix: np.ndarray, names: Sequence[str], title: str, unit: str = "parcel") -> None:
    """Confusion matrix, rows normalised; classes that neither truth nor prediction has are left out.

    Of many classes the most frequent are shown, the others as one; beyond some number the cells go without numbers.
    """
    matrix, names = _merged(matrix, names)
    used = np.flatnonzero(matrix.sum(0) + matrix.sum(1))
    counts = matrix[used].sum(1)
    shares = matrix[np.ix_(used, used)] / np.maximum(1, counts[:, None])
    axes.set(xlabel="predicted", ylabel="true", title=f"{title}: test {unit}s, % of each true class")
    if not len(used):
        axes.text(0.5, 0.5, f"no labelled test {unit}s", ha="center", transform=axes.transAxes)
        axes.set(xticks=[], yticks=[])
        return
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1, interpolation="nearest")
    if len(used) > NUMBERED:
        axes.figure.colorbar(image, ax=axes, shrink=0.5, label="share of the true class")
    else:
        for (i, j), share in np.ndenumerate(shares):
            if share >= 0.005:
                colour = "white" if share > 0.5 else "black"
                axes.text(j, i, f"{100 * share:.0f}", ha="center", va="center", color=colour, fontsize=8)
    labels = [spoken(names[int(i)], 30) for i in used]
    axes.set_xticks(range(len(used)), labels, rotation=60, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(len(used)), [f"{label} ({n})" for label, n in zip(labels, counts, strict=True)])


def _merged(matrix: np.ndarray, names: Sequence[str]) -> tuple[np.ndarray, list[str]]:
    """The most frequent classes in their order, and all others as one more; nothing changes if they are few."""
    weight = matrix.sum(0) + matrix.sum(1)
    if np.count_nonzero(weight) <= READABLE:
        return matrix, list(names)
    kept = np.sort(np.argsort(-weight, kind="stable")[: READABLE - 1])
    place = np.full(len(names), READABLE - 1)
    place[kept] = np.arange(READABLE - 1)
    merged = np.zeros((READABLE, READABLE), matrix.dtype)
    np.add.at(merged, (place[:, None], place[None]), matrix)
    return merged, [*(names[int(i)] for i in kept), f"{len(names) - len(kept)} other classes"]


# -- classes ---------------------------------------------------------------------------------------------------------


def class_bars(report: Mapping[str, Any]) -> Figure:
    """F1 of each class, pooled over the sources and over the targets; the most frequent classes if there are many.

    Of maps, intersection over union.
    """
    from matplotlib.figure import Figure

    names = next(iter(report["domains"].values()))["confusion"]["classes"]
    sides = {role: m for role in ("source", "target") if (m := pooled(report, role)) is not None}
    counts = {role: m.sum(1).numpy() for role, m in sides.items()}
    maps = report.get("unit") == "pixel"
    score, unit = ("iou", "pixels") if maps else ("f1", "parcels")
    f1 = {role: np.where(counts[role] > 0, per_class(m)[score].numpy(), np.nan) for role, m in sides.items()}
    lead = list(sides)[-1]  # the targets, where there are any
    rows = np.flatnonzero(np.sum(list(counts.values()), 0))
    rows = rows[np.argsort(-counts[lead][rows], kind="stable")][:READABLE]
    rows = rows[np.argsort(np.nan_to_num(f1[lead][rows], nan=-1), kind="stable")]
    figure = Figure(figsize=(7.5, 1.2 + 0.3 * max(1, len(rows))), layout="constrained")
    axes = figure.subplots()
    height = 0.8 / len(sides)
    for i, (role, colour) in enumerate((("source", SOURCE), ("target", TARGET))):
        if role in sides:
            at = np.arange(len(rows)) + (len(sides) - 1) * height / 2 - i * height
            hatch = "////" if role == "target" else ""
            values = f1[role][rows]
            axes.barh(at, values, height, color=colour, edgecolor="white", hatch=hatch, lw=0, label=f"{role}s")
            for y, value in zip(at, values, strict=True):
                text = f"no test {unit}" if np.isnan(value) else f"{value:.2f}"
                axes.text(np.nan_to_num(value) + 0.008, y, text, va="center", fontsize=7, color="#444444")
    axes.set_yticks(range(len(rows)), [spoken(names[int(i)], 40) for i in rows])
    axes.set(xlim=(0, 1.06), xlabel=f"{'IoU' if maps else 'F1'} on test {unit}", ylim=(-0.6, max(1, len(rows)) - 0.4))
    axes.grid(axis="x", color="#dddddd", lw=0.6)
    axes.set_axisbelow(True)
    figure.legend(loc="outside upper center", ncols=2)
    return figure


# -- training --------------------------------------------------------------------------------------------------------


def curves(table: pd.DataFrame, chosen: int | None, columns: int = 3, rings: bool = True) -> Figure:
    """Scores by epoch, one small chart a column; the best epoch of each, and the epoch that was chosen.

    Args:
        table: Index epoch, one column a score.
        chosen: Epoch of the checkpoint that was scored.
        columns: Charts beside each other.
        rings: Mark the best epoch of each, the one with the highest score.
    """
    from matplotlib.figure import Figure

    columns = min(columns, max(1, table.shape[1]))
    lines = -(-table.shape[1] // columns)
    figure = Figure(figsize=(3.3 * columns, 0.4 + 2.0 * lines), layout="constrained")
    grid = figure.subplots(lines, columns, squeeze=False, sharex=True).ravel()
    for axes, name in zip(grid, table.columns, strict=False):
        values = table[name].dropna()
        axes.plot(values.index, values, color=SOURCE, marker=".", lw=1.3)
        if rings and len(values):
            best = int(values.to_numpy().argmax())
            axes.plot(
                [values.index[best]], [values.iloc[best]], "o", mfc="none", mec="black", ms=8, label="its best epoch"
            )
        if chosen is not None:
            axes.axvline(chosen, color=RED, ls="--", lw=1.2, label="chosen epoch")
        axes.set_title(spoken(str(name)))
        axes.xaxis.get_major_locator().set_params(integer=True)
    for axes in grid[table.shape[1] :]:
        axes.set_visible(False)
    figure.supxlabel("epoch")
    handles, labels = grid[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=2)
    return figure


def reliability(bins: Mapping[str, pd.DataFrame]) -> Figure:
    """Accuracy against confidence, one line a domain; larger dots stand for more parcels.

    Args:
        bins: Domain -> columns ``confidence``, ``accuracy`` and ``count`` of each bin.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.5, 4.0), layout="constrained")
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], color="#888888", ls=":", label="as sure as right")
    for (name, table), colour in zip(bins.items(), LINES * (1 + len(bins) // len(LINES)), strict=False):
        axes.plot(table["confidence"], table["accuracy"], lw=1.2, color=colour, label=spoken(name))
        sizes = 8 + 120 * table["count"] / max(1, table["count"].sum())
        axes.scatter(table["confidence"], table["accuracy"], s=sizes, color=colour)
    axes.set(xlim=(0, 1), ylim=(0, 1), xlabel="confidence", ylabel="share that is right", aspect="equal")
    figure.legend(loc="outside right upper")
    return figure
