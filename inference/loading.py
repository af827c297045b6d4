"""Everything that a detector needs, from a checkpoint alone: model, postprocessors, class names, size of images."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from models.checkpoint_config import image_size_of, model_from_checkpoint
from models.config import Architecture, backbone_of
from models.fast.padding import PaddingEraser
from models.panoptic import PostProcessPanoptic
from models.postprocess import PostProcess, PostProcessSegm
from models.zoo import published_under
from util.coco_classes import PANOPTIC_COUNT
from util.runs.checkpoint import load_checkpoint
from util.runs.class_names import known_names, label_order


@dataclass(frozen=True)
class LoadedModel:
    """A model that is ready for images.

    Attributes:
        model: from a NestedTensor on `device` to the dictionary of outputs; for a checkpoint the module itself.
        postprocessors: `bbox`, for masks `segm`, for panoptic images `panoptic`.
        class_names: by category id; ids without a name are missing.
        category_ids: those of labels 0, 1, ... of a model trained with --dense_labels; None where labels are the ids.
        image_size: the shorter side of images in pixels.
        max_size: limit of the longer side; None keeps DETR's proportion.
        device: where the model is.
        eraser: what erases padding inside the model, if anything does.
    """

    model: Callable[[Any], dict[str, Any]]
    postprocessors: Mapping[str, nn.Module]
    class_names: Mapping[int, str]
    category_ids: Sequence[int] | None
    image_size: int
    max_size: int | None
    device: torch.device
    eraser: PaddingEraser | None = None


def load_trained(path: str | os.PathLike, *, device: torch.device, padding_invariant: bool) -> LoadedModel:
    """Load a checkpoint of `main.py` or a published file, a path or an address, in evaluation mode.

    Raises CheckpointError and UserError as `load_checkpoint` and `model_from_checkpoint` do.
    """
    checkpoint = load_checkpoint(path)
    model, architecture, _ = model_from_checkpoint(checkpoint, path, given={"padding_invariant": padding_invariant})
    names, ids = known_names(checkpoint)[0] or {}, label_order(checkpoint)
    image_size, max_size = image_size_of(checkpoint) or (800, None)
    return LoadedModel(
        model=model.eval().to(device),
        postprocessors=_postprocessors(checkpoint, path, architecture),
        class_names=names if ids is None else {ids[label]: name for label, name in names.items()},
        category_ids=ids,
        image_size=image_size,
        max_size=max_size,
        device=device,
        eraser=backbone_of(model).padding,
    )


def _postprocessors(
    checkpoint: Mapping[str, Any], path: str | os.PathLike, architecture: Architecture
) -> dict[str, nn.Module]:
    result: dict[str, nn.Module] = {"bbox": PostProcess()}
    if not architecture.masks:
        return result
    result["segm"] = PostProcessSegm()
    run = checkpoint.get("args")
    dataset = run.get("dataset_file") if isinstance(run, Mapping) else None
    if dataset == "coco_panoptic" or (published_under(path) and architecture.num_classes == PANOPTIC_COUNT):
        things = checkpoint.get("is_thing") or {label: label <= 90 for label in range(architecture.num_classes)}
        result["panoptic"] = PostProcessPanoptic(things)
    return result
