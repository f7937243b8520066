"""report.html of maps: the sections of :mod:`.sections` told of pixels, and sheets of patches."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd

from . import frames
from .figures import class_bars
from .look import spoken
from .page import Page
from .sections import Run, again, calibration, confusion, data_text, open_section, sensors, training
from .warn import Report

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SCORES_NOTE = (
    "All scores are 1 at best. mIoU: intersection over union, mean over the classes that occur. Closed: only pixels of "
    "classes that sources and targets share. Interval: 95 %, by bootstrap over zones, because patches of a zone are "
    "alike. Kappa: agreement beyond chance."
)
PROTOCOLS_NOTE = (
    "miou_12: mean of the twelve main classes, mistakes for other counted (FLAIR#2). miou_13: other is one of the "
    "classes. miou_flair1: without the row and the column of other (FLAIR#1)."
)
BOUNDARY_NOTE = (
    "A pixel on the outline of a class is right where the other map has an outline of that class within the tolerance "
    "(boundary=, in pixels of the image). Classes without a true outline in a domain have no score there."
)
PANOPTIC_NOTE = (
    "A parcel is found where it and a predicted one of its class overlap (intersection over union) by more than 0.5. "
    "RQ: F1 of the parcels found. SQ: mean overlap of those. PQ = RQ x SQ of a class; means over the classes that have "
    "a parcel or a predicted one. Void is part of no overlap, and predicted parcels mostly on it do not count."
)
PROTOCOLS = ("miou_12", "miou_13", "miou_flair1")
SPLITS_NOTE = (
    "Whole zones train, validate or test, never single patches. Patches between the splits are left out (buffer). "
    "Distance: the smallest between the middle of a test patch and that of a training patch."
)


def of_pixels(text: str) -> str:
    """What is said of parcels, said of pixels."""
    return re.sub(r"\b([Pp])arcel(s?)\b", lambda m: ("Pixel" if m[1] == "P" else "pixel") + m[2], text)


class PixelPage(Page):
    """A page whose sections speak of pixels."""

    def section(self, title: str, text: str = "") -> None:
        super().section(title, of_pixels(text))

    def text(self, text: str) -> None:
        super().text(of_pixels(text))

    def warn(self, text: str) -> None:
        super().warn(of_pixels(text))

    def table(
        self,
        frame: pd.DataFrame,
        caption: str,
        formats: Mapping[str, str] | None = None,
        note: str = "",
        cards: bool = False,
    ) -> None:
        named = {of_pixels(str(k)): v for k, v in (formats or {}).items()}
        renamed = frame.rename(columns=lambda c: of_pixels(str(c)))
        super().table(renamed, of_pixels(caption), named, of_pixels(note), cards)

    def figure(self, figure: Figure, alt: str, caption: str) -> None:
        super().figure(figure, of_pixels(alt), of_pixels(caption))


def map_sections(pictures: Mapping[str, Figure]) -> Sequence[Callable[[Page, Run], None]]:
    """The sections of a page of maps, in order.

    Args:
        pictures: Domain -> sheet of patches.
    """

    def sheets(page: Page, run: Run) -> None:
        if pictures:
            open_section(page, run, "Maps", "maps", "Test patches that hold most classes; grey: no label.")
        for name, sheet in pictures.items():
            what = f"{spoken(name)}: image, truth and prediction side by side."
            page.figure(sheet, what, what)

    return (_result, _classes, sheets, sensors, confusion, calibration, _data, training, again)


def _result(page: Page, run: Run) -> None:
    open_section(page, run, "Result", "result")
    page.table(scores(run.report), "Scores on the test pixels of each domain", note=SCORES_NOTE)
    if len(table := protocols(run.report)):
        page.table(table, "Protocols of FLAIR", note=PROTOCOLS_NOTE)
    if len(table := panoptic(run.report)):
        Page.table(page, table, "Parcels found one by one, test patches of each domain", note=PANOPTIC_NOTE)
    simulated = bool(run.data.generator) and not (run.data.place or run.data.root)
    page.facts(frames.facts(run.report, run.chosen, simulated))


def scores(report: Report) -> pd.DataFrame:
    """One row a domain."""
    rows = [
        {
            "domain": spoken(name),
            "role": d["role"],
            "test pixels": d["n"],
            "mIoU": d["miou"],
            "closed mIoU": d["closed_miou"],
            "lower": d["closed_miou_interval"]["lower"],
            "upper": d["closed_miou_interval"]["upper"],
            "zones": d["closed_miou_interval"]["zones"],
            "accuracy": d["overall_accuracy"],
            "macro-F1": d["macro_f1"],
            "kappa": d["kappa"],
        }
        for name, d in report["domains"].items()
    ]
    return pd.DataFrame(rows)


def protocols(report: Report) -> pd.DataFrame:
    """One row a domain that the published protocols fit."""
    rows: list[dict[str, Any]] = [
        {"domain": spoken(name), **{p: d[p] for p in PROTOCOLS if p in d}}
        for name, d in report["domains"].items()
        if PROTOCOLS[0] in d
    ]
    return pd.DataFrame(rows)


def panoptic(report: Report) -> pd.DataFrame:
    """One row a domain whose parcels were told apart."""
    rows = []
    for name, d in report["domains"].items():
        if found := d.get("panoptic"):
            bounds = found["closed_pq_interval"]
            rows.append(
                {
                    "domain": spoken(name),
                    "role": d["role"],
                    "parcels": found["things"],
                    "predicted": found["segments"],
                    **{score.upper(): found[score] for score in ("pq", "sq", "rq")},
                    "closed PQ": found["closed_pq"],
                    "lower": bounds["lower"],
                    "upper": bounds["upper"],
                }
            )
    return pd.DataFrame(rows)


def class_pq(report: Report) -> pd.DataFrame:
    """One row a class, PQ in one column a domain; no row where parcels were not told apart."""
    blocks = {
        f"{spoken(name)} ({d['role']})": d["panoptic"]["per_class"]
        for name, d in report["domains"].items()
        if "panoptic" in d
    }
    names = dict.fromkeys(name for block in blocks.values() for name in block)
    columns = {title: [block.get(name, {}).get("pq") for name in names] for title, block in blocks.items()}
    return (
        pd.DataFrame({"class": [spoken(name) for name in names], **columns}, dtype=object) if names else pd.DataFrame()
    )


def boundary_f1(report: Report) -> pd.DataFrame:
    """One row a class, one column a domain, the mean last; no row where boundaries were not scored."""
    blocks = {
        f"{spoken(name)} ({d['role']})": d["boundary"] for name, d in report["domains"].items() if "boundary" in d
    }
    columns = {
        name: [*(c["f1"] if c["true"] else None for c in block["per_class"].values()), block["f1"]]
        for name, block in blocks.items()
    }
    if not columns:
        return pd.DataFrame()
    names = [spoken(name) for name in next(iter(blocks.values()))["per_class"]]
    return pd.DataFrame({"class": [*names, "mean"], **columns}, dtype=object)


def _classes(page: Page, run: Run) -> None:
    open_section(page, run, "Classes", "classes")
    table = frames.classes(run.report)
    if not len(table):
        page.text("No class has labelled test pixels.")
        return
    page.figure(
        class_bars(run.report),
        "Bars: intersection over union of each class on the test pixels of the sources and of the targets.",
        "Intersection over union of each class, test pixels of all sources and of all targets pooled.",
    )
    formats = dict.fromkeys(frames.SHARES, ".1f")
    page.table(table, "Each class, domains of a side pooled", formats, frames.CLASSES_NOTE)
    if len(edges := boundary_f1(run.report)):
        page.table(edges, "F1 of the boundaries of each class", note=BOUNDARY_NOTE)
    if len(found := class_pq(run.report)):
        Page.table(page, found, "Panoptic quality of each class", note=PANOPTIC_NOTE)


def _data(page: Page, run: Run) -> None:
    open_section(page, run, "Data and splits", "data", data_text(run))
    rows = []
    for name, d in run.report["domains"].items():
        gap = d["distances_m"].get("train-test")
        rows.append(
            {
                "domain": spoken(name),
                "role": d["role"],
                "patches": sum(d["patches"].values()),
                **d["patches"],
                "labelled test pixels": d["n"],
                "distance, m": None if gap is None else round(gap),
            }
        )
    page.table(pd.DataFrame(rows), "Patches of each domain", note=SPLITS_NOTE)
