"""All formats give the network's numbers at other sizes than they were written with; what is no export is refused."""

from __future__ import annotations

import json
import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from networks import made

from eo_adapt import load
from eo_adapt.exporting.about import NotExportedError
from eo_adapt.exporting.archive import _check_expression
from eo_adapt.exporting.formats import check_libraries, read, trace, write


@pytest.fixture(
    scope="module", params=("pse_ltae", "unet", pytest.param("utae", marks=pytest.mark.slow))
)  # benchmarks/export.py has all of them
def written(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path, Any]:
    folder = tmp_path_factory.mktemp(request.param)
    network, layout, sensors, about = made(request.param)
    program = trace(network, layout, sensors)
    for form in ("pt2", "onnx", "safetensors"):
        write(form, folder / f"network.{form}", about, network, program, layout)
    return request.param, folder, (network, layout, sensors, about, program)


def test_all_formats_agree_with_the_network(written: tuple[str, Path, Any]) -> None:
    _, folder, (network, layout, sensors, about, _) = written
    for form in ("pt2", "onnx", "safetensors"):
        told, runner = read(folder / f"network.{form}")
        assert told == json.loads(json.dumps(about))
        for batch, more in ((1, 0), (3, 2), (2, 1)):
            tensors = layout.example(sensors, more, seed=batch, batch=batch)
            for name, mask in tensors.items():
                if name.endswith("valid"):
                    mask[0] = False  # a sample of which nothing is seen
            expected, found = network(tensors), runner(tensors)
            for mine, theirs in zip(expected, found, strict=True):
                torch.testing.assert_close(theirs, mine, rtol=1e-4, atol=1e-4)
            torch.testing.assert_close(expected[1], (expected[0] / 1.7).softmax(1))


