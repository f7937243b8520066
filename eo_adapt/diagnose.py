"""Say what kind of shift separates source and target: ``python -m eo_adapt.diagnose shift=embedded``, before training.

With ``run=<run dir>`` (or a list) also what trained networks make of the domains. No target label is opened unless
``labels=true``, which is written to ``audit.jsonl`` and stamped on the results.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

if __name__ == "__main__":
    from eo_adapt.cli import launch  # first: sets the environment that torch reads when it is imported

from omegaconf import DictConfig

if TYPE_CHECKING:
    import numpy as np

    from .data.datamodule import DomainDataModule
    from .diagnosis import Diagnosis
    from .diagnosis.network import Seen

WHERE = ("root", "store")  # data options that say where files lie, not what they are
WHAT = ("recipe", "generator", "bands", "classes", "join", "coarsen", "min_per_class", "split")  # must agree with a run


def diagnose_shift(config: Mapping[str, Any] | DictConfig, folder: Path | str, words: Sequence[str] = ()) -> Diagnosis:
    """Diagnose the shift of a config and write diagnosis.json and diagnosis.html.

    Args:
        config: As :func:`eo_adapt.registry.config` composes it; ``name="diagnose"`` adds ``run``, ``checkpoint``,
            ``labels`` and ``parcels``, which a training config may lack.
        folder: Where to write; made if missing. Run directories are only read.
        words: The words of the command line, for the page to repeat; () = those of the config's shift and own options.

    Raises:
        FileNotFoundError: If a run has no config or checkpoint.
        ValueError: If the shift has no target, a domain is too small, or a run is of another shift.
    """
    import json

    from .diagnosis import diagnose
    from .rundir import config_hash, version, write_text
    from .train import as_plain

    plain, folder = as_plain(config), Path(folder)
    runs = [plain["run"]] if isinstance(plain.get("run") or [], str) else list(plain.get("run") or [])
    configs = [run_config(Path(run), plain) for run in runs]  # wrong runs are refused before any work
    data = build_data(plain)
    folder.mkdir(parents=True, exist_ok=True)
    truth = open_labels(data, plain, folder) if plain.get("labels") else None
    found = diagnose(data, plain["seed"], plain.get("parcels", 1500), truth)
    if runs:
        seen = [see(cfg, Path(run), plain.get("checkpoint", "best")) for cfg, run in zip(configs, runs, strict=True)]
        found = replace(found, runs=compare(seen, plain["seed"]))
    about = {
        "version": version(),
        "shift": plain["choices"]["shift"],
        "seed": plain["seed"],
        "config_sha256": config_hash(plain),
    }
    write_text(folder / "diagnosis.json", json.dumps({**about, **found.to_dict()}, indent=1))
    write_page(found, plain, folder, words or own_words(plain))
    return found


def build_data(config: Mapping[str, Any]) -> DomainDataModule:
    """The shift's domains, set up."""
    from .registry import instantiate
    from .types import Shift

    shift: Shift = instantiate(config["shift"])
    if not shift.targets:
        raise ValueError(
            f"a diagnosis compares sources with a target; shift={config['choices']['shift']} has no target. Choose "
            "one with targets: python -m eo_adapt.list shifts"
        )
    data: DomainDataModule = instantiate(
        config["data"], shift=shift, seed=config["seed"], kind=config["label_set"], oracle=False
    )
    if data.maps:
        raise ValueError(
            f"diagnose measures shifts between parcels; shift={config['choices']['shift']} is about images. Compare "
            "methods on it instead: python -m eo_adapt.benchmark suite=aerial_embedded, or a suite of your own"
        )
    data.setup()
    return data


def open_labels(data: DomainDataModule, config: Mapping[str, Any], folder: Path) -> dict[str, np.ndarray]:
    """Class names of the targets' train and val parcels, "" on the others; writes a line to ``audit.jsonl``.

    Raises:
        ValueError: If no target has labels. Nothing is opened or written then.
    """
    import numpy as np

    from .rundir import audit

    there = data.store.index["label"].to_numpy(str) != ""
    if not any(there[d.rows].any() for d in data.parcels if d.role == "target"):
        mine = [d.domain.name for d in data.parcels if d.role == "target"]
        raise ValueError(f"labels=true opens the labels of {mine}, but these targets have none; leave labels=true out")
    truth = {}
    with data.opened(lambda: void(audit(folder, config, "diagnose labels=true"))):
        names = np.array(data.scored_classes().names)
        for d in data.parcels:
            if d.role == "target":
                truth[d.domain.name] = labels = np.full(len(d.rows), "", dtype=names.dtype)
                place = {int(row): i for i, row in enumerate(d.rows)}
                for split in ("train", "val"):
                    part = data.sealed(d, split)
                    assert part.labels is not None  # noqa: S101  (sealed parts have labels)
                    labels[[place[row] for row in part.rows.tolist()]] = names[part.labels.numpy()]
    return truth


def void(_: object) -> None:
    """Drop a value: what opens labels returns nothing."""


# -- trained networks ------------------------------------------------------------------------------------------------


