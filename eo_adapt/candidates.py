"""What each checkpoint of a run would have scored: the ground truth that selection criteria are judged by."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from torch import Tensor

    from .data.datamodule import DomainDataModule
    from .selection.base import Outputs
    from .task import AdaptationTask


def kept_epochs(folder: Path) -> list[Path]:
    """Checkpoints of a run's epochs, in order; a benchmark deletes them once they are scored."""
    return sorted((folder / "checkpoints").glob("epoch_*.ckpt"))


def to_score(folder: Path) -> bool:
    """Whether a run has epochs to score; where some are gone, scores that are there are better than new ones."""
    import torch

    paths = kept_epochs(folder)
    if not paths or not (folder / "candidates.parquet").exists():
        return bool(paths)
    history = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)["history"]
    return len(paths) == max(map(len, history.values()))


def score_candidates(task: AdaptationTask, data: DomainDataModule, folder: Path) -> pd.DataFrame:
    """Score every kept epoch of a run on the sealed test parcels and write ``candidates.parquet``.

    Needs ``trainer.keep=all`` and the labels opened. One row an epoch that may be chosen; columns: epoch,
    ``select/<criterion>`` as logged in training, ``val/<target>`` (macro-F1 of the shared classes on labelled
    target-val: what an oracle would choose by), ``<score>/<domain>`` on test for closed_macro_f1, macro_f1, accuracy
    and ece, ``a_distance/<target>``. Of maps ``val/<target>`` is the mean intersection over union, and closed_miou and
    miou are there, too.

    Args:
        task: The run's task, its weights are overwritten.
        data: The domains, opened for the evaluator.
        folder: The run directory.

    Raises:
        FileNotFoundError: If the run kept no epochs.
    """
    import pandas as pd
    import torch

    from .evaluate import load
    from .tables import write_frame

    paths = kept_epochs(folder)
    if not paths:
        raise FileNotFoundError(f"no epoch was kept in {folder / 'checkpoints'}; train with trainer.keep=all")
    last = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)
    history, rows = last["history"], []
    for path in paths:
        if (epoch := int(re.sub(r"\D", "", path.stem))) < last["warmup"]:
            continue
        load(task, data, path)
        scores = {f"select/{name}": values[epoch] for name, values in history.items()}
        rows.append({"epoch": epoch, **scores, **_score(task, data)})
    frame = pd.DataFrame(rows)
    write_frame(frame, folder / "candidates.parquet")
    return frame


def _score(task: AdaptationTask, data: DomainDataModule) -> dict[str, float]:
    """Test scores of the weights that are loaded, by domain."""
    from .calibration import calibrated, expected_calibration_error
    from .evaluate import part_outputs, source_temperature
    from .metrics import macro_f1, overall_accuracy

    classes, shared = data.scored_classes(), set(data.label_set.shared)
    rows = [i for i, name in enumerate(classes.names) if name in shared]
    temperature = source_temperature(task, data)
    if data.maps:
        return _score_maps(task, data, temperature)
    found: dict[str, float] = {}
    features: dict[str, list[np.ndarray]] = {"source": [], "target": []}
    for i, d in enumerate(data.parcels):
        domain, name = (0 if data.oracle else i), d.domain.name
        if d.role == "target":
            val = part_outputs(task, data, data.sealed(d, "val"), domain)
            found[f"val/{name}"] = macro_f1(_matrix(val, len(classes)), rows)
        test = part_outputs(task, data, data.sealed(d), domain)
        features[d.role].append(test.features.numpy())
        matrix = _matrix(test, len(classes))
        p = calibrated(test.logits, temperature)
        found |= {
            f"closed_macro_f1/{name}": macro_f1(matrix, rows),
            f"macro_f1/{name}": macro_f1(matrix),
            f"accuracy/{name}": overall_accuracy(matrix),
            f"ece/{name}": expected_calibration_error(p.amax(1), p.argmax(1).eq(_labels(test))),
        }
    return found | _distances(features, [d.domain.name for d in data.parcels if d.role == "target"])


def _score_maps(task: AdaptationTask, data: DomainDataModule, temperature: float) -> dict[str, float]:
    """The same of maps: by intersection over union, with features of patches and confidences of sampled pixels."""
    from .calibration import calibrated, expected_calibration_error
    from .metrics import macro_f1, mean_iou, overall_accuracy
    from .report.map_scores import score_maps

    classes, shared = data.scored_classes(), set(data.label_set.shared)
    rows = [i for i, name in enumerate(classes.names) if name in shared]
    found: dict[str, float] = {}
    features: dict[str, list[np.ndarray]] = {"source": [], "target": []}
    for i, d in enumerate(data.parcels):
        domain, name = (0 if data.oracle else i), d.domain.name
        if d.role == "target":
            val = data.sealed(d, "val")
            matrices = score_maps(task, data, val, domain, len(classes)).matrices.sum(0) if len(val) else None
            found[f"val/{name}"] = math.nan if matrices is None else mean_iou(matrices, rows)  # nan: no oracle
        test = score_maps(task, data, data.sealed(d), domain, len(classes))
        features[d.role].append(test.features.numpy())
        matrix, p = test.matrices.sum(0), calibrated(test.logits, temperature)
        found |= {
            f"closed_miou/{name}": mean_iou(matrix, rows),
            f"miou/{name}": mean_iou(matrix),
            f"closed_macro_f1/{name}": macro_f1(matrix, rows),
            f"accuracy/{name}": overall_accuracy(matrix),
            f"ece/{name}": expected_calibration_error(p.amax(1), p.argmax(1).eq(test.labels)),
        }
    return found | _distances(features, [d.domain.name for d in data.parcels if d.role == "target"])


def _matrix(said: Outputs, classes: int) -> Tensor:
    from .metrics import confusion

    return confusion(_labels(said), said.logits.argmax(1), classes)


def _labels(said: Outputs) -> Tensor:
    assert said.labels is not None  # noqa: S101  (opened parts have labels)
    return said.labels


def _distances(features: dict[str, list[np.ndarray]], targets: list[str]) -> dict[str, float]:
    import numpy as np

    source = np.concatenate(features["source"])
    return {f"a_distance/{t}": a_distance(source, x) for t, x in zip(targets, features["target"], strict=True)}


def a_distance(a: np.ndarray, b: np.ndarray, folds: int = 5) -> float:
    """Proxy A-distance 2 (1 - 2 error) of a linear probe, in [0, 2]; nan with fewer than ``folds`` samples on a side.

    The probe is a ridge classifier on standardised features with classes weighted alike; its balanced error is
    cross-validated and cut off at one half.

    Args:
        a: (N, D) features of one side.
        b: (M, D) features of the other.
        folds: Parts of the cross-validation.

    Source: Ben-David et al. 2007, with the error of one linear probe for the smallest error of all.
    """
    import numpy as np
    from sklearn.linear_model import RidgeClassifier
    from sklearn.metrics import balanced_accuracy_score
    from sklearn.model_selection import StratifiedKFold, cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    if min(len(a), len(b)) < folds:
        return float("nan")
    x, y = np.concatenate([a, b]), np.repeat([0, 1], [len(a), len(b)])
    probe = make_pipeline(StandardScaler(), RidgeClassifier(class_weight="balanced"))
    guess = cross_val_predict(probe, x, y, cv=StratifiedKFold(folds, shuffle=True, random_state=0))
    error = min(0.5, 1 - float(balanced_accuracy_score(y, guess)))
    return 2 * (1 - 2 * error)
