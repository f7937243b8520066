"""PaPs: sizes, who learns, edges, void, one date, half precision; how parcels are laid out; what it refuses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from shapes_only import Stub
from torch import Tensor

from eo_adapt.encoders.base import Encoder
from eo_adapt.encoders.timm_pyramid import TimmPyramid
from eo_adapt.encoders.tsvit import TSViT
from eo_adapt.encoders.unet3d import UNet3d
from eo_adapt.encoders.utae import UTAE
from eo_adapt.heads.dense import Dense
from eo_adapt.heads.paps import PaPs
from eo_adapt.model import Model, Normalise
from eo_adapt.panoptic import mean_quality, panoptic_counts
from eo_adapt.types import IGNORE, Batch, Features, Observation, SidedOutput

YAML = Path(__file__).parents[2] / "configs" / "head" / "paps.yaml"
CLASSES = 3


def small() -> UTAE:
    return UTAE({"s2": 3}, widths=(8, 16), decoder=(8,), heads=4, d_model=16)


def blocks(batch: int, side: int, step: int = 6) -> tuple[Tensor, Tensor]:
    """Instances and classes of squares with a track between them; the last ones are cut by the edge."""
    at = torch.arange(side)
    inside = (at % step > 0)[:, None] & (at % step > 0)
    number = ((at // step)[:, None] * 50 + at // step + 1) * inside
    label = torch.where(inside, (at // step)[:, None] + at // step, 0) % 2 + inside.long()
    return number.expand(batch, -1, -1).contiguous(), label.expand(batch, -1, -1).contiguous()


def batch_of(instances: Tensor, labels: Tensor, dates: int = 3, masks: bool = False) -> Batch:
    """Series whose bands tell the class and where the tracks are."""
    size, side = len(labels), labels.shape[1]
    stream = torch.Generator().manual_seed(0)
    known = labels.clamp_min(0)
    x = torch.stack([known == 1, known == 2, instances == 0], 1).float()[:, None].repeat(1, dates, 1, 1, 1)
    x = x + 0.1 * torch.randn(x.shape, generator=stream)
    valid, pixels = torch.ones(size, dates, dtype=torch.bool), None
    if masks:
        valid[0, 1:] = False
        pixels = torch.rand(size, dates, side, side, generator=stream) > 0.3
    days = 30 * torch.arange(dates)[None].expand(size, -1)
    look = Observation(x, days, valid, pixels)
    return Batch({"s2": look}, labels, torch.zeros(size, 2), torch.arange(size), None, instances)


def model_of(encoder: Encoder | None = None, **options: Any) -> Model:
    encoder = encoder or small()
    return Model(encoder, PaPs(encoder, CLASSES, **{"shape": 8, **options}), Normalise({"s2": ([0.0] * 3, [1.0] * 3)}))


def whole_of(model: Model, batch: Batch) -> tuple[SidedOutput, Features]:
    output = model(batch.inputs)
    assert isinstance(output, SidedOutput)
    assert output.whole is not None
    return output, output.whole


def pq_of(model: Model, batch: Batch, least: float) -> float:
    output, whole = whole_of(model, batch)
    assert isinstance(model.head, PaPs)
    assert batch.instances is not None
    assert batch.labels is not None
    said = model.head.panoptic(whole, output.logits).surer(least)
    return float(mean_quality(panoptic_counts(batch.instances, batch.labels, said, [False, True, True]).sum(0))["pq"])


def test_official_size_but_for_a_norm_of_the_class_and_none_on_heat_and_saliency() -> None:
    head = PaPs(UTAE({"s2": 10}), 20)
    own = sum(p.numel() for p in head.parameters()) - sum(p.numel() for p in head.inner.parameters())
    assert own == 172_413 + 2 * 64 - 2 * 2


def test_it_learns_to_tell_parcels_apart() -> None:
    torch.manual_seed(0)
    model = model_of()
    batch = batch_of(*blocks(2, 24))
    model.eval()
    before = max(pq_of(model, batch, least) for least in (0.01, 0.05, 0.2))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    model.train()
    for _ in range(60):
        loss = sum(model.own_loss(model(batch.inputs), batch).values(), torch.zeros(()))
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    model.eval()
    assert before < 0.1
    assert pq_of(model, batch, 0.2) > 0.6


@pytest.mark.parametrize(
    "case", ["plain", "one date", "masks", "no instances", "all void", "one parcel", "one patch", "bf16", "two in one"]
)
def test_losses_are_finite_and_reach_the_encoder(case: str) -> None:
    torch.manual_seed(0)
    model, (instances, labels) = model_of(), blocks(2, 16)
    if case == "no instances":
        instances = instances * 0
    if case == "all void":
        labels = torch.full_like(labels, IGNORE)
    if case in ("one parcel", "one patch"):
        instances, labels = instances[:1], labels[:1]
    if case == "one parcel":
        instances = (instances == 1).long()
    if case == "two in one":  # rings around one centre: the second has no zone
        instances[:, :6, :6] = 1
        instances[:, 2:4, 2:4] = 2
    batch = batch_of(instances, labels, 1 if case == "one date" else 3, case == "masks")
    with torch.autocast("cpu", torch.bfloat16, enabled=case == "bf16"):
        output = model(batch.inputs)
        terms = model.own_loss(output, batch)
    assert set(terms) == {"centre", "size", "label", "shape"}
    assert all(term.isfinite() and term.dtype == torch.float32 for term in terms.values())
    assert output.logits.shape == (len(labels), CLASSES, 16, 16)
    for name, term in terms.items():
        nothing = case in ("no instances", "all void") and (name != "centre" or case == "all void")
        assert (float(term.detach()) == 0) is nothing, name
        if not nothing:
            found = torch.autograd.grad(term, list(model.encoder.parameters()), allow_unused=True, retain_graph=True)
            assert sum(float(g.abs().sum()) for g in found if g is not None) > 0, name
    with torch.autocast("cpu", torch.bfloat16, enabled=case == "bf16"):
        assert 0 <= np.nan_to_num(pq_of(model, batch, 0.01)) <= 1


def test_weights_of_the_terms() -> None:
    torch.manual_seed(0)
    encoder, batch = small(), batch_of(*blocks(2, 16))
    one = PaPs(encoder, CLASSES, shape=8)
    other = PaPs(encoder, CLASSES, shape=8, weights={"size": 0.5, "shape": 0.0})
    other.load_state_dict(one.state_dict())
    features = encoder(batch.inputs)
    plain, weighed = one.loss(features, batch), other.loss(features, batch)
    for name, factor in {"centre": 1, "size": 0.5, "label": 1, "shape": 0}.items():
        torch.testing.assert_close(weighed[name], factor * plain[name])


ENCODERS: dict[str, Encoder] = {
    "unet3d": UNet3d({"s2": 3}, widths=(4, 8)),
    "tsvit": TSViT({"s2": 3}, patch=4, width=16, tokens=4, heads=2, head_width=8),
}


@pytest.mark.parametrize("name", ENCODERS)
def test_other_encoders_of_series(name: str) -> None:
    model, batch = model_of(ENCODERS[name]), batch_of(*blocks(2, 16))
    terms = model.own_loss(model(batch.inputs), batch)
    sum(terms.values(), torch.zeros(())).backward()  # type: ignore[no-untyped-call]
    output, whole = whole_of(model, batch)
    assert isinstance(model.head, PaPs)
    assert model.head.panoptic(whole, output.logits).segments.shape == (2, 16, 16)


def test_a_pyramid_of_images_with_a_map_finer_than_its_features() -> None:
    encoder = TimmPyramid({"aerial": 3}, backbone="test_resnet")
    head = PaPs(encoder, CLASSES, shape=8)
    instances, labels = blocks(2, 64, 20)
    series = batch_of(instances, labels, 1).inputs["s2"]
    batch = Batch(
        {"aerial": Observation(series.values[:, 0])}, labels, torch.zeros(2, 2), torch.arange(2), None, instances
    )
    features = encoder(batch.inputs)
    assert all(term.isfinite() and term > 0 for term in head.loss(features, batch).values())
    assert head.panoptic(features, head(features)).segments.shape == (2, 64, 64)


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ({"width": 6}, "head.width must be a multiple of 4"),
        ({"most": 0}, "head.most at least 1"),
        ({"label_by": "vote"}, r"head.label_by must be one of \['centre', 'map'\]; got 'vote'"),
        ({"min_confidence": 0.0}, "head.min_confidence and head.mask_threshold lie between 0 and 1"),
        ({"min_remain": 1.0}, r"head.min_remain in \[0, 1\); got None, 0.4 and 1.0"),
        (
            {"weights": {"center": 1.0}},
            r"head.weights gives \['centre', 'size', 'label', 'shape'\] weights of 0 or more",
        ),
        ({"weights": {"size": -1.0}}, "weights of 0 or more"),
    ],
)
def test_impossible_options_are_refused(options: dict[str, Any], what: str) -> None:
    with pytest.raises(ValueError, match=what):
        PaPs(Stub(1), CLASSES, **options)


def test_vectors_and_batches_without_instances_are_refused() -> None:
    with pytest.raises(
        ValueError, match=r"PaPs finds parcels in maps; Stub gives one vector a sample .* head=classify"
    ):
        PaPs(Stub(0), CLASSES)
    batch = batch_of(*blocks(1, 16))
    bare = Batch(batch.inputs, batch.labels, batch.lonlat, batch.rows)
    model = model_of()
    with pytest.raises(ValueError, match=r"PaPs learns from Batch.instances and Batch.labels"):
        model.own_loss(model(bare.inputs), bare)
    unlabelled = Batch(batch.inputs, None, batch.lonlat, batch.rows)
    assert model.own_loss(model(unlabelled.inputs), unlabelled) == {}
    plain = Model(small(), Dense(small(), CLASSES), Normalise({"s2": ([0.0] * 3, [1.0] * 3)}))
    assert plain.own_loss(plain(batch.inputs), batch) == {}


def test_yaml_builds_it() -> None:
    head = instantiate(OmegaConf.load(YAML), encoder=Stub(1, 2), classes=20)
    assert isinstance(head, PaPs)
    assert isinstance(head.inner, Dense)
    assert head.min_confidence is None
