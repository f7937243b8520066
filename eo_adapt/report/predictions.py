"""predictions.parquet: one row a parcel, GeoParquet."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from ..data.datamodule import DomainDataModule
from ..data.legend import UNKNOWN
from ..data.loader import Part


def write_predictions(
    path: Path, data: DomainDataModule, said: Mapping[str, tuple[Part, Tensor]], threshold: float | None
) -> pd.DataFrame:
    """Write predictions of every parcel of every domain; true labels are given for test parcels only.

    Columns: parcel_id, geometry, domain, role, split, label (test only, else ""), prediction, confidence (largest
    probability), entropy (nats), p_<class> for each learnt class.

    Args:
        path: Where to.
        data: The domains.
        said: Domain name -> its parcels and their logits (N, K).
        threshold: Open set: below this confidence a parcel is called unknown; None otherwise.

    Returns:
        The table without geometry, with the store's ``row``.
    """
    frame = pd.concat([_domain(data, i, *said[d.domain.name], threshold) for i, d in enumerate(data.parcels)])
    frame = frame.reset_index(drop=True)
    _write(path, data.store.path / "index.parquet", frame)
    return frame


def _domain(data: DomainDataModule, number: int, part: Part, logits: Tensor, threshold: float | None) -> pd.DataFrame:
    d = data.parcels[number]
    p = torch.softmax(logits.double(), 1)
    confidence, best = p.max(1)
    names = np.array(data.legend.names)[best.numpy()]
    if threshold is not None:
        names = np.where(confidence.numpy() < threshold, UNKNOWN, names)
    sealed = data.sealed(d)
    truth = dict(zip(sealed.rows.tolist(), (sealed.labels if sealed.labels is not None else []), strict=True))
    classes = data.scored_classes().names
    table = {
        "row": part.rows.numpy(),
        "parcel_id": data.store.index["parcel_id"].to_numpy(str)[part.rows.numpy()],
        "domain": d.domain.name,
        "role": d.role,
        "split": np.where((d.split == "train") & (d.role == "target"), "adapt", d.split),
        "label": [classes[int(truth[row])] if row in truth else "" for row in part.rows.tolist()],
        "prediction": names,
        "confidence": confidence.numpy(),
        "entropy": -(p * p.clamp_min(1e-300).log()).sum(1).numpy(),
    }
    return pd.DataFrame({**table, **{f"p_{name}": p[:, i].numpy() for i, name in enumerate(data.legend.names)}})


def _write(path: Path, index: Path, frame: pd.DataFrame) -> None:
    """GeoParquet without the geo stack: the index's own WKB column and its description are handed on."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    file = pq.ParquetFile(index)
    geometry = file.read(columns=["geometry"])["geometry"].take(pa.array(frame["row"].to_numpy()))
    table = pa.Table.from_pandas(frame.drop(columns="row"), preserve_index=False)
    table = table.append_column(pa.field("geometry", pa.binary()), geometry.cast(pa.binary()))
    table = table.replace_schema_metadata({**(table.schema.metadata or {}), b"geo": file.schema_arrow.metadata[b"geo"]})
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        pq.write_table(table, temporary)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
