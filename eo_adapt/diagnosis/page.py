"""The diagnosis as a page: sentences first, then the plots and tables that they can be checked against."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import pandas as pd

from . import figures
from .core import Diagnosis, TargetDiagnosis

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PROBES = {
    "all": "everything",
    "dates": "number of valid dates in each bin, nothing else",
    "season": "shape of the season (index between its own minimum and maximum)",
    "single_date": "bands of one random date, without the date",
}


class PageLike(Protocol):
    """What is needed of :class:`eo_adapt.report.page.Page`."""

    def section(self, title: str, text: str = "") -> None:
        """Begin a section."""

    def text(self, text: str) -> None:
        """A paragraph."""

    def warn(self, text: str) -> None:
        """A warning."""

    def table(
        self,
        frame: pd.DataFrame,
        caption: str,
        formats: Mapping[str, str] | None = None,
        note: str = "",
        cards: bool = False,
    ) -> None:
        """A table."""

    def figure(self, figure: Figure, alt: str, caption: str) -> None:
        """A figure."""

    def command(self, command: str, label: str = "Reproduce") -> None:
        """A command."""

    def bibtex(self, entries: Sequence[str]) -> None:
        """Literature."""


def fill(page: PageLike, found: Diagnosis, command: str) -> None:
    """Write a diagnosis into an empty page.

    Args:
        page: Where to.
        found: The diagnosis.
        command: What reproduces it.
    """
    if found.labels_opened:
        page.warn("Target labels of the train and val parcels were opened for this diagnosis (labels=true).")
    for warning in found.runs.get("warnings", ()):
        page.warn(warning)
    for one in found.targets:
        _findings(page, one, len(found.targets) > 1)
        _explanation(page, one)
        _season(page, one)
        _shares(page, one)
        _values(page, one)
        _dates(page, one)
        _probes(page, one)
    _hygiene(page, found)
    if found.runs:
        _runs(page, found.runs)
    page.section("How to read it", HOW)
    page.command(command)
    page.bibtex(LITERATURE)


def _findings(page: PageLike, one: TargetDiagnosis, several: bool) -> None:
    title = f"What separates {one.target} from the sources" if several else "What was found"
    method, why = one.recommended
    said = f"Dominant cause: {one.dominant.replace('_', ' ')}. Recommended: method={method}: {why}"
    page.section(title, said)
    rows = [
        {
            "cause": f.cause.replace("_", " "),
            "severity": f.severity,
            "finding": f.sentence,
            "addressed by": f.tries.removeprefix("Try: ") or None,
        }
        for f in one.findings
    ]
    page.table(pd.DataFrame(rows), f"Findings for {one.target}, the dominant cause first", cards=True)


def _explanation(page: PageLike, one: TargetDiagnosis) -> None:
    m = one.measures
    e = m["explanation"]
    page.section(f"Explanation of {one.target}")
    page.figure(
        figures.explanation(m),
        "Bars: share of the distance that each repair removes alone; red marks: the same between random source halves",
        "Blue: chosen, one after another, because they remove more than chance. Grey: not chosen.",
    )
    rows = [
        {
            "repair": figures.CAUSES.get(c, c),
            "alone": v["alone"],
            "chance (95 %)": v["null"],
            "chosen as": v["step"] or None,
        }
        | {"removes then": v["extra"] or None}
        for c, v in e["causes"].items()
    ]
    note = (
        f"Squared distance of profiles {e['profiles']:.4f} (chance up to {e['null_profiles']:.4f}), of dates "
        f"{e['dates']:.4f} (chance up to {e['null_dates']:.4f}); two source classes are {e['classes']:.3f} apart on "
        f"average; the chosen repairs leave {e['left']:.4f} of the profiles' distance."
    )
    page.table(pd.DataFrame(rows), "Squared distance that each repair removes", FORMATS, note)


def _season(page: PageLike, one: TargetDiagnosis) -> None:
    m = one.measures
    page.section(f"Season of {one.target}")
    if m["calendar"]:
        text = "The estimated shift is where this curve is lowest; days are days that the source is moved later."
        page.figure(figures.calendar(m), "Distance over candidate shifts in days", text)
    page.figure(
        figures.profiles(m, one.target),
        "Median vegetation index over the season for each domain",
        "Only bins in which every domain has dates. Dotted: sources moved by the estimated shift.",
    )
    if m["truth"] and m["truth"]["days"]:
        rows = [{"class": k.replace("_", " "), "days": v} for k, v in m["truth"]["days"].items()]
        page.table(pd.DataFrame(rows), "Shift of each class, from opened target labels", {"days": ".0f"})


def _shares(page: PageLike, one: TargetDiagnosis) -> None:
    m = one.measures
    if not m["shares"]:
        return
    s = m["shares"]
    page.section(f"Class shares of {one.target}")
    after = f", after moving the calendar by {s['after_days']:.0f} days" if s["after_days"] else ""
    truth = f" True total variation, from opened labels: {m['truth']['variation']:.2f}." if m["truth"] else ""
    page.figure(
        figures.shares(m),
        "Class shares of the sources and, estimated, of the target",
        f"Estimated without target labels{after}; right only if parcels of one class look alike in both. Bars "
        "are sampling error only: villages are drawn again, but neither the classifier nor the repairs before it are "
        f"fitted again, and what these get wrong is in no bar. ? = the draws give no interval. The classifier has "
        f"{100 * s['accuracy']:.0f} % of unseen source parcels right; EM's probabilities are scaled by temperature "
        f"{s['temperature']:.2f}.{truth}",
    )


def _values(page: PageLike, one: TargetDiagnosis) -> None:
    m = one.measures
    page.section(f"Radiometry of {one.target}")
    page.figure(
        figures.bands(m),
        "Wasserstein distance of each band, in source standard deviations",
        "Over the compared season. Other crops and other seasons make bands differ too: see the explanation above.",
    )
    columns = ["band", "distance", "low", "high", "null", "mean", "std"]
    frame = pd.DataFrame(m["bands"])[columns].rename(
        columns={"null": "chance (95 %)", "mean": "mean difference", "std": "deviation ratio"}
    )
    note = (
        f"MMD² {m['mmd']:.4f}, CORAL {m['coral']:.5f}, both unbiased, on the leading directions of all bands and bins."
    )
    page.table(frame, "Bands, in source standard deviations", None, note)


def _dates(page: PageLike, one: TargetDiagnosis) -> None:
    m = one.measures
    page.section(f"Dates of {one.target}")
    for sensor in next(iter(m["dates"].values())):
        caption = f"Valid dates of {sensor} a parcel and month."
        page.figure(figures.dates(m, one.target, sensor), "Valid dates a parcel by month and domain", caption)
    rows = [
        {"domain": name, "sensor": sensor, "valid dates a parcel": d["valid_total"], "lost, %": 100 * d["lost"]}
        | {"days between dates": m["sensors"][name]["step"][sensor], "pixels": m["sensors"][name]["pixels"][sensor]}
        for name, sensors in m["dates"].items()
        for sensor, d in sensors.items()
    ]
    formats = dict.fromkeys(("valid dates a parcel", "lost, %", "pixels"), ".1f") | {"days between dates": ".3g"}
    page.table(pd.DataFrame(rows), "Dates and sensors", formats)


def _probes(page: PageLike, one: TargetDiagnosis) -> None:
    m = one.measures
    page.section(f"Can {one.target} be told from the sources?")
    rows = [
        {"seen by the probe": PROBES[name], "probe": kind, "A-distance": d["value"], "low": d["low"], "high": d["high"]}
        for name, kinds in m["a_distance"].items()
        for kind, d in kinds.items()
    ]
    note = (
        "0 = not to be told apart, 2 = always. Cross-validated: no village is in training and test. Low and high: 95 % "
        "over draws of villages whose held-out guesses are scored; the probes are not fitted again."
    )
    page.table(pd.DataFrame(rows), "Proxy A-distances", dict.fromkeys(("A-distance", "low", "high"), ".2f"), note)
    n = m["novelty"]
    page.text(
        f"Novelty: {100 * n['share']:.0f} % (95 % interval {100 * n['low']:.0f} to {100 * n['high']:.0f}) of the "
        f"target's parcels lie farther from every source parcel than 95 % of source parcels do from other villages. "
        "Chance gives 5 %."
    )


def _hygiene(page: PageLike, found: Diagnosis) -> None:
    h = found.hygiene
    page.section("Distances, duplicates, names")
    rows = [{"pair": f"{d}: {pair}", "metres": m} for d, pairs in h["within"].items() for pair, m in pairs.items()]
    rows += [{"pair": pair, "metres": m} for pair, m in h["between"].items()]
    if rows:
        page.table(pd.DataFrame(rows), "Smallest distances between splits and between domains", {"metres": ",.0f"})
    d = h["duplicates"]
    page.text(
        f"Identical series: {d['domains']} pairs across domains, {d['splits']} across splits. " + "; ".join(d["first"])
    )
    if h["source_variation"]:
        said = ", ".join(f"{pair} {v:.2f}" for pair, v in h["source_variation"].items())
        page.text(f"Total variation of class shares between sources: {said}.")
    if h["coarser"]["option"]:
        joined = "; ".join(f"{a} -> {b}" for a, b in h["coarser"]["joined"].items())
        page.text(f"data.coarsen={h['coarser']['option']} gives every target class a source class: {joined}.")


def _runs(page: PageLike, runs: Mapping[str, Any]) -> None:
    page.section(
        "Trained networks",
        "Distances of the features of validation parcels; the first run is what others are compared with.",
    )
    names = {"a_linear": "A, linear", "a_trees": "A, trees", "mmd": "MMD²", "coral": "CORAL"}
    names |= {"source_error": "source-val error", "ece": "source-val ECE", "ece_scaled": "ECE, scaled"}
    names |= {"temperature": "temperature"}
    frame = pd.DataFrame(runs["rows"])[["run", *(["target"] if len(runs["targets"]) > 1 else []), *names]]
    formats = {v: ".4f" if v in ("MMD²", "CORAL") else ".3f" for v in names.values()}
    note = "ECE: expected calibration error. Scaled: by a temperature that was fitted on these same parcels."
    page.table(frame.rename(columns=names), "Domains as networks see them", formats, note)
    for row in [row for row in runs["rows"] if row["target"] == runs["targets"][0]][:MOST_RUNS]:
        caption = f"{row['run']}: below the diagonal the network is too sure of itself. Larger dots: more parcels."
        page.figure(figures.reliability(row), "Share of right source-val parcels against confidence", caption)


FORMATS = {**dict.fromkeys(("alone", "chance (95 %)", "removes then"), ".4f"), "chosen as": ".0f"}
MOST_RUNS = 6  # reliability diagrams; diagnosis.json has those of all runs
HOW = (
    "Everything is computed from train and val parcels; test parcels stay sealed. The unit of chance is a spatial "
    "block: intervals come from drawing blocks, and a cause counts only if its repair removes more than between random "
    "halves of the sources' blocks. A repair is fitted on half of the blocks and judged on the other half.\n\n"
    "A distance is not a loss of accuracy, and without target labels other class shares can imitate a moved calendar, "
    "or a class that the sources lack. docs/diagnosis.md has the measures, the thresholds and their reasons."
)
LITERATURE = (
    "@article{gretton2012, author={Gretton, Arthur and others}, title={A Kernel Two-Sample Test}, journal={JMLR}, "
    "volume={13}, year={2012}}",
    "@inproceedings{lipton2018, author={Lipton, Zachary and Wang, Yu-Xiang and Smola, Alexander}, title={Detecting and "
    "Correcting for Label Shift with Black Box Predictors}, booktitle={ICML}, year={2018}}",
    "@article{saerens2002, author={Saerens, Marco and Latinne, Patrice and Decaestecker, Christine}, title={Adjusting "
    "the Outputs of a Classifier to New a Priori Probabilities}, journal={Neural Computation}, "
    "volume={14}, year={2002}}",
    "@inproceedings{zhang2013, author={Zhang, Kun and others}, title={Domain Adaptation under Target and Conditional "
    "Shift}, booktitle={ICML}, year={2013}}",
    "@article{bendavid2010, author={Ben-David, Shai and others}, title={A Theory of Learning from Different Domains}, "
    "journal={Machine Learning}, volume={79}, year={2010}}",
)
