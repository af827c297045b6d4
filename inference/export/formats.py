"""Writing a model in one of the formats; each takes the finished metadata along."""

import contextlib
import io
import logging
import os
import re
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from models.detector import DETR
from models.segmentation import DETRsegm
from util.errors import UserError

from .metadata import ExportMetadata
from .wrapper import INPUTS, Canvas, TensorDetector

#: The suffix of each format.
SUFFIXES = {"onnx": ".onnx", "torch_export": ".pt2", "safetensors": ".safetensors"}


@dataclass(frozen=True)
class Writer:
    """A format beside its library: it writes a model and its metadata to a path."""

    write: Callable[[DETR | DETRsegm, ExportMetadata, Path], None]
    packages: tuple[str, ...]


def write_model(format_: str, model: DETR | DETRsegm, metadata: ExportMetadata, path: Path) -> None:
    """Write `model` in a format of `SUFFIXES`. Raises UserError where a package is missing or tracing stops."""
    writer = WRITERS[format_]
    for package in writer.packages:
        try:
            __import__(package)
        except ImportError:
            raise UserError(
                f"--format {format_} needs the package {package}: pip install {' '.join(writer.packages)}"
            ) from None
    writer.write(model, metadata, path)


def trace(model: DETR | DETRsegm, canvas: Canvas) -> torch.export.ExportedProgram:
    """Return the model's graph over tensors (see `TensorDetector`). Raises UserError, which says where it stopped."""
    detector = TensorDetector(model)
    try:
        with torch.no_grad(), _quietly(), without_cache():
            return torch.export.export(detector, canvas.example(), dynamic_shapes=canvas.dynamic_shapes(), strict=False)
    except Exception as error:  # whatever stops the tracer is the model's, and has to be told with its place
        raise UserError(f"the model cannot be traced: {_one_line(error)} ({_place(error)})") from error


def _write_onnx(model: DETR | DETRsegm, metadata: ExportMetadata, path: Path) -> None:
    """Write an ONNX graph whose free axes are called batch, height and width."""
    program = trace(model, metadata.canvas)
    outputs = TensorDetector(model).outputs
    try:
        with torch.no_grad(), _quietly(), without_cache():
            onnx = torch.onnx.export(
                program, (), dynamo=True, input_names=list(INPUTS), output_names=list(outputs), verbose=False
            )
    except Exception as error:
        raise UserError(f"the graph cannot be written as ONNX: {_one_line(error)} ({_place(error)})") from error
    assert onnx is not None
    _name_axes(onnx.model.graph)
    onnx.model.metadata_props.update(metadata.to_strings())
    onnx.save(path)


def _name_axes(graph: Any) -> None:
    """Call the free axes batch, height and width; PyTorch numbers them, and also those of other tensors by them."""
    names: dict[str, str] = {}
    for value, axes in zip(graph.inputs, (("batch", "", "height", "width"), ("batch", "height", "width")), strict=True):
        names |= {axis.value: name for axis, name in zip(value.shape, axes, strict=True) if not isinstance(axis, int)}
    if not names:
        return
    # PyTorch writes other axes as formulas of these, as `s34//4`: the names inside of them are replaced, whole words
    # only.
    pattern = re.compile("|".join(rf"\b{re.escape(name)}\b" for name in names))
    values = [*graph.inputs, *(output for node in graph for output in node.outputs)]
    for value in (value for value in values if value.shape is not None):
        for k, axis in enumerate(value.shape):
            if not isinstance(axis, int) and axis.value is not None:
                value.shape[k] = pattern.sub(lambda found: names[found.group()], axis.value)


def _write_torch_export(model: DETR | DETRsegm, metadata: ExportMetadata, path: Path) -> None:
    torch.export.save(trace(model, metadata.canvas), path, extra_files=metadata.to_strings())


def _write_safetensors(model: DETR | DETRsegm, metadata: ExportMetadata, path: Path) -> None:
    from safetensors.torch import save_file

    # Clones: safetensors refuses two names for one memory.
    tensors = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in model.state_dict().items()}
    save_file(tensors, path, metadata=metadata.to_strings())


#: How each format of `SUFFIXES` is written.
WRITERS = {
    "onnx": Writer(_write_onnx, ("onnx", "onnxscript", "onnxruntime")),
    "torch_export": Writer(_write_torch_export, ()),
    "safetensors": Writer(_write_safetensors, ("safetensors",)),
}


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """Keep what exporters print about their own steps off the terminal; errors are raised as ever."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)


@contextlib.contextmanager
def without_cache() -> Iterator[None]:
    """Compute the sizes of each operator's result anew: where sizes are free, a cache of them costs a quarter more."""
    import torch._dynamo.config as config

    # A setting of the tracer alone; a version without it traces as it does.
    setting = {"fake_tensor_cache_enabled": False} if hasattr(config, "fake_tensor_cache_enabled") else {}
    with config.patch(setting):  # type: ignore[attr-defined]
        yield


def _one_line(error: Exception) -> str:
    text = str(error).strip() or type(error).__name__
    return " ".join(text.splitlines()[0].split())


def _place(error: Exception) -> str:
    """The last line of this project's own code that an error came through."""
    root, place = Path(__file__).resolve().parents[2], "outside of this project's code"
    trace_ = error.__traceback__
    while trace_ is not None:
        file = Path(trace_.tb_frame.f_code.co_filename)
        # Overwritten on the way in: the innermost frame of ours is left, below it are only PyTorch's.
        if file.is_relative_to(root / "models") or file.is_relative_to(root / "util"):
            place = f"{os.fspath(file.relative_to(root))}:{trace_.tb_lineno}"
        trace_ = trace_.tb_next
    return place
