"""AdvEnt: target entropy maps that a critic takes for those of a source."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from .adda import invert, tell_apart
from .base import Alignment, Setup, Step, Views
from .critic import Critic
from .options import check_number


def information(logits: Tensor) -> Tensor:
    """Weighted self-information of each class, -p log2 p / log2 K; its sum over classes is the entropy in [0, 1].

    Args:
        logits: (B, K, *S), K >= 2.

    Returns:
        (B, K, *S) float32.

    Source: Vu et al. 2019 (arXiv:1811.12833), section 3.2.
    """
    logp = logits.float().log_softmax(1)
    return -(logp.exp() * logp) / math.log(logits.shape[1])


def patch_net(classes: int, hidden: int, halvings: int) -> nn.Sequential:
    """(B, classes, H, W) -> (B, 1, H', W'): ``halvings`` convolutions of stride 2, then one number a place.

    Kernels of 3 with a border of 1 take maps of any size, one pixel too. None of stride 2 leaves a critic of pixels.
    """
    layers: list[nn.Module] = []
    width = classes
    for i in range(halvings):
        wide = hidden * 2 ** min(i, 3)
        layers += [nn.Conv2d(width, wide, 3, 2, 1), nn.LeakyReLU(0.2)]
        width = wide
    if not halvings:
        layers, width = [nn.Conv2d(width, hidden, 1), nn.LeakyReLU(0.2)], hidden
    return nn.Sequential(*layers, nn.Conv2d(width, 1, 1))


class MapCritic(Critic):
    """A convolutional critic of maps that learns by itself, as :class:`.critic.Critic` does.

    Args:
        classes: Channels of the maps.
        model: Network beside which the critic lives.
        hidden: Channels of the first layer; each further one has twice as many, up to eight times.
        halvings: See :func:`patch_net`.
        lr: Adam's learning rate.
    """

    def __init__(self, classes: int, model: nn.Module, hidden: int, halvings: int, lr: float) -> None:
        super().__init__(Setup(classes), model, hidden, 1, lr)
        self.net = patch_net(classes, hidden, halvings).to(self.mean.device).requires_grad_(False)
        flat = nn.utils.parameters_to_vector(self.net.parameters())
        self.mean, self.square = torch.zeros_like(flat), torch.zeros_like(flat)


class AdvEnt(Alignment):
    """Target predictions as sure, and as sure in the same places, as those on the sources.

    A critic tells entropy maps of the sources from those of the target. The term is its cross-entropy on the target
    under the wrong label, so only target predictions are moved. A parcel is a map of one pixel.

    Source: Vu et al. 2019 (AdvEnt, arXiv:1811.12833); its other method, MinEnt, is ``method=entropy``. Deviations: in
    docs/methods/advent.md.

    Args:
        weight: Factor of the term.
        halvings: Convolutions of stride 2 in the critic; 0 judges each pixel by itself.
        hidden: Channels of its first layer.
        steps: Adam steps of the critic after each step of the optimiser.
        lr: Learning rate of the critic.

    Raises:
        ValueError: If an option is out of its range.
    """

    needs_target = True

    def __init__(
        self, weight: float = 0.01, halvings: int = 3, hidden: int = 64, steps: int = 1, lr: float = 1e-3
    ) -> None:
        super().__init__(weight)
        check_number("advent.halvings", halvings, least=0, most=6, whole=True)
        check_number("advent.hidden", hidden, least=1, whole=True)
        check_number("advent.steps", steps, least=1, whole=True)
        check_number("advent.lr", lr, above=0)
        self.halvings, self.hidden, self.steps, self.lr = halvings, hidden, steps, lr
        self._monitors: dict[str, Tensor] = {}

    def attach(self, model: nn.Module, setup: Setup) -> None:
        super().attach(model, setup)
        if setup.classes < 2:
            raise ValueError(
                f"AdvEnt judges class probabilities; Setup.classes must be at least 2, got {setup.classes}"
            )
        self.critic = MapCritic(setup.classes, model, self.hidden, self.halvings, self.lr)

    def loss(self, sources: Views, targets: Views, step: Step) -> dict[str, Tensor]:
        real, fake = ([_map(information(view.logits)) for view in side] for side in (sources, targets))
        self.critic.collect(real, fake)
        judged = [self.critic(x) for x in fake]
        self._watch([self.critic(x.detach()) for x in real], judged)
        return {"advent": torch.stack([invert(x) for x in judged]).mean()}

    @torch.no_grad()
    def _watch(self, real: list[Tensor], fake: list[Tensor]) -> None:
        right = [x.gt(0).float().mean() for x in real], [x.le(0).float().mean() for x in fake]
        self._monitors = {"critic_accuracy": torch.stack([torch.stack(side).mean() for side in right]).mean()}

    def monitors(self) -> dict[str, Tensor]:
        """Share of places that the critic puts on the right side, mean over both sides; 0.5 is chance."""
        return self._monitors

    def after_step(self, model: nn.Module) -> None:
        self.critic.learn(tell_apart, self.steps)


def _map(x: Tensor) -> Tensor:
    """Of parcels (B, K): maps of one pixel (B, K, 1, 1)."""
    return x if x.ndim == 4 else x[..., None, None]
