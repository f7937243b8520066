"""The sections of a run's page; each is left out where the run has nothing for it."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from ..data.datamodule import DomainDataModule
from ..registry import describe
from . import frames
from .citations import citations
from .figures import class_bars, confusion_figure, curves, reliability, shown
from .look import spoken
from .maps import Atlas
from .page import Page
from .series import examples, profiles
from .warn import Alarm, Report, count

VERSIONS = ("eo_adapt", "python", "platform", "torch", "pytorch-lightning", "numpy", "pandas")


@dataclass(frozen=True)
class Run:
    """Everything a page is made of.

    Attributes:
        folder: The run directory.
        report: As :func:`.run.write_report` made it.
        data: The domains.
        predictions: As :func:`.predictions.write_predictions` made it.
        config: config.yaml; empty if there is none.
        metrics: metrics.csv, one row an epoch, counted from 1; empty if there is none.
        chosen: The epoch that was scored, counted from 1, if it is known.
        alarms: What there is to warn of.
    """

    folder: Path
    report: Report
    data: DomainDataModule
    predictions: pd.DataFrame
    config: Mapping[str, Any]
    metrics: pd.DataFrame
    chosen: int | None
    alarms: list[Alarm]


def bare(name: str) -> str:
    """``coral`` of ``loss/coral``."""
    return name.partition("/")[2]


def open_section(page: Page, run: Run, title: str, about: str, text: str = "") -> None:
    """Begin a section with the warnings that belong to it."""
    page.section(title, text)
    for alarm in run.alarms:
        if alarm.about == about:
            page.warn(alarm.text)


def _result(page: Page, run: Run) -> None:
    open_section(page, run, "Result", "result")
    page.table(
        frames.scores(run.report),
        "Scores on the test parcels of each domain",
        note=frames.SCORES_NOTE,
    )
    simulated = bool(run.data.generator) and not (run.data.place or run.data.root)
    page.facts(frames.facts(run.report, run.chosen, simulated))
    for group in ("method", "encoder", "shift"):
        known = describe(group)
        for name in str(run.report[group]).split("+"):
            if what := known.get(name):
                page.text(f"{group.capitalize()} {name}: {what.rstrip('.')}.")


def _classes(page: Page, run: Run) -> None:
    open_section(page, run, "Classes", "classes")
    table = frames.classes(run.report)
    if not len(table):
        page.text("No class has labelled test parcels.")
        return
    page.figure(
        class_bars(run.report),
        "Bars: F1 of each class on the test parcels of the sources and of the targets; numbers are in the table below.",
        "F1 of each class, test parcels of all sources and of all targets pooled."
        + (" The 40 most frequent classes." if len(table) > 40 else ""),
    )
    page.table(
        table,
        "Each class, domains of a side pooled",
        formats=dict.fromkeys(frames.SHARES, ".1f"),
        note=frames.CLASSES_NOTE,
    )
    if 1 < len(run.report["domains"]) <= len(shown(run.report)):
        page.table(frames.f1_by_domain(run.report), "F1 of each class in each domain")


def sensors(page: Page, run: Run) -> None:
    """What a fusion loses without each of its sensors."""
    table = frames.without(run.report)
    if not len(table):
        return
    open_section(page, run, "Sensors", "sensors")
    spelt = {"closed_macro_f1": "Closed macro-F1", "closed_miou": "Closed mIoU"}
    name = spelt[run.report.get("score", "closed_macro_f1")]
    page.table(table, f"{name} with each sensor removed in turn, and its change", note=frames.WITHOUT_NOTE)


def confusion(page: Page, run: Run) -> None:
    """Where classes went."""
    mixed = frames.confusions(run.report)
    if not len(mixed):
        return
    open_section(page, run, "Confusions", "confusions")
    page.table(mixed, "The most frequent mistakes", formats={"% of the class": ".0f"}, note=frames.MISTAKES_NOTE)
    for name in _pictured(page, run):
        if run.report["domains"][name]["n"]:
            page.figure(
                confusion_figure(run.report, name),
                f"Confusion matrix of {name}: true classes by row, predicted ones by column.",
                f"{spoken(name)}: where each true class went, in % of its test parcels (their number is in brackets).",
            )


def _pictured(page: Page, run: Run) -> list[str]:
    """Domains that get a figure each; says so where they are not all."""
    names = shown(run.report)
    if len(names) < len(run.report["domains"]):
        page.text(f"Of {len(run.report['domains'])} domains, {len(names)} with the worst and best scores are drawn.")
    return names


def _maps(page: Page, run: Run) -> None:
    atlas = Atlas(run.data, run.predictions)
    sheets = [(name, sheet) for name in shown(run.report) if (sheet := atlas.sheet(name)) is not None]
    if not sheets:
        return
    open_section(page, run, "Maps", "maps", "All parcels, training parcels too; entropy of the probabilities.")
    _pictured(page, run)
    for name, sheet in sheets:
        here = run.predictions[run.predictions["domain"] == name]
        page.figure(
            sheet,
            f"Two maps of {name}: parcels by predicted class, and by entropy; {count(len(here), 'parcel')}.",
            f"{spoken(name)}: predicted class (parcels in brackets) and entropy. {atlas.remark(name)}".strip(),
        )


def _series(page: Page, run: Run) -> None:
    figures: list[tuple[Callable[[], Any], str, str]] = [
        (
            lambda: examples(run.data, run.predictions),
            "Time series of test parcels that were told right and wrong, with medians of the classes in the sources.",
            "Test parcels from the least to the most confident: right ones above, wrong ones below.",
        ),
        (
            lambda: profiles(run.data, run.predictions),
            "Median time series of each class, one line a domain.",
            "Median of the test parcels of each class. Where lines of one class differ, the domains differ.",
        ),
    ]
    drawn = [(figure, alt, caption) for make, alt, caption in figures if (figure := make()) is not None]
    if drawn:
        open_section(page, run, "Examples and seasons", "series")
        for figure, alt, caption in drawn:
            page.figure(figure, alt, caption)


def calibration(page: Page, run: Run) -> None:
    """How far confidences can be believed."""
    table = frames.calibration(run.report)
    if not len(table):
        return
    open_section(page, run, "Confidence", "calibration", frames.temperature(run.report))
    page.table(table, "Expected calibration error", note="0 = confidences can be taken at their word.")
    bins = {n: b for n in shown(run.report)[:6] if (b := frames.bins(run.report, n)) is not None}
    if bins:
        page.figure(
            reliability(bins),
            "Share of right predictions against confidence, one line a domain.",
            "Below the diagonal the model is too sure of itself.",
        )


def _area(page: Page, run: Run) -> None:
    found = {name: d["area"] for name, d in run.report["domains"].items() if d["role"] == "target" and d.get("area")}
    if not found:
        return
    open_section(page, run, "Areas", "area", frames.area_note(run.report))
    for name in [n for n in shown(run.report) if n in found]:
        table = frames.areas(found[name])
        formats = dict.fromkeys(table.columns[1:], ",.1f")
        page.table(table, f"{spoken(name)}: mapped and estimated areas", formats, frames.AREA_NOTE)


def data_text(run: Run) -> str:
    """Title and licence of the data."""
    about = run.data.store.about.get("about", {})
    licence = (about.get("licence") or {}).get("id", "")
    parts = (about.get("title", ""), licence and f"Licence: {licence}")
    return " ".join(f"{part.rstrip('.')}." for part in parts if part)


def _data(page: Page, run: Run) -> None:
    open_section(page, run, "Data and splits", "data", data_text(run))
    page.table(frames.splits(run.report, run.predictions), "Parcels of each domain", note=frames.SPLITS_NOTE)


def training(page: Page, run: Run) -> None:
    """Scores and losses by epoch."""
    scores = run.metrics.filter(like="select/").rename(columns=bare)
    if "chosen" in scores and any(scores["chosen"].equals(scores[c]) for c in scores if c != "chosen"):
        scores = scores.drop(columns="chosen")
    if not len(scores.columns):
        return
    open_section(page, run, "Training and choice of the checkpoint", "selection")
    where = f"Epoch {run.chosen} was scored." if run.chosen else ""
    page.figure(
        curves(scores, run.chosen),
        f"Score of each selection criterion by epoch. {where}",
        f"Selection criteria on validation parcels, higher is better. {where}".strip(),
    )
    if len(losses := run.metrics.filter(like="loss/").columns):
        page.figure(
            curves(run.metrics[losses].rename(columns=bare), run.chosen, rings=False),
            "Terms of the training loss by epoch.",
            "Terms of the training loss, weighted as they are summed.",
        )


def again(page: Page, run: Run) -> None:
    """How to repeat the run, and what to cite."""
    open_section(page, run, "Reproduce and cite", "reproduce")
    folder = shlex.quote(str(run.folder))
    again = "import sys, yaml; from eo_adapt.train import run; run(yaml.safe_load(open(sys.argv[1])), sys.argv[2])"
    if run.config:
        page.command(f"python -c '{again}' {shlex.quote(f'{run.folder}/config.yaml')} outputs/again", "Train it again")
    page.command(f"python -m eo_adapt.evaluate run={folder}", "Score it again")
    env = run.folder / "env.txt"
    if env.is_file():
        lines = [line.replace("==", " ").partition(" ") for line in env.read_text(encoding="utf-8").splitlines()]
        rows = {name: number for name, _, number in reversed(lines) if name in VERSIONS}
        page.table(
            pd.DataFrame([(v, rows[v]) for v in VERSIONS if v in rows], columns=["what", "version"]),
            "Versions",
            note="env.txt lists all packages.",
        )
    about = {**run.data.store.about.get("about", {}), "recipe": run.data.store.about.get("recipe")}
    page.text("Cite the data and the methods that you use.")
    page.bibtex(citations(run.report, run.config, about))


SECTIONS = (_result, _classes, sensors, confusion, _series, _maps, calibration, _area, _data, training, again)
