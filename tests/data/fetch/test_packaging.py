"""Every recipe whose files can be downloaded: packed as the publisher does, served, fetched, unpacked, prepared.

The result must be that of the raw files themselves.
"""

from __future__ import annotations

import dataclasses
import io
import json
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import geopandas
import geopandas.testing
import pytest
from flaky import Server

from eo_adapt.data.fetch.check import check
from eo_adapt.data.fetch.making import make_result
from eo_adapt.data.fetch.sources import UNKNOWN, select
from eo_adapt.data.fetch.steps import Wishes, bring
from eo_adapt.data.recipe import Recipe, make

QUIET = Wishes(say=lambda _: None)
SMALL: dict[str, dict[str, Any]] = {  # arguments of the generators that make them quick
    "eurocropsml": {"parcels_per_country": 15},
    "timematch": {"parcels": 12},
    "breizhcrops": {"parcels": 9},
    "flair1": {"zones": 10, "grid": 1, "size": 32},
    "flair2": {"zones": 10, "grid": 1, "size": 32},
    "flair_hub": {"zones": 2, "grid": 1, "size": 64},
    "loveda": {"images": 2, "size": 32},
    "pastis": {"patches": 6, "size": 16, "revisit": 40},
    "pastis_r": {"patches": 6, "size": 16, "revisit": 40},
    "treesatai_ts": {"patches": 12},
    "timesen2crop": {"pixels": 1},
}
# recipe -> archive -> (folder in the archive, folder or files below the raw folder); "" = at the top
PACKED: dict[str, dict[str, tuple[str, str]]] = {
    "eurocropsml": {"preprocess.zip": ("preprocess/", "preprocess"), "split.zip": ("split/", "split")},
    "timematch": {"timematch_data.zip": ("timematch_data/", "")},
    "breizhcrops": {
        **{f"frh0{i}.h5.tar.gz": ("", f"2017/L1C/frh0{i}.h5") for i in range(1, 5)},
        **{f"2017/frh0{i}.tar.gz": ("", f"2017/frh0{i}.*") for i in range(1, 5)},
    },
    "flair1": {
        **{f"{n}.zip": (f"{n}/", n) for n in ("flair_aerial_train", "flair_labels_train")},
        **{f"{n}.zip": (f"{n}/", n) for n in ("flair_1_aerial_test", "flair_1_labels_test")},
        "flair-1_metadata_aerial.zip": ("", "flair_aerial_metadata.json"),
    },
    "flair2": {
        **{f"{n}.zip": ("", n) for n in ("flair_aerial_train", "flair_labels_train")},  # without a folder: as well
        **{f"{n}.zip": (f"{n}/", n) for n in ("flair_2_aerial_test", "flair_2_labels_test")},
        "flair_2_aerial_metadata.zip": ("", "flair_aerial_metadata.json"),
    },
    "flair_hub": {
        "GLOBAL_ALL_MTD.zip": ("GLOBAL_ALL_MTD/", "GLOBAL_ALL_MTD"),
        "D006-2020_AERIAL_RGBI.zip": ("D006-2020_AERIAL_RGBI/", "D006-2020_AERIAL_RGBI"),
        "D006-2020_AERIAL_LABEL-COSIA.zip": ("D006-2020_AERIAL_LABEL-COSIA/", "D006-2020_AERIAL_LABEL-COSIA"),
        "D058-2020_AERIAL_RGBI.zip": ("D058-2020_AERIAL_RGBI/", "D058-2020_AERIAL_RGBI"),
        "D058-2020_AERIAL_LABEL-COSIA.zip": ("", "D058-2020_AERIAL_LABEL-COSIA"),
    },
    "loveda": {"Train.zip": ("Train/", "Train"), "Val.zip": ("Val/", "Val")},
    "pastis": {"PASTIS.zip": ("PASTIS/", "")},
    "pastis_r": {"PASTIS-R.zip": ("PASTIS-R/", "")},
    "treesatai_ts": {f"{n}.zip": (f"{n}/", n) for n in ("sentinel-ts", "labels", "geojson", "split")},
    "timesen2crop": {"TimeSen2Crop.zip": ("TimeSen2Crop/", "")},
    "eurocrops": {},
    "lidar_hd": {},
}
PARTS = {"flair_hub": ("D006-2020", "D058-2020"), "eurocrops": ("LV_2021", "SI_2021")}


def members(raw: Path, inside: str, what: str) -> dict[str, bytes]:
    """Name in the archive -> bytes."""
    top = raw / what if (raw / what).is_dir() else None
    paths = [p for p in top.rglob("*") if p.is_file()] if top else sorted(raw.glob(what))
    return {f"{inside}{p.relative_to(top).as_posix() if top else p.name}": p.read_bytes() for p in sorted(paths)}


def packed(name: str, files: dict[str, bytes]) -> bytes:
    assert files, name
    out = io.BytesIO()
    if name.endswith(".zip"):
        with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
            for member, data in files.items():
                archive.writestr(member, data)
    else:
        with tarfile.open(fileobj=out, mode="w:gz") as tar:
            for member, data in files.items():
                info = tarfile.TarInfo(member)
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
    return out.getvalue()


