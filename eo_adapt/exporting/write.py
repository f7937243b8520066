"""A run -> a folder with its network of one domain in several formats, checked against the network itself."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from .about import about_of
from .formats import SUFFIXES, check_libraries, read, trace, write
from .inputs import Layout
from .network import PlainNetwork, plain_of
from .readme import page_of
from .stac import item_of

TOLERANCE = 1e-4  # of logits, absolute and relative: what files may differ from the network by


class ExportError(ValueError):
    """A network that cannot be written in a format."""


def export_run(
    run: Path,
    domain: str | None = None,
    out: Path | None = None,
    formats: Sequence[str] = tuple(SUFFIXES),
    checkpoint: str = "best",
    licence: str = "other",
    size: Sequence[int] = (),
    force: bool = False,
) -> Path:
    """Write one domain's network; the folder appears when it is whole.

    Args:
        run: The run directory.
        domain: Whose network; None = the only target.
        out: The new folder; None = ``<run>/export/<domain>``.
        formats: Some of ``pt2``, ``onnx``, ``safetensors``.
        checkpoint: ``best`` or ``last``.
        licence: Of the network, an SPDX identifier or ``other``.
        size: Rows and columns of the first sensor's images, where they are to be fixed; () = any that the network
            allows.
        force: Replace a folder that is there.

    Returns:
        The folder.

    Raises:
        FileExistsError: If there is a folder already.
        ExportError: If a format cannot be written; says which can.
        ImportError: If a library is missing.
        LookupError: If there is no such domain.
        ValueError: If the method learns while it predicts, or a format is unknown.
    """
    check_formats(formats)
    one, name, network, layout = plain_of(run, domain, checkpoint)
    target = out or run / "export" / name.replace("/", "_")
    check_target(target, force)
    layout = layout.fixed(size) if size else layout
    programs, layout, failures = traced(network, layout, one.card["sensors"], formats, bool(size))
    about = about_of(one, name, layout)
    with fresh_folder(target) as folder:
        checks = {}
        for form in formats:
            if form not in failures:
                path = folder / f"network{SUFFIXES[form]}"
                try:
                    write(form, path, about, network, programs, layout)
                    checks[form] = difference(path, network, layout, one.card["sensors"])
                except Exception as error:  # the exporters raise whatever they like
                    failures[form] = first_line(error)
        refuse(failures, formats, layout)
        files = {form: facts_of(folder / f"network{SUFFIXES[form]}") for form in formats}
        when = datetime.fromtimestamp((run / "checkpoints" / f"{checkpoint}.ckpt").stat().st_mtime, UTC)
        parameters = sum(p.numel() for p in network.parameters())
        item = item_of(about, files, licence, parameters, when.strftime("%Y-%m-%dT%H:%M:%SZ"))
        (folder / "item.json").write_text(json.dumps(item, indent=2))
        (folder / "README.md").write_text(page_of(about, files, checks))
        place(folder, target)
    return target


def check_formats(formats: Sequence[str]) -> None:
    """Raises ValueError or ImportError unless all formats are known and installed."""
    if not formats or (unknown := [form for form in formats if form not in SUFFIXES]):
        raise ValueError(f"formats lists some of {list(SUFFIXES)}; got {list(formats) if not formats else unknown}")
    for form in formats:
        check_libraries(form)


def check_target(target: Path, force: bool) -> None:
    """Raises FileExistsError if something is there that is not to be replaced, or is no export."""
    if not target.exists():
        return
    if not force:
        raise FileExistsError(
            f"there is something at {target}; force=true replaces an export once the new one is whole"
        )
    if not (target / "item.json").is_file():
        raise FileExistsError(f"{target} is no export and is not replaced; choose another out")


def traced(
    network: PlainNetwork, layout: Layout, bands: Mapping[str, int], formats: Sequence[str], fixed: bool
) -> tuple[Any, Layout, dict[str, str]]:
    """The graph, with sides fixed if the network allows no others; None, and why, if it has none.

    Returns:
        The graph, the layout that it was made for, and format -> why it fails.
    """
    wanted = [form for form in formats if form != "safetensors"]
    if not wanted:
        return None, layout, {}
    sides = any(name.endswith(".height") and axis.dynamic for name, axis in layout.axes.items())
    why = ""
    for one in (layout, *([layout.fixed()] if sides and not fixed else [])):
        try:
            return trace(network, one, bands), one, {}
        except Exception as error:  # torch.export raises whatever the network's code raises
            why = why or first_line(error)
    return None, layout, dict.fromkeys(wanted, why)


def difference(path: Path, network: PlainNetwork, layout: Layout, bands: Mapping[str, int]) -> float:
    """Largest difference of a file's logits from the network's, over batches of other sizes than it was traced with.

    Raises:
        ExportError: If it is larger than ``TOLERANCE`` allows.
    """
    _, runner = read(path)
    worst = 0.0
    for batch, more in ((1, 0), (3, 1)):
        tensors = layout.example(bands, more, seed=batch, batch=batch)
        with torch.no_grad():
            expected, found = network(tensors), runner(tensors)
        for mine, theirs in zip(expected, found, strict=True):
            if not torch.allclose(mine, theirs, rtol=TOLERANCE, atol=TOLERANCE):
                gap = float((mine - theirs).abs().max())
                raise ExportError(f"its numbers differ from the network's by {gap:.1e} on a batch of {batch}")
        worst = max(worst, float((expected[0] - found[0]).abs().max()))
    return worst


def refuse(failures: Mapping[str, str], formats: Sequence[str], layout: Layout) -> None:
    """Raises ExportError if a format failed, naming those that work."""
    if not failures:
        return
    works = [form for form in formats if form not in failures]
    if not works and "safetensors" not in failures:
        works = ["safetensors"]
    free = any(name.endswith(".height") and axis.dynamic for name, axis in layout.axes.items())
    hint = " Some networks can be written for images of one size: size=[512,512]." if free else ""
    reasons = "; ".join(f"{form}: {why}" for form, why in failures.items())
    raise ExportError(
        f"this network cannot be written as {list(failures)} ({reasons}). What works: "
        f"{f'formats=[{chr(44).join(works)}]' if works else 'none of those asked for'}; nothing was written.{hint}"
    )


def facts_of(path: Path) -> dict[str, Any]:
    """Name, bytes and hash of a file."""
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return {"href": f"./{path.name}", "size": path.stat().st_size, "sha256": digest}


@contextmanager
def fresh_folder(target: Path) -> Iterator[Path]:
    """A temporary folder beside the target, gone afterwards unless it was put in place."""
    target.parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def place(folder: Path, target: Path) -> None:
    """Rename a whole folder to its place; what was there before goes only once it is moved aside."""
    if target.exists():
        old = Path(tempfile.mkdtemp(prefix=f".{target.name}.old.", dir=target.parent))
        os.replace(target, old)
        os.replace(folder, target)
        shutil.rmtree(old, ignore_errors=True)
    else:
        os.replace(folder, target)


def first_line(error: BaseException) -> str:
    """Of what went wrong first: the exporters wrap it several times over."""
    while error.__cause__ is not None:
        error = error.__cause__
    return next((line for line in str(error).splitlines() if line.strip()), type(error).__name__).strip()[:300]
