"""A trained network, adapted to what is about to be predicted, without labels: learnt first, then the same for all."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..align.adabn import AdaBN
from ..align.label_shift import LabelShift
from ..align.shares import bbse, sampling_noise
from ..align.tent import Tent
from ..align.view import Setup
from ..trained import Trained, load_run
from ..types import Inputs
from .answer import Network

HOWS = ("none", "tent", "adabn", "label_shift")
Batches = Callable[[], Iterable[Inputs]]  # called once or more; the same batches each time


def learn(
    run: str, checkpoint: str, number: int, how: str, batches: Batches, samples: int, path: Path, device: torch.device
) -> None:
    """Learn from unlabelled inputs and keep what was learnt in a file.

    ``tent`` lowers the entropy of predictions over gains and shifts of batch norm; ``adabn`` measures the statistics of
    batch norm anew; ``label_shift`` estimates class shares (BBSE, from the confusion matrix of the run's report) and
    adds log(share here / share of the source) to the logits. Nothing is random: the same inputs teach the same.

    Args:
        run: The run directory.
        checkpoint: ``best`` or ``last``.
        number: Of the domain.
        how: Which of the three.
        batches: Inputs to learn from, on ``device``.
        samples: Independent samples among them: windows or parcels.
        path: Where to.
        device: Where to compute.

    Raises:
        ValueError: If this run does not allow it; says why.
    """
    if how not in HOWS[1:]:
        raise ValueError(f"adapt is one of {list(HOWS)}; got {how!r}")
    trained = load_run(run, checkpoint).to(device)
    learns = trained.alignment.learns_at_test
    if learns and how != "tent":
        raise ValueError(
            f"{type(trained.alignment).__name__} learns while it predicts: adapt=tent is what it does; adapt={how} "
            "would undo it. Take another run, or adapt=tent"
        )
    if how == "label_shift":
        state: dict[str, Any] = {"offset": _offsets(trained, Path(run), checkpoint, number, batches, samples)}
    elif learns:
        for inputs in batches():
            trained.logits(inputs, number)
        state = {"weights": trained.alignment.export(trained.model, number).state_dict()}
    else:
        try:
            state = {"weights": _adapted(trained, number, how, batches).state_dict()}
        except ValueError as error:
            raise ValueError(f"adapt={how} cannot be used with the run {run}: {error}") from error
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    torch.save(state, temporary)
    os.replace(temporary, path)


def _adapted(trained: Trained, number: int, how: str, batches: Batches) -> nn.Module:
    """The network of one domain, which a method of test time now takes for that of a source."""
    network = trained.network(number)
    method: Tent | AdaBN = Tent() if how == "tent" else AdaBN()
    setup = Setup(trained.model.width, 1, 1, len(trained.legend), tuple(trained.legend.names))
    method.attach(network, setup)
    network.eval()
    method.eval()
    if isinstance(method, AdaBN):
        method.settle(network, {}, {1: batches()})
    else:
        for inputs in batches():
            with method.scope(1):
                method.predict(network, inputs)
    return method.export(network, 1)


def _offsets(trained: Trained, run: Path, checkpoint: str, number: int, batches: Batches, samples: int) -> Tensor:
    """(K,) what is added to the logits; see :class:`..align.label_shift.LabelShift`."""
    joint, sources = _confusion(trained, run, checkpoint)
    if any(isinstance(part, LabelShift) for part in trained.alignment.modules()):
        raise ValueError(
            "the run's method is label_shift, which knows class shares of its targets already; adapt=label_shift would "
            "count the shift twice. Take another run, or adapt=none"
        )
    classes, counts = len(joint), joint.sum(0)
    source, there = counts / counts.sum(), counts > 0
    recall = ((joint + 1 / classes) / (counts + 1))[:, there]
    predicted = torch.zeros(classes, dtype=torch.float64)
    for inputs in batches():
        said = trained.logits(inputs, number).argmax(1)
        predicted += torch.bincount(said.flatten(), minlength=classes).double().cpu()
    found = torch.zeros_like(source)
    found[there] = bbse(recall, predicted / predicted.sum(), source[there])
    noise = sampling_noise(recall, joint.sum(1) / joint.sum(), sources, samples)
    defaults = LabelShift()
    moved = float((found - source).square().sum())
    found = source + (found - source) * max(0.0, 1 - defaults.guard * noise / max(moved, 1e-12))
    ratio = torch.where(there, found / source, 1.0).clamp(1 / defaults.max_ratio, defaults.max_ratio)
    return (trained.temperature * ratio.log()).float()


def _confusion(trained: Trained, run: Path, checkpoint: str) -> tuple[Tensor, int]:
    """Confusion of the labelled domains, (K predicted, K true) float64, and the number of samples that it is from."""
    path = run / "report.json"
    report = json.loads(path.read_text()) if path.is_file() else {}
    domains = [report.get("domains", {}).get(name) for name in trained.card["labelled"]]
    if report.get("checkpoint") != checkpoint or not all(domains):
        raise ValueError(
            f"adapt=label_shift needs the confusion of the labelled domains, which {path} does not give for checkpoint="
            f"{checkpoint}: run python -m eo_adapt.evaluate run={run} checkpoint={checkpoint} first"
        )
    names = list(trained.legend.names)
    total = torch.zeros(len(names), len(names), dtype=torch.float64)
    samples = 0
    for domain in domains:
        at = [domain["confusion"]["classes"].index(name) for name in names]
        total += torch.tensor(domain["confusion"]["matrix"], dtype=torch.float64)[at][:, at].T
        samples += domain.get("patches", {}).get("test") or domain["n"]
    if not total.sum():
        raise ValueError(f"{path} holds no labelled sample: adapt=label_shift has no class shares to start from")
    return total, samples


def adapted_network(run: str, checkpoint: str, number: int, path: Path, device: torch.device) -> Network:
    """The network with what :func:`learn` has kept."""
    from .mapper import plain

    trained = load_run(run, checkpoint)
    state = torch.load(path, map_location="cpu", weights_only=True)
    if "offset" in state:
        trained.to(device)
        offset = state["offset"].to(device)

        def said(inputs: Inputs) -> Tensor:
            logits = trained.logits(inputs, number)
            return logits + offset.view(-1, *[1] * (logits.ndim - 2))

        return said
    network = trained.alignment.export(trained.model, number)
    network.load_state_dict(state["weights"])
    return plain(network, device)