def served(recipe: Recipe, raw: Path, server: Server) -> Recipe:
    """The recipe with its links leading to the server, which has all its files; their hashes are not known."""
    archives = PACKED[recipe.name]
    for name, (inside, what) in archives.items():
        server.put(f"/{name}", packed(name, members(raw, inside, what)))
    for path in raw.rglob("*"):
        if path.is_file():
            server.put(f"/{path.relative_to(raw).as_posix()}", path.read_bytes())
    sources = []
    for source, entry in zip(recipe.files(), recipe.sources, strict=True):
        if source.url:
            last = source.url.rsplit("/", 1)[-1] if source.template else source.file
            url = source.url if source.url == "{part}" else f"http://127.0.0.1:{server.server_port}/{last}"
            entry = {**entry, "url": url, "sha256": UNKNOWN, "bytes": UNKNOWN}
            entry.pop("md5", None)
        sources.append(entry)
    return dataclasses.replace(recipe, sources=tuple(sources))


def same(one: Path, other: Path) -> None:
    """Two results hold the same, but for where their raw files lie and when they were made."""
    names = {p.relative_to(one).as_posix() for p in one.rglob("*") if p.is_file()} - {"PROVENANCE.json"}
    assert names == {p.relative_to(other).as_posix() for p in other.rglob("*") if p.is_file()} - {"PROVENANCE.json"}
    for name in names - {"store.json", "index.parquet"}:
        assert (one / name).read_bytes() == (other / name).read_bytes(), name
    if "index.parquet" in names:
        frames = [geopandas.read_parquet(place / "index.parquet") for place in (one, other)]
        for frame in frames:  # what is made of laser scans lies in the cache, by the path of the scan
            for column in frame.columns:
                if any(isinstance(value, str) and value.startswith("/") for value in frame[column]):
                    frame[column] = [Path(value).name for value in frame[column]]
        geopandas.testing.assert_geodataframe_equal(*frames)
    if "store.json" in names:
        about = [json.loads((place / "store.json").read_text()) for place in (one, other)]
        for entry in about:  # where the raw files lie, and the size of the table that says so
            entry.pop("root", None)
            entry["files"].pop("index.parquet")
        assert about[0] == about[1]


@pytest.mark.parametrize("name", sorted(PACKED))
def test_downloads_become_what_the_raw_files_become(name: str, server: Server, tmp_path: Path) -> None:
    original = Recipe.load(name)
    made = {**original.synthetic, **SMALL.get(name, {})}
    make(made).write(tmp_path / "original")
    recipe = served(original, tmp_path / "original", server)
    parts = PARTS.get(name, ())
    if name == "lidar_hd":
        base = f"http://127.0.0.1:{server.server_port}"
        parts = tuple(f"{base}/{path.name}" for path in sorted((tmp_path / "original").iterdir()))
    if name == "flair_hub":  # the other domains were not asked for
        for path in (tmp_path / "original").glob("D*"):
            if path.name.split("_")[0] not in parts:
                path.rename(tmp_path / path.name)
    raw, sources = tmp_path / "raw", select(recipe.files(), parts, name)
    steps = bring(raw, sources, QUIET)
    result, fresh = make_result(recipe, raw, tmp_path / "out", steps)
    assert fresh
    assert len(result) > 0
    same(tmp_path / "out", Path(original.prepare(tmp_path / "original", tmp_path / "direct").path))
    asked = {path: len(file.asked) for path, file in server.files.items()}
    assert make_result(recipe, raw, tmp_path / "out", bring(raw, sources, QUIET))[1] is False
    assert asked == {path: len(file.asked) for path, file in server.files.items()}
    assert {finding.state for finding in check(recipe, raw, sources)} == {"ok"}


def test_every_recipe_that_downloads_is_tested() -> None:
    from eo_adapt.data.recipe import recipe_names

    fetched = {name for name in recipe_names() if any(s.url for s in Recipe.load(name).files())}
    assert fetched - {"flair1_uda_nas"} == set(PACKED)  # that one has the files of flair1


def test_what_is_fetched_by_hand_is_said(tmp_path: Path) -> None:
    recipe = Recipe.load("pastis_hd")
    with pytest.raises(
        FileNotFoundError, match=r"metadata\.geojson must be fetched by hand .*hf download IGNF/PASTIS-HD"
    ):
        bring(tmp_path, select(recipe.files(), ()), QUIET, recipe.by_hand)
    make({**recipe.synthetic, "patches": 2, "size": 16}).write(tmp_path)
    steps = bring(tmp_path, select(recipe.files(), ()), QUIET, recipe.by_hand)
    assert [step["download"]["file"] for step in steps] == ["metadata.geojson"]
    assert len(make_result(recipe, tmp_path, tmp_path.parent / "hd", steps)[0]) == 8
