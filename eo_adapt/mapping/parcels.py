"""A store of parcels -> a table of classes and probabilities, GeoParquet or GeoPackage, streamed in row groups."""

from __future__ import annotations

import json
import logging
import os
import shutil
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ..calibration import calibrated
from ..data import hcat
from ..data.loader import Part, PartLoader, Reader
from ..data.store import Store, band_numbers
from ..rundir import differences, spell, version, write_text
from ..trained import Trained, load_run
from .adapt import adapted_network, learn
from .answer import Network
from .mapper import refuse_learning
from .settings import check_devices
from .work import held

if TYPE_CHECKING:
    import pyarrow as pa

BATCH = 1024
FORMATS = (".parquet", ".gpkg")


def predict_parcels(
    run: Path | str,
    store: Store,
    output: Path | str,
    domain: str | None = None,
    checkpoint: str = "best",
    row_group: int = 65536,
    batch: int = 0,
    device: str = "auto",
    adapt: str = "none",
    overwrite: bool = False,
    command: str = "",
    told: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Predict every parcel of a store.

    Columns: parcel_id, domain, class, hcat ("" where HCAT3 has no such class), confidence (largest probability),
    entropy (nats), p_<class>, model (sha256 of the checkpoint), geometry. Probabilities are calibrated.

    Args:
        run: The run directory.
        store: Parcels; those of the run's own data or others with the same bands and units.
        output: A ``.parquet`` (GeoParquet) or ``.gpkg`` (GeoPackage).
        domain: Whose network; None = that of the only target, or of the only domain there is.
        checkpoint: ``best`` or ``last``.
        row_group: Parcels that are predicted and written at once; finished ones outlive a kill.
        batch: Parcels at once; 0 = 1024.
        device: ``auto``, ``cpu``, ``cuda``.
        adapt: See :func:`.adapt.learn`; learnt from all parcels.
        overwrite: Whether a table that is there may be replaced.
        command: What to write into the file as its origin.
        told: Called with lines on the progress.

    Returns:
        Facts: file, seconds, parcels, parcels of each class.

    Raises:
        FileExistsError: If the table is there and may not be replaced.
        ValueError: If run, store and options do not fit; nothing is written.
    """
    output, trained = Path(output), load_run(run, checkpoint)
    _check_output(output, overwrite, row_group, batch)
    _check_run(trained, store, run, adapt)
    number = trained.number(domain)
    name = "cuda" if device == "auto" and torch.cuda.is_available() else device.replace("auto", "cpu")
    check_devices([name])
    place = torch.device(name)
    work = output.with_name(f".{output.name}.part")
    plan = {
        "checkpoint": trained.digest, "domain": trained.domains[number], "store": store.fingerprint, "adapt": adapt,
        "row_group": row_group, "batch": batch or BATCH, "device": place.type, "version": version(),
    }  # fmt: skip
    began = time.monotonic()
    with held(work):
        _begin(work, plan, overwrite)
        batches = partial(_inputs, trained, store, np.arange(len(store)), batch or BATCH, place)
        if adapt != "none" and not (work / "adapted.pt").exists():
            learn(str(run), checkpoint, number, adapt, batches, len(store), work / "adapted.pt", place)
        parts = _parts(trained, number, store, work, plan, adapt, str(run), checkpoint, told)
        counts = _join(parts, store, output, work, {**plan, "command": command}, trained)
        shutil.rmtree(work, ignore_errors=True)
    seconds = time.monotonic() - began
    return {"files": [str(output)], "seconds": seconds, "parcels": len(store), "classes": counts}


def _check_output(output: Path, overwrite: bool, row_group: int, batch: int) -> None:
    if output.suffix not in FORMATS:
        raise ValueError(f"a table of parcels ends in one of {list(FORMATS)}; got output={output}")
    if row_group < 1 or batch < 0:
        raise ValueError(f"row_group is at least 1 and batch at least 0; got {row_group} and {batch}")
    if output.exists() and not overwrite:
        raise FileExistsError(f"{output} is there already; overwrite=true replaces it once the new one is whole")


def _check_run(trained: Trained, store: Store, run: Path | str, adapt: str) -> None:
    if trained.maps:
        raise ValueError(f"the run {run} labels pixels: give input= a scene, and output= a .tif")
    check_store(trained, store)
    if adapt == "none":
        refuse_learning(trained)


def check_store(trained: Trained, store: Store) -> None:
    """Refuse a store whose bands or units are not those that the network was trained on.

    Raises:
        ValueError: Naming them.
    """
    for name, bands in trained.bands.items():
        if name not in store.sensors:
            raise ValueError(f"the run reads the sensor {name}; the store at {store.path} has {sorted(store.sensors)}")
        try:
            band_numbers(store.sensors[name], bands, name)
        except LookupError as error:
            raise ValueError(f"the store at {store.path}: {error}; the run reads {bands}") from error
        if store.sensors[name].units != trained.card["units"][name]:
            raise ValueError(
                f"{name} is in {store.sensors[name].units} in the store at {store.path}; the run was trained on "
                f"{trained.card['units'][name]}: prepare the store in these units"
            )
    if "attributes" in trained.card["sensors"]:
        found = 0 if store.attributes is None else store.attributes.shape[1]
        if found != trained.card["sensors"]["attributes"]:
            raise ValueError(
                f"the run reads {trained.card['sensors']['attributes']} attributes of parcels; the store at "
                f"{store.path} has {found}"
            )


def _inputs(trained: Trained, store: Store, rows: np.ndarray, batch: int, device: torch.device) -> Iterator[Any]:
    data = trained.card["config"]["data"]
    reader = Reader(store, trained.bands, data.get("pixels", 32), days=tuple(data.get("days", ())))
    for found in PartLoader(reader, Part(torch.from_numpy(rows), None), batch):
        yield found.to(device).inputs


def _begin(work: Path, plan: dict[str, Any], anew: bool) -> None:
    path = work / "plan.json"
    if path.is_file() and (different := differences(json.loads(path.read_text()), plan, ())):
        if not anew and (any(work.glob("*.npy")) or (work / "adapted.pt").exists()):  # what took time
            raise ValueError(
                f"{work} holds an unfinished table of other settings; different: {spell(different)}. overwrite=true "
                "begins anew, the same settings continue it"
            )
        shutil.rmtree(work)
    work.mkdir(parents=True, exist_ok=True)
    write_text(path, json.dumps(plan, indent=1))


def _parts(
    trained: Trained,
    number: int,
    store: Store,
    work: Path,
    plan: dict[str, Any],
    adapt: str,
    run: str,
    checkpoint: str,
    told: Callable[[str], None],
) -> Iterator[Path]:
    """Files of logits, one a row group, in order; those that are there are kept."""
    device, size = torch.device(plan["device"]), plan["row_group"]
    network: Network | None = None
    for first in range(0, len(store), size):
        path = work / f"{first:012d}.npy"
        if not path.exists():
            if network is None:
                if adapt == "none":
                    network = partial(trained.to(device).logits, domain=number)
                else:
                    network = adapted_network(run, checkpoint, number, work / "adapted.pt", device)
            rows = np.arange(first, min(len(store), first + size))
            said = [network(x).float().cpu() for x in _inputs(trained, store, rows, plan["batch"], device)]
            temporary = work / f".{path.name}.{os.getpid()}"
            with temporary.open("wb") as file:
                np.save(file, torch.cat(said).numpy())
            os.replace(temporary, path)
            told(f"parcels {rows[-1] + 1}/{len(store)}")
        yield path


def hcat_codes(trained: Trained) -> list[str]:
    """HCAT3 code of each class, by its name; "" where there is none."""
    known = {name: code for code, name in hcat.names().items()}
    given = [code if len(code) == 10 and code.isdecimal() else "" for code in trained.legend.codes]
    return [code or known.get(name, "") for code, name in zip(given, trained.legend.names, strict=True)]


def _join(
    parts: Iterator[Path], store: Store, output: Path, work: Path, about: dict[str, Any], trained: Trained
) -> dict[str, int]:
    """One table of all row groups, under its name once it is whole."""
    import pyarrow.parquet as pq

    index = pq.ParquetFile(store.path / "index.parquet")
    geo = index.schema_arrow.metadata[b"geo"]
    rows = index.iter_batches(batch_size=about["row_group"], columns=["parcel_id", "geometry"])
    names, codes = np.array(trained.legend.names), np.array(hcat_codes(trained))
    counts = np.zeros(len(names), np.int64)
    whole = work / f"whole{output.suffix}"
    whole.unlink(missing_ok=True)
    writer = None
    try:
        for path, found in zip(parts, _exactly(rows, about["row_group"]), strict=True):
            table = _table(np.load(path), found, names, codes, about, trained.temperature)
            counts += np.bincount(np.load(path).argmax(1), minlength=len(names))
            if output.suffix == ".gpkg":
                _append(table, whole, output.stem, kind_of(json.loads(geo)))
                continue
            if writer is None:
                facts = {f"eo_adapt:{key}": str(value) for key, value in about.items()}
                writer = pq.ParquetWriter(whole, table.schema.with_metadata({"geo": geo, **facts}))
            writer.write_table(table.replace_schema_metadata(writer.schema.metadata))
    finally:
        if writer is not None:
            writer.close()
    if not whole.exists():
        raise ValueError(f"the store at {store.path} holds no parcel; there is nothing to predict")
    os.replace(whole, output)
    return dict(zip(names.tolist(), counts.tolist(), strict=True))


def _exactly(batches: Iterator[pa.RecordBatch], size: int) -> Iterator[pa.Table]:
    """The same rows in tables of ``size`` rows, whatever the row groups of the file."""
    import pyarrow as pa

    kept = None
    for batch in batches:
        one = pa.Table.from_batches([batch])
        kept = one if kept is None else pa.concat_tables([kept, one])
        while len(kept) >= size:
            yield kept.slice(0, size)
            kept = kept.slice(size)
    if kept is not None and len(kept):
        yield kept


def _table(
    logits: np.ndarray, found: pa.Table, names: np.ndarray, codes: np.ndarray, about: dict[str, Any], temperature: float
) -> pa.Table:
    import pyarrow as pa

    said = torch.from_numpy(logits)
    p, best = calibrated(said, temperature), said.argmax(1).numpy()
    columns: dict[str, Any] = {
        "parcel_id": found["parcel_id"].cast(pa.string()),
        "domain": pa.array([about["domain"]] * len(best)),
        "class": pa.array(names[best]),
        "hcat": pa.array(codes[best]),
        "confidence": p.amax(1).numpy(),
        "entropy": torch.special.entr(p).sum(1).numpy(),
        **{f"p_{name}": p[:, i].numpy() for i, name in enumerate(names)},
        "model": pa.array([about["checkpoint"]] * len(best)),
        "geometry": found["geometry"].cast(pa.binary()),
    }
    return pa.table(columns)


def kind_of(geo: dict[str, Any]) -> str:
    """The type of geometry that a whole layer has, by a GeoParquet's metadata; polygons may be made multi-polygons."""
    kinds = set(geo["columns"][geo["primary_column"]]["geometry_types"])
    if kinds == {"Polygon", "MultiPolygon"}:
        return "MultiPolygon"
    return kinds.pop() if len(kinds) == 1 else "Unknown"


def _append(table: pa.Table, path: Path, layer: str, kind: str) -> None:
    """Rows to a GeoPackage, whose layer has one type whatever the first rows are."""
    import geopandas as gpd
    import shapely

    logging.getLogger("pyogrio").setLevel(logging.WARNING)  # it tells how many rows each call writes
    frame = table.drop_columns("geometry").to_pandas()
    shapes = shapely.from_wkb(table["geometry"].to_numpy(zero_copy_only=False))
    how = {"mode": "a" if path.exists() else "w", "geometry_type": kind, "promote_to_multi": kind == "MultiPolygon"}
    gpd.GeoDataFrame(frame, geometry=shapes, crs="EPSG:4326").to_file(
        path, layer=layer, driver="GPKG", engine="pyogrio", **how
    )
