"""Flags of the model that cannot work together: refused in one line, once a checkpoint has had its say."""

import argparse

from flags.given import given_flags
from models.backbones.layout import refuse_feature_map
from util.errors import UserError


def check_model_flags(args: argparse.Namespace) -> None:
    """Refuse flags of the model that cannot work together, once a checkpoint has had its say. Raises UserError."""
    # Heads share the width; the sine encoding has as many sines as cosines for each of two axes.
    if args.hidden_dim % args.nheads or args.hidden_dim % 4:
        raise UserError(f"--hidden_dim {args.hidden_dim}: must be a multiple of 4 and of --nheads {args.nheads}")
    if args.frozen_weights and not args.masks:
        raise UserError(f"--frozen_weights {args.frozen_weights} is the detector under a mask head: give --masks too")
    if args.original_panoptic and not (args.masks and args.dataset_file == "coco_panoptic"):
        raise UserError("--original_panoptic is about panoptic images: give --dataset_file coco_panoptic and --masks")
    if args.masks and args.hidden_dim < 16:
        raise UserError(
            f"--hidden_dim {args.hidden_dim}: --masks needs at least 16, its last layers have a sixteenth of it"
        )
    if args.freeze_layers is not None and args.freeze_layers < 0:
        raise UserError(f"--freeze_layers {args.freeze_layers}: must be at least 0")
    refuse_feature_map(args.feature_map, dilation=args.dilation, masks=args.masks)
    check_query_flags(args)
    check_attention_flags(args)
    check_bf16(args)


def check_bf16(args: argparse.Namespace) -> None:
    """Refuse --bf16 with what computes in float32 beside it, or would never change in so few bits. Raises UserError."""
    plain = {"amp": "off", "masks": False, "queries": "learned", "local_attention": False, "ema": None}
    plain |= dict.fromkeys(("encoder_attention", "decoder_self_attention", "cross_attention"), "softmax")
    for name, value in plain.items():
        if args.bf16 and getattr(args, name) != value:
            raise UserError(f"--bf16 is for plain DETR without --{name}: leave that out, or give --amp bf16 instead")


def check_query_flags(args: argparse.Namespace) -> None:
    """Refuse variants of queries and classes that need or exclude another flag. Raises UserError."""
    if args.queries == "encoder" and not args.focal:
        raise UserError("--queries encoder scores every cell, and nearly all see nothing: give --focal too")
    if args.queries != "learned" and args.position_embedding in ("learned", "v3"):
        raise UserError(
            f"--queries {args.queries} encodes boxes and cells as sines: leave --position_embedding at sine"
        )
    if args.denoising and args.queries == "learned":
        raise UserError(
            f"--denoising {args.denoising} starts queries from noised boxes, and those of --queries learned have none: "
            "give --queries dab or encoder"
        )
    # The merge to a panoptic image drops queries whose likeliest class is "no object", and sigmoids have no such class.
    if args.focal and args.masks and args.dataset_file == "coco_panoptic":
        raise UserError("--focal cannot make panoptic images, whose rule needs a softmax: leave out --focal or --masks")


def check_attention_flags(args: argparse.Namespace) -> None:
    """Refuse flags of attentions that no attention of the model follows. Raises UserError."""
    used = {args.encoder_attention, args.decoder_self_attention, args.cross_attention}
    if args.alpha_lr_mult < 0:
        raise UserError(f"--alpha_lr_mult {args.alpha_lr_mult}: must be at least 0")
    for flag, attention in (("topk", "topk"), ("alpha_lr_mult", "alpha_entmax")):
        if flag in given_flags(args) and attention not in used:
            raise UserError(
                f"--{flag} is about an attention '{attention}' and the model has none: give one, such as "
                f"--cross_attention {attention}"
            )