def test_files_run_without_this_package(written: tuple[str, Path, Any]) -> None:
    _, folder, (network, layout, sensors, _, program) = written
    tensors = layout.example(sensors)
    session = onnxruntime.InferenceSession(str(folder / "network.onnx"))
    assert [one.name for one in session.get_inputs()] == [entry.name for entry in layout.entries]
    assert [one.name for one in session.get_outputs()] == ["logits", "probabilities"]
    logits, probabilities = session.run(None, {name: x.numpy() for name, x in tensors.items()})
    np.testing.assert_allclose(logits, network(tensors)[0].numpy(), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(probabilities.sum(1), 1, rtol=1e-5)
    loaded = torch.export.load(folder / "network.pt2").module()
    torch.testing.assert_close(loaded(tensors)[0], network(tensors)[0], rtol=1e-4, atol=1e-4)
    unused = [
        n.name for n in program.graph.nodes if n.op == "placeholder" and n.name.startswith("tensors") and not n.users
    ]
    assert not unused  # every input that is asked for is read


def test_a_predictor_says_what_it_is(written: tuple[str, Path, Any]) -> None:
    _, folder, (_, layout, sensors, about, _) = written
    predictor = load(folder)
    assert (predictor.domain, predictor.bands, predictor.units) == ("EE", about["bands"], about["units"])
    assert predictor.legend.names == ("maize", "soft wheat", "other")
    with pytest.raises(LookupError, match="is the network of 'EE', not of 'FR'"):
        load(folder, domain="FR")
    said = predictor(
        {s: {e.field: layout.example(sensors)[e.name] for e in layout.fields(s).values()} for s in sensors}
    )
    assert said.probabilities.shape[:2] == (2, 3)
    assert set(np.unique(said.classes)) <= set(predictor.legend.names)


class Bomb:
    """A pickle of it runs a command when it is opened."""

    command = "true"

    def __reduce__(self) -> Any:
        return os.system, (self.command,)


@pytest.mark.parametrize("suffix", [".pt2", ".onnx", ".safetensors", ".pt", ".pkl"])
def test_a_pickle_where_weights_should_be_is_not_opened(suffix: str, tmp_path: Path) -> None:
    path, left, bomb = tmp_path / f"network{suffix}", tmp_path / "was_run", Bomb()
    bomb.command = f"touch {left}"
    for content in (pickle.dumps(bomb), None):
        if content is None:
            torch.save({"weights": bomb}, path)
        else:
            path.write_bytes(content)
        with pytest.raises(NotExportedError, match=r"not opened|does not read|pickles and compiled code"):
            load(path)
    assert not left.exists()


def changed(path: Path, out: Path, edit: Any) -> Path:
    """A copy of an archive, its entries changed; ``edit(name, content)`` gives the new content."""
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(out, "w") as new:
        for name in old.namelist():
            new.writestr(name, edit(name, old.read(name)))
    return out


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    network, layout, sensors, about = made("pse_ltae")
    path = tmp_path_factory.mktemp("archive") / "network.pt2"
    write("pt2", path, about, network, trace(network, layout, sensors), layout)
    return path


@pytest.mark.parametrize(
    ("part", "old", "new", "message"),
    [
        ("model_weights_config.json", b'"use_pickle": false', b'"use_pickle": true', "as a pickle"),
        ("models/model.json", b"Symbol(", b"__import__('os').system(", "none of sizes"),
        ("sample_inputs/model.pt", b"", b"", "no plain tensors"),
    ],
)
def test_an_archive_with_code_is_not_opened(
    part: str, old: bytes, new: bytes, message: str, archive: Path, tmp_path: Path
) -> None:
    def edit(name: str, content: bytes) -> bytes:
        if not name.endswith(part):
            return content
        return content.replace(old, new) if old else pickle.dumps(Bomb(), protocol=2)

    with pytest.raises(NotExportedError, match=message):
        load(changed(archive, tmp_path / "network.pt2", edit))


def test_other_parts_of_an_archive_are_refused(archive: Path, tmp_path: Path) -> None:
    out = changed(archive, tmp_path / "a.pt2", lambda name, content: content)
    with zipfile.ZipFile(out, "a") as more:
        more.writestr(more.namelist()[0].partition("/")[0] + "/data/aotinductor/model/a.so", b"")
    with pytest.raises(NotExportedError, match=r"a\.so"):
        load(out)


@pytest.mark.parametrize(
    "text", ["Symbol('s1', integer=True) + 2*Max(1, Symbol('u0'))", "torch.sym_min(2, L['d'].size()[0]) < 9"]
)
def test_sizes_are_no_code(text: str) -> None:
    _check_expression(Path("a"), text)


@pytest.mark.parametrize(
    "text", ["exec('1')", "(lambda: 1)()", "L.__class__", "torch.load('a')", "[x for x in L]", "Symbol("]
)
def test_code_is_no_size(text: str) -> None:
    with pytest.raises(NotExportedError):
        _check_expression(Path("a"), text)


def test_a_card_builds_only_what_is_ours(tmp_path: Path) -> None:
    network, layout, _, about = made("pse_ltae")
    for target in (
        "os.system",
        "eo_adapt.encoders.parcel.Path",
        "eo_adapt.encoders.utae.torch.load",
        "eo_adapt.heads.base",
    ):
        about["config"]["head"] = {"_target_": target}
        write("safetensors", tmp_path / "a.safetensors", about, network, None, layout)
        with pytest.raises(NotExportedError, match="no encoder or head of this package"):
            load(tmp_path / "a.safetensors")


def test_weights_of_other_bands_are_said(tmp_path: Path) -> None:
    network, layout, _, about = made("pse_ltae")
    about |= {"sensors": {"s2": 5}, "statistics": {"s2": ([0.3] * 5, [0.2] * 5)}}
    write("safetensors", tmp_path / "a.safetensors", about, network, None, layout)
    with pytest.raises(NotExportedError, match="other weights than its card describes, bands or classes"):
        load(tmp_path / "a.safetensors")


def test_a_card_that_is_missing_or_of_another_format_is_said(tmp_path: Path) -> None:
    network, layout, _, about = made("pse_ltae")
    for wrong, message in (({"a": 1}, "does not say what bands"), ({**about, "format": 99}, "is of format 99")):
        write("safetensors", tmp_path / "a.safetensors", wrong, network, None, layout)
        with pytest.raises(NotExportedError, match=message):
            load(tmp_path / "a.safetensors")


def test_libraries_that_are_missing_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "onnxscript" else object())
    with pytest.raises(ImportError, match=r"format onnx needs \['onnxscript'\].*eo_adapt\[export\]"):
        check_libraries("onnx")
    check_libraries("safetensors")


def test_places_that_hold_nothing_are_said(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="holds neither an export"):
        load(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"there is no .*gone\.onnx"):
        load(tmp_path / "gone.onnx")
