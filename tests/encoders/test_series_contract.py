"""What every encoder of image series promises: padding, gaps, clouds and junk have no say."""

from __future__ import annotations

import inspect
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hydra.utils import get_class
from hypothesis import given, settings
from hypothesis import strategies as st
from image_series import BANDS, DATES, SIZE, SMALL, along_time, encode, fresh, look, same
from omegaconf import OmegaConf
from torch import Tensor

from eo_adapt.encoders.series import SeriesEncoder
from eo_adapt.encoders.unet3d import UNet3d
from eo_adapt.types import Observation

FILES = sorted((Path(__file__).parents[2] / "configs" / "encoder").glob("*.yaml"))
MODES = pytest.mark.parametrize("train", [True, False], ids=["train", "eval"])
MASKS = pytest.mark.parametrize("pixels", [True, False], ids=["pixels", "dates"])


@pytest.fixture(params=list(SMALL))
def encoder(request: pytest.FixtureRequest) -> SeriesEncoder:
    return fresh(request.param)


def pad(x: Tensor) -> Tensor:
    """Three dates more, one before and two behind, of nonsense that the mask hides."""
    junk = torch.full((len(x), 3, *x.shape[2:]), False if x.dtype == torch.bool else torch.nan, dtype=x.dtype)
    return torch.cat([junk[:, :1], x, junk[:, 1:]], 1)


@MODES
@MASKS
def test_padding_changes_nothing(encoder: SeriesEncoder, train: bool, pixels: bool) -> None:
    encoder.train(train)
    twin, series = deepcopy(encoder), look(pixels=pixels)
    same(encode(encoder, series), encode(twin, along_time(series, pad)))
    for (name, one), other in zip(encoder.state_dict().items(), twin.state_dict().values(), strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5, msg=name)


@MASKS
def test_what_stands_at_invalid_places_has_no_influence(encoder: SeriesEncoder, pixels: bool) -> None:
    encoder.eval()
    clean = encode(encoder, look(pixels=pixels, junk=0.0))
    assert all(m.isfinite().all() for m in clean)
    for junk in (torch.nan, 1e9, -torch.inf):
        same(encode(encoder, look(pixels=pixels, junk=junk)), clean, 0.0)


def test_the_mask_of_pixels_matters(encoder: SeriesEncoder) -> None:
    series = look(pixels=True, junk=0.5)
    encoder.eval()
    assert not torch.allclose(encode(encoder, series)[0], encode(encoder, replace(series, valid_pixels=None))[0])


def test_the_order_of_dates_matters_to_convolutions_over_time_alone(encoder: SeriesEncoder) -> None:
    order = torch.randperm(DATES, generator=torch.Generator().manual_seed(2))
    encoder.eval()
    one, other = (encode(encoder, x) for x in (look(), along_time(look(), lambda x: x[:, order])))
    if isinstance(encoder, UNet3d):
        assert not torch.allclose(one[-1], other[-1], atol=1e-3)
    else:
        same(one, other)


def test_days_matter_to_attention_alone(encoder: SeriesEncoder) -> None:
    series = look()
    assert series.days is not None
    encoder.eval()
    later = encode(encoder, replace(series, days=series.days + 40))
    assert torch.allclose(encode(encoder, series)[-1], later[-1], atol=1e-4) is isinstance(encoder, UNet3d)


@MASKS
def test_a_batch_equals_its_samples(encoder: SeriesEncoder, pixels: bool) -> None:
    """Each alone and without the dates that it lacks at its end."""
    series = look(pixels=pixels)
    encoder.eval()
    together = encode(encoder, series)
    assert series.valid is not None
    for i in range(len(series.values)):
        until = int(series.valid[i].nonzero().max()) + 1
        alone = along_time(series, lambda x, i=i, until=until: x[i : i + 1, :until])  # type: ignore[misc]
        same(tuple(m[i : i + 1] for m in together), encode(encoder, alone))


