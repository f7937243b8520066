"""The attention blocks: official sizes, and the same numbers computed another way."""

import numpy as np
import pytest
import torch
from torch import Tensor

from eo_adapt.encoders.blocks.gru import GRU
from eo_adapt.encoders.blocks.ltae import LTAE
from eo_adapt.encoders.blocks.pixel_set import PixelSetEncoder
from eo_adapt.encoders.blocks.stages import Temporal
from eo_adapt.encoders.blocks.tae import TAE
from eo_adapt.encoders.blocks.tempcnn import TempCNN
from eo_adapt.encoders.blocks.transformer import Transformer
from eo_adapt.encoders.parcel import ParcelEncoder
from eo_adapt.heads.classify import Classify
from eo_adapt.types import Observation

VALID = torch.tensor([[True, True, False, True, False], [False, True, True, True, True], [False] * 5])


def size(module: torch.nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def look() -> tuple[Tensor, Observation]:
    x = torch.randn(3, 5, 128, generator=torch.Generator().manual_seed(0))
    days = torch.tensor([-40.0, 3.5, 90.0, 200.0, 410.0]).expand(3, 5)
    return x, Observation(x, days, VALID)


@pytest.mark.parametrize(("block", "alone", "whole"), [(LTAE, 100_224, 131_348), (TAE, 132_992, 164_116)])
def test_official_sizes(block: type[Temporal], alone: int, whole: int) -> None:
    assert size(block()) == alone

    def spatial(in_channels: int) -> PixelSetEncoder:
        return PixelSetEncoder(in_channels, attributes=4)

    encoder = ParcelEncoder({"s2": 10}, spatial, block)
    assert size(encoder) + size(Classify(encoder, 20)) == whole


def test_ltae_against_the_unfolded_computation() -> None:
    block = LTAE().eval()
    x, observation = look()
    embedded = block.embed(x) + block.code(observation)
    keys = block.key(embedded).view(3, 5, 16, 8)
    scores = (keys * block.query).sum(-1) / 8**0.5
    torch.testing.assert_close(block.scores(embedded), scores, atol=1e-4, rtol=1e-4)
    groups = embedded.view(3, 5, 16, 16)
    torch.testing.assert_close(block.code(observation)[..., :16], block.code(observation)[..., -16:])
    rows = []
    for b in range(2):
        shown = VALID[b]
        heads = []
        for h in range(16):
            score = keys[b, shown, h] @ block.query[h] / 8**0.5
            heads.append(score.softmax(0) @ groups[b, shown, h])
        rows.append(torch.cat(heads))
    want = block.finish(block.mlp(torch.stack(rows)))
    torch.testing.assert_close(block(x, observation)[:2], want, atol=1e-4, rtol=1e-4)


def test_tae_against_numpy() -> None:
    block = TAE().double().eval()
    x, observation = look()
    norm = block.master[0]
    norm.running_mean.normal_()  # type: ignore[operator]
    p = {name: value.detach().numpy() for name, value in block.state_dict().items()}
    code = block.code(observation).numpy().astype(float)
    pooled = []
    for b in range(2):
        shown = VALID[b].numpy()
        v = x[b].numpy().astype(float)
        v = (v - v.mean(1, keepdims=True)) / np.sqrt(v.var(1, keepdims=True) + 1e-5)
        v = (v * p["norm.weight"] + p["norm.bias"] + code[b])[shown]
        query = (v @ p["query.weight"].T + p["query.bias"]).mean(0)
        query = (query - p["master.0.running_mean"]) / np.sqrt(p["master.0.running_var"] + 1e-5)
        query = p["master.1.weight"] @ query + p["master.1.bias"]
        key = v @ p["key.weight"].T + p["key.bias"]
        for h in range(4):
            score = key[:, 32 * h : 32 * h + 32] @ query[32 * h : 32 * h + 32] / np.sqrt(32)
            weight = np.exp(score - score.max())
            pooled.append(weight / weight.sum() @ v)
    want = block.finish(block.mlp(torch.tensor(np.stack(pooled)).view(2, 512)))
    torch.testing.assert_close(block(x.double(), observation)[:2], want)


def test_transformer_against_a_loop_over_samples() -> None:
    block = Transformer(layers=2).eval()
    x, observation = look()
    got = block(x, observation)
    for b in range(2):
        shown = VALID[b]
        row = (block.embed(x) + block.code(observation))[b, shown][None]
        for layer in block.layers:
            row = layer(row)
        torch.testing.assert_close(got[b], row[0].mean(0), atol=1e-5, rtol=1e-4)
    assert (got[2] == 0).all()


@pytest.mark.parametrize("block", [LTAE(), TAE(), Transformer(), GRU(), TempCNN()])
def test_hidden_nan_stays_hidden_from_a_block_alone(block: Temporal) -> None:
    x, observation = look()
    hidden = x.where(VALID[..., None], torch.nan).requires_grad_()
    got = block.eval()(hidden, observation)
    torch.testing.assert_close(got, block(x, observation))
    got.square().sum().backward()
    assert hidden.grad is not None
    assert hidden.grad.isfinite().all()


@pytest.mark.parametrize("block", [LTAE(), TAE()])
def test_no_date_gives_a_constant(block: Temporal) -> None:
    x, observation = look()
    nothing = Observation(x, observation.days, torch.zeros(3, 5).bool())
    got = block.eval()(x, nothing)
    assert got.isfinite().all()
    torch.testing.assert_close(got[0], got[1])
