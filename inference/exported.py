"""Files that `export.py` wrote, run as a model: ONNX by onnxruntime, the others by PyTorch."""

import os
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.torch_version import TorchVersion

from models.attention import AttentionMaps
from models.config import build_detector
from models.empty_weights import EmptyWeights
from util.dist.accelerator import accelerator
from util.errors import CheckpointError, UserError
from util.nested_tensor import NestedTensor
from util.runs.checkpoint import load_model

from .export.metadata import ExportMetadata
from .export.wrapper import INPUTS, Canvas

#: Files that `open_exported` reads.
EXPORTED = (".onnx", ".pt2", ".safetensors")


class Graph(Protocol):
    """A graph over tensors: images (B, 3, H, W), mask (B, H, W) to logits, boxes and, with a mask head, mask logits."""

    def __call__(self, images: Tensor, mask: Tensor) -> tuple[Tensor, ...]: ...


class ExportedModel(nn.Module):
    """A model in an exported file: takes a batch and returns the outputs of `DETR` or `DETRsegm`.

    Args:
        graph: the model in the file.
        metadata: what the file says about itself.
        path: for messages.
    """

    def __init__(self, graph: Graph, metadata: ExportMetadata, path: str | os.PathLike) -> None:
        super().__init__()
        self._graph = (graph,)  # in a tuple: a module of torch.export cannot be switched to evaluation
        self.metadata = metadata
        self.path = path

    @torch.no_grad()
    def forward(self, samples: NestedTensor, *, attention: AttentionMaps | None = None) -> dict[str, Any]:
        """Detect objects in a normalised batch; a fixed canvas is filled up with padding.

        Raises UserError for a batch that the graph does not take, and where `attention` is asked for.
        """
        if attention is not None:
            raise UserError(f"{self.path}: an exported file does not give its attention; use the checkpoint")
        batch = on_canvas(samples, self.metadata.canvas, self.path)
        assert batch.mask is not None
        names = ("pred_logits", "pred_boxes", "pred_masks")
        outputs: dict[str, Any] = dict(zip(names, self._graph[0](batch.tensors, batch.mask)))
        # Masks cover the canvas that the graph saw, not the batch that came in.
        return outputs | ({"canvas": torch.tensor(batch.tensors.shape[-2:])} if "pred_masks" in outputs else {})


def on_canvas(samples: NestedTensor, canvas: Canvas, path: str | os.PathLike) -> NestedTensor:
    """Return a batch at a size that a graph takes. Raises UserError for images that are too large or too small."""
    height, width = samples.tensors.shape[-2:]
    mask = samples.mask
    if mask is None:
        mask = torch.zeros(len(samples), height, width, dtype=torch.bool, device=samples.tensors.device)
    if canvas.fixed is None:
        if min(height, width) < canvas.least or max(height, width) > (canvas.most or max(height, width)):
            limit = f"from {canvas.least} to {canvas.most}" if canvas.most else f"of at least {canvas.least}"
            raise UserError(f"{path}: takes sides {limit} pixels, this batch has {height} x {width}")
        return NestedTensor(samples.tensors, mask)
    below, right = canvas.fixed[0] - height, canvas.fixed[1] - width
    if min(below, right) < 0:
        size = " x ".join(map(str, canvas.fixed))
        raise UserError(f"{path}: made for {size} pixels, this batch has {height} x {width}")
    room = (0, right, 0, below)
    # Zeros after normalisation, and True in the mask: as the loader pads.
    return NestedTensor(F.pad(samples.tensors, room), F.pad(mask, room, value=True))


def is_exported(path: str | os.PathLike) -> bool:
    """Tell by its name if `export.py` wrote a file."""
    return Path(path).suffix in EXPORTED


def open_exported(path: str | os.PathLike, *, device: torch.device) -> ExportedModel:
    """Open a file that `export.py` wrote.

    Raises CheckpointError for one that is missing, broken or another program's, UserError where a package is missing.
    """
    if not Path(path).is_file():
        raise CheckpointError(f"{path}: no such file")
    openers = {".onnx": _open_onnx, ".pt2": _open_torch_export, ".safetensors": _open_safetensors}
    return openers[Path(path).suffix](path, device).eval()


def _open_onnx(path: str | os.PathLike, device: torch.device) -> ExportedModel:
    try:
        import onnxruntime
    except ImportError:
        raise UserError(f"{path}: needs the package onnxruntime: pip install onnxruntime") from None
    wanted = ["CUDAExecutionProvider"] if accelerator(device).cuda else []
    # In the order of preference; operators without a GPU version fall back to the CPU.
    providers = [name for name in (*wanted, "CPUExecutionProvider") if name in onnxruntime.get_available_providers()]
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors only
    # As many as torch was given: by itself onnxruntime takes every core of the machine, a job's limits aside.
    options.intra_op_num_threads = torch.get_num_threads()
    try:
        session = onnxruntime.InferenceSession(os.fspath(path), options, providers=providers)
    except Exception as error:  # its classes have no common parent of their own
        raise CheckpointError(f"{path}: onnxruntime cannot read it: {' '.join(str(error).split())}") from error
    metadata = ExportMetadata.from_strings(session.get_modelmeta().custom_metadata_map, path)

    def run(images: Tensor, mask: Tensor) -> tuple[Tensor, ...]:
        # onnxruntime reads the host's memory, row by row.
        arrays = (np.ascontiguousarray(tensor.cpu().numpy()) for tensor in (images, mask))
        found = session.run(None, dict(zip(INPUTS, arrays, strict=True)))
        return tuple(torch.from_numpy(array).to(images.device) for array in found)

    return ExportedModel(run, metadata, path)


def _open_torch_export(path: str | os.PathLike, device: torch.device) -> ExportedModel:
    texts = dict.fromkeys(ExportMetadata.NAMES, "")
    try:
        program = torch.export.load(path, extra_files=texts)
        # PyTorch 2.11 and 2.12 make a condition of how the example's sides halve, and would refuse other images, for
        # which the graph is right, too.
        graph = program.module(check_guards=TorchVersion(torch.__version__) >= "2.14").to(device)
    except Exception as error:  # whatever its archive's reader stumbles over
        reason = " ".join(str(error).split())[:200]
        raise CheckpointError(f"{path}: torch.export cannot read it ({reason})") from error
    return ExportedModel(graph, ExportMetadata.from_strings(texts, path), path)


def _open_safetensors(path: str | os.PathLike, device: torch.device) -> ExportedModel:
    try:
        from safetensors import SafetensorError, safe_open
    except ImportError:
        raise UserError(f"{path}: needs the package safetensors: pip install safetensors") from None
    try:
        with safe_open(path, framework="pt") as file:
            texts = file.metadata() or {}
            weights = {name: file.get_tensor(name) for name in file.keys()}
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path}: not a whole safetensors file ({error})") from error
    metadata = ExportMetadata.from_strings(texts, path)
    with EmptyWeights():
        model = build_detector(metadata.architecture)
    load_model(model, {"model": weights}, path)
    model.eval().to(device)

    def run(images: Tensor, mask: Tensor) -> tuple[Tensor, ...]:
        found = model(NestedTensor(images, mask))
        return tuple(found[name] for name in ("pred_logits", "pred_boxes", "pred_masks") if name in found)

    return ExportedModel(run, metadata, path)
