"""Hierarchical Crop and Agriculture Taxonomy, version 3 (HCAT3), of EuroCrops.

A code is ten digits in five pairs, ``33|LL|LL|LL|LL``. The depth of a code is the position of its last pair that is
not ``00``, so it runs from 1 to 5:

    depth 1  3300000000  crop_type (beside it 3000000000, characteristics): the roots
    depth 2  3301000000  arable_crops
    depth 3  3301010000  cereal
    depth 4  3301010400  barley
    depth 5  3301010401  winter_barley

Codes stay strings everywhere: a table reader that makes numbers of them can lose digits without a word.

Codes that end in the pair ``99`` are ordinary leaves of their parent: ``3301010499`` (unspecified_season_barley) is a
child of barley beside winter and spring barley, as ``3301019900`` (other_cereals) is a child of cereal.
:func:`shared_depth` keeps them unless asked to read an unspecified season as its parent.

The table is ``data_recipes/legends/hcat3.csv`` (EuroCrops, CC BY-SA 4.0).
"""

from __future__ import annotations

import csv
from collections.abc import Collection, Iterable, Mapping
from functools import cache
from types import MappingProxyType
from typing import Literal

from ..paths import recipes_dir

PAIRS = 5
_DIGITS = frozenset("0123456789")
_UNSPECIFIED = "unspecified_season_"


def names() -> dict[str, str]:
    """Code -> name of the 384 HCAT3 classes, in the order of the codes (the file is read once)."""
    return dict(_table())


def check(code: object) -> str:
    """Return ``code`` if it has the form of an HCAT code; whether HCAT3 lists it is asked of :func:`names`.

    Args:
        code: Ten digits as a string, first pair not ``00``.

    Raises:
        ValueError: Anything else, numbers included.
    """
    if not isinstance(code, str):
        raise ValueError(
            f"an HCAT code is a string of 10 digits; got {type(code).__name__} {code!r}. Numbers lose leading zeros "
            "and, as floats, precision: read the column as text, e.g. pandas.read_csv(..., dtype=str)"
        )
    if len(code) != 2 * PAIRS or not _DIGITS.issuperset(code) or code.startswith("00"):
        raise ValueError(f"an HCAT code is 10 digits whose first pair is not 00, e.g. '3301010401'; got {code!r}")
    return str(code)


def depth(code: str) -> int:
    """Position (1 to 5) of the last pair that is not ``00``; 3300000000 has depth 1, 3301010401 depth 5."""
    digits = check(code)
    return max(pair + 1 for pair in range(PAIRS) if digits[2 * pair : 2 * pair + 2] != "00")


def parent(code: str) -> str | None:
    """``code`` with its last non-zero pair set to ``00``; None for a root (depth 1)."""
    level = depth(code)
    return None if level == 1 else _cut(code, level - 1)


def ancestors(code: str) -> tuple[str, ...]:
    """Strict ancestors from the parent up to the root; empty for a root."""
    found: list[str] = []
    above = parent(code)
    while above is not None:
        found.append(above)
        above = parent(above)
    return tuple(found)


def coarsen(codes: Iterable[str], depth: int) -> list[str]:
    """Each code's ancestor-or-self at ``depth``, in the order given; codes that are no deeper stay as they are.

    Args:
        codes: HCAT codes, repeats allowed.
        depth: 1 (root) to 5 (nothing changes).

    Raises:
        ValueError: A malformed code, or a depth outside 1 to 5.
    """
    if depth not in range(1, PAIRS + 1):
        raise ValueError(f"depth is 1 to {PAIRS} (pairs of digits kept); got {depth!r}")
    return [_cut(check(code), depth) for code in codes]


def shared_depth(
    domains: Mapping[str, Collection[str]], *, unspecified: Literal["leaf", "parent"] = "leaf"
) -> dict[str, str]:
    """Harmonise domains whose maps name crops at different granularity.

    Each code goes to its highest ancestor-or-self that some domain uses as a class: where one domain knows only barley
    and another winter and spring barley, all become barley; where no domain is coarser, codes stay as deep as they are,
    also those that one domain has alone. The result is an ancestor-or-self of the input, no result is a strict ancestor
    of another, and harmonising the results again changes nothing. It uses which codes occur, never how often.

    A very coarse code takes its whole branch with it (3300000000 everything, 3301000000 all arable crops): drop such
    labels first if they mean "not known".

    Args:
        domains: Domain name -> the HCAT codes it uses.
        unspecified: ``"leaf"`` keeps "unspecified season" codes (..99) as classes of their own; ``"parent"`` reads them
            as their parent, so unspecified_season_barley in one domain turns winter barley of another into barley.

    Returns:
        Code -> harmonised code for every code of every domain, sorted by code.

    Raises:
        ValueError: A malformed code, a bare string in place of a collection, or ``unspecified`` misspelt.
    """
    if unspecified not in ("leaf", "parent"):
        raise ValueError(f"unspecified is 'leaf' or 'parent'; got {unspecified!r}")
    for domain, codes in domains.items():
        if isinstance(codes, str):
            raise ValueError(f"domain {domain!r} needs a collection of codes; got the single string {codes!r}")
    used = sorted({check(code) for codes in domains.values() for code in codes})
    read_as = {code: _season_to_parent(code) if unspecified == "parent" else code for code in used}
    classes = set(read_as.values())
    return {code: _highest(as_class, classes) for code, as_class in read_as.items()}


def legends() -> list[str]:
    """Named legends: files of ``data_recipes/legends`` that map HCAT codes to classes of their own."""
    return sorted(path.stem for path in (recipes_dir() / "legends").glob("*.csv") if path.stem != "hcat3")


def classes(codes: Iterable[str], legend: str) -> dict[str, str]:
    """Code -> class of a named legend: that of the nearest ancestor-or-self which the legend lists, "" if none is.

    Args:
        codes: HCAT codes.
        legend: One of :func:`legends`; its csv has the columns code, class.

    Raises:
        LookupError: If there is no such legend; names all.
    """
    if legend not in legends():
        raise LookupError(f"no legend called {legend!r}; there are {legends()}")
    with (recipes_dir() / "legends" / f"{legend}.csv").open(encoding="utf-8", newline="") as file:
        listed = {check(row["code"]): row["class"] for row in csv.DictReader(file)}
    return {code: next((listed[c] for c in (code, *ancestors(code)) if c in listed), "") for code in set(codes)}


@cache
def _table() -> Mapping[str, str]:
    with (recipes_dir() / "legends" / "hcat3.csv").open(encoding="utf-8", newline="") as file:
        return MappingProxyType({check(row["code"]): row["name"] for row in csv.DictReader(file)})


def _cut(code: str, pairs: int) -> str:
    return check(code)[: 2 * pairs].ljust(2 * PAIRS, "0")


def _season_to_parent(code: str) -> str:
    return (parent(code) or code) if _table().get(code, "").startswith(_UNSPECIFIED) else code


def _highest(code: str, classes: Collection[str]) -> str:
    return next((above for above in reversed(ancestors(code)) if above in classes), code)
