"""What every fusion promises: missing sensors, padding, the order of dates, nan behind masks, tokens, errors."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace

import numpy as np
import pytest
import torch
from fused import SAMPLES, SCHEMES, SENSORS, encode, fusion, look, mixed, some
from torch import Tensor, nn

from eo_adapt.encoders.blocks.modalities import at_dates, common_dates, hide
from eo_adapt.encoders.fusion import Fusion
from eo_adapt.registry import build
from eo_adapt.types import Inputs, Observation


@pytest.fixture(params=SCHEMES)
def encoder(request: pytest.FixtureRequest) -> Fusion:
    """Each scheme, in evaluation, its batch norms away from their initial state."""
    made = fusion(request.param)
    made(mixed())
    return made.eval()


def close(a: Tensor, b: Tensor) -> None:
    torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-5)


def changed(inputs: Inputs, sensor: str, **fields: Tensor | None) -> Inputs:
    return {**inputs, sensor: replace(inputs[sensor], **fields)}


def test_mixed_availability_equals_sample_by_sample(encoder: Fusion) -> None:
    inputs = mixed()
    alone = torch.cat([encode(encoder, some(inputs, row)) for row in range(SAMPLES)])
    close(encode(encoder, inputs), alone)


@pytest.mark.parametrize("sensor", ["s2", "s1"])
def test_a_sensor_that_is_not_there_is_one_that_nobody_has(encoder: Fusion, sensor: str) -> None:
    inputs = mixed()
    hidden = {**inputs, sensor: hide(inputs[sensor], torch.zeros(SAMPLES).bool())}
    absent = {name: other for name, other in inputs.items() if name != sensor}
    close(encode(encoder, hidden), encode(encoder, absent))
    before = encode(encoder, inputs)
    assert not torch.allclose(before[0], encode(encoder, absent)[0], atol=1e-3)


@pytest.mark.parametrize("train", [True, False], ids=["train", "eval"])
def test_padding_changes_nothing(encoder: Fusion, train: bool) -> None:
    for module in encoder.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    inputs, twin = mixed(), deepcopy(encoder).train(train)
    junk = Observation(
        torch.full((SAMPLES, 3, 2), torch.nan), torch.full((SAMPLES, 3), 7.0), torch.zeros(SAMPLES, 3) > 0
    )
    s1 = inputs["s1"]
    parts = ((getattr(s1, name), getattr(junk, name)) for name in ("values", "days", "valid"))
    padded = Observation(*(torch.cat([extra[:, :1], own, extra[:, 1:]], 1) for own, extra in parts))
    close(encode(encoder.train(train), inputs), encode(twin, {**inputs, "s1": padded}))
    for one, other in zip(encoder.state_dict().values(), twin.state_dict().values(), strict=True):
        close(one, other)


def test_the_order_of_dates_changes_nothing(encoder: Fusion) -> None:
    inputs = mixed()
    turned = dict(inputs)
    for sensor, own in inputs.items():
        order = torch.randperm(own.values.shape[1], generator=torch.Generator().manual_seed(3))
        assert own.days is not None
        assert own.valid is not None
        turned[sensor] = Observation(own.values[:, order], own.days[:, order], own.valid[:, order])
    close(encode(encoder, inputs), encode(encoder, turned))


@pytest.mark.parametrize("sensor", ["s2", "s1"])
def test_values_and_dates_of_every_sensor_matter(encoder: Fusion, sensor: str) -> None:
    inputs = mixed()
    before = encode(encoder, inputs)
    own = inputs[sensor]
    assert own.days is not None
    assert not torch.allclose(before[0], encode(encoder, changed(inputs, sensor, values=own.values + 1))[0], atol=1e-3)
    later = {name: replace(o, days=o.days + 60) for name, o in inputs.items() if o.days is not None}
    assert not torch.allclose(before[0], encode(encoder, later)[0], atol=1e-3)


def test_what_masks_hide_has_no_influence_and_no_gradient(encoder: Fusion) -> None:
    inputs = mixed()
    zeros = {name: replace(own, values=own.values.nan_to_num(9.0)) for name, own in inputs.items()}
    close(encode(encoder, inputs), encode(encoder, zeros))
    leaves = {name: own.values.clone().requires_grad_() for name, own in inputs.items()}
    encoder.train()
    code = encode(encoder, {name: replace(own, values=leaves[name]) for name, own in inputs.items()})
    code.square().sum().backward()
    for name, leaf in leaves.items():
        valid = inputs[name].valid
        assert leaf.grad is not None
        assert valid is not None
        assert leaf.grad.isfinite().all()
        assert (leaf.grad[~valid] == 0).all()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in encoder.parameters())


@pytest.mark.parametrize("kind", ["early", "late", "attention"])
def test_mask_tokens_are_parameters_that_learn_from_the_samples_that_lack(kind: str) -> None:
    made = fusion(kind)
    named = {name: p for name, p in made.named_parameters() if "tokens" in name}
    assert len(named) == 2
    assert set(named) <= set(made.state_dict())
    inputs = mixed()
    for rows, learns in (((1, 2), True), ((0, 3, 6), False)):
        made.zero_grad()
        whole = {name: replace(own, valid=own.valid | True) for name, own in inputs.items() if own.valid is not None}
        shown = some(
            inputs if learns else {n: replace(o, values=o.values.nan_to_num()) for n, o in whole.items()}, *rows
        )
        if kind == "early" and not learns:  # dates of s2 beyond those of s1 are filled, too: give both the same
            shown = {**shown, "s1": replace(shown["s1"], days=shown["s2"].days, values=shown["s1"].values[:, :8])}
            shown = {**shown, "s1": replace(shown["s1"], valid=shown["s2"].valid)}
        encode(made, shown).square().sum().backward()
        for name, p in named.items():
            assert p.grad is not None
            assert bool((p.grad != 0).any()) is learns, name


def test_a_mask_token_stands_where_a_vector_is_missing() -> None:
    made = fusion("late").eval()
    inputs = mixed()
    with torch.no_grad():
        before = encode(made, inputs)
        made.scheme.joins[0].tokens[1].add_(5.0)  # of s1
        after = encode(made, inputs)
    moved = ~torch.isclose(before, after).all(1)
    assert moved.tolist() == [False, False, True, False, True, True, False]


def test_evaluation_is_deterministic_whatever_is_dropped_in_training(encoder: Fusion) -> None:
    kind = type(encoder.scheme).__name__.lower()
    made = fusion(kind, drop_dates=0.5, drop_modality=0.4).eval()
    inputs = mixed()
    assert torch.equal(encode(made, inputs), encode(made, inputs))
    made.train()
    assert not torch.equal(encode(made, inputs), encode(made, inputs))


def test_batch_norms_of_a_branch_see_only_samples_that_have_the_sensor() -> None:
    inputs = mixed()
    alone, together = fusion("late").train(), fusion("late").train()
    for made in (alone, together):
        for module in made.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.0
    encode(together, inputs)
    encode(alone, some(inputs, 0, 1, 3, 6))  # those that have s1
    for name, buffer in together.scheme.branches["s1"].named_buffers():
        close(buffer.float(), dict(alone.scheme.branches["s1"].named_buffers())[name].float())


def test_late_and_decision_of_one_sensor_equal_its_encoder() -> None:
    own = look(8, 4, 1)
    assert own.valid is not None
    own.valid[3, 0] = True
    for kind in ("late", "decision"):
        made = fusion(kind, {"s2": 4}).eval()
        branch = made.parts()["s2"]
        vector = branch({"s2": own}).maps[-1]
        want = made.scheme.joins[0].project(vector) if kind == "late" else vector
        close(encode(made, {"s2": own}), want)


def test_mid_of_one_sensor_equals_its_encoder_without_embedding() -> None:
    made, own = fusion("mid", {"s2": 4}).eval(), look(8, 4, 1)
    torch.manual_seed(0)
    single = build("encoder", "ltae", sensors={"s2": 4}).eval()
    with torch.no_grad():
        made.scheme.embedding["s2"].zero_()
        single.spatial.load_state_dict(made.scheme.spatial["s2"].state_dict())
        single.temporal.load_state_dict(made.scheme.temporal.state_dict())
    close(encode(made, {"s2": own}), single({"s2": own}).maps[-1])


def test_early_interpolates_as_numpy_does() -> None:
    own = look(9, 2, 4)
    days = torch.linspace(-60, 320, 13).repeat(SAMPLES, 1)
    values, seen = at_dates(own, days, reach=20.0)
    assert own.days is not None
    assert own.valid is not None
    for b in range(SAMPLES):
        keep = own.valid[b].numpy()
        x, y = own.days[b].numpy()[keep], own.values[b].numpy()[keep]
        order = np.argsort(x)
        inside = (days[b].numpy() >= x.min() - 20) & (days[b].numpy() <= x.max() + 20)
        assert seen[b].tolist() == inside.tolist()
        for c in range(2):
            want = np.interp(days[b].numpy(), x[order], y[order, c])
            np.testing.assert_allclose(values[b, :, c].numpy()[inside], want[inside], atol=1e-4)


def test_early_takes_the_dates_of_the_first_sensor_that_a_sample_has() -> None:
    inputs = mixed()
    dates = common_dates(inputs)
    assert dates.valid is not None
    assert dates.days is not None
    for row, sensor in ((0, "s2"), (1, "s1"), (2, "s2")):
        own = inputs[sensor]
        assert own.days is not None
        assert own.valid is not None
        assert dates.days[row][dates.valid[row]].tolist() == own.days[row][own.valid[row]].tolist()
    assert not dates.valid[5].any()


def test_attributes_may_be_one_of_the_modalities() -> None:
    inputs = {**mixed(), "attributes": Observation(torch.randn(SAMPLES, 3))}
    for kind in SCHEMES:
        made = fusion(kind, {**SENSORS, "attributes": 3}, modalities=["s2", "attributes"]).eval()
        before = encode(made, inputs)
        other = {**inputs, "attributes": Observation(inputs["attributes"].values + 1)}
        assert not torch.allclose(before[0], encode(made, other)[0], atol=1e-4), kind
        assert torch.equal(before, encode(made, {**inputs, "s1": look(11, 2, 9)})), "s1 is not among them"
        assert encode(made, inputs).isfinite().all()
    assert fusion("late", {**SENSORS, "attributes": 3}).modalities == ("s2", "s1")


def test_pixel_sets_are_fused_by_all_but_early() -> None:
    values = torch.randn(SAMPLES, 5, 4, 6)
    shown = torch.rand(SAMPLES, 5, 6) > 0.3
    own = Observation(values, torch.arange(5.0).repeat(SAMPLES, 1), shown.any(-1), shown)
    for kind in ("mid", "late", "decision"):
        assert encode(fusion(kind), {"s2": own, "s1": mixed()["s1"]}).isfinite().all()
    with pytest.raises(
        ValueError, match=r"early fusion reads series of parcels \(B, T, C\).*'s2': \(7, 5, 4, 6\).*scheme=mid"
    ):
        encode(fusion("early"), {"s2": own, "s1": mixed()["s1"]})


def test_errors_say_what_is_there() -> None:
    with pytest.raises(LookupError, match=r"modalities names 's22', did you mean 's2'.*provide \['s1', 's2'\]"):
        fusion("late", modalities=["s22"])
    with pytest.raises(LookupError, match=r"drop_dates names \['s3'\]; the data provide \['s1', 's2'\]"):
        fusion("late", drop_dates={"s3": 0.2})
    with pytest.raises(ValueError, match=r"drop_modality takes shares from 0 up to, but not including, 1; got 1.0"):
        fusion("late", drop_modality=1.0)
    with pytest.raises(ValueError, match="names each sensor once"):
        fusion("late", modalities=["s2", "s2"])
    with pytest.raises(LookupError, match=r"the fusion reads \['s2', 's1'\]; this batch holds \['dem'\] and none"):
        fusion("late")({"dem": look(3, 1, 0)})
    with pytest.raises(ValueError, match=r"built for 4 bands of 's2'; this look has shape \(7, 8, 3\)"):
        fusion("mid")({"s2": look(8, 3, 0)})
    with pytest.raises(ValueError, match=r"encoder.scheme is 'middle'; allowed are \['early', 'mid', 'late'"):
        fusion("middle")
    with pytest.raises(ValueError, match="early fusion has one encoder"):
        fusion("early", branches={"s1": None})


@pytest.mark.parametrize("kind", SCHEMES)
def test_attributes_that_are_dropped_have_no_influence(kind: str) -> None:
    inputs = {**mixed(), "attributes": Observation(torch.randn(SAMPLES, 3))}
    made = fusion(kind, {**SENSORS, "attributes": 3}, modalities=["s2", "attributes"]).eval()
    present = torch.tensor([True, False]).expand(SAMPLES, 2) & inputs["s2"].valid.any(1, keepdim=True)
    other = {**inputs, "attributes": Observation(inputs["attributes"].values + 1)}
    assert torch.equal(made.scheme(inputs, present).maps[-1], made.scheme(other, present).maps[-1])
