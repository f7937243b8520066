"""What a reader should know before believing a run: rules on its report, each with a number in its sentence."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from .figures import known, pooled
from .look import spoken

NEAR = 500.0  # metres between train and test below which scores rather tell how well neighbours are copied
FEW_PARCELS = 100  # labelled test parcels of a domain
FEW_OF_CLASS = 10  # labelled test parcels of a class
SHIFT = 0.2  # total variation of class shares
CONSTANT = 0.9  # share of one class among the predictions of a domain
LOSS = 0.01  # of macro-F1, against the companion
DROP = 0.05  # of source-val macro-F1, against its best epoch

Report = Mapping[str, Any]


class Alarm(NamedTuple):
    """A warning and the section of the page that it belongs to."""

    about: str
    text: str


def alarms(
    report: Report,
    predictions: pd.DataFrame,
    scores: pd.DataFrame | None = None,
    chosen: int | None = None,
    companion: Report | None = None,
) -> list[Alarm]:
    """Every warning about a run.

    Args:
        report: As :func:`.run.write_report` made it.
        predictions: As :func:`.predictions.write_predictions` made it.
        scores: Criterion -> its score, one row an epoch, counted from 1.
        chosen: The epoch that was scored, counted from 1.
        companion: Report of ``method=source_only`` on the same shift.
    """
    rules: tuple[tuple[str, Callable[[], list[str]]], ...] = (
        ("result", lambda: target_labels(report)),
        ("result", lambda: negative_transfer(report, companion)),
        ("data", lambda: leakage(report)),
        ("data", lambda: seen_tests(report)),
        ("data", lambda: small_tests(report)),
        ("data", lambda: absent_classes(report)),
        ("sensors", lambda: untrained_tokens(report)),
        ("classes", lambda: label_shift(report, predictions)),
        ("classes", lambda: constant_predictions(predictions)),
        ("selection", lambda: disagreement(scores, chosen, chosen_by(report))),
    )
    return [Alarm(about, text) for about, rule in rules for text in rule()]


def untrained_tokens(report: Report) -> list[str]:
    """Scores with a sensor removed that say nothing of the sensor."""
    if not (names := report.get("untrained")):
        return []
    return [
        f"Training dropped none of {listing(names)} (encoder.drop_modality=0). Unless training samples lacked it, the "
        "token that stands in for a removed sensor is as it was drawn at the start, and the score without that sensor "
        "measures this token. Train with encoder.drop_modality=0.2."
    ]


def listing(names: Sequence[str], most: int = 4) -> str:
    """``a, b, c and 9 more``."""
    shown = ", ".join(spoken(name, 40) for name in names[:most])
    return shown + (f" and {len(names) - most} more" if len(names) > most else "")


def count(n: int, one: str, many: str = "") -> str:
    """``1 domain``, ``2 domains``."""
    return f"{n} {one if n == 1 else many or one + 's'}"


def chosen_by(report: Report) -> str:
    """Who chose the checkpoint, spelt for people; reports of earlier versions have its name alone."""
    return str(report.get("chosen_by") or report["selector"])


def _of(report: Report, role: str) -> dict[str, Any]:
    return {name: d for name, d in report["domains"].items() if d["role"] == role}


def target_labels(report: Report) -> list[str]:
    """Target labels took part in training or selection, or the sealed test was opened more than once."""
    found = []
    if report["uses_target_labels"]:
        targets = list(_of(report, "target"))
        found.append(
            f"Labels of {count(len(targets), 'target domain')} ({listing(targets)}) took part in training or "
            "selection: a yardstick for adaptation, not a result of it."
        )
    if (times := report.get("labels_opened") or 0) > 1:
        found.append(
            f"The target's test labels were opened {times} times in this run directory. If anything was changed after "
            "a look at the scores, they are too good."
        )
    return found


def leakage(report: Report) -> list[str]:
    """Test parcels near training parcels, or at places that nobody knows."""
    gaps = {n: d["distances_m"].get("train-test") for n, d in report["domains"].items()}
    near = sorted((gap, name) for name, gap in gaps.items() if gap is not None and gap < NEAR)
    found = []
    if near:
        gap, name = near[0]
        found.append(
            f"Spatial leakage: in {len(near)} of {count(len(gaps), 'domain')} test parcels lie less than {NEAR:.0f} m "
            f"from training parcels, in {spoken(name)} {gap:.0f} m. Neighbours are alike: these scores are too good."
        )
    if unknown := [name for name, gap in gaps.items() if gap is None]:
        found.append(
            f"How far test parcels lie from training parcels is not known in {count(len(unknown), 'domain')} without "
            f"coordinates ({listing(unknown)})."
        )
    return found


def seen_tests(report: Report) -> list[str]:
    """Targets that adaptation saw whole."""
    seen = [name for name, d in _of(report, "target").items() if d.get("transductive")]
    if not seen:
        return []
    return [
        f"Adaptation and selection saw the test images of {listing(seen)}, without labels, for there are no others: "
        "scores of other images of these places may be lower."
    ]


def small_tests(report: Report) -> list[str]:
    """Domains with too few labelled test parcels for their scores to mean much."""
    sizes = {name: d["n"] for name, d in report["domains"].items()}
    found = []
    if empty := [name for name, n in sizes.items() if n == 0]:
        found.append(f"No scores for {count(len(empty), 'domain')} without labelled test parcels: {listing(empty)}.")
    few = sorted((n, name) for name, n in sizes.items() if 0 < n < FEW_PARCELS)
    if few:
        n, name = few[0]
        found.append(
            f"Small test sets: {count(len(few), 'domain')} with fewer than {FEW_PARCELS} labelled test parcels. With "
            f"the {n} of {spoken(name)}, an accuracy may be off by {98 / n**0.5:.0f} percentage points by chance alone."
        )
    return found


def absent_classes(report: Report) -> list[str]:
    """Classes of one side only, and shared classes that the targets' tests hardly hold."""
    classes, found = report["classes"], []
    target, source = pooled(report, "target"), pooled(report, "source")
    names = next(iter(report["domains"].values()))["confusion"]["classes"]
    counts = {} if target is None else dict(zip(names, target.sum(1).tolist(), strict=True))
    if private := classes["target_private"]:
        lost = counts["unknown"] if "unknown" in counts else sum(counts.get(name, 0) for name in private)
        best = "can only be right as unknown" if "unknown" in counts else "cannot be right"
        found.append(
            f"{count(len(private), 'class', 'classes')} of the targets not learnt, too few or none in the sources: "
            f"{listing(private)}; {lost} test parcels {best}."
        )
    if (private := classes["source_private"]) and source is not None and target is not None:
        found.append(f"{count(len(private), 'class', 'classes')} of the sources alone: {listing(private)}.")
    few = [name for name in classes["shared"] if counts.get(name, FEW_OF_CLASS) < FEW_OF_CLASS]
    if few and sum(counts.values()):
        found.append(
            f"{count(len(few), 'shared class', 'shared classes')} with fewer than {FEW_OF_CLASS} test parcels in all "
            f"targets together: {listing([f'{name} ({counts[name]})' for name in few])}."
        )
    return found


