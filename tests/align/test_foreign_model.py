"""The alignments in three lines of somebody else's loop, without anything of ours but the folder."""

import shutil
import subprocess
import sys
from pathlib import Path

import eo_adapt.align

FOLDER = Path(eo_adapt.align.__file__).parent
LOOP = '''
import importlib, sys, warnings

BLOCKED = set(
    "hydra omegaconf yaml pytorch_lightning lightning torchmetrics torchvision timm einops numpy pandas pyarrow xarray "
    "zarr h5py scipy sklearn geopandas rioxarray rasterio matplotlib rich tensorboard".split()
)


class Block:
    """Nothing but torch and the standard library."""

    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in BLOCKED:
            raise ModuleNotFoundError(f"{name} is blocked", name=name)


sys.meta_path.insert(0, Block())
warnings.simplefilter("ignore")  # torch misses numpy
import torch
from torch import nn


class Theirs(nn.Module):
    def __init__(self, layer, norm):
        super().__init__()
        self.backbone = nn.Sequential(layer(3, 8), norm(8), nn.ReLU())
        self.classifier = layer(8, 4)

    def forward(self, x):
        features = self.backbone(x)
        return features, self.classifier(features)


def run(align, maps, Setup, View, Step):
    torch.manual_seed(0)
    if maps:
        model = Theirs(lambda i, o: nn.Conv2d(i, o, 1), nn.BatchNorm2d)
        xs, xt, ys = torch.randn(4, 3, 6, 5), torch.randn(2, 3, 5, 4) + 1, torch.randint(4, (4, 6, 5))
    else:
        model = Theirs(nn.Linear, nn.BatchNorm1d)
        xs, xt, ys = torch.randn(12, 3), torch.randn(9, 3) + 1, torch.randint(4, (12,))
    criterion = nn.CrossEntropyLoss()

    align.attach(model, Setup(width=8, classes=4))
    trained = [p for p in (*model.parameters(), *align.parameters()) if p.requires_grad]
    for number in range(1, 4):
        with align.scope(0):
            fs, zs = model(xs)
        with align.scope(1):
            ft, zt = model(xt)
        step = Step(model, criterion, align.scope, number / 3)
        terms = align((View(fs, zs, xs, 0, ys),), (View(ft, zt, xt, 1),), step)
        loss = criterion(zs, ys) + sum(terms.values())
        grads = torch.autograd.grad(loss, trained)
        assert loss.isfinite() and all(grad.isfinite().all() for grad in grads)
        assert grads[0].any()
        with torch.no_grad():  # torch.optim imports torch._dynamo, which looks for numpy
            for parameter, grad in zip(trained, grads):
                parameter -= 0.1 * grad
        align.after_step(model)
    model.eval()
    with align.scope(1):
        expected = align.predict(model, xt)
    assert torch.equal(align.export(model, 1)(xt)[1], expected)


def every(package):
    for file in files:  # every one of them, whether it is run below or not
        importlib.import_module(f"{package}.{file}")
    base = importlib.import_module(package)
    coral, csn, dann, mmd, stack = modules(package, "coral csn dann mmd stack")
    swd, cdan, wdgrl, mcd, mcc, self_training = modules(package, "swd cdan wdgrl mcd mcc self_training")
    for maps in (False, True):
        parts = {"csn": csn.CSN(), "coral": coral.CORAL(), "dann": dann.DANN()}
        alone = coral.CORAL(), mmd.MMD(max_rows=32), dann.DANN(), csn.CSN()
        more = swd.SWD(), cdan.CDAN(), wdgrl.WDGRL(), mcd.MCD(), mcc.MCC(), self_training.SelfTraining(start=0.0)
        for align in (*alone, *more, stack.Stack(parts)):
            run(align, maps, base.Setup, base.View, base.Step)


def modules(package, names):
    return [importlib.import_module(f"{package}.{name}") for name in names.split()]


def imported(root):
    return {name for name in sys.modules if name.split(".")[0] == root}


every("borrowed")
assert not imported("eo_adapt"), imported("eo_adapt")
every("eo_adapt.align")
assert all(name == "eo_adapt" or name.startswith("eo_adapt.align") for name in imported("eo_adapt"))
assert not {name.split(".")[0] for name in sys.modules} & BLOCKED
print("done")
'''


def test_three_lines_of_somebody_elses_loop(tmp_path):
    """As a folder copied into another project, and as installed; in one process, for torch is slow to import."""
    shutil.copytree(FOLDER, tmp_path / "borrowed", ignore=shutil.ignore_patterns("__pycache__"))
    files = [path.stem for path in FOLDER.glob("*.py") if path.stem != "__init__"]
    head = f"import sys\nsys.path[:0] = {[str(tmp_path), str(FOLDER.parents[1])]!r}\nfiles = {files!r}\n"
    done = subprocess.run(
        [sys.executable, "-c", head + LOOP], cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "done"
