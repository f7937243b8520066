"""The embedded world and its training, shrunk: overrides that most tests share."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).parents[1]

# Every test that trains shares one store of parcels and one of images.
SMALL = ("data.generator.countries=[FR,AT,EE]", "data.generator.parcels_per_country=300", "data.split.block_size=5000")
BRIEF = ("trainer=smoke", "trainer.progress=none", "figures=false", "logger=csv")
QUICK = (*SMALL, *BRIEF, "data.steps_per_epoch=3", "data.batch_size=32")
DOMAIN = "{{_target_: eo_adapt.types.Domain, name: {0}, recipe: synthetic_aerial, select: {{region: {0}}}}}"
SMALL_MAPS = (
    "data.generator.departments=[D006_2020,D064_2021,D067_2021]",
    "data.generator.zones=8",
    "data.generator.grid=2",
    "data.generator.size=64",
    "data.min_per_class=50",
    "data.batch_size=4",
    f"shift.sources=[{DOMAIN.format('D006')},{DOMAIN.format('D067')}]",
    f"shift.targets=[{DOMAIN.format('D064')}]",
    "encoder.backbone=test_resnet",
    "head.widths=[16,16,16,8,8]",
)
QUICK_MAPS = (*SMALL_MAPS, *BRIEF, "data.steps_per_epoch=2")
TILE = "{{_target_: eo_adapt.types.Domain, name: {0}, recipe: synthetic_pastis, select: {{region: {0}}}}}"
QUICK_SERIES = (
    "data.generator.tiles=[T31TFJ,T31TFM,T30UXV]",
    "data.generator.patches=10",
    "data.generator.size=16",
    "data.generator.revisit=40",
    "data.min_per_class=20",
    "data.batch_size=4",
    f"shift.sources=[{TILE.format('T31TFJ')},{TILE.format('T31TFM')}]",
    f"shift.targets=[{TILE.format('T30UXV')}]",
    "encoder.widths=[16,16]",
    "encoder.decoder=[16]",
    "encoder.heads=4",
    "encoder.d_model=32",
    "head.widths=[]",
    *BRIEF,
    "data.steps_per_epoch=2",
)
SEVERAL = "{{_target_: eo_adapt.types.Domain, name: {0}, recipe: synthetic_fusion, select: {{region: {0}}}}}"
QUICK_FUSION = (
    "data.generator.departments=[D006_2020,D033_2021,D071_2020]",
    "data.generator.zones=4",
    "data.generator.revisit=60",
    "data.min_per_class=20",
    "data.batch_size=4",
    f"shift.sources=[{SEVERAL.format('D006')},{SEVERAL.format('D033')}]",
    f"shift.targets=[{SEVERAL.format('D071')}]",
    "encoder.branch.backbone=test_resnet",
    "head.widths=[16,16,16,8,8]",
    *BRIEF,
    "data.steps_per_epoch=2",
)
QUICK_OF = {"crops": QUICK, "aerial": QUICK_MAPS, "sits": QUICK_SERIES, "fusion": QUICK_FUSION}  # task -> overrides
