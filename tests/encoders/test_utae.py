"""U-TAE: its size, its attention against plain loops, the published order, what each frame costs, batch norm."""

from __future__ import annotations

import importlib.util
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from image_series import BANDS, SIZE, UTAE_SMALL, along_time, bilinear, encode, fresh, look, same
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

from eo_adapt.align import Setup
from eo_adapt.align.adabn import AdaBN
from eo_adapt.align.csn import CSN, DomainNorm
from eo_adapt.encoders import utae
from eo_adapt.encoders.blocks.ltae_maps import DateNorm, LTAEMaps
from eo_adapt.encoders.utae import UTAE
from eo_adapt.heads.dense import Dense
from eo_adapt.types import Observation

OFFICIAL = 1_087_260  # parameters of the official code, 10 bands and 20 classes


@pytest.fixture(scope="module")
def published() -> Any:
    """The order of layers that the benchmark compares with."""
    path = Path(__file__).parents[2] / "benchmarks" / "series.py"
    spec = importlib.util.spec_from_file_location("series_benchmark", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look for their module there
    spec.loader.exec_module(module)
    return module.Published


def test_official_size_less_the_norm_of_the_logits() -> None:
    encoder = UTAE({"s2": 10})
    head = Dense(encoder, 20)
    assert sum(p.numel() for p in encoder.attention.parameters()) == 83_200
    logits = 2 * 20  # gain and shift of the batch norm that the official code puts on 20 logits
    assert sum(p.numel() for net in (encoder, head) for p in net.parameters()) == OFFICIAL - logits
    assert (encoder.channels, encoder.strides, encoder.least) == ((32, 32, 64, 128), (1, 2, 4, 8), 16)


@pytest.mark.parametrize("skip", [True, False], ids=["skipping", "every frame"])
def test_without_padding_it_is_the_published_network(published: Any, skip: bool) -> None:
    torch.manual_seed(0)
    encoder = UTAE({"s2": BANDS}).eval().double()
    series = look(2, 4, (16, 24), junk=0.3)
    series = replace(series, values=series.values.double(), valid=None)
    with torch.no_grad():
        same(encode(encoder, series), published(encoder, skip)({"s2": series}).maps, 1e-9)


def test_with_padding_the_published_one_changes_and_ours_does_not(published: Any) -> None:
    encoder = fresh("utae").eval()
    series = replace(look(2, 4, junk=0.3), valid=torch.ones(2, 4).bool())
    padded = along_time(series, lambda x: torch.cat([x, x.new_zeros(2, 5, *x.shape[2:])], 1))
    with torch.no_grad():
        same(encode(encoder, series), encode(encoder, padded))
        theirs = [published(encoder)({"s2": x}).maps[-1] for x in (series, padded)]
    assert not torch.allclose(*theirs, atol=1e-2)


def test_invalid_frames_are_not_run() -> None:
    encoder, ran = fresh("utae"), []
    for layer in (encoder.get_submodule("first"), encoder.get_submodule("downs.1")):
        layer.register_forward_hook(lambda layer, args, out: ran.append(len(out)))
    series = look()
    assert series.valid is not None
    encode(encoder, series)
    assert sum(ran) == 2 * int(series.valid.sum())


@pytest.mark.parametrize("kind", ["utae", "utae mean"])
def test_the_size_of_pieces_changes_nothing(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    encoder, series = fresh(kind).eval(), look(pixels=True)
    whole = encode(encoder, series)
    for piece in (1, 2 * SIZE * SIZE):
        monkeypatch.setattr(utae, "PIECE", piece)
        same(encode(encoder, series), whole)


def test_the_norm_of_dates_sees_valid_ones_only() -> None:
    norm, x = DateNorm(2, 6), torch.randn(4, 5, 6)
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    every = torch.ones(4, 5).bool()
    torch.testing.assert_close(norm(x, every), F.group_norm(x.mT, 2, norm.weight, norm.bias).mT)
    valid = torch.tensor([[1, 0, 1, 1, 0], [0, 0, 0, 0, 1], [1, 1, 1, 1, 1], [0, 0, 0, 0, 0]]).bool()
    got = norm(x.where(valid[..., None], torch.nan), valid).detach().numpy()
    assert np.isfinite(got).all()
    for row in range(3):
        for group in (slice(0, 3), slice(3, 6)):
            seen = x[row, valid[row], group].numpy()
            wanted = (seen - seen.mean()) / np.sqrt(seen.var() + norm.eps)
            wanted = wanted * norm.weight[group].detach().numpy() + norm.bias[group].detach().numpy()
            np.testing.assert_allclose(got[row, valid[row].numpy(), group], wanted, atol=1e-5)


def test_attention_of_each_cell_against_plain_loops() -> None:
    torch.manual_seed(0)
    layer = LTAEMaps(4, 8, 2, 3, 0.0, 0.0, "days", None).eval()
    x, days = torch.randn(2, 3, 4, 1, 2), torch.tensor([[-20.0, 5.0, 90.0], [0.0, 40.0, 300.0]])
    seen = torch.tensor([[1, 1, 0], [1, 0, 0]]).bool()[:, :, None, None].repeat(1, 1, 1, 2)
    seen[0, 0, 0, 1] = False
    out, weights = layer(x, seen, Observation(x, days))
    code = layer.code(Observation(x, days)).numpy()
    for b in range(2):
        for cell in range(2):
            there = seen[b, :, 0, cell]
            rows = layer.norm(x[b, :, :, 0, cell][None], there[None])[0]
            rows = (layer.embed(rows) + torch.from_numpy(code[b])).detach()
            keys = layer.key(rows).detach().numpy().reshape(3, 2, 3)
            parts = []
            for head in range(2):
                scores = keys[:, head] @ layer.query[head].detach().numpy() / np.sqrt(3)
                share = np.where(there.numpy(), np.exp(scores), 0)
                share = share / share.sum()
                np.testing.assert_allclose(weights[b, :, head, 0, cell].detach().numpy(), share, atol=1e-5)
                parts.append(share @ rows.numpy()[:, 4 * head : 4 * head + 4])
            wanted = layer.finish(layer.mlp(torch.from_numpy(np.concatenate(parts))[None].float()))[0]
            torch.testing.assert_close(out[b, :, 0, cell], wanted, atol=1e-5, rtol=1e-5)


def skips(encoder: UTAE, series: Observation) -> list[Tensor]:
    """What the decoder is given to join, coarsest first."""
    given: list[Tensor] = []
    handles = [up.register_forward_hook(lambda up, args, out: given.append(args[1])) for up in encoder.ups]
    encode(encoder, series)
    for handle in handles:
        handle.remove()
    return given


def test_mean_is_the_mean_over_valid_dates() -> None:
    encoder, series = fresh("utae mean").eval(), look()
    assert isinstance(encoder, UTAE)
    assert series.valid is not None
    finest = skips(encoder, series)[-1]
    for i, valid in enumerate(series.valid):
        torch.testing.assert_close(finest[i], encoder.first(series.values[i][valid]).mean(0), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", ["utae", "utae att_mean"])
def test_finer_levels_are_joined_by_the_attention(kind: str) -> None:
    encoder, series = fresh(kind).eval(), look()
    assert isinstance(encoder, UTAE)
    assert series.valid is not None
    found: list[Tensor] = []
    handle = encoder.attention.register_forward_hook(lambda layer, args, out: found.append(out[1]))
    finest = skips(encoder, series)[-1].detach().numpy()
    handle.remove()
    weights = found[0].detach().numpy()  # (B, T, heads, h, w)
    for sample, valid in enumerate(series.valid):
        frames = encoder.first(series.values[sample][valid]).detach().numpy()
        wanted = np.zeros_like(finest[sample])
        for frame, weight in zip(frames, weights[sample][valid.numpy()], strict=True):
            for channel in range(8):
                mine = weight[channel // 4] if kind == "utae" else weight.mean(0)
                wanted[channel] += bilinear(mine, SIZE, SIZE) * frame[channel]
        np.testing.assert_allclose(finest[sample], wanted, atol=1e-4)


def test_a_cloud_over_a_cell_takes_its_attention_there_alone() -> None:
    encoder, series = fresh("utae").eval(), look(pixels=True)
    assert series.valid is not None
    found: list[Tensor] = []
    encoder.get_submodule("attention").register_forward_hook(lambda layer, args, out: found.append(out[1]))
    encode(encoder, series)
    assert (found[0][:, 1::2, :, 0, 0] == 0).all()  # `look` hides that cell on every other date
    assert (found[0][:, 1::2, :, 1, 1][series.valid[:, 1::2]] > 0).all()
    torch.testing.assert_close(found[0].sum(1), torch.ones_like(found[0][:, 0]))


def test_batch_norm_takes_statistics_of_valid_frames() -> None:
    encoder, series = fresh("utae batch"), look()
    assert isinstance(encoder, UTAE)
    assert series.valid is not None
    norm = encoder.first[1]
    assert isinstance(norm, _BatchNorm)
    norm.momentum = 1.0
    encode(encoder, series)
    mean = encoder.first[0](series.values[series.valid]).mean((0, 2, 3))
    torch.testing.assert_close(norm.running_mean, mean, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(("kind", "inside"), [("utae batch", 8), ("utae", 0)])
def test_csn_and_adabn_split_every_batch_norm(kind: str, inside: int) -> None:
    decoder = 2 * 4 + 1  # 4 of each step up, 1 after the attention
    for method in (CSN(), AdaBN()):
        encoder = fresh(kind)
        assert isinstance(encoder, UTAE)
        method.attach(encoder, Setup(encoder.channels[-1], 1, 1, 3))
        assert not [m for m in encoder.modules() if isinstance(m, _BatchNorm) and not _split(encoder, m)]
        split = [m for m in encoder.modules() if isinstance(m, DomainNorm)]
        assert len(split) == inside + decoder
        with method.scope(0):
            source = encode(encoder, look())[0]
        assert source.isfinite().all()


def _split(encoder: nn.Module, norm: nn.Module) -> bool:
    return any(norm in list(m.norms) for m in encoder.modules() if isinstance(m, DomainNorm))


def test_csn_domains_have_statistics_of_their_own() -> None:
    encoder, csn = fresh("utae batch"), CSN()
    csn.attach(encoder, Setup(encoder.channels[-1], 1, 1, 3))
    for domain, scale in ((0, 1.0), (1, 3.0)):
        series = look()
        with csn.scope(domain):
            encode(encoder, replace(series, values=series.values * scale + 1))
    encoder.eval()
    with csn.scope("target"):
        target = encode(encoder, look())
    same(encode(csn.export(encoder, "target"), look()), target)  # type: ignore[arg-type]
    with csn.scope("source"):
        assert not torch.allclose(encode(encoder, look())[0], target[0], atol=1e-3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"aggregate": "max"}, r"encoder.aggregate must be one of \['att_group', 'att_mean', 'mean'\]; got 'max'"),
        ({"norm": "layer"}, r"encoder.norm must be one of \['group', 'batch'\]; got 'layer'"),
        ({"decoder": (8,)}, r"encoder.decoder one less.*got widths \[8, 8, 16\] and decoder \[8\]"),
        ({"widths": (8,), "decoder": ()}, "at least two strides"),
        ({"heads": 3}, r"must be multiples of encoder.heads; got \[8, 8, 16\]"),
        (
            {"heads": 2, "widths": (6, 8, 16)},
            r"multiples of 4; got \[6, 8, 16\]: change them, or set encoder.norm=batch",
        ),
    ],
)
def test_options_that_do_not_fit_are_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        UTAE({"s2": BANDS}, **{**UTAE_SMALL, **options})
