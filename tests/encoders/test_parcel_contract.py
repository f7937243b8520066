"""What every parcel encoder of configs/encoder promises, on series and on pixel sets."""

import inspect
from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hydra.utils import get_class, instantiate
from omegaconf import OmegaConf
from torch import Tensor, nn

from eo_adapt.encoders.parcel import ParcelEncoder
from eo_adapt.types import Observation

FILES = sorted((Path(__file__).parents[2] / "configs" / "encoder").glob("*.yaml"))
READS = [file for file in FILES if "eo_adapt.encoders.parcel.ParcelEncoder" in file.read_text()]
PARCEL = [file for file in READS if "eo_adapt.encoders.fusion" not in file.read_text()]
SAMPLES, DATES, PIXELS = 4, 7, 5


@pytest.fixture(params=READS, ids=[file.stem for file in READS])
def encoder(request: pytest.FixtureRequest) -> ParcelEncoder:
    """One encoder in training mode without dropout, its batch norms away from their initial state."""
    torch.manual_seed(0)
    built: ParcelEncoder = instantiate(OmegaConf.load(request.param), sensors={"s2": 10})
    for module in built.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        if isinstance(module, nn.MultiheadAttention):
            module.dropout = 0.0
    encode(built, make(series=False))
    return built


@pytest.fixture(params=[True, False], ids=["series", "pixel sets"])
def look(request: pytest.FixtureRequest) -> Observation:
    """Four parcels with gaps, early and late days; nan wherever the masks say so."""
    return make(series=request.param)


def make(series: bool) -> Observation:
    generator = torch.Generator().manual_seed(1)
    values = torch.rand(SAMPLES, DATES, 10, PIXELS, generator=generator)
    days = torch.rand(SAMPLES, DATES, generator=generator) * 500 - 80
    valid = torch.rand(SAMPLES, DATES, generator=generator) > 0.3
    shown = torch.rand(SAMPLES, DATES, PIXELS, generator=generator) > 0.3
    if series:
        values = values[..., 0].where(valid[..., None], torch.nan)
        return Observation(values, days, valid)
    return Observation(values.where((shown & valid[..., None])[:, :, None], torch.nan), days, valid, shown)


def encode(encoder: ParcelEncoder, look: Observation) -> Tensor:
    code: Tensor = encoder({"s2": look}).maps[-1]
    return code


def along_time(look: Observation, change: Callable[[Tensor], Tensor]) -> Observation:
    """The same change on everything that has dates."""
    fields = {name: x for name, x in vars(look).items() if x is not None}
    return replace(look, **{name: change(x) for name, x in fields.items()})


def pad(x: Tensor) -> Tensor:
    """Three dates more, of nonsense that the mask hides."""
    junk = torch.full((len(x), 3, *x.shape[2:]), False if x.dtype == torch.bool else torch.nan, dtype=x.dtype)
    return torch.cat([junk[:, :1], x, junk[:, 1:]], 1)


@pytest.mark.parametrize("train", [True, False], ids=["train", "eval"])
def test_padding_changes_nothing(encoder: ParcelEncoder, look: Observation, train: bool) -> None:
    encoder.train(train)
    twin = deepcopy(encoder)
    torch.testing.assert_close(encode(encoder, look), encode(twin, along_time(look, pad)), atol=1e-5, rtol=1e-5)
    for (name, one), other in zip(encoder.state_dict().items(), twin.state_dict().values(), strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5, msg=name)


def test_more_masked_pixels_change_nothing(encoder: ParcelEncoder) -> None:
    look = make(series=False)
    assert look.valid_pixels is not None
    values = torch.cat([look.values, torch.full((SAMPLES, DATES, 10, 2), torch.nan)], -1)
    shown = torch.cat([look.valid_pixels, torch.zeros(SAMPLES, DATES, 2).bool()], -1)
    twin = deepcopy(encoder)
    wide = replace(look, values=values, valid_pixels=shown)
    torch.testing.assert_close(encode(encoder, look), encode(twin, wide), atol=1e-5, rtol=1e-5)