@pytest.mark.parametrize("name", ["tsvit", "tsvit line", "unet3d group"])
def test_a_training_batch_without_batch_norm_equals_its_samples(name: str) -> None:
    encoder, series = fresh(name).train(), look()
    together = encode(encoder, series)
    for i in range(len(series.values)):
        alone = along_time(series, lambda x, i=i: x[i : i + 1])  # type: ignore[misc]
        same(tuple(m[i : i + 1] for m in together), encode(encoder, alone))


@MODES
def test_a_sample_without_dates_is_finite(encoder: SeriesEncoder, train: bool) -> None:
    series = look()
    assert series.valid is not None
    valid, values = series.valid.clone(), series.values.clone()
    valid[1], values[1] = False, torch.nan
    values.requires_grad_()
    encoder.train(train)
    maps = encode(encoder, replace(series, values=values, valid=valid))
    assert all(m.isfinite().all() for m in maps)
    torch.autograd.backward(sum(m.square().sum() for m in maps))
    assert all(p.grad is not None and p.grad.isfinite().all() for p in encoder.parameters())
    assert values.grad is not None
    assert values.grad.isfinite().all()
    assert (values.grad[1] == 0).all()


@MODES
def test_a_batch_without_any_date_is_finite_and_alike(encoder: SeriesEncoder, train: bool) -> None:
    series = look()
    encoder.train(train)
    before = {name: x.clone() for name, x in encoder.state_dict().items() if "running" in name}
    maps = encode(encoder, replace(series, valid=torch.zeros_like(series.days).bool()))
    for m in maps:
        assert m.isfinite().all()
        torch.testing.assert_close(m, m[:1].expand_as(m))
    torch.autograd.backward(sum(m.sum() for m in maps))
    assert all(p.grad is None or p.grad.isfinite().all() for p in encoder.parameters())
    assert all(encoder.state_dict()[name].isfinite().all() for name in before)


def test_one_date_and_no_masks_will_do(encoder: SeriesEncoder) -> None:
    one = Observation(torch.rand(2, 1, BANDS, SIZE, SIZE), torch.tensor([[7.0], [300.0]]))
    encoder.eval()
    same(encode(encoder, one), encode(encoder, replace(one, valid=torch.ones(2, 1).bool())), 0.0)
    encoder.train()
    assert all(m.isfinite().all() for m in encode(encoder, one))


def test_every_parameter_learns(encoder: SeriesEncoder) -> None:
    maps = encode(encoder, look(pixels=True))
    generator = torch.Generator().manual_seed(3)
    torch.autograd.backward(sum((m * torch.randn(m.shape, generator=generator)).sum() for m in maps))
    for name, p in encoder.named_parameters():
        assert p.grad is not None, name
        assert p.grad.isfinite().all(), name
        assert (p.grad != 0).any(), name


def test_bf16_comes_close(encoder: SeriesEncoder) -> None:
    encoder.eval()
    exact = encode(encoder, look())
    with torch.autocast("cpu", torch.bfloat16):
        half = encode(encoder, look())
    for a, b in zip(half, exact, strict=True):
        off = (a.float() - b).abs() / b.abs().max()
        assert off.median() < 0.01
        assert (off > 0.1).float().mean() < 0.03  # group norm makes much of a cell that is nearly constant
    encoder.train()
    with torch.autocast("cpu", torch.bfloat16):
        sum(m.float().square().mean() for m in encode(encoder, look())).backward()  # type: ignore[union-attr]
    assert all(p.grad is not None and p.grad.isfinite().all() for p in encoder.parameters())


