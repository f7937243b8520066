"""CDAN: a domain classifier that looks at features together with what the network predicts from them."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .base import Setup, View
from .dann import DANN
from .gather import on_features
from .options import check_number


def probabilities(view: View) -> Tensor:
    """Class probabilities of each feature row, (N, K) float32.

    Where logits and features differ in size, a feature cell gets the mean probability of the pixels that it covers.
    """
    log_p = view.logits.float().log_softmax(1)
    return on_features(log_p.exp(), view.features)


def outer(f: Tensor, p: Tensor) -> Tensor:
    """Rows (N, D) and (N, K) -> (N, K * D): K blocks, the k-th is p_k f."""
    return (p[:, :, None] * f[:, None]).flatten(1)


def random_outer(f: Tensor, p: Tensor, of_f: Tensor, of_p: Tensor) -> Tensor:
    """Rows (N, R) whose inner products are on average those of :func:`outer`, with a variance that falls as 1 / R.

    Args:
        f: (N, D).
        p: (N, K).
        of_f: (D, R), random with mean 0 and variance 1.
        of_p: (K, R), as ``of_f`` and independent of it.

    Source: Long et al. 2018 (arXiv:1705.10667), eq. 6-7.
    """
    return (f @ of_f) * (p @ of_p) / math.sqrt(of_f.shape[1])


def certainty(p: Tensor) -> Tensor:
    """Weights 1 + exp(-entropy) of rows p (N, K), divided by their mean; detached (N,). In nats.

    Source: Long et al. 2018 (arXiv:1705.10667), eq. 8.
    """
    w = 1 + torch.exp(-torch.special.entr(p.detach()).sum(1))
    normed: Tensor = w / w.mean()
    return normed


class CDAN(DANN):
    """DANN whose critic sees features multiplied by class probabilities, and listens to certain rows more.

    So it compares the domains class by class: f ⊗ p, or a random projection of it where that is too wide.

    Args:
        weight: Factor of the whole term: the critic's gradient and the encoder's.
        strength: Factor of the reversed gradient alone, at the end of the ramp: the encoder's, not the critic's.
        gamma: Steepness of the ramp of ``strength`` over training progress; 0 leaves the encoder alone.
        hidden: Width of the critic's hidden layer.
        entropy: Weigh rows by :func:`certainty` (CDAN+E), within each domain.
        detach: Whether the probabilities get no gradient from the term.
        max_width: Widest f ⊗ p (features times classes) that is written out.
        random_width: Width of the random projection beyond that.

    Source: Long et al. 2018 (arXiv:1705.10667).
    """

    of_features: Tensor
    of_classes: Tensor

    def __init__(
        self,
        weight: float = 1.0,
        strength: float = 1.0,
        gamma: float = 10.0,
        hidden: int = 256,
        entropy: bool = True,
        detach: bool = True,
        max_width: int = 4096,
        random_width: int = 1024,
    ) -> None:
        super().__init__(weight, strength, gamma, hidden)
        check_number("cdan.max_width", max_width, least=0, whole=True)
        check_number("cdan.random_width", random_width, least=1, whole=True)
        self.entropy, self.detach, self.max_width, self.random_width = entropy, detach, max_width, random_width

    def attach(self, model: nn.Module, setup: Setup) -> None:
        if setup.classes < 2:
            raise ValueError(f"CDAN needs the number of classes, at least 2; got Setup(classes={setup.classes})")
        self.random = setup.width * setup.classes > self.max_width
        super().attach(model, setup)
        if self.random:
            like = next(self.critic.parameters())
            for name, width in (("of_features", setup.width), ("of_classes", setup.classes)):
                self.register_buffer(name, torch.randn(width, self.random_width).to(like.device))

    def width_judged(self, setup: Setup) -> int:
        return self.random_width if self.random else setup.width * setup.classes

    def _probabilities(self, view: View) -> Tensor:
        p = probabilities(view)
        return p.detach() if self.detach else p

    def judged(self, view: View) -> Tensor:
        f, p = view.rows(), self._probabilities(view)
        return random_outer(f, p, self.of_features, self.of_classes) if self.random else outer(f, p)

    def verdict(self, logits: Tensor, view: View) -> Tensor:
        if not self.entropy:
            return super().verdict(logits, view)
        truth = torch.full((len(logits),), view.domain, device=logits.device)
        return (certainty(probabilities(view)) * F.cross_entropy(logits, truth, reduction="none")).mean()
