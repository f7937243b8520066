"""The task loss against torch's mean, and where that is NaN."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from eo_adapt.loss import CrossEntropy
from eo_adapt.types import IGNORE


@pytest.mark.parametrize("shape", [(5,), (2, 4, 3)])
def test_the_mean_over_known_labels(shape: tuple[int, ...]) -> None:
    logits = torch.randn(shape[0], 3, *shape[1:])
    labels = torch.randint(3, shape)
    labels.view(-1)[::2] = IGNORE
    torch.testing.assert_close(CrossEntropy()(logits, labels), F.cross_entropy(logits, labels, ignore_index=IGNORE))


def test_nothing_known_is_no_loss_and_no_gradient() -> None:
    logits, labels = torch.randn(2, 3, 4, 4, requires_grad=True), torch.full((2, 4, 4), IGNORE)
    assert F.cross_entropy(logits, labels, ignore_index=IGNORE).isnan()
    loss = CrossEntropy()(logits, labels)
    loss.backward()
    assert loss == 0
    assert not logits.grad.any()
