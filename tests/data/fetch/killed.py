"""What the test of kills runs in processes of their own: a server, and a preparation."""

from __future__ import annotations

import dataclasses
import os
from multiprocessing.connection import Connection
from pathlib import Path

from flaky import Server

from eo_adapt.data.fetch.making import make_result
from eo_adapt.data.fetch.patience import Patience
from eo_adapt.data.fetch.sources import select
from eo_adapt.data.fetch.steps import Wishes, bring
from eo_adapt.data.recipe import Recipe


def serve(content: bytes, slow: float, pipe: Connection) -> None:
    """Serve one archive until killed; tells its link."""
    with Server() as server:
        pipe.send(server.put("/TimeSen2Crop.zip", content, slow=slow))
        server.serve_forever()


def prepare(recipe: Recipe, link: str, sha256: str, raw: Path, out: Path) -> None:
    """Fetch, unpack, prepare."""
    os.environ["NO_PROXY"] = os.environ["no_proxy"] = "127.0.0.1"
    entry = {"url": link, "sha256": sha256, "unpack": {"into": ""}, "gives": ["*/dates.csv"]}
    local = dataclasses.replace(recipe, sources=(entry,))
    wishes = Wishes(patience=Patience(attempts=3, base=0.01), say=lambda _: None)
    steps = bring(raw, select(local.files(), ()), wishes)
    make_result(local, raw, out, steps)
