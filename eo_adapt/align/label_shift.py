"""Label shift: estimate the class shares of each target, and train or predict for them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn

from .base import Alignment, Labelled, Setup, Step, Views
from .entropy import logit_rows
from .finite import check_finite
from .options import check_choice, check_number
from .scope import looked_at, looking_at
from .shares import bbse, em, reweighted, sampling_noise, temperature

Estimator = Literal["bbse", "em", "known"]
How = Literal["adjust", "reweight", "both"]
ESTIMATORS, HOWS = ("bbse", "em", "known"), ("adjust", "reweight", "both")
Priors = Sequence[float] | Mapping[str, float]


class LabelShift(Alignment):
    """Corrects for class shares that differ between source and target while each class looks the same.

    Before a checkpoint is scored, the class shares of each target are estimated from source-validation samples and
    unlabelled target samples. An estimate within sampling noise is drawn back to the source's shares: no shift, no
    change. Sources are predicted as they are.

    Source: Lipton et al. 2018 (BBSE, arXiv:1802.03916), Saerens et al. 2002 (EM, Neural Computation 14), Alexandari et
    al. 2020 (arXiv:1901.06852) for calibration.

    Args:
        weight: Factor of the reweighting term.
        estimator: ``bbse`` from the confusion matrix, ``em`` from calibrated probabilities, ``known`` for ``priors``.
        how: ``adjust`` adds log(target share / source share) to the target's logits at prediction; ``reweight`` weighs
            the task loss by target share / source share, from the second epoch on; ``both`` reweights, and adjusts by
            what is left.
        priors: For ``known``: a share for each class, in the order of the classes or by name or number; any unit, they
            are divided by their sum. Shares of samples, not of area.
        guard: How many times the squared sampling noise a squared shift must exceed to count; 0 trusts every estimate.
        max_ratio: Target share / source share is kept in [1 / max_ratio, max_ratio].
        calibrate: Fit a temperature on source-validation first; ``em`` and the size of the adjustment depend on it.
        max_rows: At most this many rows a batch (maps have many), evenly spaced.
    """

    settles = True
    _offsets: Tensor
    _weights: Tensor
    _shares: Tensor
    _ends: Tensor

    def __init__(
        self,
        weight: float = 1.0,
        estimator: Estimator = "bbse",
        how: How = "adjust",
        priors: Priors | None = None,
        guard: float = 4.0,
        max_ratio: float = 10.0,
        calibrate: bool = True,
        max_rows: int = 4096,
    ) -> None:
        super().__init__(weight)
        check_choice("label_shift.estimator", estimator, ESTIMATORS)
        check_choice("label_shift.how", how, HOWS)
        if (estimator == "known") != (priors is not None):
            raise ValueError(
                f"label_shift.priors goes with estimator=known; got estimator={estimator}, priors={priors}"
            )
        check_number("label_shift.guard", guard, least=0)
        check_number("label_shift.max_ratio", max_ratio, least=1)
        check_number("label_shift.max_rows", max_rows, least=1, whole=True)
        self.estimator, self.how, self.priors = estimator, how, priors
        self.guard, self.max_ratio, self.calibrate, self.max_rows = guard, max_ratio, calibrate, max_rows
        self._known: Tensor | None = None

    def attach(self, model: nn.Module, setup: Setup) -> None:
        super().attach(model, setup)
        if setup.classes < 2:
            raise ValueError(f"LabelShift counts classes; Setup.classes must be at least 2, got {setup.classes}")
        if self.priors is not None:
            self._known = resolve(self.priors, setup.classes, setup.names)
        like = next(model.parameters(), torch.zeros(0))
        self.register_buffer("_offsets", torch.zeros(setup.domains, setup.classes, device=like.device))
        self.register_buffer("_weights", torch.ones(setup.classes, device=like.device))
        self.register_buffer("_shares", torch.zeros(setup.domains, setup.classes, device=like.device))
        self.register_buffer("_ends", torch.zeros((), dtype=torch.bool))  # logits leave the network's last layer

    @property
    def has_terms(self) -> bool:
        return self.how != "adjust"

    def scope(self, domain: int) -> AbstractContextManager[None]:
        self.check_domain(domain)
        return looking_at(domain)

    def shares(self, domain: int) -> Tensor:
        """Class shares (K,) of a target as last estimated; 0 before that, and of sources."""
        self.check_domain(domain)
        return self._shares[domain].clone()

    def loss(self, sources: Views, targets: Views, step: Step) -> dict[str, Tensor]:
        if self.how == "adjust":
            return {}
        return {"reweighted": reweighted(sources, self._weights, step.criterion)}

    @torch.no_grad()
    def settle(
        self, model: nn.Module, sources: Mapping[int, Iterable[Labelled]], targets: Mapping[int, Iterable[Any]]
    ) -> None:
        if not targets:
            raise ValueError("LabelShift.settle was given no target; give {number of the target: its batches}")
        for domain in targets:
            self.check_domain(domain, target=True)
        with _listening(model, self._ends):
            logits, labels, count = self._labelled(model, sources)
        scale = temperature(logits, labels) if self.calibrate else 1.0
        classes = len(self._weights)
        source = torch.bincount(labels, minlength=classes).double() / len(labels)
        ratios, offsets = {}, {}
        for domain, batches in targets.items():
            if self._known is not None:
                found = self._known.to(source)
            else:
                found = self._estimate(logits / scale, labels, count, *self._unlabelled(model, domain, batches, scale))
            there = source > 0
            ratio = torch.where(there, found / source, 1.0).clamp(1 / self.max_ratio, self.max_ratio)
            ratios[domain] = torch.where(there, ratio / (ratio * source).sum(), 1.0)
            # A constant added to all logits changes nothing: this ratio need not be scaled.
            offsets[domain] = (scale * ratio.log() - self._trained()).float()
        for domain, ratio in ratios.items():  # nothing is written before every target has gone well
            self._shares[domain] = (ratio * source).float()
            if self.how != "reweight":
                self._offsets[domain] = offsets[domain]
        if self.how != "adjust":
            self._weights.copy_(torch.stack(list(ratios.values())).mean(0))

    def _trained(self) -> Tensor:
        """(K,) what the weights of training have added to the logits by now."""
        return self._weights.double().log()

    def _estimate(self, logits: Tensor, labels: Tensor, sources: int, target: Tensor, targets: int) -> Tensor:
        """Target shares (K,) from calibrated logits of source-validation and target, drawn back to the source's."""
        classes = logits.shape[1]
        counts = torch.bincount(labels, minlength=classes).double()
        source, there = counts / counts.sum(), counts > 0
        joint = torch.zeros(classes, classes, dtype=torch.float64, device=logits.device)
        joint.index_put_((logits.argmax(1), labels), torch.ones_like(logits[:, 0]), accumulate=True)
        recall = ((joint + 1 / classes) / (counts + 1))[:, there]  # one more sample a class, spread over all
        predicted = torch.bincount(target.argmax(1), minlength=classes).double() / len(target)
        found = torch.zeros_like(source)
        if self.estimator == "bbse":
            found[there] = bbse(recall, predicted, source[there])
        else:
            mean = logits[:, there].softmax(1).mean(0)
            ratio = em(target[:, there].softmax(1), mean) / mean
            found[there] = ratio * source[there] / (ratio * source[there]).sum()
        noise = sampling_noise(recall, joint.sum(1) / joint.sum(), sources, targets)
        moved = float((found - source).square().sum())
        return source + (found - source) * max(0.0, 1 - self.guard * noise / max(moved, 1e-12))

    def _rows(self, logits: Tensor) -> Tensor:
        """(B, K, *S) -> (N, K) float64 as the network would say without weights in training."""
        plain = logit_rows(logits).double()
        return plain if self.how == "adjust" else plain - self._trained()

    def _labelled(self, model: nn.Module, sources: Mapping[int, Iterable[Labelled]]) -> tuple[Tensor, Tensor, int]:
        """Logits (N, K), labels (N,) and number of samples of all sources."""
        logits, labels, count = [], [], 0
        for domain, batches in sources.items():
            for inputs, truth in batches:
                rows, flat = self._rows(model(inputs)[1]), truth.flatten()
                thin = slice(None, None, -(-len(rows) // self.max_rows))
                known = flat[thin] >= 0
                logits.append(rows[thin][known])
                check_finite("LabelShift", "logits", [(f"domain {domain}", logits[-1])])
                labels.append(flat[thin][known])
                count += len(truth)
        if not sum(map(len, labels)):
            raise ValueError(
                "LabelShift needs labelled source-validation samples; there are none (command line: data.split)"
            )
        return torch.cat(logits), torch.cat(labels), count

    def _unlabelled(self, model: nn.Module, domain: int, batches: Iterable[Any], scale: float) -> tuple[Tensor, int]:
        """Calibrated logits (N, K) and number of samples of one target."""
        logits, count = [], 0
        for inputs in batches:
            out = model(inputs)[1]
            rows = self._rows(out)
            logits.append(rows[:: -(-len(rows) // self.max_rows)] / scale)
            check_finite("LabelShift", "logits", [(f"domain {domain}", logits[-1])])
            count += len(out)
        if not count:
            raise ValueError("LabelShift needs unlabelled target samples; there are none (command line: data.split)")
        return torch.cat(logits), count

    def adjust(self, logits: Tensor) -> Tensor:
        domain = looked_at("LabelShift")
        self.check_domain(domain)
        offset = self._offsets[domain]
        return logits + offset.to(logits.dtype).view(-1, *[1] * (logits.ndim - 2))

    @torch.no_grad()
    def export(self, model: nn.Module, domain: int) -> nn.Module:
        plain = super().export(model, domain)
        offset = self._offsets[domain]
        if not offset.any():
            return plain
        if self._ends:
            last = _last(plain)
            assert last is not None  # noqa: S101  (seen in settle)
            cast(Tensor, last.bias).add_(offset)
            return plain
        return Shifted(plain, offset)


class Shifted(nn.Module):
    """A network (inputs -> features, logits) with a constant added to each class's logits."""

    offset: Tensor

    def __init__(self, network: nn.Module, offset: Tensor) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("offset", offset.clone())

    def forward(self, *inputs: Any) -> Any:
        """What the network returns, logits shifted."""
        out = self.network(*inputs)
        logits = out[1] + self.offset.to(out[1].dtype).view(-1, *[1] * (out[1].ndim - 2))
        return out._replace(**{out._fields[1]: logits}) if hasattr(out, "_replace") else (out[0], logits)


def resolve(priors: Priors, classes: int, names: Sequence[str]) -> Tensor:
    """Shares of all classes, (K,) float64 of sum 1.

    Args:
        priors: A share for each class in order, or by name or number; any unit.
        classes: K.
        names: Class names; () where classes only have numbers.

    Raises:
        ValueError: If a class is missing or unknown, or a share is impossible.
    """
    if isinstance(priors, Mapping):
        numbers = {str(number): number for number in range(classes)} | {name: i for i, name in enumerate(names)}
        if unknown := [key for key in priors if str(key) not in numbers]:
            raise ValueError(
                f"label_shift.priors names {unknown}; the classes are {list(names) or list(range(classes))}"
            )
        given = {numbers[str(key)]: float(share) for key, share in priors.items()}
    else:
        given = dict(enumerate(map(float, priors)))
    if set(given) != set(range(classes)) or len(given) != len(priors):
        raise ValueError(
            f"label_shift.priors needs one share for each of the {classes} classes {list(names)}; got {priors}"
        )
    shares = torch.tensor([given[number] for number in range(classes)], dtype=torch.float64)
    if not (shares.isfinite().all() and (shares >= 0).all() and shares.sum() > 0):
        raise ValueError(f"label_shift.priors must be finite numbers >= 0, not all 0; got {priors}")
    return shares / shares.sum()


def _last(model: nn.Module) -> nn.Linear | nn.Conv2d | None:
    """The layer that was registered last, if its bias could take an offset."""
    last = list(model.modules())[-1]
    linear = isinstance(last, nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d) and last.bias is not None
    return cast(nn.Linear, last) if linear else None


@contextmanager
def _listening(model: nn.Module, ends: Tensor) -> Iterator[None]:
    """Inside, ``ends`` learns whether the logits are the very output of the last layer."""
    heard: list[Any] = []

    def compare(model: nn.Module, given: Any, out: Any) -> None:
        ends.fill_(bool(heard) and out[1] is heard[-1])
        heard.clear()

    hooks = [model.register_forward_hook(compare)]
    if (last := _last(model)) is not None:
        hooks.append(last.register_forward_hook(lambda layer, given, out: heard.append(out)))
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
