"""What a stack refuses: weights and ramps that weigh nothing, and what does not go together, in nested stacks too."""

from __future__ import annotations

from typing import Any

import pytest

from eo_adapt.align import Alignment
from eo_adapt.align.adabn import AdaBN
from eo_adapt.align.balanced import Balanced
from eo_adapt.align.coral import CORAL
from eo_adapt.align.csn import CSN
from eo_adapt.align.dann import DANN
from eo_adapt.align.fda import FDA
from eo_adapt.align.fine_tune import FineTune
from eo_adapt.align.groupdro import GroupDRO
from eo_adapt.align.histogram_matching import HistogramMatching
from eo_adapt.align.label_shift import LabelShift
from eo_adapt.align.mldg import MLDG
from eo_adapt.align.self_training import SelfTraining
from eo_adapt.align.source_only import SourceOnly
from eo_adapt.align.stack import Stack
from eo_adapt.align.tent import Tent

IDLE = {
    "csn": CSN,
    "adabn": AdaBN,
    "tent": Tent,
    "fda": FDA,
    "histogram_matching": HistogramMatching,
    "fine_tune": FineTune,
    "label_shift": LabelShift,
    "source_only": SourceOnly,
    "inner": lambda: Stack({"csn": CSN()}),
}


@pytest.mark.parametrize("name", IDLE)
@pytest.mark.parametrize("given", [{"weights": 0.5}, {"ramps": "late"}])
def test_what_would_weigh_nothing_is_refused(name: str, given: dict[str, Any]) -> None:
    [(what, factor)] = given.items()
    parts = {name: IDLE[name](), "coral": CORAL()}
    with pytest.raises(ValueError, match=rf"{what} of \['{name}'\] would change nothing.*loss terms are \['coral'\]"):
        Stack(parts, **{what: {name: factor, "coral": factor}})
    Stack(parts, **{what: {"coral": factor}})


def test_parts_whose_options_give_them_terms_are_weighed() -> None:
    parts = {"label_shift": LabelShift(how="reweight"), "balanced": Balanced(), "inner": Stack({"coral": CORAL()})}
    Stack(parts, dict.fromkeys(parts, 0.5), dict.fromkeys(parts, "late"))


def test_a_stack_in_a_stack_escapes_no_check() -> None:
    def inner(*parts: Alignment, **options: dict[str, float]) -> Stack:
        return Stack({type(part).__name__.lower(): part for part in parts}, **options)

    with pytest.raises(ValueError, match="put second/csn before first/selftraining"):
        Stack({"first": inner(SelfTraining()), "second": inner(CSN())})
    with pytest.raises(ValueError, match="put inner/csn before teacher"):
        Stack({"teacher": SelfTraining(), "inner": inner(CSN())})
    with pytest.raises(ValueError, match=r"\['inner/groupdro', 'mldg'\] are shares .*: set weights\.inner=0\.5"):
        Stack({"inner": inner(GroupDRO()), "mldg": MLDG()})
    Stack({"inner": inner(GroupDRO()), "mldg": MLDG()}, {"inner": 0.5, "mldg": 0.5})
    Stack({"inner": inner(GroupDRO(), weights={"groupdro": 0.5}), "mldg": MLDG(0.5)})
    with pytest.raises(ValueError, match="are shares"):
        Stack({"inner": inner(GroupDRO(), weights={"groupdro": 0.5}), "mldg": MLDG(0.6)})
    with pytest.raises(ValueError, match=r"\['inner/tent', 'two'\] each predict"):
        Stack({"inner": inner(Tent()), "two": Tent()})
    assert [(path, weight) for path, _, weight in Stack({"a": inner(CORAL(), DANN())}, {"a": 0.5}).leaves()] == [
        ("a/coral", 0.5),
        ("a/dann", 0.5),
    ]
