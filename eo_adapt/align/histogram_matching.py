"""Histogram matching: give the bands of the sources the value distributions of the target."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal

import torch
from torch import Tensor

from .base import Alignment, Step
from .looks import Look, inputs_of, looks, put, with_inputs
from .options import check_choice

Reference = Literal["pooled", "random"]
REFERENCES = ("pooled", "random")


def match(source: Tensor, reference: Tensor) -> Tensor:
    """Each source value becomes the reference value of the same rank: x <- Q_reference(F_source(x)).

    Equal values have their mean rank and stay equal; between two reference values the map is linear.

    Args:
        source: (N,) finite.
        reference: (M,) finite; M need not equal N.

    Returns:
        (N,). The source itself if ``reference`` holds the same values, or none.
    """
    n, m = len(source), len(reference)
    if not (n and m):
        return source
    source = source.contiguous()
    own, ordered = source.sort().values, reference.sort().values.double()
    twice = torch.searchsorted(own, source) + torch.searchsorted(own, source, right=True) - 1  # the mean rank, doubled
    place = twice.double() * (m - 1) / (2 * (n - 1)) if n > 1 else torch.full_like(source, (m - 1) / 2).double()
    low = place.floor().long()
    high = (low + 1).clamp_max(m - 1)
    return torch.lerp(ordered[low], ordered[high], place - low).to(source.dtype)


class HistogramMatching(Alignment):
    """Maps each band of the source inputs to the values of the targets of the same step, by quantiles.

    Source inputs are changed before the network sees them; labels, targets and predictions are not. Any rank: values of
    all samples, dates, pixels and cells that are there form one distribution a band. What is masked or not finite
    stays as it is and has no say.

    Source: histogram specification of image processing textbooks, here with exact quantiles instead of grey levels.

    Args:
        reference: ``pooled``: the samples of a batch together, against those of all targets together. ``random``: each
            sample by itself, against a random sample of a random target.
        leave: Names of inputs that are left as they are.

    Raises:
        ValueError: If ``reference`` is misspelt.
    """

    needs_target = True

    def __init__(self, reference: Reference = "pooled", leave: Sequence[str] = ("attributes",)) -> None:
        super().__init__()
        check_choice("histogram_matching.reference", reference, REFERENCES)
        self.reference, self.leave = reference, frozenset(leave)

    @torch.no_grad()
    def edit(self, sources: tuple[Any, ...], targets: tuple[Any, ...], step: Step) -> tuple[Any, Any]:
        others = [looks(inputs_of(batch)) for batch in targets]
        return tuple(self._batch(batch, others) for batch in sources), targets

    def _batch(self, batch: Any, others: Sequence[dict[str, Look]]) -> Any:
        inputs, new = inputs_of(batch), {}
        for name, look in looks(inputs).items():
            targets = [other[name] for other in others if name in other and name not in self.leave]
            if targets:
                new[name] = replace(look, values=self._matched(name, look, targets))
        return with_inputs(batch, put(inputs, new))

    def _matched(self, name: str, look: Look, targets: Sequence[Look]) -> Tensor:
        bands = {x.values.shape[x.bands] for x in (look, *targets)}
        if len(bands) > 1:
            raise ValueError(
                f"histogram_matching maps band by band; input {name!r} has {sorted(bands)} bands in different domains: "
                "choose the same bands (command line: data.bands)"
            )
        if self.reference == "pooled":
            return matched(look, targets)
        drawn = [targets[int(torch.randint(len(targets), ()))] for _ in look.values]
        others = [target.take(torch.randint(len(target.values), (1,))) for target in drawn]
        return torch.cat([matched(look.take(torch.tensor([i])), [other]) for i, other in enumerate(others)])


def matched(look: Look, targets: Sequence[Look]) -> Tensor:
    """Values of a look, each band matched to that band of the targets together."""
    values, seen = look.values.clone(), look.seen()
    theirs = [(y.values, y.seen()) for y in targets]
    for band in range(values.shape[look.bands]):
        x, there = values.select(look.bands, band), seen.select(look.bands, band)
        parts = [y.select(t.bands, band)[s.select(t.bands, band)] for t, (y, s) in zip(targets, theirs, strict=True)]
        x[there] = match(x[there], torch.cat(parts))
    return values
