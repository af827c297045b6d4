"""The model, the criterion and the postprocessors from the flags. This file is the one place here that reads them."""

import os
from argparse import Namespace
from collections.abc import Collection, Mapping
from dataclasses import asdict
from typing import Any

import torch
from torch import nn

from util.dist.distributed import print_once

from .checkpoint_config import architecture_of, image_size_of
from .config import Architecture, backbone_of, build_detector
from .criterion import SetCriterion
from .detector import DETR
from .matcher import build_matcher
from .panoptic import ORIGINAL_THINGS, PostProcessPanoptic
from .postprocess import PostProcess, PostProcessSegm
from .segmentation import DETRsegm

#: DETR's class counts where no annotations say otherwise: the largest category id + 1.
DEFAULT_NUM_CLASSES = {"coco": 91, "coco_panoptic": 250}
#: And for every other dataset.
OTHER_NUM_CLASSES = 20
#: Weight of the focal loss, and of its part in the matching cost, where cross entropy has 1 (Deformable DETR's).
FOCAL_WEIGHT = 2.0


def build_model(
    args: Any, *, is_thing_map: Mapping[int, bool] | None = None
) -> tuple[DETR | DETRsegm, SetCriterion, dict[str, nn.Module]]:
    """Build model, criterion and postprocessors from the flags, and load the backbone's weights.

    Args:
        args: an object with DETR's flags as attributes, or a mapping of them, such as the `args` of a checkpoint; flags
            that are new here may be absent. Without `num_classes` the class count is DETR's for the dataset: 91 for
            coco, 250 for coco_panoptic, 20 for others. With `frozen_weights` the detector under the mask head is
            frozen; its weights are for the caller to load.
        is_thing_map: True for those of a panoptic dataset's categories that are things; by default those up to 90, as
            in COCO.
    """
    if isinstance(args, Mapping):
        args = Namespace(**args)
    num_classes = _class_count(args)
    # Scripts pass DETR's own namespaces, which have none of the flags that are new here: those keep their defaults.
    names = [name for name in asdict(Architecture()) if hasattr(args, name)]
    # The class count last: DETR's namespaces have none, and where the flag is None it was settled above.
    chosen = {name: getattr(args, name) for name in names} | {"num_classes": num_classes}
    model = build_detector(
        Architecture(**chosen),
        backbone_weights=getattr(args, "backbone_weights", "imagenet"),
        train_backbone=args.lr_backbone > 0,
        dropout=args.dropout,
        aux_loss=args.aux_loss,
        freeze_detr=getattr(args, "frozen_weights", None) is not None,
        mask_chunk=getattr(args, "mask_chunk", 0),
        channels_last={"auto": None, "on": True, "off": False}[getattr(args, "channels_last", "auto")],
    )
    freeze_layers = getattr(args, "freeze_layers", None)
    # --lr_backbone 0 and --frozen_weights freeze the whole backbone: nothing of it may be set free again.
    if freeze_layers is not None and args.lr_backbone > 0 and getattr(args, "frozen_weights", None) is None:
        backbone_of(model).freeze_first(freeze_layers)
    if getattr(args, "grad_checkpoint", False):
        (model.detr if isinstance(model, DETRsegm) else model).recompute_layers()
    # COCO's things have the ids 1 to 90 and its stuff those above: DETR's own rule.
    postprocessors = build_postprocessors(args, is_thing_map or {label: label <= 90 for label in range(num_classes)})
    device = torch.device(args.device)
    return model.to(device), build_criterion(args, num_classes).to(device), postprocessors


def _class_count(args: Any) -> int:
    """Classes of the model: as the flags say, else DETR's for the dataset."""
    given = getattr(args, "num_classes", None)
    if given:
        return given
    if args.dataset_file not in DEFAULT_NUM_CLASSES:
        print_once(
            f"--dataset_file {args.dataset_file}: {OTHER_NUM_CLASSES} classes, DETR's count for datasets it does not "
            "know; --num_classes gives another"
        )
    return DEFAULT_NUM_CLASSES.get(args.dataset_file, OTHER_NUM_CLASSES)


