"""What all verbs share: overrides checked before anything heavy is imported, and errors in one line.

``EO_ADAPT_DEBUG=1`` shows tracebacks.
"""

from __future__ import annotations

import os
import re
import sys
import warnings
from collections.abc import Callable
from typing import Any, NoReturn

# Before torch is imported: idle OpenMP threads that spin make a busy machine many times slower.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
# Hydra re-raises instead of printing, so that `launch` can say it in one line.
os.environ.setdefault("HYDRA_FULL_ERROR", "1")

import hydra
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from . import registry
from .paths import configs_dir

OWN_CONFIGS = ("--config-dir", "-cd", "--config-path", "-cp")
HELP = ("-h", "--help")
FLAGS = ("-h", "--help", "--hydra-help", "--version", "-m", "--multirun", "-c", "--cfg", "--info", "--package", "-p")


def launch(verb: str, work: Callable[[DictConfig], Any]) -> None:
    """Run one verb from the command line.

    Args:
        verb: Name of its config (``configs/<verb>.yaml``).
        work: What to do with the composed config; what it returns is the objective of a sweeper (Optuna).
    """
    arguments = sys.argv[1:]
    try:
        if any(a in HELP for a in arguments) and (text := options_of(verb)):
            print(text)
            return
        overrides = [a for a in arguments if not a.startswith("-")]
        sys.argv[1:] = registry.expand(arguments)
        if not any(a in OWN_CONFIGS for a in arguments):  # with a folder of the user's own, hydra alone knows all names
            check_names(overrides)
            if not any(a in FLAGS for a in arguments):
                compose(verb, overrides)

        def guarded(cfg: DictConfig) -> Any:
            try:
                return work(cfg)
            except Exception as error:
                stop(error)

        hydra.main(config_path=str(configs_dir()), config_name=verb, version_base="1.3")(guarded)()
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:
        stop(error)


def options_of(verb: str) -> str:
    """The options of a verb with their comments; "" for verbs that choose from groups: hydra's own help lists these."""
    path = configs_dir() / f"{verb}.yaml"
    listed: Any = OmegaConf.select(OmegaConf.load(path), "defaults", default=[])
    if any(entry != "_self_" and not str(next(iter(entry))).startswith("override ") for entry in listed):
        return ""
    blocks = re.split(r"\n(?=\S)", path.read_text().rstrip())
    kept = [block.rstrip() for block in blocks if not block.startswith(("defaults:", "hydra:"))]
    lines = [f"\n{block}" if block.startswith("#") else block for block in kept[1:]]
    return "\n".join([kept[0].removeprefix("# "), "", *lines])


def guard(work: Callable[[], None]) -> None:
    """Run something of a verb with errors in one line."""
    try:
        work()
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:
        stop(error)


def stop(error: Exception) -> NoReturn:
    """Say an error in one line and exit with 1; with ``EO_ADAPT_DEBUG`` set, show where it came from."""
    if os.environ.get("EO_ADAPT_DEBUG"):
        raise error
    print(f"error: {say(error)}", file=sys.stderr)
    sys.exit(1)


def check_names(overrides: list[str]) -> None:
    """Refuse ``group=name`` with a name that does not exist, naming the closest and all."""
    for override in overrides:
        match = re.fullmatch(r"(\w+)=([\w,]+)", override)
        if match and match[1] in registry.GROUPS:
            for name in match[2].split(","):
                registry.path_of(match[1], name)


def compose(verb: str, overrides: list[str]) -> None:
    """Compose once beforehand: hydra's own message for a mistyped key names no alternative."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            registry.config(*overrides, name=verb)
        except (HydraException, OmegaConfBaseException) as error:
            raise ValueError(_with_alternatives(verb, overrides, error)) from error


def _with_alternatives(verb: str, overrides: list[str], error: Exception) -> str:
    text = "\n".join(dict.fromkeys(f"{error}\n{error.__cause__ or ''}".strip().splitlines()))
    match = re.search(r"full_key: ([\w.]+)", text) or re.search(r"Could not override '([\w.]+)'", text)
    if match is None or "not in" not in text:
        return text
    *above, key = match[1].split(".")
    cfg = registry.config(*(o for o in overrides if o.partition("=")[0] in registry.GROUPS), name=verb)
    node = OmegaConf.select(cfg, ".".join(above)) if above else cfg
    known = sorted(str(k) for k in node if k not in ("_target_", "choices")) if isinstance(node, DictConfig) else []
    return f"there is no option {match[1]!r};{registry.closest(key, known)} {'.'.join(above) or verb} has {known}"


def say(error: BaseException) -> str:
    """An error for a person: its message, or its type when it has none."""
    text = str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)
    cause = error.__cause__
    if isinstance(error, HydraException) and cause is not None:
        text = f"{cause}"
    return text.strip() or type(error).__name__
