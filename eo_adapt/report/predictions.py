"""predictions.parquet: one row a parcel, GeoParquet."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from torch import Tensor

from ..calibration import calibrated
from ..data.datamodule import DomainDataModule
from ..data.legend import UNKNOWN
from ..data.loader import Part

INTERNAL = ("row", "likeliest", "uncalibrated")  # columns that the report needs and the file does not hold


def write_predictions(
    path: Path,
    data: DomainDataModule,
    said: Mapping[str, tuple[Part, Tensor]],
    threshold: float | None,
    temperature: float = 1.0,
) -> pd.DataFrame:
    """Write predictions of every parcel of every domain; true labels are given for test parcels only.

    Columns: parcel_id, geometry, domain, role, split, label (test only, else ""), prediction, confidence (largest
    probability), entropy (nats), p_<class> for each learnt class. Probabilities are calibrated: softmax(logits / T).

    Args:
        path: Where to.
        data: The domains.
        said: Domain name -> its parcels and their logits (N, K).
        threshold: Open set: below this calibrated confidence a parcel is called unknown; None otherwise.
        temperature: T, as :func:`..calibration.fit_temperature` gives it.

    Returns:
        The table without geometry, with the store's ``row``, the ``likeliest`` learnt class (open set: whether or not
        it was called unknown) and its ``uncalibrated`` probability.
    """
    parts = [_domain(data, i, *said[d.domain.name], threshold, temperature) for i, d in enumerate(data.parcels)]
    frame = pd.concat(parts).reset_index(drop=True)
    write_geo(path, data.store.path / "index.parquet", frame, INTERNAL)
    return frame


def _domain(
    data: DomainDataModule, number: int, part: Part, logits: Tensor, threshold: float | None, temperature: float
) -> pd.DataFrame:
    d = data.parcels[number]
    p, best = calibrated(logits, temperature), logits.argmax(1)  # of the logits: probabilities may round to a tie
    confidence = p.amax(1)
    likeliest = np.array(data.legend.names)[best.numpy()]
    names = likeliest if threshold is None else np.where(confidence.numpy() < threshold, UNKNOWN, likeliest)
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
        "likeliest": likeliest,
        "uncalibrated": calibrated(logits, 1.0).amax(1).numpy(),
        "prediction": names,
        "confidence": confidence.numpy(),
        "entropy": -(p * p.clamp_min(1e-300).log()).sum(1).numpy(),
    }
    return pd.DataFrame({**table, **{f"p_{name}": p[:, i].numpy() for i, name in enumerate(data.legend.names)}})


def write_geo(path: Path, index: Path, frame: pd.DataFrame, internal: Sequence[str]) -> None:
    """GeoParquet without the geo stack: the index's own WKB column and its description are handed on.

    Args:
        path: Where to.
        index: The store's index.parquet.
        frame: The table; ``row`` says which row of the index each of its rows is about.
        internal: Its columns that the file does not hold.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    file = pq.ParquetFile(index)
    geometry = file.read(columns=["geometry"])["geometry"].take(pa.array(frame["row"].to_numpy()))
    table = pa.Table.from_pandas(frame.drop(columns=list(internal)), preserve_index=False)
    table = table.append_column(pa.field("geometry", pa.binary()), geometry.cast(pa.binary()))
    table = table.replace_schema_metadata({**(table.schema.metadata or {}), b"geo": file.schema_arrow.metadata[b"geo"]})
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        pq.write_table(table, temporary)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
