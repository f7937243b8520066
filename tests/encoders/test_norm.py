"""The batch norm that survives small batches is otherwise torch's."""

import pytest
import torch
from torch import nn

from eo_adapt.encoders.blocks.norm import SafeBatchNorm1d, dense


@pytest.mark.parametrize("shape", [(6, 3), (2, 3, 4), (1, 3, 4)])
def test_equals_batch_norm(shape: tuple[int, ...]) -> None:
    ours, theirs = SafeBatchNorm1d(3), nn.BatchNorm1d(3)
    x = torch.randn(shape)
    torch.testing.assert_close(ours(x), theirs(x))
    torch.testing.assert_close(ours.running_var, theirs.running_var)


@pytest.mark.parametrize("rows", [0, 1])
def test_too_few_rows_use_and_keep_the_running_statistics(rows: int) -> None:
    norm = SafeBatchNorm1d(3)
    norm(torch.randn(8, 3) + 5)
    before = {name: value.clone() for name, value in norm.state_dict().items()}
    x = torch.randn(rows, 3)
    torch.testing.assert_close(norm(x), norm.eval()(x))
    for name, value in norm.state_dict().items():
        assert torch.equal(value, before[name])


def test_can_be_rebuilt_as_csn_does() -> None:
    norm = SafeBatchNorm1d(3)
    twin = type(norm)(norm.num_features, norm.eps, norm.momentum, affine=False)
    assert isinstance(twin, nn.modules.batchnorm._BatchNorm)
    assert twin(torch.randn(1, 3)).isfinite().all()


def test_dense_of_one_size_is_empty() -> None:
    assert len(dense((4,))) == 0
    assert len(dense((4, 3, 2))) == 6