def follow_checkpoint(
    args: Any, checkpoint: Mapping[str, Any], path: str | os.PathLike, *, given: Collection[str]
) -> tuple[dict[str, Any], list[str]]:
    """Find the flags with which a checkpoint is evaluated: it decides on the architecture and the size of images.

    Args:
        args: the flags as they are; not changed.
        checkpoint: as `load_checkpoint` returns it; the size of images is read from its `args`, if it holds them.
        path: where it came from, a path or an address.
        given: names of the flags that the user typed; these stay.

    Returns:
        new values of flags, by name, and lines on what was taken from where.

    Raises:
        UserError: a flag named in `given` contradicts the checkpoint.
        CheckpointError: its weights are not those of a DETR.
    """
    chosen = {name: getattr(args, name) for name in given if hasattr(args, name)}
    architecture, line = architecture_of(checkpoint, path, given=chosen)
    values: dict[str, Any] = asdict(architecture)
    lines = [f"architecture of {line}"]
    sizes = image_size_of(checkpoint)
    # Where one of the two sizes was typed the user decides on both: half of each would give another aspect.
    if sizes is not None and not {"image_size", "max_size"} & set(given):
        size, values["max_size"] = sizes
        # Both together, even a None for `max_size`: the run's own default may differ from the one in force here.
        values["image_size"] = size
        lines.append(f"images as large as in the run that wrote it: --image_size {size}; give another to change that")
    if architecture.dilation and args.batch_size > 1 and not architecture.padding_invariant:
        lines.append(
            "note: DC5 models that learned from one image at a time lose AP beside padding: try --batch_size 1"
        )
    return values, lines


def box_postprocess(*, focal: bool) -> PostProcess:
    """Return the postprocessor to boxes of a model with softmax classes, or of one with `--focal`."""
    if not focal:
        return PostProcess()
    from .variants.set_loss import FocalPostProcess

    return FocalPostProcess()


def build_postprocessors(args: Any, is_thing_map: Mapping[int, bool]) -> dict[str, nn.Module]:
    """Postprocessors to detections (`bbox`), masks (`segm`) and panoptic images (`panoptic`), as the flags ask for."""
    postprocessors: dict[str, nn.Module] = {"bbox": box_postprocess(focal=getattr(args, "focal", False))}
    if args.masks:
        postprocessors["segm"] = PostProcessSegm()
    if args.masks and args.dataset_file == "coco_panoptic":
        original = getattr(args, "original_panoptic", False)
        postprocessors["panoptic"] = PostProcessPanoptic(
            # 0.85: the score from which DETR's panoptic merge keeps a query (its default, and the paper's figure).
            ORIGINAL_THINGS if original else is_thing_map,
            threshold=0.85,
            original=original,
        )
    return postprocessors


def build_criterion(args: Any, num_classes: int) -> SetCriterion:
    """Build the set loss with the flags' weights: for decoder layers, cells that propose queries, noised objects."""
    focal, proposals = getattr(args, "focal", False), getattr(args, "queries", "learned") == "encoder"
    denoising = getattr(args, "denoising", 0)
    weights = {"loss_ce": FOCAL_WEIGHT if focal else 1.0}
    weights |= {"loss_bbox": args.bbox_loss_coef, "loss_giou": args.giou_loss_coef}
    earlier = [f"_{i}" for i in range(args.dec_layers - 1)] if args.aux_loss else []
    # Each earlier layer's losses weigh as the last one's; masks, added below, have the last layer only.
    # Suffixes: _0.._{L-2} earlier decoder layers, _enc proposals, _dn and _dn_0.. noised objects.
    others = earlier + ["_enc"] * proposals + [f"_dn{suffix}" for suffix in ["", *earlier] if denoising]
    weights |= {f"{name}{suffix}": w for suffix in others for name, w in weights.items()}
    if args.masks:
        weights |= {"loss_mask": args.mask_loss_coef, "loss_dice": args.dice_loss_coef}
    losses = ["labels", "boxes", "cardinality", *(["masks"] if args.masks else [])]
    parts = (num_classes, build_matcher(args), weights, args.eos_coef, losses)
    mask_chunk = getattr(args, "mask_chunk", 0)
    more_queries = denoising > 0 or getattr(args, "groups", 1) > 1
    if not (focal or more_queries):
        return SetCriterion(*parts, mask_chunk=mask_chunk)
    from .variants.extra_queries_loss import ExtraQueriesCriterion, FocalExtraQueriesCriterion
    from .variants.set_loss import FocalCriterion, FocalMatcher

    if focal:
        matcher = FocalMatcher(FOCAL_WEIGHT * args.set_cost_class, args.set_cost_bbox, args.set_cost_giou)
        # Losses and matching go together: matching by softmax what is trained by sigmoids would favour other pairs.
        parts = (parts[0], matcher, *parts[2:])
    if not more_queries:
        return FocalCriterion(*parts, mask_chunk=mask_chunk)
    kind = FocalExtraQueriesCriterion if focal else ExtraQueriesCriterion
    return kind(*parts, denoising=denoising, mask_chunk=mask_chunk)
