"""The embedded world and its training, shrunk: overrides that most tests share."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).parents[1]

# Every test that trains shares one store.
SMALL = ("data.generator.countries=[FR,AT,EE]", "data.generator.parcels_per_country=300", "data.split.block_size=5000")
QUICK = (*SMALL, "trainer=smoke", "trainer.progress=none", "figures=false", "logger=csv", "data.steps_per_epoch=3")
