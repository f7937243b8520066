"""Classes of the FLAIR data sets by name: FLAIR#1 and #2 number them 1..19, FLAIR-HUB (COSIA) 0..18 in another order.

Source: tables and colours of github.com/IGNF/FLAIR-1 and github.com/IGNF/FLAIR-HUB (Garioud et al. 2022,
arXiv:2211.12979; Garioud et al. 2025, arXiv:2506.07080). Two numberings are joined by name, never by number.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import TypeVar

from .records import Classes

T = TypeVar("T")

COLOURS: Mapping[str, str] = {
    "building": "#db0e9a",
    "pervious surface": "#938e7b",
    "impervious surface": "#f80c00",
    "bare soil": "#a97101",
    "water": "#1553ae",
    "coniferous": "#194a26",
    "deciduous": "#46e483",
    "brushwood": "#f3a60d",
    "vineyard": "#660082",
    "herbaceous vegetation": "#55ff00",
    "agricultural land": "#fff30d",
    "plowed land": "#e4df7c",
    "swimming pool": "#3de6eb",
    "snow": "#ffffff",
    "clear cut": "#8ab3a0",
    "mixed": "#6b714f",
    "ligneous": "#c5dc42",
    "greenhouse": "#9999ff",
    "other": "#000000",
}
FLAIR: Mapping[int, str] = dict(enumerate(COLOURS, start=1))
COSIA: Mapping[int, str] = dict(
    enumerate(
        (
            "building",
            "greenhouse",
            "swimming pool",
            "impervious surface",
            "pervious surface",
            "bare soil",
            "water",
            "snow",
            "herbaceous vegetation",
            "agricultural land",
            "plowed land",
            "vineyard",
            "deciduous",
            "coniferous",
            "brushwood",
            "clear cut",
            "ligneous",
            "mixed",
            "other",  # COSIA says "undefined"
        )
    )
)
NUMBERINGS: Mapping[str, Mapping[int, str]] = {"flair": FLAIR, "cosia": COSIA}
LAND_COVER_COLOURS: Mapping[str, str] = {
    "building": COLOURS["building"],
    "sealed": COLOURS["impervious surface"],
    "bare": COLOURS["bare soil"],
    "water": COLOURS["water"],
    "woody": COLOURS["coniferous"],
    "low vegetation": COLOURS["herbaceous vegetation"],
}
_ALL = tuple(COLOURS)
_RARE = ("swimming pool", "snow", "clear cut", "mixed", "ligneous", "greenhouse", "other")
# legend -> class of the data set -> class that is learnt; a class that is not named is ignored
LEGENDS: Mapping[str, Mapping[str, str]] = {
    "flair19": {name: name for name in _ALL},
    "flair15": {name: name for name in (*_ALL[:14], "greenhouse")},  # FLAIR-INC models, FLAIR-HUB
    "flair13": {name: "other" if name in _RARE else name for name in _ALL},  # FLAIR#1, FLAIR#2
    "flair12": {name: name for name in _ALL[:12]},  # what FLAIR#1, FLAIR#2 and GeoMultiTaskNet score
    "land_cover": {  # shared with LoveDA
        "building": "building",
        "greenhouse": "building",
        "impervious surface": "sealed",
        "pervious surface": "bare",  # gravel, paths of earth
        "bare soil": "bare",
        "water": "water",
        "swimming pool": "water",
        "coniferous": "woody",
        "deciduous": "woody",
        "brushwood": "woody",
        "mixed": "woody",
        "ligneous": "woody",
        "vineyard": "low vegetation",
        "herbaceous vegetation": "low vegetation",
        "agricultural land": "low vegetation",
        "plowed land": "low vegetation",  # LoveDA's agriculture holds fields without plants, too
    },
}


def flair_classes(legend: str = "flair19", numbering: str = "flair") -> Classes:
    """What the numbers in FLAIR masks mean.

    Args:
        legend: ``flair19`` (all), ``flair15`` (without clear cut, mixed, ligneous, other, which are ignored),
            ``flair13`` (swimming pool to other joined as "other"), ``flair12`` (those ignored),
            ``land_cover`` (six classes shared with LoveDA).
        numbering: ``flair`` (FLAIR#1, FLAIR#2: 1..19) or ``cosia`` (FLAIR-HUB: 0..18).

    Raises:
        LookupError: If there is no such legend or numbering; names the nearest and all.
    """
    remap = known(legend, LEGENDS, "legend")
    ids = known(numbering, NUMBERINGS, "numbering")
    names = {number: remap[name] for number, name in ids.items() if name in remap}
    shown = LAND_COVER_COLOURS if legend == "land_cover" else COLOURS
    colours = {name: shown[name] for name in dict.fromkeys(remap.values())}
    return Classes(names, frozenset(ids) - frozenset(names), colours)


def known(name: str, there: Mapping[str, T], what: str) -> T:
    """``there[name]``, or an error that names the nearest."""
    if name in there:
        return there[name]
    near = difflib.get_close_matches(name, there, n=1)
    raise LookupError(
        f"no {what} called {name!r};{f' did you mean {near[0]!r}?' if near else ''} there are: {sorted(there)}"
    )
