"""GRU: valid dates in order of time, and nothing else."""

import torch
from torch import nn

from eo_adapt.encoders.blocks.gru import GRU
from eo_adapt.types import Observation


def test_against_a_loop_over_samples() -> None:
    block = GRU(in_channels=6, out=5, layers=2).eval()
    x, days = torch.randn(3, 4, 6), torch.tensor([[30.0, -5.0, 12.5, 400.0]]).expand(3, 4)
    valid = torch.tensor([[True, True, False, True], [True, True, True, True], [False] * 4])
    look = Observation(x, days, valid)
    got, code = block(x, look), block.code(look)
    for b in range(2):
        order = [t for t in (1, 2, 0, 3) if valid[b, t]]
        torch.testing.assert_close(got[b], block.gru((x + code)[b, order][None])[0][0, -1], atol=1e-6, rtol=1e-5)
    assert (got[2] == 0).all()


def test_heat_orders_the_dates_of_a_heat_encoder() -> None:
    block = GRU(in_channels=6, out=5, position="gdd").eval()
    x, days, heat = torch.randn(1, 3, 6), torch.zeros(1, 3), torch.tensor([[0.0, 50.0, 90.0]])
    back = torch.tensor([2, 0, 1])
    one = block(x, Observation(x, days, gdd=heat))
    torch.testing.assert_close(one, block(x[:, back], Observation(x, days, gdd=heat[:, back])))
    assert isinstance(block.gru, nn.GRU)
