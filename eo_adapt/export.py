"""A run's network of one domain as files: ``python -m eo_adapt.export run=<run directory> domain=<name>``."""

from __future__ import annotations

from pathlib import Path

if __name__ == "__main__":
    from eo_adapt.cli import launch

from omegaconf import DictConfig


def main(cfg: DictConfig) -> None:
    """What the command line runs.

    Raises:
        ValueError: If run is missing.
    """
    if not cfg.run:
        raise ValueError("export needs run: python -m eo_adapt.export run=<run directory> [domain=<name>]")
    from .exporting.write import export_run

    folder = export_run(
        Path(cfg.run),
        cfg.domain or None,
        Path(cfg.out) if cfg.out else None,
        list(cfg.formats),
        cfg.checkpoint,
        cfg.licence,
        tuple(cfg.size),
        cfg.force,
    )
    for path in sorted(folder.iterdir()):
        print(f"{path.stat().st_size:>12,} {path.name}")
    print(f"outputs: {folder}")


if __name__ == "__main__":
    launch("export", main)