def test_date_order_changes_nothing(encoder: ParcelEncoder, look: Observation) -> None:
    order = torch.randperm(DATES, generator=torch.Generator().manual_seed(2))
    encoder.eval()
    shuffled = along_time(look, lambda x: x[:, order])
    torch.testing.assert_close(encode(encoder, look), encode(encoder, shuffled), atol=1e-5, rtol=1e-5)


def test_dates_matter(encoder: ParcelEncoder, look: Observation) -> None:
    assert look.days is not None
    encoder.eval()
    assert not torch.allclose(encode(encoder, look), encode(encoder, replace(look, days=look.days + 40)), atol=1e-3)


@pytest.mark.parametrize("train", [True, False], ids=["train", "eval"])
def test_a_sample_without_dates_is_finite(encoder: ParcelEncoder, look: Observation, train: bool) -> None:
    assert look.valid is not None
    valid = look.valid.clone()
    valid[1] = False
    values = look.values.clone()
    values[1] = torch.nan
    values.requires_grad_()
    encoder.train(train)
    code = encode(encoder, replace(look, values=values, valid=valid))
    assert code.isfinite().all()
    torch.autograd.backward(code.square().sum())
    assert all(p.grad is not None and p.grad.isfinite().all() for p in encoder.parameters())
    assert values.grad is not None
    assert values.grad.isfinite().all()
    assert (values.grad[1] == 0).all()


def test_a_batch_without_dates_is_finite(encoder: ParcelEncoder, look: Observation) -> None:
    nothing = replace(look, valid=torch.zeros(SAMPLES, DATES).bool())
    code = encode(encoder, nothing)
    assert code.isfinite().all()
    torch.autograd.backward(code.sum())
    with torch.no_grad():
        assert encode(encoder.eval(), nothing).isfinite().all()


def test_masked_nan_equals_masked_zero(encoder: ParcelEncoder, look: Observation) -> None:
    zeros = replace(look, values=look.values.nan_to_num(0.0))
    twin = deepcopy(encoder)
    assert torch.equal(encode(encoder, look), encode(twin, zeros))


def test_half_precision_agrees(encoder: ParcelEncoder, look: Observation) -> None:
    encoder.eval()
    full = encode(encoder, look)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = encode(encoder, look).float()
    error = (full - half).square().mean().sqrt() / full.std()
    assert error < 1e-2


def test_fast_path_of_evaluation_agrees(encoder: ParcelEncoder, look: Observation) -> None:
    encoder.eval()
    with torch.no_grad():
        fast = encode(encoder, look)
    torch.testing.assert_close(encode(encoder, look), fast, atol=1e-5, rtol=1e-5)


def test_one_sample_trains(encoder: ParcelEncoder, look: Observation) -> None:
    one = along_time(look, lambda x: x[:1])
    torch.autograd.backward(encode(encoder, one).sum())
    assert all(p.grad is not None and p.grad.isfinite().all() for p in encoder.parameters())


@pytest.mark.parametrize("file", PARCEL, ids=[file.stem for file in PARCEL])
def test_yaml_lists_every_argument(file: Path) -> None:
    config = OmegaConf.to_container(OmegaConf.load(file))
    assert isinstance(config, dict)
    assert file.read_text().startswith("# ")
    for part, given in (
        (config, {"sensors"}),
        (config["spatial"], {"in_channels"}),
        (config["temporal"], {"in_channels"}),
    ):
        arguments = inspect.signature(get_class(part["_target_"])).parameters
        assert set(arguments) - given == {name for name in part if not str(name).startswith("_")}
        for name in set(arguments) - given - {"spatial", "temporal"}:
            listed, default = part[name], arguments[name].default
            assert (tuple(listed) if isinstance(listed, list) else listed) == default, name
