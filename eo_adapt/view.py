"""One domain of a step as alignments see it."""

from __future__ import annotations

from torch import Tensor

from .align import View
from .encoders.blocks.modalities import of_rows
from .types import Batch, Branch, Output, SidedOutput


def view_of(output: Output, batch: Batch, domain: int) -> View:
    """What the network said of a batch, with the branches where the network gives them."""
    days = next((o.days for o in batch.inputs.values() if o.days is not None), None)
    branches = {}
    if isinstance(output, SidedOutput):
        branches = {name: _branch(name, seen, output, batch, domain, days) for name, seen in output.branches.items()}
    return View(output[0], output[1], batch.inputs, domain, batch.labels, batch.lonlat, days, branches)


def _branch(name: str, seen: Branch, output: Output, batch: Batch, domain: int, days: Tensor | None) -> View:
    """The samples that have a sensor, with its own days."""
    rows = seen.present.nonzero()[:, 0]
    own = batch.inputs[name].days
    days = own if own is not None else days
    return View(
        seen.maps[-1][rows],
        output.logits[rows],
        of_rows(batch.inputs, rows),
        domain,
        None if batch.labels is None else batch.labels[rows],
        batch.lonlat[rows],
        None if days is None else days[rows],
    )
