"""The classes of PASTIS, and their colours in its own figures (Garnot & Landrieu 2021, ICCV, arXiv:2107.07933)."""

from __future__ import annotations

from ..scenes.records import Classes

VOID = 19  # parcels that lie mostly outside of the patch, or are of another crop
NAMES = {
    0: "background",
    1: "meadow",
    2: "soft winter wheat",
    3: "corn",
    4: "winter barley",
    5: "winter rapeseed",
    6: "spring barley",
    7: "sunflower",
    8: "grapevine",
    9: "beet",
    10: "winter triticale",
    11: "winter durum wheat",
    12: "fruits, vegetables, flowers",
    13: "potatoes",
    14: "leguminous fodder",
    15: "soybeans",
    16: "orchard",
    17: "mixed cereal",
    18: "sorghum",
}
_COLOURS = (
    "000000 aec7e8 ff7f0e ffbb78 2ca02c 98df8a d62728 ff9896 9467bd c5b0d5 "
    "8c564b c49c94 e377c2 f7b6d2 7f7f7f c7c7c7 bcbd22 dbdb8d 17becf"
)
CLASSES = Classes(
    NAMES,
    frozenset({VOID}),
    {name: f"#{c}" for name, c in zip(NAMES.values(), _COLOURS.split(), strict=True)},
    stuff=frozenset({NAMES[0]}),
)
