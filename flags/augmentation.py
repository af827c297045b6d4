"""Flags of the augmentation: what is done to training images beside DETR's flip, scales and crop."""

import argparse


def add_augmentation_flags(group: argparse._ArgumentGroup) -> None:
    """Add the switches; with all of them off, augmentation is DETR's."""
    group.add_argument(
        # Named for what it turns off: DETR flips half of the images without asking.
        "--no_flip",
        dest="flip",
        action="store_false",
        help="do not mirror training images: for text, and where left and right are different classes",
    )
    group.add_argument("--vertical_flip", action="store_true", help="mirror half of them top to bottom, too")
    group.add_argument("--rotate90", action="store_true", help="turn them by 0, 90, 180 or 270 degrees")
    group.add_argument(
        "--color_jitter",
        default=0.0,
        type=float,
        metavar="S",
        help="brightness, contrast and saturation times 1 - S to 1 + S, hue turned by up to S / 4 (%(default)s: none)",
    )
    group.add_argument(
        "--mosaic",
        default=0.0,
        type=float,
        metavar="P",
        help="put four images into one with this probability (%(default)s)",
    )
    group.add_argument(
        # None, not (1, 1): it takes the place of DETR's scales and crops.
        "--scale_jitter",
        default=None,
        type=float,
        nargs=2,
        metavar=("LO", "HI"),
        help="resize by a factor from LO to HI against the size of the evaluation, then crop or fill up to that size: "
        "in place of --train_scales and crops",
    )
    group.add_argument(
        # DETR's: half of the images are only resized, so that whole scenes are seen, too.
        "--crop_probability",
        default=0.5,
        type=float,
        metavar="P",
        help="part of the images to crop (%(default)s)",
    )
    group.add_argument(
        # None: DETR's crop in pixels, of --crop_size.
        "--crop_sides",
        default=None,
        type=float,
        nargs=2,
        metavar=("LO", "HI"),
        help="sides of the crop in parts of the image's, instead of --crop_resize and --crop_size in pixels",
    )
    group.add_argument(
        "--save_augmented",
        default=0,
        type=int,
        metavar="N",
        help="write N training images as the model sees them, with boxes and names, to augmented.png in --output_dir",
    )
