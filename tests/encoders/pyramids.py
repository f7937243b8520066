"""Small pyramids and their inputs, for tests."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from eo_adapt.encoders.timm_pyramid import TimmPyramid
from eo_adapt.types import Inputs, Observation


def images(x: Tensor) -> Inputs:
    return {"aerial": Observation(x)}


def fresh(backbone: str, count: int = 3, **options: Any) -> TimmPyramid:
    torch.manual_seed(0)
    return TimmPyramid({"aerial": count}, backbone=backbone, **options)
