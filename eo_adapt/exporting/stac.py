"""A STAC item that describes an exported network, with the Machine Learning Model extension.

https://github.com/stac-extensions/mlm, version 1.4; STAC 1.1.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from .inputs import BATCH, Entry, Layout

STAC, MLM = "1.1.0", "https://stac-extensions.github.io/mlm/v1.4.0/schema.json"
CLASSIFICATION = "https://stac-extensions.github.io/classification/v2.0.0/schema.json"
FILE = "https://stac-extensions.github.io/file/v2.1.0/schema.json"
ARTIFACTS = {
    "pt2": ("torch.export.save", "application/zip; application=pytorch", "the graph, for torch.export.load"),
    "onnx": ("torch.onnx.export", "application/octet-stream; application=onnx", "the graph, for any ONNX runtime"),
    "safetensors": ("safetensors.torch.save_file", "application/octet-stream", "the weights and their card"),
}


def item_of(
    about: Mapping[str, Any], files: Mapping[str, Mapping[str, Any]], licence: str, parameters: int, when: str
) -> dict[str, Any]:
    """The item.

    Args:
        about: The card.
        files: Format -> ``{href, size, sha256}``.
        licence: Of the network: an SPDX identifier, or ``other``.
        parameters: How many numbers were trained.
        when: UTC time of the checkpoint, ISO 8601.
    """
    return {
        "type": "Feature",
        "stac_version": STAC,
        "stac_extensions": [MLM, CLASSIFICATION, FILE],
        "id": _word(f"{_name(about)}-{about['domain']}-{about['checkpoint'][:12]}"),
        "geometry": None,
        "properties": properties_of(about, licence, parameters, when),
        "links": [],
        "assets": {form: _asset(form, facts, about) for form, facts in files.items()},
    }


def properties_of(about: Mapping[str, Any], licence: str, parameters: int, when: str) -> dict[str, Any]:
    """What the item says of the network."""
    layout, kind = Layout.from_dict(about), "semantic-segmentation" if about["maps"] else "classification"
    domains = about["domains"]
    return {
        "datetime": when,
        "title": f"{_name(about)} for {about['domain']}",
        "description": (
            f"Trained with labels of {domains['labelled']} and images of {domains['unlabelled'] or 'no other domain'}; "
            f"this is the network of {about['domain']}. Values go in as {about['values_are']}."
        ),
        "license": licence,
        "bands": [
            {
                "name": _band(sensor, band),
                "description": f"{band} of {sensor}, {about['units'][sensor]}",
                "unit": about["units"][sensor],
                "statistics": {"mean": float(mean), "stddev": float(std)},
            }
            for sensor, bands in about["bands"].items()
            for band, mean, std in zip(bands, *about["statistics"][sensor], strict=True)
        ],
        "mlm:name": _name(about),
        "mlm:architecture": _architecture(about),
        "mlm:tasks": [kind],
        "mlm:framework": "PyTorch",
        "mlm:framework_version": _version(),
        "mlm:total_parameters": parameters,
        "mlm:pretrained": True,
        "mlm:accelerator": None,
        "mlm:accelerator_constrained": False,
        "mlm:hyperparameters": about["hyperparameters"],
        "mlm:input": [_input(entry, layout, about) for entry in layout.entries],
        "mlm:output": [_output(name, layout, about, kind) for name in ("logits", "probabilities")],
        "eo_adapt:domain": about["domain"],
        "eo_adapt:domains": domains,
        "eo_adapt:temperature": about["temperature"],
        "eo_adapt:axes": about["axes"],
        "eo_adapt:gsd": about["gsd"],
        "eo_adapt:imagery": about["imagery"],
        "eo_adapt:licences_of_data": about["licences"],
    }


def _input(entry: Entry, layout: Layout, about: Mapping[str, Any]) -> dict[str, Any]:
    names = about["bands"].get(entry.sensor, [])
    found: dict[str, Any] = {
        "name": entry.name,
        "bands": [_band(entry.sensor, band) for band in names] if entry.field == "values" else [],
        "input": {
            "shape": [len(names) if axis == "bands" else _size(axis, layout) for axis in entry.axes],
            "dim_order": [_axis(axis) for axis in entry.axes],
            "data_type": "uint8" if entry.field.startswith("valid") else "float32",
        },
        "description": _said(entry, about),
        "resize_type": None,
    }
    return found


def _said(entry: Entry, about: Mapping[str, Any]) -> str:
    """One sentence on an input."""
    said = {
        "values": "{units}; normalised inside the network with mean {mean} and standard deviation {std}",
        "days": "days since 1 January of the label year, may be negative",
        "gdd": "growing degree days up to each date",
        "valid": "bool, False on padding, cloud or missing dates",
        "valid_pixels": "bool, False on pixels that do not exist or are masked",
    }[entry.field]
    mean, std = about["statistics"].get(entry.sensor, [[], []])
    return said.format(
        units=about["units"].get(entry.sensor, "attributes"),
        mean=[float(f"{x:.5g}") for x in mean],
        std=[float(f"{x:.5g}") for x in std],
    )


def _output(name: str, layout: Layout, about: Mapping[str, Any], kind: str) -> dict[str, Any]:
    legend, colours = about["legend"], about["colours"]
    sides = ["height", "width"] if about["maps"] else []
    return {
        "name": name,
        "tasks": [kind],
        "bands": [],
        "result": {
            "shape": [_size(BATCH, layout), len(legend["names"]), *[-1] * len(sides)],
            "dim_order": [BATCH, "class", *sides],
            "data_type": "float32",
        },
        "classification:classes": [
            {
                "value": number,
                "name": _word(title),
                "title": title,
                "description": f"{title} ({code})",
                "color_hint": colours[title].lstrip("#").upper(),
            }
            for number, (title, code) in enumerate(zip(legend["names"], legend["codes"], strict=True))
        ],
        "description": "before calibration" if name == "logits" else "softmax(logits / temperature)",
    }


def _asset(form: str, facts: Mapping[str, Any], about: Mapping[str, Any]) -> dict[str, Any]:
    kind, media, what = ARTIFACTS[form]
    return {
        "href": facts["href"],
        "type": media,
        "title": what,
        "roles": ["mlm:model", "mlm:weights", "data"],
        "mlm:artifact_type": kind,
        "bands": [{"name": _band(s, band)} for s, bands in about["bands"].items() for band in bands],
        "file:size": facts["size"],
        "file:checksum": "1220" + facts["sha256"],  # multihash: sha2-256, 32 bytes
    }


def _size(name: str, layout: Layout) -> int:
    axis = layout.axes[name]
    return -1 if axis.dynamic else axis.size


def _axis(name: str) -> str:
    return name.rpartition(".")[2]


def _band(sensor: str, band: str) -> str:
    return f"{sensor}.{band}"


def _word(text: str) -> str:
    return re.sub(r"[^0-9A-Za-z_-]+", "-", text).strip("-") or "class"


def _name(about: Mapping[str, Any]) -> str:
    chosen = about["choices"]
    parts = [chosen.get(group, "") for group in ("task", "encoder", "method")]
    return "eo_adapt " + re.sub(r"[^0-9A-Za-z_.\- ]+", "-", " ".join(part for part in parts if part) or "network")


def _architecture(about: Mapping[str, Any]) -> str:
    encoder, head = (str(about["config"][part]["_target_"]).rpartition(".")[2] for part in ("encoder", "head"))
    return f"{about['choices'].get('encoder', encoder)} ({encoder}) + {head}"


def _version() -> str:
    import torch

    return re.sub(r"[^0-9.].*", "", str(torch.__version__))
