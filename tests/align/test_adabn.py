"""AdaBN: source-only training, the target's statistics when a target is looked at."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from quick import QUICK
from torch import nn

from eo_adapt.align import Setup
from eo_adapt.align.adabn import AdaBN
from eo_adapt.align.csn import CSN, taking_statistics
from eo_adapt.registry import config
from eo_adapt.train import run


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 6), nn.BatchNorm1d(6), nn.Linear(6, 3)
    )


def attached(domains: int = 2) -> tuple[AdaBN, nn.Module]:
    model, align = network(), AdaBN()
    align.attach(model, Setup(6, 1, domains - 1))
    return align, model


def taught(align: AdaBN, model: nn.Module, x: torch.Tensor) -> None:
    """Source statistics as many passes leave them."""
    model.train()
    for _ in range(200):
        with align.scope(0):
            model(x)
    model.eval()
    align.eval()


def test_a_channelwise_shift_is_undone_exactly() -> None:
    # The first layer's outputs, shifted and stretched a channel: after AdaBN the logits are the source's.
    align, model = attached()
    x = torch.randn(256, 4)
    taught(align, model, x)
    first = model[0]
    with align.scope(0):
        source = model(x)
    gain, offset = torch.rand(8) + 0.5, 3 * torch.randn(8)
    first.register_forward_hook(lambda module, inputs, out: out * gain + offset)
    with align.scope(0):
        before = model(x)
    with torch.no_grad():
        align.settle(model, {}, {1: [x]})
    with align.scope(1):
        after = model(x)
    assert (before - source).abs().max() > 0.1
    torch.testing.assert_close(after, source, rtol=1e-3, atol=1e-3)
    with align.scope(0):
        assert (model(x) - source).abs().max() > 0.1, "the source's statistics were touched"


def test_statistics_are_the_mean_over_batches_and_start_anew() -> None:
    align, model = attached()
    align.eval(), model.eval()
    batches = [torch.randn(64, 4) + i for i in range(3)]
    norm = model[1].norms[1]
    with torch.no_grad():
        for _ in range(2):  # settling again forgets the first time
            align.settle(model, {}, {1: iter(batches)})
            seen = [model[0](b) for b in batches]
    torch.testing.assert_close(norm.running_mean, torch.stack([s.mean(0) for s in seen]).mean(0))
    torch.testing.assert_close(norm.running_var, torch.stack([s.var(0) for s in seen]).mean(0))
    assert norm.momentum == 0.1
    assert not norm.training


def test_training_uses_one_set_of_statistics_and_shares_the_affine() -> None:
    align, model = attached(3)
    plain = network()
    x = torch.randn(32, 4)
    align.train(), model.train(), plain.train()
    for domain in (0, 1):  # two sources
        with align.scope(domain):
            mine = model(x + domain)
        assert torch.equal(mine, plain(x + domain))
    assert torch.equal(model[1].norms[0].running_mean, plain[1].running_mean)
    assert model[1].norms[2].weight is model[1].norms[0].weight
    assert len(list(model.parameters())) == len(list(plain.parameters()))


def test_export_gives_the_same_logits_without_a_scope() -> None:
    align, model = attached()
    x = torch.randn(64, 4)
    taught(align, model, x)
    with torch.no_grad():
        align.settle(model, {}, {1: [x * 2 + 1]})
    for domain in (0, 1):
        with align.scope(domain):
            torch.testing.assert_close(align.export(model, domain)(x), model(x))


def test_one_sample_alone_has_no_statistics() -> None:
    align, model = attached()
    with pytest.raises(ValueError, match=r"single value a channel .*at least 2 samples a batch \(data\.most"):
        align.settle(model, {}, {1: [torch.randn(1, 4)]})
    align.settle(model, {}, {1: [torch.randn(2, 4)]})
    with pytest.raises(ValueError, match="another"), taking_statistics():
        raise ValueError("another")


def test_what_it_needs() -> None:
    with pytest.raises(ValueError, match="no BatchNorm"):
        AdaBN().attach(nn.Linear(2, 2), Setup(2))
    for method in (AdaBN, CSN):  # in either order, and twice
        for other in (AdaBN, CSN):
            model = network()
            other().attach(model, Setup(6))
            with pytest.raises(ValueError, match=r"already split by domain, by CSN or AdaBN.*so use one of them, once"):
                method().attach(model, Setup(6))
    with pytest.raises(ValueError, match="needs a target domain"):
        run(config("method=adabn", "shift.targets=[]", *QUICK), Path("never"))


def test_it_trains_as_source_only_does_and_scores_the_target_otherwise(tmp_path: Path) -> None:
    # Several steps and epochs: statistics gathered for scoring must not leak into training.
    one = run(config("method=source_only", *QUICK), tmp_path / "a")
    other = run(config("method=adabn", *QUICK), tmp_path / "b")
    a, b = (torch.load(tmp_path / x / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"] for x in "ab")
    weights = [k for k in a if k.endswith("weight") and k in b]
    assert len(weights) > 10
    assert all(torch.equal(a[k], b[k]) for k in weights)
    assert one["domains"]["FR"]["confusion"] == other["domains"]["FR"]["confusion"]
    assert one["domains"]["EE"]["confusion"] != other["domains"]["EE"]["confusion"]