def run_config(folder: Path, config: Mapping[str, Any]) -> dict[str, Any]:
    """The config of a run on the same shift, with data where they lie now.

    Raises:
        FileNotFoundError: If the folder holds no run.
        ValueError: If the run is about another shift or other data; says what differs.
    """
    import yaml

    if not (folder / "config.yaml").is_file():
        raise FileNotFoundError(f"no run in {folder} (it has no config.yaml); give the folder that training printed")
    name = f"{config.get('checkpoint', 'best')}.ckpt"
    if not (folder / "checkpoints" / name).is_file():
        there = sorted(p.name for p in (folder / "checkpoints").glob("*.ckpt"))
        raise FileNotFoundError(
            f"the run in {folder} has no checkpoint {name}; there are {there}. Train it, or checkpoint="
        )
    mine: dict[str, Any] = yaml.safe_load((folder / "config.yaml").read_text())
    pairs = {"shift": (mine["shift"], config["shift"])}
    pairs |= {f"data.{key}": (mine["data"].get(key), config["data"].get(key)) for key in WHAT}
    if different := [key for key, (a, b) in pairs.items() if a != b]:
        raise ValueError(
            f"the run in {folder} differs from this diagnosis in {different}: it was trained with "
            f"shift={mine.get('choices', {}).get('shift', '?')}, this is shift={config['choices']['shift']}. Diagnose "
            "with the run's own shift= and data options"
        )
    changes = {key: config["data"][key] for key in WHERE if config["data"].get(key)}
    return {**mine, "data": {**mine["data"], **changes}}


def see(config: Mapping[str, Any], folder: Path, checkpoint: str) -> dict[str, Seen]:
    """Target -> features of validation parcels, source error and calibration of one run."""
    import numpy as np
    import torch

    from .assemble import build_task
    from .data.loader import Part
    from .diagnosis.network import Seen, confidence
    from .diagnosis.table import blocks_of
    from .evaluate import load, part_outputs

    task, data = build_task(config)
    load(task, data, folder / "checkpoints" / f"{checkpoint}.ckpt")
    rows = [d.of("val")[0] for d in data.parcels]
    places = data.store.index[["x", "y"]].to_numpy(float)[np.concatenate(rows)]
    blocks, _ = blocks_of(places, [len(r) for r in rows], data.split.block_size)
    features, logits, labels = [], [], []
    for i, d in enumerate(data.parcels):
        out = part_outputs(task, data, Part(torch.from_numpy(rows[i]), None), 0 if data.oracle else i)
        assert out.features is not None  # noqa: S101  (a network has features)
        features.append(out.features.double().numpy())
        if d.role == "source":
            truth = torch.from_numpy(data.legend.encode(d.of("val")[1]))
            logits.append(out.logits[truth >= 0])
            labels.append(truth[truth >= 0])
    said, known = torch.cat(logits), torch.cat(labels)
    sources = [i for i, d in enumerate(data.parcels) if d.role == "source"]
    pooled = [np.concatenate([x[i] for i in sources]) for x in (features, blocks)]
    name = f"{config.get('choices', {}).get('method', folder.name)}, seed {config['seed']}"
    quality = float((said.argmax(1) != known).double().mean()), len(known), confidence(said, known)
    return {
        d.domain.name: Seen(name, pooled[0], features[i], pooled[1], blocks[i], *quality)
        for i, d in enumerate(data.parcels)
        if d.role == "target"
    }


def compare(seen: Sequence[Mapping[str, Seen]], seed: int) -> dict[str, Any]:
    """Rows of the table of runs, and warnings where alignment costs the classes."""
    from .diagnosis.network import joint_error, row

    rows, warnings = [], []
    for target in seen[0]:
        mine = [{**row(run[target], seed), "target": target} for run in seen]
        warnings += joint_error(mine)
        rows += mine
    return {"rows": rows, "targets": list(seen[0]), "warnings": warnings}


# -- output ----------------------------------------------------------------------------------------------------------


def own_words(config: Mapping[str, Any]) -> list[str]:
    """Shift, seed and what a config says of the diagnosis itself, as words for the command line."""
    words = [f"shift={config['choices']['shift']}", f"seed={config['seed']}"]
    words += [f"parcels={config['parcels']}"] if "parcels" in config else []
    return words + (["labels=true"] if config.get("labels") else [])


def write_page(found: Diagnosis, config: Mapping[str, Any], folder: Path, words: Sequence[str]) -> None:
    """diagnosis.html."""
    from .diagnosis.page import fill
    from .report.look import style
    from .report.page import Page

    page = Page(f"Diagnosis of {config['choices']['shift']}", found.targets[0].findings[0].sentence)
    with style():
        fill(page, found, shlex.join(["python", "-m", "eo_adapt.diagnose", *words]))
        page.write(folder / "diagnosis.html")


def main(cfg: DictConfig) -> None:
    """What the command line runs."""
    from hydra.core.hydra_config import HydraConfig

    from .registry import GROUPS, with_choices

    hydra = HydraConfig.get()
    choices = {k: v for k, v in hydra.runtime.choices.items() if k in GROUPS}
    folder = Path(hydra.runtime.output_dir)
    found = diagnose_shift(with_choices(cfg, choices), folder, list(hydra.overrides.task))
    for sentence in found.sentences:
        print(f"- {sentence}")
    method, why = found.recommended
    print(f"recommended: method={method} ({why.removesuffix('.')})")
    if found.labels_opened:
        print("target labels of train and val parcels were opened (labels=true); see audit.jsonl")
    print(f"outputs: {folder}")


if __name__ == "__main__":
    launch("diagnose", main)