@settings(deadline=None, max_examples=25)
@given(
    name=st.sampled_from(list(SMALL)),
    samples=st.integers(1, 3),
    dates=st.integers(1, 5),
    cells=st.tuples(st.integers(2, 4), st.integers(2, 5)),
    pixels=st.booleans(),
)
def test_maps_have_the_promised_channels_and_strides(
    name: str, samples: int, dates: int, cells: tuple[int, int], pixels: bool
) -> None:
    encoder, size = SMALL[name]().eval(), (4 * cells[0], 4 * cells[1])
    with torch.no_grad():
        maps = encode(encoder, look(samples, dates, size, pixels))
    strides = zip(encoder.channels, encoder.strides, strict=True)
    assert [tuple(m.shape) for m in maps] == [(samples, d, size[0] // s, size[1] // s) for d, s in strides]
    assert list(encoder.strides) == sorted(encoder.strides)


@settings(deadline=None, max_examples=40)
@given(name=st.sampled_from(list(SMALL)), height=st.integers(1, 40), width=st.integers(1, 40))
def test_a_refused_size_comes_with_the_padded_one_that_works(name: str, height: int, width: int) -> None:
    encoder = SMALL[name]().eval()
    series = Observation(torch.zeros(1, 1, BANDS, height, width), torch.zeros(1, 1))
    if all(side % encoder.step == 0 and side >= encoder.least for side in (height, width)):
        encode(encoder, series)
        return
    up = [next(n for n in range(side, 99) if n % encoder.step == 0 and n >= encoder.least) for side in (height, width)]
    with pytest.raises(ValueError, match=rf"got {height} x {width}: pad them to {up[0]} x {up[1]} \(with valid_pixels"):
        encode(encoder, series)
    encode(encoder, Observation(torch.zeros(1, 1, BANDS, *up), torch.zeros(1, 1)))


def test_inputs_that_do_not_fit_are_named(encoder: SeriesEncoder) -> None:
    kind = type(encoder)
    with pytest.raises(LookupError, match=r"reads sensor 's2'; this batch holds \['s1'\]"):
        encoder({"s1": look()})
    with pytest.raises(
        ValueError, match=r"3 bands reads image series \(B, T, 3, H, W\); 's2' has shape \(2, 3, 16, 16"
    ):
        encode(encoder, Observation(torch.zeros(2, 3, 16, 16)))
    with pytest.raises(ValueError, match=r"has shape \(2, 5, 4, 16, 16\): build it with the sensors"):
        encode(encoder, Observation(torch.zeros(2, 5, 4, 16, 16)))
    with pytest.raises(ValueError, match=r"valid of 's2' must have shape \(3, 6\); got \(3, 4\)"):
        encode(encoder, replace(look(), valid=torch.ones(3, 4).bool()))
    with pytest.raises(ValueError, match=r"valid_pixels of 's2' must have shape \(3, 6, 16, 16\); got \(3, 6, 5\)"):
        encode(encoder, replace(look(), valid_pixels=torch.ones(3, 6, 5).bool()))
    with pytest.raises(ValueError, match=r"at least one sample and one date a batch"):
        encode(encoder, Observation(torch.zeros(2, 0, BANDS, 16, 16), torch.zeros(2, 0)))
    with pytest.raises(LookupError, match=r"the data provide \['s1', 's2'\]"):
        kind({"s1": 2, "s2": 10})
    assert kind({"s1": 2, "s2": 10}, sensor="s2").bands == 10


def test_attention_says_that_it_needs_days() -> None:
    for name in ("utae", "tsvit"):
        with pytest.raises(ValueError, match=r"needs the days \(B, T\)"):
            encode(fresh(name), Observation(torch.zeros(1, 2, BANDS, SIZE, SIZE)))


@pytest.mark.parametrize("name", ["utae", "tsvit", "unet3d"])
def test_the_yaml_repeats_the_defaults(name: str) -> None:
    listed = OmegaConf.to_container(OmegaConf.load(next(file for file in FILES if file.stem == name)))
    assert isinstance(listed, dict)
    signature = inspect.signature(get_class(listed.pop("_target_")))
    defaults = {key: p.default for key, p in signature.parameters.items() if key != "sensors"}
    assert listed == {key: list(x) if isinstance(x, tuple) else x for key, x in defaults.items()}
