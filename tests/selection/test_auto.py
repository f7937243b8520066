"""The default criterion is infomax where there is a target, else source_val."""

from __future__ import annotations

from pathlib import Path

import torch
from quick import QUICK

from eo_adapt.registry import build, config
from eo_adapt.selection.base import Outputs
from eo_adapt.train import run


def test_it_follows_what_there_is() -> None:
    torch.manual_seed(0)
    source = Outputs(torch.randn(50, 4), torch.randint(4, (50,)), torch.randn(50, 3))
    target = Outputs(torch.randn(60, 4), None, torch.randn(60, 3))
    auto, infomax, source_val = (build("selection", name) for name in ("auto", "infomax", "source_val"))
    assert auto.score([source], [target], 0) == infomax.score([source], [target], 0)
    assert auto.score([source], [], 0) == source_val.score([source], [], 0)
    assert auto.score([source], [target], 0) != auto.score([source], [], 0)


def test_it_is_the_default_and_needs_no_target(tmp_path: Path) -> None:
    report = run(config("shift.targets=[]", "label_set=partial", *QUICK), tmp_path)
    assert report["selector"] == "auto"
    assert report["uses_target_labels"] is False