def shares(counts: Any) -> np.ndarray:
    """Counts as shares of their sum."""
    numbers = np.asarray(counts, float)
    return numbers / max(1.0, float(numbers.sum()))


def label_shift(report: Report, predictions: pd.DataFrame) -> list[str]:
    """Class shares that differ between sources and targets, and between prediction and truth."""
    names = next(iter(report["domains"].values()))["confusion"]["classes"]
    tests = predictions[(predictions["split"] == "test") & (predictions["role"] == "target")]
    source, target = pooled(report, "source"), pooled(report, "target")
    if not len(tests) or source is None or target is None or not source.sum():
        return []
    home = shares(source.sum(1))
    called = tests["prediction"].value_counts().reindex(names, fill_value=0) if "prediction" in tests else target.sum(0)
    seen = shares(called)  # of maps, what is called on labelled pixels
    if not target.sum():
        return _unlabelled_shift(_distance(home, seen))
    found, (true, guessed) = [], (shares(target.sum(1)), shares(target.sum(0)))
    if (real := _distance(home, true)) > SHIFT:
        found.append(
            f"Label shift: {100 * real:.0f} % of the targets' test parcels would have to change class to give the "
            f"sources' class shares ({100 * _distance(home, seen):.0f} % by the predictions). Methods that match "
            "feature distributions take the shares for equal."
        )
    if (bias := _distance(true, guessed)) > SHIFT:
        worst = int(np.abs(true - guessed).argmax())
        found.append(
            f"Predicted class shares of the targets are wrong for {100 * bias:.0f} % of the test parcels, most for "
            f"{spoken(names[worst])}: {100 * guessed[worst]:.0f} % predicted, {100 * true[worst]:.0f} % true. Do not "
            "count areas from these predictions as they are."
        )
    return found


