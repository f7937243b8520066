"""Small networks with random weights, and what an export would say of them."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from eo_adapt.exporting.about import FORMAT
from eo_adapt.exporting.inputs import Layout, layout_of
from eo_adapt.exporting.network import PlainNetwork
from eo_adapt.model import Model, Normalise
from eo_adapt.registry import build, config

CLASSES = ["maize", "soft wheat", "other"]
MAPS = {"widths": [16, 16, 16, 8, 8]}
UTAE = {"widths": [16, 16], "decoder": [16], "heads": 4, "d_model": 32}
NETWORKS: dict[str, tuple[str, dict[str, Any], str, dict[str, Any], dict[str, int]]] = {
    "pse_ltae": ("pse_ltae", {}, "classify", {}, {"s2": 4}),
    "series": ("ltae", {}, "classify", {}, {"s2": 4}),
    "unet": ("timm_pyramid", {"backbone": "test_resnet"}, "unet", MAPS, {"aerial": 4}),
    "utae": ("utae", UTAE, "dense", {"widths": []}, {"s2": 4}),
    "parcel_fusion": ("fusion", {"scheme": "late"}, "classify", {}, {"s2": 4, "s1": 2}),
}


def made(name: str) -> tuple[PlainNetwork, Layout, dict[str, int], dict[str, Any]]:
    """Network, inputs, bands of each sensor, and card."""
    encoder, options, head, more, sensors = NETWORKS[name]
    torch.manual_seed(0)
    net = build("encoder", encoder, sensors=sensors, **options)
    statistics = {sensor: ([0.3] * n, [0.2] * n) for sensor, n in sensors.items()}
    model = Model(net, build("head", head, encoder=net, classes=len(CLASSES), **more), Normalise(statistics)).eval()
    for layer in model.modules():
        if isinstance(layer, nn.modules.batchnorm._BatchNorm):
            layer.running_mean.normal_(0, 0.2)
            layer.running_var.uniform_(0.5, 1.5)
    plain = PlainNetwork(model, 1.7).eval().requires_grad_(False)
    layout = layout_of(plain.encoder, {})
    chosen = config(f"encoder={encoder}", f"head={head}")
    from omegaconf import OmegaConf

    nodes = {group: OmegaConf.to_container(chosen[group], resolve=True) for group in ("encoder", "head")}
    about = {
        "format": FORMAT,
        "made_with": "eo_adapt test",
        "choices": {"task": "crops", "encoder": encoder, "method": "csn+coral"},
        "domain": "EE",
        "domains": {"labelled": ["FR"], "unlabelled": ["EE"]},
        "values_are": "physical units",
        "bands": {sensor: [f"B{i}" for i in range(n)] for sensor, n in sensors.items()},
        "units": dict.fromkeys(sensors, "reflectance"),
        "imagery": {},
        "gsd": {},
        "statistics": statistics,
        "sensors": sensors,
        "legend": {"names": CLASSES, "codes": ["1", "2", "3"]},
        "colours": {"maize": "#E69F00", "soft wheat": "#56b4e9", "other": "#444444"},
        "maps": net.strides[0] != 0,
        "temperature": 1.7,
        "licences": {"synthetic": "CC0-1.0"},
        "checkpoint": "ab" * 32,
        "config": {"encoder": {**nodes["encoder"], **options}, "head": {**nodes["head"], **more}},
        "hyperparameters": {"seed": 0, "method.weight": 1.0},
        **layout.to_dict(),
    }
    return plain, layout, sensors, about
