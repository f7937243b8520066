"""How figures look: colours that colour-blind readers tell apart, names as they are shown, matplotlib's settings."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

# Okabe and Ito's palette.
ORANGE, SKY, GREEN, YELLOW = "#E69F00", "#56B4E9", "#009E73", "#F0E442"
BLUE, RED, PINK, BLACK = "#0072B2", "#D55E00", "#CC79A7", "#000000"
FILLS = (ORANGE, SKY, GREEN, YELLOW, BLUE, RED, PINK, BLACK)
LINES = (BLUE, ORANGE, GREEN, RED, SKY, PINK, BLACK)  # yellow is too pale for a line
SOURCE, TARGET = BLUE, ORANGE
STYLE: dict[Any, Any] = {
    "font.size": 9,
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "axes.titlesize": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
    "text.parse_math": False,  # a $ in a class name is a $
}


def style() -> AbstractContextManager[None]:
    """Matplotlib's settings while figures are made and saved."""
    import matplotlib as mpl

    return mpl.rc_context(STYLE)


def spoken(name: str, most: int = 60) -> str:
    """A name of the data as it is shown: blanks for underscores, cut where it is very long."""
    text = str(name).replace("_", " ")
    return text if len(text) <= most else text[: most - 3] + "..."
