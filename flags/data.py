"""Flags of the data: where it lies, and which part of it is read."""

import argparse


def add_data_flags(group: argparse._ArgumentGroup) -> None:
    """Add the flags that say which images and annotations are read."""
    # DETR's default, for its scripts. A name that was not typed gives way to what the folder looks like.
    add_place_flags(group, dataset_file="coco")
    group.add_argument(
        "--no_check",
        dest="check",
        action="store_false",
        help="do not look at the data before the run (python -m datasets.check looks at all of it)",
    )
    group.add_argument(
        "--no_cache",
        dest="cache",
        action="store_false",
        help="parse the annotation files anew; else large ones (8 MB) are kept parsed, beside them or in ~/.cache/detr",
    )
    group.add_argument(
        # Off: DETR's labels are COCO's category ids, 91 classes with gaps, and its checkpoints have that head.
        "--dense_labels",
        action="store_true",
        help="labels 0, 1, ... instead of the category ids: a small class head where ids are far apart; results are "
        "written with the file's ids, and a checkpoint remembers it",
    )
    group.add_argument(
        "--classes",
        default=None,
        metavar="NAMES",
        help="train and evaluate on these classes alone, as person,dog or by category id (all); images stay, and a "
        "checkpoint remembers it",
    )
    group.add_argument(
        "--repeat_factor",
        default=None,
        type=float,
        metavar="T",
        help="show images of classes that are in less than a part T of the images more often, sqrt(T / part) times",
    )
    group.add_argument(
        # A flag of DETR's parser that nothing reads.
        "--remove_difficult",
        action="store_true",
        help="accepted for old scripts; COCO has no difficult objects",
    )
    group.add_argument("--train_size", default=4000, type=int, help="shapes: training images (%(default)s)")
    group.add_argument("--val_size", default=200, type=int, help="shapes: validation images (%(default)s)")
    group.add_argument(
        # A part and not a number of images: training and validation shrink alike.
        "--fast_dev_run",
        default=1.0,
        type=float,
        metavar="FRACTION",
        help="use this random part of the images (1.0: all)",
    )
    group.add_argument("--num_workers", default=2, type=int, help="processes that load images (%(default)s)")


def add_place_flags(group: argparse._ActionsContainer, *, dataset_file: str | None) -> None:
    """Add the flags that say which data it is and where it lies; `dataset_file` is the first's in DETR's scripts."""
    group.add_argument(
        "--dataset_file",
        default=dataset_file,
        metavar="NAME",
        help="coco, coco_panoptic, hgp, cppe5, custom (your own, in any of the layouts), or shapes: drawn on "
        "the fly (what the folder looks like; coco for COCO's layout)",
    )
    group.add_argument(
        "--data_path",
        default=None,
        metavar="DIR",
        help="folder of the data: its layout is recognised (COCO, Roboflow, CPPE-5, HGP, or images and "
        "annotations/train.json, val.json); for hgp by default ./HGP",
    )
    # Two flags rather than an alias: scripts may give both, and a difference between them is an error.
    group.add_argument("--coco_path", default=None, metavar="DIR", help="DETR's name of --data_path")
    group.add_argument(
        "--coco_panoptic_path",
        default=None,
        metavar="DIR",
        help="coco_panoptic: folder of the panoptic annotations (that of --data_path)",
    )
    group.add_argument(
        "--max_pixels",
        default=None,
        type=int,
        metavar="N",
        help="read images of up to N pixels (PIL's limit of 178,956,970, against small files that unpack to huge ones)",
    )
    for split, called in (("train", "training"), ("val", "validation")):
        group.add_argument(
            f"--{split}_images",
            default=None,
            metavar="DIR",
            help=f"folder of the {called} images, for a layout of your own",
        )
        group.add_argument(
            f"--{split}_annotations", default=None, metavar="FILE", help=f"COCO annotation file of the {called} images"
        )
