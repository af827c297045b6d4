"""The flags of predict.py. This file needs no torch, so that --help is answered at once."""

import argparse

from util.choices import AMP_TYPES
from util.flags import FlagParser


def get_args_parser() -> argparse.ArgumentParser:
    """Return the parser of all flags."""
    parser = FlagParser(
        prog="predict.py", description="Detect objects in images, videos and cameras with a trained model."
    )
    _add_input_flags(parser.add_argument_group("input"))
    _add_choice_flags(parser.add_argument_group("what counts"))
    _add_model_flags(parser.add_argument_group("model"))
    _add_output_flags(parser.add_argument_group("output"))
    _add_look_flags(parser.add_argument_group("look inside"))
    return parser


def _add_input_flags(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--resume",
        required=True,
        metavar="FILE",
        help="a checkpoint of main.py, or a published file, or its address; it says everything about the model",
    )
    group.add_argument(
        "--input",
        required=True,
        nargs="+",
        metavar="WHAT",
        help="images, folders, quoted patterns, videos, numbers of cameras, http addresses",
    )
    group.add_argument(
        "--truth",
        default=None,
        metavar="FILE",
        help="COCO annotations of the images: truth and detections are drawn side by side, what was missed and what is "
        "false is marked, and --json has the file's image ids",
    )
    group.add_argument("--every", default=1, type=int, metavar="N", help="of videos, every N-th frame (%(default)s)")
    group.add_argument(
        "--max_pixels",
        default=None,
        type=int,
        metavar="N",
        help="read images of up to N pixels (PIL's limit, 179 million)",
    )


def _add_choice_flags(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        # None: --json lowers the default, and who types a number means it for files and pictures alike.
        "--threshold",
        default=None,
        type=float,
        help="least score (0.7; for --json 0, because average precision counts weak detections too)",
    )
    group.add_argument("--top", default=None, type=int, metavar="N", help="at most the N surest of an image (all)")
    group.add_argument("--classes", default=None, metavar="NAMES", help="only these, as person,dog (all)")
    group.add_argument(
        # Off: DETR's queries see each other and learn to leave an object to one of them.
        "--nms",
        default=None,
        type=float,
        metavar="IOU",
        help="leave out the less sure of two boxes of a class that overlap by more than this (off, as in DETR)",
    )


def _add_model_flags(group: argparse._ArgumentGroup) -> None:
    # 1: no image is padded beside another.
    group.add_argument("--batch_size", default=1, type=int, help="images, or frames, at a time (%(default)s)")
    group.add_argument(
        # On, unlike in training: who detects in photos wants the same answer whatever else is in the folder.
        "--padding_invariant",
        action="store_true",
        default=True,
        help="erase padding inside the model: in any batch an image's detections are those it has alone, equal to "
        "main.py --eval --batch_size 1, or --eval --padding_invariant at any batch size (on)",
    )
    group.add_argument(
        "--no_padding_invariant",
        dest="padding_invariant",
        action="store_false",
        help="let the padding beside smaller images of a batch leak in as DETR does: equal to main.py --eval with the "
        "same --batch_size on the same images in the same order",
    )
    group.add_argument("--device", default=None, help="cuda, cuda:1, mps or cpu (a GPU where there is one)")
    group.add_argument("--amp", default="off", choices=AMP_TYPES, help="half precision in the model (%(default)s)")


def _add_output_flags(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--output",
        default="runs/predict",
        metavar="DIR",
        help="folder of the results (%(default)s); for a single input also a file",
    )
    group.add_argument("--no_images", action="store_true", help="draw nothing")
    group.add_argument(
        # Three cases: None, no file; "" for the flag alone, the usual place; else the file named.
        "--json",
        nargs="?",
        const="",
        default=None,
        metavar="FILE",
        help="COCO's results format; without --truth images are numbered from 1 and named. Videos: a file each, with a "
        "line for each frame (predictions.json in --output)",
    )
    group.add_argument("--csv", nargs="?", const="", default=None, metavar="FILE", help="a row for each detection")
    group.add_argument("--yolo", action="store_true", help="YOLO's label files, in the folder labels, and classes.txt")
    group.add_argument("--save_crops", action="store_true", help="what is in each box, in a folder for each class")


def _add_look_flags(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--attention",
        action="store_true",
        help="for each image a page NAME.attention.html, on which the attention of every layer is seen and boxes are "
        "followed from layer to layer, and a figure NAME.attention.png",
    )
    group.add_argument(
        "--queries",
        nargs="?",
        # The paper's figure 7 shows 20 of the 100 queries.
        const=20,
        default=None,
        type=int,
        metavar="N",
        help="where the boxes of the first N queries (20) lie over all images, whatever they score: queries.png, "
        "queries.csv",
    )
