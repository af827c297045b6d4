"""Detect objects in images, videos and cameras with a trained model.

    python predict.py --resume runs/mine/best.pth --input photo.jpg folder 'more/*.png' film.mp4 --output found
    python predict.py --resume detr-r50-e632da11.pth --input https://example.org/cats.jpg
    python predict.py --resume runs/mine/best.pth --input folder --truth annotations.json --json --no_images

`python predict.py --help` lists the flags. In Python:

    from predict import Detector
    detector = Detector("runs/mine/best.pth")
    found = detector("photo.jpg")       # boxes in pixels, labels, names, scores, masks
"""

import argparse
import os
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

# Before torch starts its threads, as in main.py: waiting threads sleep, and other programs get their cores.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("GOMP_SPINCOUNT", "50000")

from util.choices import AMP_TYPES
from util.flags import FlagParser


def get_args_parser() -> argparse.ArgumentParser:
    """Return the parser of all flags."""
    parser = FlagParser(prog="predict.py", description=(__doc__ or "").splitlines()[0])
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
        "--threshold",
        default=None,
        type=float,
        help="least score (0.7; for --json 0, because average precision counts weak detections too)",
    )
    group.add_argument("--top", default=None, type=int, metavar="N", help="at most the N surest of an image (all)")
    group.add_argument("--classes", default=None, metavar="NAMES", help="only these, as person,dog (all)")
    group.add_argument(
        "--nms",
        default=None,
        type=float,
        metavar="IOU",
        help="leave out the less sure of two boxes of a class that overlap by more than this (off, as in DETR)",
    )


def _add_model_flags(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--batch_size", default=1, type=int, help="images, or frames, at a time (%(default)s)")
    group.add_argument(
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
        default="predictions",
        metavar="DIR",
        help="folder of the results (%(default)s); for a single input also a file",
    )
    group.add_argument("--no_images", action="store_true", help="draw nothing")
    group.add_argument(
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
        const=20,
        default=None,
        type=int,
        metavar="N",
        help="where the boxes of the first N queries (20) lie over all images, whatever they score: queries.png, "
        "queries.csv",
    )


#: Flags of the command line, parsed before torch is imported: --help and a misspelt flag are answered at once.
TYPED = get_args_parser().parse_args() if __name__ == "__main__" else None

from datasets.images import allow_pixels
from inference.choice import THRESHOLD, Choice, find_labels
from inference.detector import Detector
from inference.inputs import find_inputs, name_output
from inference.items import Writer
from inference.prediction import Prediction
from inference.truth import Truth
from inference.writers.looks import AttentionPages, QueryBoxes
from inference.writers.pictures import Crops, PictureFiles
from inference.writers.results import CocoResults, FrameLines
from inference.writers.tables import Table, YoloLabels
from util.errors import UserError


def main(args: argparse.Namespace) -> int:
    """Predict as the flags say; return the exit code. Raises UserError for mistakes of the user."""
    check_flags(args)
    allow_pixels(args.max_pixels)
    with tempfile.TemporaryDirectory() as downloads:
        inputs, output = name_output(
            find_inputs(args.input, output=Path(args.output), downloads=Path(downloads)), Path(args.output)
        )
        detector, truth = build_detector(args)
        choice = Choice(threshold=args.threshold, top=args.top, nms=args.nms)
        if args.classes is not None:
            choice = replace(choice, labels=find_labels(args.classes.split(","), detector.class_names))
        writers = build_writers(args, output, detector)
        return Prediction(detector, choice, writers, drawing=not args.no_images, truth=truth, every=args.every).run(
            inputs
        )


def check_flags(args: argparse.Namespace) -> None:
    """Raise UserError for a value that cannot be."""
    for name in ("threshold", "nms"):
        value = getattr(args, name)
        if value is not None and not 0 <= value <= 1:
            raise UserError(f"--{name} {value}: takes a number from 0 to 1")
    for name in ("top", "batch_size", "every", "max_pixels", "queries"):
        value = getattr(args, name)
        if value is not None and value < 1:
            raise UserError(f"--{name} {value}: takes a number from 1")


def build_detector(args: argparse.Namespace) -> tuple[Detector, Truth | None]:
    """Return the model and, with --truth, the annotations, whose classes must be the model's."""
    everything = args.json is not None or args.queries is not None
    least = args.threshold if args.threshold is not None else 0.0 if everything else THRESHOLD
    detector = Detector(
        args.resume,
        device=args.device,
        amp=args.amp,
        threshold=least,
        batch_size=args.batch_size,
        padding_invariant=args.padding_invariant,
    )
    if args.truth is None:
        return detector, None
    masks = "segm" in detector.postprocessors
    truth = Truth(Path(args.truth), masks=masks, category_ids=detector.category_ids)
    detector.adopt_names(truth.class_names, source=args.truth)
    return detector, truth


def build_writers(args: argparse.Namespace, output: Path, detector: Detector) -> list[Writer]:
    """Return what writes the files that the flags ask for."""
    writers: list[Writer] = [] if args.no_images else [PictureFiles(output)]
    if args.json is not None:
        json, masks = Path(args.json or output / "predictions.json"), "segm" in detector.postprocessors
        writers += [CocoResults(json, masks=masks, file_names=args.truth is None), FrameLines(json.parent)]
    if args.csv is not None:
        writers.append(Table(Path(args.csv or output / "predictions.csv")))
    if args.yolo:
        writers.append(YoloLabels(output / "labels", detector.class_names))
    if args.save_crops:
        writers.append(Crops(output / "crops"))
    if args.attention:
        writers.append(AttentionPages(output, detector, checkpoint=Path(args.resume).name))
    if args.queries is not None:
        writers.append(QueryBoxes(output, count=args.queries))
    return writers


def cli(argv: list[str] | None = None, *, typed: argparse.Namespace | None = None) -> int:
    """Run from the command line, or with flags that are parsed already; a mistake is one line on stderr.

    Returns 0, 1 where something could not be read, 2 for a mistake or nothing to read, 130 when stopped.
    """
    try:
        return main(get_args_parser().parse_args(argv) if typed is None else typed)
    except UserError as error:
        print(f"predict.py: error: {error.line()}", file=sys.stderr, flush=True)
        return error.exit_code
    except OSError as error:  # from writing: what cannot be read is an ImageError
        print(f"predict.py: error: cannot write: {error}", file=sys.stderr, flush=True)
        return UserError.exit_code
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(cli(typed=TYPED))
