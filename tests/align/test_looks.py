"""Looks: every form of inputs is read and put back, masks and axes are understood, nothing given is changed."""

from collections import namedtuple
from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor

from eo_adapt.align.looks import Look, band_moments, inputs_of, looks, moved, put, with_inputs
from eo_adapt.types import Batch, Observation


@dataclass(frozen=True)
class Theirs:
    """Somebody else's record: no masks."""

    values: Tensor
    days: Tensor
    sensor: str = "s1"


def observation(*shape: int) -> Observation:
    b, t = shape[:2]
    return Observation(torch.randn(shape), torch.arange(float(t)).expand(b, t), torch.ones(b, t).bool())


@pytest.mark.parametrize(
    ("look", "dated", "imaged", "bands"),
    [
        (Look(torch.zeros(2, 3)), False, False, 1),
        (Look(torch.zeros(2, 3, 4, 5)), False, True, 1),
        (Look(torch.zeros(2, 4, 3)), True, False, 2),
        (Look(torch.zeros(2, 4, 3, 5), days=torch.zeros(2, 4)), True, False, 2),
        (Look(torch.zeros(2, 4, 3, 5), valid=torch.ones(2, 4).bool()), True, False, 2),
        (Look(torch.zeros(2, 4, 3, 5, 6)), True, True, 2),
    ],
)
def test_axes(look, dated, imaged, bands):
    assert (look.dated, look.imaged, look.bands) == (dated, imaged, bands)
    per_sample = torch.arange(6.0).view(2, 3)
    spread = look.along_bands(per_sample).expand_as(look.values)
    assert torch.equal(spread.movedim(bands, -1)[1].reshape(-1, 3)[0], per_sample[1])
    assert look.along_bands(per_sample[0]).shape[0] == 1


def test_seen_joins_dates_pixels_and_finite_numbers():
    values = torch.zeros(2, 3, 4, 5)
    values[1, 2, 3, 4] = torch.nan
    valid, pixels = torch.ones(2, 3).bool(), torch.ones(2, 3, 5).bool()
    valid[0, 1], pixels[1, 0, 2] = False, False
    seen = Look(values, None, valid, pixels).seen()
    expected = torch.ones(2, 3, 4, 5).bool()
    expected[0, 1], expected[1, 0, :, 2], expected[1, 2, 3, 4] = False, False, False
    assert torch.equal(seen, expected)


@pytest.mark.parametrize(
    "inputs",
    [
        torch.randn(2, 3),
        observation(2, 4, 3),
        {"s2": observation(2, 4, 3), "s1": observation(2, 5, 2)},
        {"values": torch.randn(2, 4, 3), "valid": torch.ones(2, 4).bool(), "name": "x"},
        {"pixels": torch.randn(2, 3, 4, 4), "ids": torch.arange(2)},
        Theirs(torch.randn(2, 4, 3), torch.zeros(2, 4)),
    ],
)
def test_reads_every_form_and_puts_it_back(inputs):
    found = looks(inputs)
    before = {name: look.values.clone() for name, look in found.items()}
    doubled = put(inputs, {name: Look(2 * look.values, look.days, look.valid) for name, look in found.items()})
    assert type(doubled) is type(inputs)
    for name, look in looks(doubled).items():
        assert torch.equal(look.values, 2 * before[name])
        assert torch.equal(found[name].values, before[name])
    if isinstance(inputs, dict):
        assert doubled.keys() == inputs.keys()
        assert all(doubled[key] is inputs[key] for key in ("name", "ids") if key in inputs)
    if isinstance(inputs, Theirs):
        assert doubled.sensor == "s1"


@pytest.mark.parametrize("inputs", [torch.arange(3), (torch.randn(2, 3), 1), {"a": 1}, None, "x", Observation])
def test_other_inputs_are_refused(inputs):
    with pytest.raises(TypeError, match="inputs must be a float tensor"):
        looks(inputs)


def test_moves_the_days_of_all_that_have_some():
    inputs = {"s2": observation(2, 4, 3), "dem": Observation(torch.randn(2, 1, 5, 5))}
    later = moved(inputs, -30)
    assert torch.equal(later["s2"].days, inputs["s2"].days - 30)
    assert torch.equal(later["s2"].values, inputs["s2"].values)
    assert later["dem"] is inputs["dem"]
    assert inputs["s2"].days[0, 0] == 0
    x = torch.randn(2, 3)
    assert moved(x, 5) is x
    each = moved(inputs, torch.tensor([[1.0], [2.0]]))["s2"].days - inputs["s2"].days
    assert torch.equal(each, torch.tensor([1.0, 2.0])[:, None].expand(2, 4))


def test_batches_of_ours_and_others():
    x, y = torch.randn(2, 3), torch.tensor([0, 1])
    ours = Batch({"s2": Observation(x)}, y, torch.zeros(2, 2), torch.arange(2))
    pair, named = (x, y), namedtuple("Pair", "inputs labels")(x, y)
    loose = SimpleNamespace(inputs=x, labels=y)
    for batch in (ours, pair, [x, y], named, loose, x):
        new = with_inputs(batch, "new")
        assert type(new) is type(batch) or batch is x
        assert inputs_of(new) == "new"
        assert inputs_of(batch) is (ours.inputs if batch is ours else x)
        if batch is not x:
            assert (new[1] if isinstance(new, tuple | list) else new.labels) is y


@pytest.mark.parametrize("offset", [0.0, 1e3])
def test_moments_equal_numpy_over_what_is_seen(offset):
    torch.manual_seed(0)
    values = torch.randn(5, 4, 3, 6) * torch.tensor([1.0, 2.0, 3.0])[:, None] + offset
    valid, pixels = torch.rand(5, 4) < 0.7, torch.rand(5, 4, 6) < 0.6
    look = Look(values.masked_fill(torch.rand(values.shape) < 0.1, torch.nan), None, valid, pixels)
    mean, std = band_moments(look)
    rows = np.where(look.seen().numpy(), look.values.double().numpy(), np.nan).transpose(2, 0, 1, 3).reshape(3, -1)
    np.testing.assert_allclose(mean.numpy(), np.nanmean(rows, 1), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(std.numpy(), np.nanstd(rows, 1), rtol=1e-4)


def test_moments_of_nothing_are_zero():
    look = Look(torch.full((2, 3, 2), torch.nan), valid=torch.ones(2, 3).bool())
    assert [m.tolist() for m in band_moments(look)] == [[0, 0], [0, 0]]
