"""Land cover by name: LoveDA's seven classes, LoveCS's four, ISPRS's six, and a legend that these and FLAIR share.

Sources: Wang et al. 2021 (LoveDA, NeurIPS Datasets and Benchmarks, arXiv:2110.08733), Wang et al. 2022 (LoveCS, ISPRS
Journal of Photogrammetry and Remote Sensing 188), Rottensteiner et al. 2012 (ISPRS Annals I-3; colours of the 2D
semantic labelling contest). Where a class is not named in a legend it is ignored.
"""

from __future__ import annotations

from collections.abc import Mapping

from .flair_classes import LAND_COVER_COLOURS, known
from .records import Classes

LOVEDA_COLOURS: Mapping[str, str] = {
    "background": "#ffffff",
    "building": "#ff0000",
    "road": "#ffff00",
    "water": "#0000ff",
    "barren": "#9f81b7",
    "forest": "#00ff00",
    "agriculture": "#ffc380",
}
LOVEDA: Mapping[int, str] = dict(enumerate(LOVEDA_COLOURS, start=1))  # 0 = no data
LOVEDA_LEGENDS: Mapping[str, Mapping[str, str]] = {
    "loveda7": {name: name for name in LOVEDA_COLOURS},
    "lovecs4": {"building": "building", "road": "road", "water": "water"}
    | dict.fromkeys(("barren", "forest", "agriculture"), "land"),
    "land_cover": {
        "building": "building",
        "road": "sealed",
        "water": "water",
        "barren": "bare",
        "forest": "woody",
        "agriculture": "low vegetation",
    },
}

ISPRS_COLOURS: Mapping[str, str] = {  # masks are drawn in these
    "impervious surface": "#ffffff",
    "building": "#0000ff",
    "low vegetation": "#00ffff",
    "tree": "#00ff00",
    "car": "#ffff00",
    "clutter": "#ff0000",
}
ISPRS_BOUNDARY = "#000000"  # of masks whose object boundaries are taken out
ISPRS_LEGENDS: Mapping[str, Mapping[str, str]] = {
    "isprs6": {name: name for name in ISPRS_COLOURS},
    "isprs5": {name: name for name in ISPRS_COLOURS if name != "clutter"},
    "land_cover": {
        "impervious surface": "sealed",
        "building": "building",
        "low vegetation": "low vegetation",
        "tree": "woody",
    },
}


def isprs_classes(legend: str = "isprs6", boundaries: bool = True) -> Classes:
    """What the colours in ISPRS masks mean; ids 1..6 are ours, in the publisher's order, 0 is a boundary.

    Args:
        legend: ``isprs6``, ``isprs5`` (clutter ignored, as most papers score) or ``land_cover`` (cars and clutter
            ignored).
        boundaries: Whether pixels beside boundaries are labelled; False = they are black and ignored.

    Raises:
        LookupError: If there is no such legend.
    """
    remap = known(legend, ISPRS_LEGENDS, "legend")
    ids = {name: number for number, name in enumerate(ISPRS_COLOURS, start=1)}
    colours = dict(LAND_COVER_COLOURS) if legend == "land_cover" else ISPRS_COLOURS
    names = {ids[name]: new for name, new in remap.items()}
    shown = {name: colours[name] for name in names.values()}
    codes = {colour: ids[name] for name, colour in ISPRS_COLOURS.items()}
    codes |= {} if boundaries else {ISPRS_BOUNDARY: 0}
    return Classes(names, frozenset(codes.values()) - frozenset(names), shown, codes)


def loveda_classes(legend: str = "loveda7") -> Classes:
    """What the numbers in LoveDA masks mean; 0 is no data.

    Args:
        legend: ``loveda7``, ``lovecs4`` (building, road, water, land; background ignored) or ``land_cover``.

    Raises:
        LookupError: If there is no such legend.
    """
    remap = known(legend, LOVEDA_LEGENDS, "legend")
    colours = {**LOVEDA_COLOURS, "land": LOVEDA_COLOURS["agriculture"]}
    colours = colours if legend != "land_cover" else dict(LAND_COVER_COLOURS)
    names = {number: remap[name] for number, name in LOVEDA.items() if name in remap}
    shown = {name: colours[name] for name in dict.fromkeys(remap.values())}
    return Classes(names, frozenset({0, *LOVEDA}) - frozenset(names), shown)
