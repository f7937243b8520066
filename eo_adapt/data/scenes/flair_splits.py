"""Published splits of the FLAIR data sets, by department; patches of one zone always stay together.

Sources: path lists of https://github.com/IGNF/FLAIR-1 (``flair1``), the FLAIR#2 data paper (arXiv:2310.13336;
``flair2``, test departments; it publishes no fixed validation list, so that of FLAIR#1 is used), fold 1 of FLAIR-HUB
(``flair_hub``), the lists of UDA-NAS (Broni-Bediako et al., CVPR workshops 2024; ``uda_nas``). FLAIR#1 validates on
D070, FLAIR-HUB on D077: both are as published.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from .flair_classes import known

_VAL1 = "D004 D014 D029 D031 D058 D066 D067 D070"
_TEST1 = "D012 D022 D026 D064 D068 D071 D075 D076 D083 D085"
_TEST2 = "D015 D022 D026 D036 D061 D064 D068 D069 D071 D084"
_VAL_HUB = "D004 D014 D029 D031 D058 D066 D067 D077"
_TEST_HUB = "D012 D015 D022 D026 D036 D061 D064 D068 D069 D071 D073 D075 D076 D083 D084 D085"
GEOMT_SOURCES = "D006 D008 D013 D017 D023 D029 D033 D058 D067 D074"
GEOMT_TARGETS = "D064 D068 D071"
_UDA_TRAIN, _UDA_VAL = "D012 D022 D076 D083 D085", "D026 D075"


def _table(**parts: str) -> dict[str, str]:
    return {department: part for part, names in parts.items() for department in names.split()}


# Departments that are not named train.
SPLITS: Mapping[str, Mapping[str, str]] = {
    "flair1": _table(val=_VAL1, test=_TEST1),
    "flair2": _table(val=_VAL1, test=_TEST2),
    "flair_hub": _table(val=_VAL_HUB, test=_TEST_HUB),
    "uda_nas": _table(zones=GEOMT_SOURCES, train=_UDA_TRAIN, val=_UDA_VAL, test=GEOMT_TARGETS),
}


def split_of(name: str, department: str, zone: str) -> str:
    """``train``, ``val`` or ``test``.

    UDA-NAS trains on all of its source departments. Here every fifth zone of them validates and every fifth tests,
    since choosing an epoch needs labels of the source that were not trained on.

    Args:
        name: One of :data:`SPLITS`.
        department: As in ``"D006"``.
        zone: As in ``"Z10_AU"``.

    Raises:
        LookupError: If there are no such splits.
    """
    part = known(name, SPLITS, "split").get(department, "train")
    if part != "zones":
        return part
    number = re.search(r"\d+", zone)
    fifth = int(number.group()) % 5 if number else 0
    return "val" if fifth == 0 else "test" if fifth == 4 else "train"
