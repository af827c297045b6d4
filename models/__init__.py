"""The model, part by part. `build_model(args)` is the one place that reads the flags."""

from argparse import Namespace
from collections.abc import Mapping

import torch
from torch import nn

from models.backbone import Backbone, Joiner, load_backbone_weights
from models.criterion import SetCriterion
from models.detr import DETR
from models.matcher import HungarianMatcher
from models.position_encoding import build_position_encoding
from models.postprocess import PostProcess, PostProcessSegm
from models.postprocess_panoptic import ORIGINAL_THINGS, PostProcessPanoptic
from models.segmentation import DETRsegm
from models.transformer import Transformer
from util.errors import UserError

#: DETR's class counts where no annotations say otherwise: the largest category id + 1.
DEFAULT_NUM_CLASSES = {"coco": 91, "coco_panoptic": 250}


def build_model(
    args: Namespace, *, is_thing_map: Mapping[int, bool] | None = None
) -> tuple[DETR | DETRsegm, SetCriterion, dict[str, nn.Module]]:
    """Build model, criterion and postprocessors from the flags, and load the backbone's weights.

    Without `args.num_classes` the class count is DETR's for the dataset (91 for coco, 250 for coco_panoptic). With
    `args.frozen_weights` the detector under the mask head is frozen; its weights are for the caller to load. `is_thing_map`
    says of a panoptic dataset's categories which are things; without it those up to 90 are, as in COCO.
    """
    num_classes = getattr(args, "num_classes", None) or DEFAULT_NUM_CLASSES.get(args.dataset_file)
    if num_classes is None:
        raise UserError(f"--dataset_file {args.dataset_file} has no usual class count: give --num_classes")
    model = DETR(
        backbone=build_backbone(args),
        transformer=build_transformer(args),
        num_classes=num_classes,
        num_queries=args.num_queries,
        aux_loss=args.aux_loss,
    )
    if args.masks:
        frozen = getattr(args, "frozen_weights", None) is not None
        model = DETRsegm(model, freeze_detr=frozen, mask_chunk=getattr(args, "mask_chunk", 0))
    postprocessors = build_postprocessors(args, is_thing_map or {label: label <= 90 for label in range(num_classes)})
    device = torch.device(args.device)
    return model.to(device), build_criterion(args, num_classes).to(device), postprocessors


def build_postprocessors(args: Namespace, is_thing_map: Mapping[int, bool]) -> dict[str, nn.Module]:
    """From outputs to detections (`bbox`), masks (`segm`) and panoptic pictures (`panoptic`), as far as the flags ask for them."""
    postprocessors: dict[str, nn.Module] = {"bbox": PostProcess()}
    if args.masks:
        postprocessors["segm"] = PostProcessSegm()
    if args.masks and args.dataset_file == "coco_panoptic":
        original = getattr(args, "original_panoptic", False)
        postprocessors["panoptic"] = PostProcessPanoptic(
            ORIGINAL_THINGS if original else is_thing_map, threshold=0.85, original=original
        )
    return postprocessors


def build_backbone(args: Namespace) -> Joiner:
    """Backbone with its weights, and the position encoding for its features."""
    backbone = Backbone(
        name=args.backbone,
        train_backbone=args.lr_backbone > 0,
        return_interm_layers=args.masks,
        dilation=args.dilation,
        norm=getattr(args, "backbone_norm", "frozen"),
        padding_invariant=getattr(args, "padding_invariant", False),
    )
    load_backbone_weights(backbone, getattr(args, "backbone_weights", "imagenet"))
    return Joiner(backbone, build_position_encoding(kind=args.position_embedding, hidden_dim=args.hidden_dim))


def build_transformer(args: Namespace) -> Transformer:
    """The transformer, returning every decoder layer's output for the auxiliary losses."""
    return Transformer(
        d_model=args.hidden_dim,
        nhead=args.nheads,
        num_encoder_layers=args.enc_layers,
        num_decoder_layers=args.dec_layers,
        dim_feedforward=args.dim_feedforward,
        dropout=args.dropout,
        normalize_before=args.pre_norm,
        return_intermediate_dec=True,
    )


def build_criterion(args: Namespace, num_classes: int) -> SetCriterion:
    """The set loss with the flags' weights, for every decoder layer."""
    weights = {"loss_ce": 1.0, "loss_bbox": args.bbox_loss_coef, "loss_giou": args.giou_loss_coef}
    if args.aux_loss:
        weights |= {f"{name}_{i}": w for i in range(args.dec_layers - 1) for name, w in weights.items()}
    if args.masks:
        weights |= {"loss_mask": args.mask_loss_coef, "loss_dice": args.dice_loss_coef}
    matcher = HungarianMatcher(
        cost_class=args.set_cost_class, cost_bbox=args.set_cost_bbox, cost_giou=args.set_cost_giou
    )
    return SetCriterion(
        num_classes=num_classes,
        matcher=matcher,
        weight_dict=weights,
        eos_coef=args.eos_coef,
        mask_chunk=getattr(args, "mask_chunk", 0),
    )
