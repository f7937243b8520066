"""Is this installation well? ``python -m eo_adapt.doctor`` says it in words."""

from __future__ import annotations

import os
import platform
import sys
import tempfile
from collections.abc import Callable, Iterator
from importlib import import_module, metadata
from pathlib import Path

from .paths import cache_dir, configs_dir, recipes_dir

PACKAGES = ("torch", "pytorch-lightning", "hydra-core", "numpy", "pandas", "pyarrow", "geopandas", "rasterio")
Finding = tuple[bool, str]


def versions() -> Iterator[Finding]:
    """Python and the packages that matter most."""
    yield sys.version_info >= (3, 11), f"Python {platform.python_version()} on {platform.platform()}"
    for name in PACKAGES:
        try:
            yield True, f"{name} {metadata.version(name)}"
        except metadata.PackageNotFoundError:
            yield False, f"{name} is not installed: pip install {name}"


def vision() -> Iterator[Finding]:
    """Torch and torchvision must come from the same build, or timm, smp and even Lightning fail to import."""
    import torch

    try:
        import torchvision
    except ImportError:
        yield True, "torchvision is not installed; crops do not need it, aerial backbones do"
    except (RuntimeError, OSError) as error:
        yield (
            False,
            (
                f"torchvision {metadata.version('torchvision')} does not fit torch {torch.__version__} ({error}); "
                "install both anew with one command: pip install --force-reinstall torch torchvision"
            ),
        )
    else:
        yield True, f"torchvision {torchvision.__version__} fits torch {torch.__version__}"


def gpu() -> Iterator[Finding]:
    """Accelerators."""
    import torch

    if torch.cuda.is_available():
        for i in range(torch.cuda.device_count()):
            yield True, f"GPU {i}: {torch.cuda.get_device_name(i)}"
    elif torch.backends.mps.is_available():
        yield True, "Apple GPU (mps)"
    else:
        yield True, f"no GPU: training runs on {os.cpu_count()} CPU cores"


def gdal() -> Iterator[Finding]:
    """GDAL, as rasterio carries it."""
    try:
        rasterio = import_module("rasterio")
    except ImportError as error:
        yield False, f"rasterio does not import ({error}); on Debian it needs libexpat1: apt-get install libexpat1"
    else:
        yield True, f"GDAL {rasterio.__gdal_version__} through rasterio {rasterio.__version__}"


def folders() -> Iterator[Finding]:
    """Shipped files and writable places."""
    yield True, f"configs: {configs_dir()}; recipes: {recipes_dir()}"
    for what, place in (("cache", cache_dir()), ("working directory", Path.cwd())):
        try:
            place.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=place):
                pass
            yield True, f"{what} {place} is writable"
        except OSError as error:
            yield False, f"{what} {place} is not writable ({error.strerror}); set EO_ADAPT_CACHE or change directory"


CHECKS: tuple[Callable[[], Iterator[Finding]], ...] = (versions, vision, gdal, gpu, folders)


def main() -> int:
    """Print every finding; 1 if something is wrong."""
    well = True
    for check in CHECKS:
        for fine, words in check():
            well &= fine
            print(f"{'ok  ' if fine else 'BAD '} {words}")
    print("all is well" if well else "something is wrong: see the lines marked BAD")
    return 0 if well else 1


if __name__ == "__main__":
    sys.exit(main())
