"""Two sensors with their own dates, bands and gaps, and fusions of them, for tests."""

from __future__ import annotations

import torch
from torch import Tensor

from eo_adapt.encoders.blocks.modalities import of_rows
from eo_adapt.encoders.fusion import Fusion
from eo_adapt.registry import build
from eo_adapt.types import Inputs, Observation

SENSORS = {"s2": 4, "s1": 2}
SCHEMES = ("early", "mid", "late", "attention", "decision")
SAMPLES = 7


def fusion(kind: str, sensors: dict[str, int] | None = None, **options: object) -> Fusion:
    """The configured fusion, small; "attention" is late fusion by attention."""
    torch.manual_seed(0)
    scheme, fuse = ("late", "attention") if kind == "attention" else (kind, "concat")
    made: Fusion = build("encoder", "fusion", sensors=sensors or SENSORS, scheme=scheme, fuse=fuse, **options)
    return made


def look(dates: int, bands: int, seed: int) -> Observation:
    """A series with gaps, nan wherever the mask says so."""
    stream = torch.Generator().manual_seed(seed)
    valid = torch.rand(SAMPLES, dates, generator=stream) > 0.3
    values = torch.randn(SAMPLES, dates, bands, generator=stream).where(valid[..., None], torch.nan)
    days = torch.stack([torch.randperm(300, generator=stream)[:dates] for _ in range(SAMPLES)]).float() - 30
    return Observation(values, days, valid)


def mixed() -> Inputs:
    """Sample 1 lacks s2, samples 2 and 4 lack s1, sample 5 lacks both."""
    s2, s1 = look(8, 4, 1), look(11, 2, 2)
    assert s2.valid is not None
    assert s1.valid is not None
    s2.valid[[1, 5]] = False
    s1.valid[[2, 4, 5]] = False
    return {"s2": s2, "s1": s1}


def encode(encoder: Fusion, inputs: Inputs) -> Tensor:
    return encoder(inputs).maps[-1]


def some(inputs: Inputs, *rows: int) -> Inputs:
    """These samples."""
    return of_rows(inputs, torch.tensor(rows))
