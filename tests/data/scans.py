"""Clouds of points that tests make up."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import laspy
import numpy as np

from eo_adapt.data.lidar.frame import Frame
from eo_adapt.data.synthetic.lidar import write_cloud

CRS = "EPSG:2154"
EAST, NORTH = 700_000.0, 6_600_000.0


def made_up(n: int = 4000, seed: int = 0) -> dict[str, Any]:
    """Points over 12 x 10 m, a third of them ground, some noise, some withheld."""
    rng = np.random.default_rng(seed)
    xyz = np.column_stack(
        [rng.uniform(EAST + 0.1, EAST + 11.9, n), rng.uniform(NORTH + 0.1, NORTH + 9.9, n), rng.uniform(50, 70, n)]
    )
    returns = rng.integers(1, 5, n)
    return {
        "xyz": np.round(xyz, 2),
        "kind": rng.choice([1, 2, 5, 6, 7, 18], n, p=[0.2, 0.35, 0.2, 0.2, 0.03, 0.02]),
        "intensity": rng.integers(0, 5000, n),
        "number": np.ceil(returns * rng.uniform(0.01, 1, n)).astype(int),
        "returns": returns,
        "withheld": (rng.random(n) < 0.02).astype(int),
    }


def frame(pixel: float = 2.0) -> Frame:
    return Frame.around((EAST, NORTH + 0.1, EAST + 11.9, NORTH + 9.9), CRS, pixel)


def copc(path: Path, points: dict[str, Any]) -> None:
    """A cloud-optimised file of one node: LAZ 1.4 whose first record says where the octree lies (copc.io, 1.0)."""
    write_cloud(path, **points)
    plain = path.read_bytes()
    head = laspy.open(path).header
    data, count = head.offset_to_point_data, len(points["kind"])
    (table,) = struct.unpack("<q", plain[data : data + 8])
    record = struct.pack("<H16sHH32s", 0, b"copc", 1, 160, b"")
    moved = len(record) + 160
    xyz = points["xyz"]
    half = float(np.ptp(xyz, axis=0).max()) / 2 + 1
    end = len(plain) + moved
    info = struct.pack("<5d2Q2d", *(xyz.min(0) + half - 0.5), half, half / 64, end + 60, 32, 0, 0) + bytes(88)
    node = struct.pack("<4iQ2i", 0, 0, 0, 0, data + moved + 8, table - data - 8, count)
    listed = struct.pack("<H16sHQ32s", 0, b"copc", 1000, 32, b"") + node
    body = bytearray(plain)
    body[96:100] = struct.pack("<I", data + moved)
    body[100:104] = struct.pack("<I", struct.unpack("<I", plain[100:104])[0] + 1)
    body[235:247] = struct.pack("<QI", end, 1)
    body[data : data + 8] = struct.pack("<q", table + moved)
    path.write_bytes(bytes(body[:375]) + record + info + bytes(body[375:]) + listed)
