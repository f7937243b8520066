"""A trained run without its data: what prediction and export start from."""

from __future__ import annotations

import contextlib
import copy
import hashlib
import json
import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from .align import Alignment, Setup
from .align.branches import align_at
from .assemble import where_aligned
from .data.legend import Legend
from .heads.base import PanopticHead
from .model import Model, Normalise
from .registry import instantiate
from .types import Inputs


@dataclass
class Trained:
    """A network, the method that trained it, and what its checkpoint says of the data.

    Attributes:
        model: The network, in eval mode.
        alignment: The method, attached and in eval mode.
        card: Bands, units, legend, config, and how each sensor's numbers are to be read; plain types only.
        domains: Names, labelled ones first; a domain's number is its position.
        temperature: What logits are divided by before the softmax; 1 = never calibrated.
        digest: sha256 of the checkpoint file.
    """

    model: Model
    alignment: Alignment
    card: dict[str, Any]
    domains: tuple[str, ...]
    temperature: float
    digest: str

    @property
    def legend(self) -> Legend:
        """The classes, in the order of the logits."""
        return Legend.from_dict(self.card["legend"])

    @property
    def bands(self) -> dict[str, list[str]]:
        """Sensor -> names of the bands that the network was trained on, in order."""
        return dict(self.card["bands"])

    @property
    def maps(self) -> bool:
        """Whether it labels pixels; else parcels."""
        return bool(self.card["maps"])

    def number(self, domain: str | None = None) -> int:
        """Number of a domain; without a name that of the only target, or of the only domain there is.

        Raises:
            LookupError: If there is no such domain, or several to choose from.
        """
        if domain is not None:
            if domain not in self.domains:
                raise LookupError(f"the run knows no domain {domain!r}; it has {list(self.domains)}")
            return self.domains.index(domain)
        targets = self.card["unlabelled"] or self.card["labelled"]
        if len(targets) > 1:
            raise LookupError(f"the run has the domains {list(self.domains)}: say whose network with domain=<name>")
        return self.domains.index(targets[0])

    def logits(self, inputs: Inputs, domain: int) -> Tensor:
        """What the method predicts for one batch of a domain, (B, K) or (B, K, H, W), uncalibrated."""
        grad = contextlib.nullcontext() if self.alignment.learns_at_test else torch.no_grad()
        with grad, self.alignment.scope(domain):
            return self.alignment.predict(self.model, inputs).detach()

    def network(self, domain: int) -> nn.Module:
        """A plain network for one domain: norms folded, helper parts gone; inputs -> Output.

        Raises:
            ValueError: If the method still learns while it predicts, which no plain network can.
        """
        if self.alignment.learns_at_test:
            raise ValueError(
                f"{type(self.alignment).__name__} learns while it predicts; a plain network cannot. Predict with "
                "python -m eo_adapt.predict, or train with another method"
            )
        return self.alignment.export(self.model, domain).eval()

    def to(self, device: torch.device | str) -> Trained:
        """The same, moved there."""
        self.model.to(device)
        self.alignment.to(device)
        return self


def load_run(run: Path | str, checkpoint: str = "best") -> Trained:
    """A run directory's network, ready to predict; the data that it was trained on need not be there.

    Args:
        run: The run directory.
        checkpoint: ``best`` or ``last``.

    Raises:
        FileNotFoundError: If the folder holds no run, or no such checkpoint.
        ValueError: If the checkpoint says too little of its data.
    """
    folder = Path(run)
    path = folder / "checkpoints" / f"{checkpoint}.ckpt"
    if not path.is_file():
        there = sorted(p.name for p in path.parent.glob("*.ckpt"))
        hint = f"there are {there}" if there else "give the folder that training printed"
        raise FileNotFoundError(f"no checkpoint {path}; {hint}")
    state = _read(path)
    card = state["card"]
    if missing := sorted({"sensors", "imagery", "labelled", "unlabelled", "maps"} - set(card)):
        raise ValueError(f"{path} is of an older version and does not say its {missing}: train again")
    model, alignment = _built(card)
    parts = nn.ModuleDict({"model": model, "alignment": alignment})
    weights = {k: v for k, v in state["state_dict"].items() if k.startswith(("model.", "alignment."))}
    try:
        parts.load_state_dict(weights)
    except RuntimeError as error:
        raise ValueError(f"{path} holds other weights than its card describes (bands, classes?): {error}") from error
    parts.eval()
    report = folder / "report.json"
    facts = json.loads(report.read_text()) if report.is_file() else {}
    scale = facts.get("temperature", 1.0) if facts.get("checkpoint") == checkpoint else 1.0
    if isinstance(model.head, PanopticHead) and facts.get("checkpoint") == checkpoint:
        model.head.min_confidence = facts.get("min_confidence", model.head.min_confidence)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return Trained(model, alignment, card, (*card["labelled"], *card["unlabelled"]), float(scale), digest)


def _read(path: Path) -> dict[str, Any]:
    """A checkpoint's contents; nothing in it is run.

    Raises:
        ValueError: If it holds more than weights and plain types, or no checkpoint at all.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError) as error:
        raise ValueError(
            f"{path} is damaged, or holds more than weights and plain types; it is not opened, for a pickle can run "
            "code. Take checkpoints/ of a run of eo_adapt, or train again"
        ) from error
    if not isinstance(state, dict) or not {"card", "state_dict"} <= set(state):
        raise ValueError(f"{path} is no checkpoint of eo_adapt: it does not say what it was trained on")
    return state


def _built(card: Mapping[str, Any]) -> tuple[Model, Alignment]:
    """Network and method as training built them, weights to be filled in."""
    config, legend = card["config"], Legend.from_dict(card["legend"])
    encoder = instantiate(unpretrained(config["encoder"]), sensors=dict(card["sensors"]))
    head = instantiate(config["head"], encoder=encoder, classes=len(legend))
    where = where_aligned(config)
    model = Model(encoder, head, Normalise(card["statistics"]), give_branches=where != "fused")
    alignment: Alignment = instantiate(config["method"])
    alignment = align_at(alignment, where, model.branches)
    sizes = len(card["labelled"]), len(card["unlabelled"]), len(legend)
    alignment.attach(model, Setup(model.width, *sizes, tuple(legend.names), model.branches))
    return model, alignment


def unpretrained(node: Any) -> Any:
    """The config of an encoder that starts from nothing: a checkpoint brings the weights."""
    if isinstance(node, Mapping):
        return {key: "none" if key == "pretrained" else unpretrained(value) for key, value in node.items()}
    if isinstance(node, list | tuple):
        return [unpretrained(value) for value in node]
    return copy.copy(node)