def _distance(a: np.ndarray, b: np.ndarray) -> float:
    """Total variation of two sets of shares, in [0, 1]."""
    return float(np.abs(a - b).sum() / 2)


def _unlabelled_shift(seen: float) -> list[str]:
    if seen <= SHIFT:
        return []
    return [
        f"By the predictions, {100 * seen:.0f} % of the targets' test parcels would have to change class to give the "
        "sources' class shares: label shift or mistakes, without labels nobody knows."
    ]


def constant_predictions(predictions: pd.DataFrame) -> list[str]:
    """Domains where nearly everything is called one class, though it is not."""
    if sum(column.startswith("p_") for column in predictions.columns) < 2:
        return []
    found = []
    for domain, here in predictions.groupby("domain", sort=False):
        common = here["prediction"].value_counts(normalize=True)
        name, share = str(common.index[0]), float(common.iloc[0])
        labelled = here.loc[here["label"] != "", "label"]
        true = float((labelled == name).mean()) if len(labelled) else None
        if share >= CONSTANT and (true is None or true < share - 0.1):
            found.append((share, str(domain), name, true))
    if not found:
        return []
    share, domain, name, true = max(found, key=lambda x: x[0])
    is_so = "" if true is None else f", {100 * true:.0f} % of its labelled test parcels are"
    return [
        f"Nearly constant predictions in {count(len(found), 'domain')}: in {spoken(domain)} {100 * share:.0f} % of the "
        f"parcels are called {spoken(name)}{is_so}."
    ]


def negative_transfer(report: Report, companion: Report | None) -> list[str]:
    """Targets that the same network without adaptation does better on."""
    if companion is None:
        return []
    key = report.get("score", "closed_macro_f1")
    spelt = "mIoU" if key == "closed_miou" else "macro-F1"
    losses = []
    for name, d in _of(report, "target").items():
        before = companion["domains"].get(name, {}).get(key)
        if known(before) and known(d[key]) and before - d[key] > LOSS:
            losses.append((before - d[key], name, before, d[key]))
    if not losses:
        return []
    loss, name, before, after = max(losses)
    return [
        f"Negative transfer in {count(len(losses), 'target domain')}: without adaptation (source_only) the closed "
        f"{spelt} of {spoken(name)} is {before:.3f}, here {after:.3f} ({-loss:+.3f})."
    ]


def disagreement(scores: pd.DataFrame | None, chosen: int | None, selector: str) -> list[str]:
    """Criteria that would have chosen quite different epochs, or a choice that the sources pay for."""
    if scores is None or len(scores) < 2:
        return []
    real = {str(name): scores[name].dropna() for name in scores if name not in ("chosen", "last")}
    best = {name: int(s.index.to_numpy()[s.to_numpy().argmax()]) for name, s in real.items() if s.nunique() > 1}
    found = []
    if len(best) > 1 and max(best.values()) - min(best.values()) >= max(2, len(scores) / 4):
        spread = ", ".join(f"{name} {epoch}" for name, epoch in sorted(best.items(), key=lambda x: x[1]))
        found.append(
            f"The criteria disagree on the best of {len(scores)} epochs ({spread}). {selector} decided; the "
            "scores depend on it."
        )
    source = real.get("source_val", pd.Series(dtype=float))
    if chosen is not None and chosen in source.index and (loss := source.max() - source[chosen]) > DROP:
        found.append(
            f"The chosen epoch {chosen} has source-val macro-F1 {source[chosen]:.3f}, {loss:.3f} less than epoch "
            f"{best['source_val']}."
        )
    return found
