"""What to cite for a run: its data, method, encoder and selection criterion, as BibTeX."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

BIB = Path(__file__).parents[1] / "citations.bib"

# Name in configs/<group> -> entries of citations.bib; an empty tuple where there is nothing to cite.
CITED: dict[str, dict[str, tuple[str, ...]]] = {
    "method": {
        "adabn": ("li2016adabn",),
        "adda": ("tzeng2017adda",),
        "advent": ("vu2019advent",),
        "anil": ("raghu2020anil", "finn2017maml"),
        "balanced": ("garg2023rlsbench",),
        "bnm": ("cui2020bnm",),
        "cdan": ("long2018cdan", "ganin2016dann"),
        "class_mmd": ("zhu2020dsan",),
        "coral": ("sun2016coral",),
        "csn": ("wang2022lovecs", "chang2019dsbn", "li2016adabn"),
        "dacs": ("tranheden2021dacs", "olsson2021classmix", "hoyer2022daformer"),
        "daformer": ("hoyer2022daformer", "tranheden2021dacs", "olsson2021classmix"),
        "dann": ("ganin2016dann",),
        "dcs": ("marsocci2023geomultitasknet", "li2022gcw"),
        "deepjdot": ("damodaran2018deepjdot", "fatras2021jumbot"),
        "entropy": ("grandvalet2005entropy",),
        "fda": ("yang2020fda",),
        "few_shot": (),
        "fine_tune": ("reuss2024eurocropsml",),
        "fomaml": ("finn2017maml",),
        "geomt": ("marsocci2023geomultitasknet",),
        "geomultitasknet": ("marsocci2023geomultitasknet", "li2022gcw"),
        "groupdro": ("sagawa2020groupdro",),
        "histogram_matching": (),
        "infomax": ("shi2012infomax", "liang2020shot"),
        "irm": ("arjovsky2019irm",),
        "jan": ("long2017jan",),
        "label_shift": ("lipton2018bbse", "saerens2002priors", "alexandari2020em"),
        "lovecs": (
            "wang2022lovecs",
            "chang2019dsbn",
            "li2016adabn",
            "zou2018cbst",
            "tarvainen2017meanteacher",
            "sohn2020fixmatch",
        ),
        "maml": ("finn2017maml",),
        "mcc": ("jin2020mcc",),
        "mcd": ("saito2018mcd",),
        "mic": ("hoyer2023mic",),
        "mldg": ("li2018mldg",),
        "mmd": ("gretton2012mmd", "long2015dan"),
        "self_training": ("wang2022lovecs", "zou2018cbst", "tarvainen2017meanteacher", "sohn2020fixmatch"),
        "source_only": (),
        "stack": (),  # its parts are cited
        "style_gram": ("gatys2016style", "marsocci2023geomultitasknet"),
        "swd": ("rabin2012sliced", "lee2019swd"),
        "target_only": (),
        "tent": ("wang2021tent", "niu2022eata"),
        "timematch": ("nyborg2022timematch", "tarvainen2017meanteacher"),
        "vrex": ("krueger2021vrex",),
        "wdgrl": ("shen2018wdgrl", "gulrajani2017wgangp"),
    },
    "encoder": {
        "fusion": ("garnot2022multimodal",),
        "gru": (),
        "ltae": ("garnot2020ltae",),
        "map_fusion": ("garnot2022multimodal", "garnot2021utae", "he2016resnet"),
        "parcel_fusion": ("garnot2022multimodal", "garnot2020pse", "garnot2020ltae"),
        "parcel_transformer": ("reuss2024eurocropsml",),
        "point_pillars": ("lang2019pointpillars", "he2016resnet"),
        "pse_ltae": ("garnot2020pse", "garnot2020ltae"),
        "pse_tae": ("garnot2020pse",),
        "series_fusion": ("garnot2022multimodal", "garnot2021utae"),
        "tae": ("garnot2020pse",),
        "tempcnn": ("pelletier2019tempcnn",),
        "timm_pyramid": ("he2016resnet",),
        "tsvit": ("tarasiou2023tsvit",),
        "u_tt": ("garioud2023flair", "garnot2021utae", "he2016resnet"),
        "unet3d": ("cicek2016unet3d",),
        "utae": ("garnot2021utae",),
        "utae_small": ("garnot2021utae",),
    },
    "head": {
        "auxiliary": ("garnot2022multimodal",),
        "classify": ("garnot2020pse",),
        "decision": ("garnot2022multimodal",),
        "deeplabv3plus": ("chen2018deeplab",),
        "dense": ("garnot2021utae",),
        "fpn": ("kirillov2019fpn",),
        "map_auxiliary": ("garnot2022multimodal", "ronneberger2015unet"),
        "map_decision": ("garnot2022multimodal",),
        "paps": ("garnot2021utae", "law2018cornernet"),
        "segformer": ("xie2021segformer",),
        "unet": ("ronneberger2015unet",),
        "upernet": ("xiao2018upernet",),
    },
    "selection": {
        "auto": ("musgrave2022validators",),
        "bnm": ("cui2020bnm", "musgrave2022validators"),
        "class_ami": ("musgrave2022validators",),
        "dev": ("you2019dev",),
        "ensemble": ("hu2023mixval",),
        "entropy": ("morerio2018entropy",),
        "infomax": ("musgrave2022validators",),
        "iw": ("sugiyama2007iwcv",),
        "last": (),
        "mixval": ("hu2023mixval",),
        "mixval_inter": ("hu2023mixval",),
        "mixval_intra": ("hu2023mixval",),
        "oracle": (),
        "snd": ("saito2021snd",),
        "source_val": (),
    },
    "report": {
        "calibration": ("guo2017calibration",),
        "area": ("olofsson2014area",),
        "panoptic": ("kirillov2019panoptic",),
    },
}


@cache
def library() -> dict[str, str]:
    """Key -> entry, of the shipped citations.bib."""
    entries = re.split(r"\n(?=@)", BIB.read_text(encoding="utf-8").strip())
    return {entry[entry.index("{") + 1 : entry.index(",")]: entry.strip() for entry in entries}


def citations(report: Mapping[str, Any], config: Mapping[str, Any], about: Mapping[str, Any]) -> list[str]:
    """BibTeX entries of a run, data first, each once.

    Args:
        report: As :func:`.run.write_report` made it.
        config: The run's config; says of what a stack is made.
        about: ``recipe`` and ``citation`` of the data.
    """
    parts = (config.get("method") or {}).get("parts") or {}
    shown = {block for d in report["domains"].values() for block in CITED["report"] if d.get(block)}
    wanted = [("method", name) for name in (*str(report["method"]).split("+"), *parts)]
    wanted += [
        ("encoder", report["encoder"]),
        ("head", str(report.get("head", ""))),
        ("selection", report["selector"]),
        *(("report", b) for b in sorted(shown)),
    ]
    keys = [key for group, name in wanted for key in CITED[group].get(str(name), ())]
    return [*data_entries(about), *(library()[key] for key in dict.fromkeys(keys))]


def data_entries(about: Mapping[str, Any]) -> list[str]:
    """The citation block of a recipe or store as BibTeX: ``{text, doi}``, several of them, or a plain sentence."""
    blocks = about.get("citation") or []
    blocks = blocks if isinstance(blocks, Sequence) and not isinstance(blocks, str) else [blocks]
    name = re.sub(r"[^A-Za-z0-9]+", "_", Path(str(about.get("recipe") or about.get("name") or "data")).stem).strip("_")
    return [_misc(name + (f"_{i}" if i else ""), block) for i, block in enumerate(blocks)]


def _misc(key: str, block: Mapping[str, Any] | str) -> str:
    fields = {"note": block} if isinstance(block, str) else {"note": block.get("text"), "doi": block.get("doi")}
    lines = [f"  {f} = {{{_tex(str(v)) if f == 'note' else v}}}" for f, v in fields.items() if v]
    return f"@misc{{{key or 'data'},\n" + ",\n".join(lines) + "\n}"


def _tex(text: str) -> str:
    return re.sub(r"([&%#$_])", r"\\\1", re.sub(r"[{}\\]", "", " ".join(text.split())))
