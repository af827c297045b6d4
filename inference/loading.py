"""Everything that a detector needs, from a checkpoint alone: model, postprocessors, class names, size of images."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from models.build import box_postprocess
from models.checkpoint_config import image_size_of, model_from_checkpoint
from models.config import Architecture, backbone_of
from models.fast.padding import PaddingEraser
from models.panoptic import PostProcessPanoptic
from models.postprocess import PostProcessSegm
from models.zoo import published_under
from util.coco_classes import PANOPTIC_COUNT
from util.runs.checkpoint import load_checkpoint
from util.runs.class_names import known_names, label_order, trained_classes

from .exported import is_exported, open_exported


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
        architecture: its parts.
        fixed_size: height and width of the canvas that an exported file takes alone; images are made to fit inside.
        equal_sizes_only: batches hold images of one size, because padding would change detections.
        classes: --classes of the training: the model knows these alone of its data's; None for all of them.
    """

    model: Callable[[Any], dict[str, Any]]
    postprocessors: Mapping[str, nn.Module]
    class_names: Mapping[int, str]
    category_ids: Sequence[int] | None
    image_size: int
    max_size: int | None
    device: torch.device
    architecture: Architecture
    eraser: PaddingEraser | None = None
    fixed_size: tuple[int, int] | None = None
    equal_sizes_only: bool = False
    classes: str | None = None


def load_trained(path: str | os.PathLike, *, device: torch.device, padding_invariant: bool | None) -> LoadedModel:
    """Load a checkpoint of `main.py`, a published file, or one of `export.py`, a path or an address.

    `padding_invariant` None is as the checkpoint says; an exported file is as it was exported. Raises CheckpointError
    and UserError as `load_checkpoint`, `model_from_checkpoint` and `open_exported` do.
    """
    if is_exported(path):
        return load_exported(path, device=device)
    checkpoint = load_checkpoint(path)
    # The flag changes no weight, so either way can be chosen for a checkpoint of the other.
    given = {} if padding_invariant is None else {"padding_invariant": padding_invariant}
    model, architecture, _ = model_from_checkpoint(checkpoint, path, given=given)
    # Names by label, and with --dense_labels the category id of each label.
    names, ids = known_names(checkpoint)[0] or {}, label_order(checkpoint)
    # A published file says nothing: DETR's own sizes.
    image_size, max_size = image_size_of(checkpoint) or (800, None)
    return LoadedModel(
        model=model.eval().to(device),
        postprocessors=_postprocessors(checkpoint, path, architecture),
        # Checkpoints name labels; what is written out is in category ids.
        class_names=names if ids is None else {ids[label]: name for label, name in names.items()},
        category_ids=ids,
        image_size=image_size,
        max_size=max_size,
        device=device,
        eraser=backbone_of(model).padding,
        architecture=architecture,
        # The eraser is inside the backbone; the mask head still sees padding.
        equal_sizes_only=architecture.padding_invariant and architecture.masks,
        classes=trained_classes(checkpoint),
    )


def load_exported(path: str | os.PathLike, *, device: torch.device) -> LoadedModel:
    """Load a file of `export.py`. Raises CheckpointError and UserError as `open_exported` does."""
    model = open_exported(path, device=device)
    metadata = model.metadata
    postprocessors: dict[str, nn.Module] = {"bbox": box_postprocess(focal=metadata.architecture.focal)}
    if metadata.architecture.masks:
        postprocessors["segm"] = PostProcessSegm()
    if metadata.things is not None:
        postprocessors["panoptic"] = PostProcessPanoptic(metadata.things)
    return LoadedModel(
        model=model,
        postprocessors=postprocessors,
        class_names=metadata.class_names,
        category_ids=metadata.category_ids,
        image_size=metadata.image_size,
        max_size=metadata.max_size,
        device=device,
        architecture=metadata.architecture,
        fixed_size=metadata.canvas.fixed,
        equal_sizes_only=metadata.architecture.masks or not metadata.architecture.padding_invariant,
    )


def _postprocessors(
    checkpoint: Mapping[str, Any], path: str | os.PathLike, architecture: Architecture
) -> dict[str, nn.Module]:
    result: dict[str, nn.Module] = {"bbox": box_postprocess(focal=architecture.focal)}
    if not architecture.masks:
        return result
    result["segm"] = PostProcessSegm()
    # A mask head alone does not say if it was trained on panoptic images: the run's flags do.
    run = checkpoint.get("args")
    dataset = run.get("dataset_file") if isinstance(run, Mapping) else None
    if dataset == "coco_panoptic" or (published_under(path) and architecture.num_classes == PANOPTIC_COUNT):
        # In COCO's panoptic ids, things are 1 to 90 and stuff is above.
        things = checkpoint.get("is_thing") or {label: label <= 90 for label in range(architecture.num_classes)}
        result["panoptic"] = PostProcessPanoptic(things)
    return result
