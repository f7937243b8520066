"""Writing and reading the three formats. Nothing that is read may run code."""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .about import KEY, NotExportedError, packed, unpacked
from .inputs import Layout
from .network import OUTPUTS, PlainNetwork, rebuilt

Runner = Callable[[dict[str, Tensor]], tuple[Tensor, Tensor]]  # tensors by name -> logits, probabilities
SUFFIXES = {"pt2": ".pt2", "onnx": ".onnx", "safetensors": ".safetensors"}
LIBRARIES = {"pt2": (), "onnx": ("onnx", "onnxscript", "onnxruntime"), "safetensors": ("safetensors",)}
INSTALL = "pip install 'eo_adapt[export]'"


def check_libraries(form: str) -> None:
    """Raises ImportError, naming the extra, if a format's libraries are not installed."""
    from importlib.util import find_spec

    if missing := [name for name in LIBRARIES[form] if find_spec(name) is None]:
        raise ImportError(f"format {form} needs {missing}, which is not installed: {INSTALL}, or leave it out")


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without the exporters' talk; what goes wrong is raised."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def trace(network: PlainNetwork, layout: Layout, bands: Mapping[str, int]) -> torch.export.ExportedProgram:
    """The network as one graph, with the sizes free that the layout says are."""
    from torch.export import Dim

    dims: dict[str, Any] = {}
    for name, axis in layout.axes.items():
        if axis.dynamic:
            word = name.replace(".", "_")
            some = Dim(f"_{word}" if axis.step > 1 else word, min=-(-axis.least // axis.step))
            dims[name] = axis.step * some if axis.step > 1 else some
    shapes = {e.name: {i: dims[axis] for i, axis in enumerate(e.axes) if axis in dims} for e in layout.entries}
    example = layout.example(bands)
    with quiet():
        return torch.export.export(network, (example,), dynamic_shapes=(shapes,), strict=False)


def write(form: str, path: Path, about: Mapping[str, Any], network: PlainNetwork, program: Any, layout: Layout) -> None:
    """Write one format.

    Args:
        form: ``pt2``, ``onnx`` or ``safetensors``.
        path: The new file.
        about: Its card.
        network: The network.
        program: What :func:`trace` made of it; None for safetensors.
        layout: Its inputs.
    """
    text = packed(about)
    if form == "pt2":
        torch.export.save(program, path, extra_files={f"{KEY}.json": text})
    elif form == "onnx":
        _write_onnx(path, text, program, layout)
    else:
        from safetensors.torch import save_file

        state = {name: x.detach().cpu().clone().contiguous() for name, x in network.state_dict().items()}
        save_file(state, path, metadata={"format": "pt", KEY: text})


def _write_onnx(path: Path, text: str, program: Any, layout: Layout) -> None:
    names = [entry.name for entry in layout.entries]
    with quiet(), open_devnull():
        made = torch.onnx.export(
            program, input_names=names, output_names=list(OUTPUTS), dynamo=True, external_data=False, verbose=False
        )
    assert made is not None  # noqa: S101  (dynamo=True returns the program)
    made.model.metadata_props[KEY] = text
    made.save(str(path), external_data=False)


@contextlib.contextmanager
def open_devnull() -> Iterator[None]:
    """Swallow what is printed: the ONNX exporter writes its report to stdout."""
    import io

    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        yield


def read(path: Path, device: str = "cpu") -> tuple[dict[str, Any], Runner]:
    """A file's card and something that runs it.

    Raises:
        NotExportedError: If it is no file that this package exported.
        ImportError: If a library is missing.
        ValueError: If the format cannot run on the device.
    """
    form = next((form for form, suffix in SUFFIXES.items() if path.suffix == suffix), "")
    if not form:
        raise NotExportedError(
            f"{path} is none of {list(SUFFIXES.values())}: files of weights in other formats may hold code and are not "
            "opened; give an exported file, or the run directory"
        )
    check_libraries(form)
    readers = {"pt2": _read_pt2, "onnx": _read_onnx, "safetensors": _read_safetensors}
    return readers[form](path, device)


def _read_pt2(path: Path, device: str) -> tuple[dict[str, Any], Runner]:
    from .archive import check_archive

    check_archive(path)
    extra = {f"{KEY}.json": ""}
    with quiet():
        program = torch.export.load(path, extra_files=extra)
        if device != "cpu":
            from torch.export.passes import move_to_device_pass

            program = move_to_device_pass(program, device)
    about = unpacked(extra[f"{KEY}.json"], path)
    module = program.module()
    return about, lambda tensors: module(tensors)


def _read_onnx(path: Path, device: str) -> tuple[dict[str, Any], Runner]:
    import onnxruntime

    if device != "cpu":
        raise ValueError(f"ONNX files are run on the CPU here; for device={device!r} load the .safetensors or .pt2")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = torch.get_num_threads()
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its errors have no common base of their own
        raise NotExportedError(f"{path} does not read as an ONNX network: {str(error).splitlines()[0]}") from error
    about = unpacked(session.get_modelmeta().custom_metadata_map.get(KEY), path)

    def run(tensors: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        found = session.run(list(OUTPUTS), {name: x.numpy() for name, x in tensors.items()})
        return torch.from_numpy(found[0]), torch.from_numpy(found[1])

    return about, run


def _read_safetensors(path: Path, device: str) -> tuple[dict[str, Any], Runner]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as file:
            about = unpacked((file.metadata() or {}).get(KEY), path)
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (no mapping)
    except SafetensorError as error:
        raise NotExportedError(
            f"{path} is no safetensors file ({error}): a pickle of that name is not opened, for it may hold code"
        ) from error
    network = rebuilt(about, set(state))
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        raise NotExportedError(
            f"{path} holds other weights than its card describes, bands or classes included: {error}"
        ) from error
    network.to(device).eval().requires_grad_(False)
    return about, network
