"""Masks drawn in colours: red, green and blue that stand for a class instead of its id."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from pathlib import Path

import numpy as np

COLOUR = re.compile(r"#[0-9a-fA-F]{6}")
SHOWN = 5  # unknown colours that an error names


def check_codes(codes: Mapping[str, int], ids: Collection[int]) -> None:
    """Make sure that colours are colours and stand for known ids.

    Args:
        codes: ``#rrggbb`` -> id.
        ids: Ids of classes and ignored ones.

    Raises:
        ValueError: If not; names them.
    """
    if odd := [colour for colour in codes if not COLOUR.fullmatch(str(colour))]:
        raise ValueError(f'codes maps colours written as "#rrggbb" to ids; got {odd} (a yaml needs the quotes)')
    if unknown := {colour: number for colour, number in codes.items() if number not in ids}:
        raise ValueError(f"codes names ids that neither names nor ignored lists: {unknown}; there are {sorted(ids)}")


def decode(values: np.ndarray, codes: Mapping[str, int], where: Path | str) -> np.ndarray:
    """Colours -> ids.

    Args:
        values: (3, H, W) uint8 red, green, blue.
        codes: ``#rrggbb`` -> id.
        where: File, for messages.

    Returns:
        (H, W) int64.

    Raises:
        ValueError: If the mask is not 8-bit, or has a colour that no code lists; names file and colours.
    """
    if values.dtype != np.uint8:
        raise ValueError(f"{where} holds {values.dtype}; a mask drawn in colours holds uint8")
    colours = {int(colour[1:], 16): number for colour, number in codes.items()}
    known = np.array(sorted(colours))
    ids = np.array([colours[colour] for colour in known.tolist()])
    red, green, blue = values.astype(np.int64)
    packed = (red << 16) | (green << 8) | blue
    at = np.minimum(np.searchsorted(known, packed), len(known) - 1)
    if (odd := known[at] != packed).any():
        found, count = np.unique(packed[odd], return_counts=True)
        most = found[np.argsort(-count, kind="stable")][:SHOWN]
        raise ValueError(
            f"{where} has colours {[f'#{colour:06x}' for colour in most.tolist()]} in {int(odd.sum())} pixels; known "
            f"are {dict(codes)}: correct the mask, list the colours in the reader's codes, or leave the file out"
        )
    return ids[at]
