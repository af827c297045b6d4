"""Flags of the model: backbone, transformer, heads, and research switches."""

import argparse


def add_model_flags(group: argparse._ArgumentGroup) -> None:
    """Add the flags that say which model it is."""
    _add_backbone_flags(group)
    _add_transformer_flags(group)
    _add_mask_flags(group)
    _add_variant_flags(group)


def _add_backbone_flags(group: argparse._ArgumentGroup) -> None:
    """Add the flags of the backbone and its map."""
    group.add_argument(
        "--backbone",
        default="resnet50",
        help="a ResNet, ResNeXt, MobileNet, EfficientNet, ConvNeXt or RegNet of torchvision by its name there, or "
        "timm:NAME (%(default)s)",
    )
    group.add_argument(
        "--backbone_weights",
        default="imagenet",
        metavar="imagenet|none|FILE",
        help="what the backbone starts from; never read when a whole checkpoint is given (%(default)s)",
    )
    group.add_argument(
        # Frozen: ImageNet's statistics stay. With DETR's two images on a GPU those of a batch would be noise.
        "--backbone_norm",
        default="frozen",
        choices=("frozen", "batch", "group"),
        help="frozen batch norms and first stages as in DETR, or all trainable, to train from scratch; group norms: "
        "the same where batches are small (%(default)s)",
    )
    group.add_argument(
        # None: it depends on --backbone_norm; a backbone that starts from nothing must not be frozen.
        "--freeze_layers",
        default=None,
        type=int,
        metavar="N",
        help="keep the first N parts of the backbone at their weights (default: those of stride 2 and 4 as DETR "
        "does, a ResNet's 2; none with trainable norms)",
    )
    group.add_argument("--dilation", action="store_true", help="dilate the last stage instead of its stride (DC5)")
    group.add_argument(
        "--feature_map",
        default="c5",
        choices=("c5", "c4"),
        help="the map that is looked at: the backbone's last, of stride 32, or the one before, of stride 16; what "
        "comes after it is left away (%(default)s)",
    )
    group.add_argument(
        # Off: DETR's weights were trained with padding that leaks into the maps, and its numbers come with that.
        "--padding_invariant",
        action="store_true",
        help="detect the same in an image whatever batch it is in: convolutions never see padding (off: as DETR)",
    )


def _add_transformer_flags(group: argparse._ArgumentGroup) -> None:
    """Add the flags of the transformer and the heads."""
    group.add_argument(
        # DETR's names: its learned one knows 50 rows and columns.
        "--position_embedding",
        default="sine",
        choices=("sine", "learned"),
        help="position encoding (%(default)s)",
    )
    group.add_argument("--enc_layers", default=6, type=int, help="encoder layers (%(default)s)")
    group.add_argument("--dec_layers", default=6, type=int, help="decoder layers (%(default)s)")
    group.add_argument(
        "--dim_feedforward", default=2048, type=int, help="width inside the feed-forward networks (%(default)s)"
    )
    # 256 = 8 heads of 32 numbers each.
    group.add_argument("--hidden_dim", default=256, type=int, help="width of the transformer (%(default)s)")
    group.add_argument("--dropout", default=0.1, type=float, help="dropout in the transformer (%(default)s)")
    group.add_argument("--nheads", default=8, type=int, help="heads of every attention (%(default)s)")
    group.add_argument(
        # Well above the objects of nearly every image of COCO: the rest learn to answer "no object".
        "--num_queries",
        default=100,
        type=int,
        help="object queries: the most objects an image can have (%(default)s)",
    )
    # DETR's checkpoints normalise after each block; before it is known to be steadier for deep stacks.
    group.add_argument("--pre_norm", action="store_true", help="layer norms before each block instead of after it")
    group.add_argument(
        # Category ids are the labels themselves, so the classes are as many as the largest id plus one; "no object"
        # comes behind them.
        "--num_classes",
        default=None,
        type=int,
        help="classes (default: the annotations' largest category id + 1)",
    )


def _add_mask_flags(group: argparse._ArgumentGroup) -> None:
    """Add the flags of the mask head."""
    group.add_argument("--masks", action="store_true", help="train and evaluate masks too: adds DETR's mask head")
    group.add_argument(
        # The paper's two steps: first boxes alone, then the mask head on a detector that stays as it is.
        "--frozen_weights",
        default=None,
        metavar="FILE",
        help="with --masks: a checkpoint to take the detector from; it is frozen, the mask head alone trains",
    )
    group.add_argument(
        # The mask head has maps for each mask: its memory grows with the masks at a time.
        "--mask_chunk",
        default=32,
        type=int,
        metavar="N",
        help="masks computed at a time: less memory for fewer, the same numbers; 0: no limit (%(default)s)",
    )
    group.add_argument(
        "--original_panoptic",
        action="store_true",
        help="merge masks to panoptic images with the original DETR's faults, to repeat its numbers",
    )


def _add_variant_flags(group: argparse._ArgumentGroup) -> None:
    """Add the research switches."""
    group.add_argument(
        "--queries",
        default="learned",
        choices=("learned", "dab", "encoder"),
        help="what a query is: a learned position as in DETR; a learned box that every decoder layer refines; or a box "
        "that a cell of the encoder proposes (%(default)s)",
    )
    group.add_argument(
        # With a softmax every query needs a class "no object"; sigmoids can all be low.
        "--focal",
        action="store_true",
        help="classes as sigmoids under the focal loss, instead of a softmax over them",
    )
    group.add_argument(
        "--local_attention",
        action="store_true",
        help="from the second decoder layer on, a query sees the cells inside its box alone",
    )
    group.add_argument(
        # From DN-DETR: in the first epochs the matching still jumps, and these queries know their object from the
        # start.
        "--denoising",
        default=0,
        type=int,
        metavar="N",
        help="in training, N groups of noised objects as further queries, each to find its object again; needs "
        "--queries dab or encoder; 0: none (%(default)s)",
    )
    group.add_argument(
        # From Group DETR: more queries learn from each object, at no cost in evaluation.
        "--groups",
        default=1,
        type=int,
        metavar="K",
        help="in training, K groups of --num_queries queries, each matched alone; the first one detects (%(default)s)",
    )
    group.add_argument(
        "--print_shapes",
        action="store_true",
        help="print the shape of everything that passes through the model of these flags, and end; no data is read",
    )
    group.add_argument(
        "--describe",
        action="store_true",
        help="print the parameters of the model of these flags by module, trained and frozen, and end",
    )
