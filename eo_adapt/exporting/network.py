"""The network that is exported: one domain, plain tensors in, logits and calibrated probabilities out."""

from __future__ import annotations

import importlib
import re
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..align.label_shift import Shifted
from ..data.legend import Legend
from ..encoders.base import Encoder
from ..heads.modalities import Auxiliary
from ..heads.paps import PaPs
from ..model import Model, Normalise
from ..registry import instantiate
from ..trained import Trained, load_run, unpretrained
from .about import NotExportedError
from .inputs import Layout, layout_of, observations

OUTPUTS = ("logits", "probabilities")
OWN = ("eo_adapt.encoders", "eo_adapt.encoders.blocks", "eo_adapt.heads")


class PlainNetwork(nn.Module):
    """Tensors by name, in physical units, -> logits and probabilities; normalisation is inside.

    Args:
        network: What an alignment's ``export`` returned: inputs -> Output.
        temperature: What logits are divided by before the softmax; the logits that are returned are not divided.
    """

    def __init__(self, network: nn.Module, temperature: float) -> None:
        super().__init__()
        self.network, self.temperature = slim(network), temperature

    def forward(self, tensors: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """``{"s2.values": (B, T, C), ...}`` -> logits and probabilities, (B, K) or (B, K, H, W)."""
        logits: Tensor = self.network(observations(tensors))[1]
        return logits, (logits / self.temperature).softmax(1)

    @property
    def encoder(self) -> Encoder:
        """Of the network."""
        return model_of(self.network).encoder


def model_of(network: nn.Module) -> Model:
    """The model inside of what an alignment exported.

    Raises:
        TypeError: If there is none.
    """
    inner = network.network if isinstance(network, Shifted) else network
    if not isinstance(inner, Model):
        raise TypeError(f"an exported network is a Model, or one with shifted logits; got {type(inner).__name__}")
    return inner


def slim(network: nn.Module) -> nn.Module:
    """The same network without what gives no logits: heads of single modalities, and points of single parcels."""
    model = model_of(network)
    if isinstance(model.head, PaPs):
        model.head = model.head.inner
    if isinstance(model.head, Auxiliary):
        model.head = model.head.fused
    model.give_branches = False
    return network.eval()


def rebuilt(about: Mapping[str, Any], names: set[str]) -> PlainNetwork:
    """The network that a card describes, its weights still to be filled in.

    Args:
        about: The card, see :mod:`.about`.
        names: Names of the tensors that there are.

    Raises:
        NotExportedError: If it names classes that are no encoders or heads of this package.
    """
    check_targets(about["config"])
    config, legend = about["config"], Legend.from_dict(about["legend"])
    encoder = instantiate(unpretrained(config["encoder"]), sensors=dict(about["sensors"]))
    head = instantiate(config["head"], encoder=encoder, classes=len(legend))
    model: nn.Module = Model(encoder, head, Normalise(about["statistics"]))
    if "network.offset" in names:
        model = Shifted(model, torch.zeros(len(legend)))
    return PlainNetwork(model, float(about["temperature"]))


def check_targets(node: Any) -> None:
    """Refuse to build anything but encoders and heads of this package: a card may come from anywhere.

    Raises:
        NotExportedError: If a ``_target_`` names something else.
    """
    if isinstance(node, Mapping):
        if "_target_" in node:
            _check_target(str(node["_target_"]))
        for value in node.values():
            check_targets(value)
    elif isinstance(node, list | tuple):
        for value in node:
            check_targets(value)


def _check_target(target: str) -> None:
    module, _, name = target.rpartition(".")
    known = re.fullmatch(r"eo_adapt\.(encoders|heads)(\.[a-z0-9_]+)+", module)
    ours = known and module.rpartition(".")[0] in OWN and find_spec(module) is not None
    found = vars(importlib.import_module(module)).get(name) if ours else None
    if not (isinstance(found, type) and issubclass(found, nn.Module) and found.__module__.startswith("eo_adapt.")):
        raise NotExportedError(
            f"the file is to be rebuilt with {target!r}, which is no encoder or head of this package: it is not "
            "called. The .onnx and .pt2 of the same export need no code of yours"
        )


def plain_of(run: Path, domain: str | None, checkpoint: str = "best") -> tuple[Trained, str, PlainNetwork, Layout]:
    """A run, the name of a domain, its plain network and the network's inputs.

    Raises:
        FileNotFoundError: If there is no such run or checkpoint.
        LookupError: If there is no such domain, or several to choose from.
        ValueError: If the method learns while it predicts.
    """
    one = load_run(run, checkpoint)
    number = one.number(domain)
    network = PlainNetwork(one.network(number), one.temperature).eval().requires_grad_(False)
    return one, one.domains[number], network, layout_of(network.encoder, one.card.get("pixel_sets", {}))
