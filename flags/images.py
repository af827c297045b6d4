"""Flags of the images: their sizes in training and evaluation, and the canvas of a batch."""

import argparse


def add_image_flags(group: argparse._ArgumentGroup) -> None:
    """Add the flags of sizes: of images, crops and canvases."""
    group.add_argument(
        # Sizes are DETR's at 800. Those below are None and not its numbers, so that they can follow --image_size where
        # nobody typed them.
        "--image_size",
        default=800,
        type=int,
        help="short side in evaluation, and the largest in training (%(default)s)",
    )
    group.add_argument(
        # DETR's longest side, 1333, goes with a short side of 800.
        "--max_size",
        default=None,
        type=int,
        help="long side at most (1333, in proportion to --image_size)",
    )
    group.add_argument(
        "--train_scales",
        default=None,
        type=int,
        nargs="+",
        help="short sides in training (480 512 ... 800, in proportion)",
    )
    group.add_argument(
        # DETR enlarges objects this way: down to 400 to 600, a crop of it, and up to the training scale again.
        "--crop_resize",
        default=None,
        type=int,
        nargs="+",
        help="short sides before a random crop (400 500 600, in proportion)",
    )
    group.add_argument(
        "--crop_size",
        default=None,
        type=int,
        nargs=2,
        metavar=("MIN", "MAX"),
        help="sides of the crop (384 600, in proportion)",
    )
    group.add_argument(
        "--fast_resize",
        action="store_true",
        help="training images decoded and resized by PyTorch instead of Pillow: faster, few pixels differ, by 1 of 255",
    )
    # Off: DETR pads a batch to its largest image alone. One canvas costs more, and spares a compiler new shapes.
    group.add_argument("--pad", action="store_true", help="every image on one canvas: a single input shape")
    group.add_argument(
        "--pad_size",
        default=None,
        type=int,
        nargs=2,
        metavar=("H", "W"),
        help="height and width of that canvas (1333 1333)",
    )
    group.add_argument(
        # 1: DETR's canvas, as small as the batch allows.
        "--pad_multiple",
        default=1,
        type=int,
        metavar="N",
        help="round the canvas of a batch up to a multiple of N: fewer input shapes (%(default)s)",
    )
    group.add_argument(
        "--aspect_grouping", action="store_true", help="training batches of images of like shape: less padding"
    )
    group.add_argument(
        "--num_buckets",
        default=0,
        type=int,
        metavar="N",
        help="pad lists of objects to N lengths, percentiles of the training set's; 0: none (%(default)s)",
    )
