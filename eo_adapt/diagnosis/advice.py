"""What addresses a cause, and why: entries of configs/, each with a reason from theory or from docs/results."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from .explain import GAPS
from .repairs import CALENDAR, PRIORS, PRIVATE, RADIOMETRY

BANDS, LEAKAGE = "bands", "leakage"


class Advice(NamedTuple):
    """Words for the command line that serve one purpose, and the reason in a clause."""

    words: tuple[str, ...]
    why: str

    def __str__(self) -> str:
        return f"{' or '.join(self.words)} ({self.why})"


STATISTICS = Advice(
    ("method=csn", "method=adabn"), "normalisation statistics of each domain take out a gain and offset of its own"
)
HALF = 0.5
COARSEN = "at this level of HCAT every target class has a source class"
ADVICE: Mapping[str, tuple[Advice, ...]] = {
    CALENDAR: (
        Advice(
            ("method=timematch",),
            "it estimates the days between the seasons and learns on the moved calendar; compare with "
            "source_only, for a wrong estimate does harm",
        ),
    ),
    RADIOMETRY: (
        STATISTICS,
        Advice(("method=coral",), "it makes features vary alike, and gains change how they vary"),
        Advice(("method=histogram_matching",), "source values of each band get the distribution of the target's"),
    ),
    PRIORS: (
        Advice(("method=label_shift",), "it corrects for the target's estimated shares and leaves the classes alone"),
        Advice(("method=class_mmd",), "it compares class with class, so the shares may differ"),
        Advice(("data.sampling=balanced",), "crops that are rare in the sources are then learnt, too"),
    ),
    GAPS: (
        Advice(
            ("encoder=ltae", "encoder=parcel_transformer"),
            "attention reads the valid dates alone, each at its day, and needs no complete series",
        ),
        Advice(("method=self_training",), "its student learns from target series with dates left out"),
    ),
    BANDS: (STATISTICS,),
    LEAKAGE: (
        Advice(("data.split.buffer=<metres>", "data.split.block_size=<metres>"), "larger ones keep test parcels away"),
    ),
}
AVOID: Mapping[str, str] = {
    CALENDAR: "Do not expect coral, mmd or dann to mend it: making feature distributions alike moves no calendar.",
    PRIORS: (
        "Beware of coral, mmd and dann: they make whole domains alike, which is wrong where the shares differ, and "
        "parcels of one class are then drawn to another."
    ),
    PRIVATE: "Beware of coral, mmd and dann: they draw parcels of classes of one side alone to other classes.",
}
PARTIAL = Advice(("label_set=partial",), "all source classes are learnt, whether the target has them or not")
OPEN = Advice(("label_set=open",), "parcels that look like no source class are called unknown")
MISSING = Advice(("data.bands=<those that all have>",), "a network needs the same inputs everywhere")


def for_dates(presence: Mapping[str, Any]) -> tuple[Advice, ...]:
    """Where dates give a domain away: read the longest run of bins in which half of each domain's parcels have one.

    Args:
        presence: ``day`` (B,) middle of each bin; ``presence``: domain -> (B,) share of parcels with a date in it.
    """
    day, least = presence["day"], [min(column) for column in zip(*presence["presence"].values(), strict=True)]
    runs: list[list[int]] = [[]]
    for i, share in enumerate(least):
        runs[-1].append(i) if share >= HALF else runs.append([])
    longest = max(runs, key=len)
    if len(longest) in (0, len(day)):
        return ADVICE[GAPS]
    half = (day[1] - day[0]) / 2
    window = f"data.days=[{day[longest[0]] - half:.0f},{day[longest[-1]] + half:.0f}]"
    return (Advice((window,), "half of the parcels of every domain have dates there, throughout"), *ADVICE[GAPS])


def for_names(classes: Mapping[str, Any], coarser: str) -> tuple[Advice, ...]:
    """Advice where the sides name different classes.

    Args:
        classes: ``source_only`` and ``target_only`` names.
        coarser: ``data.coarsen`` that joins them; "" = none does.
    """
    join = (Advice((f"data.coarsen={coarser}",), COARSEN),) if coarser else ()
    lacking = (PARTIAL,) if classes["source_only"] else ()
    return (*join, *lacking, *((OPEN,) if classes["target_only"] else ()))
