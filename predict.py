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

from inference.flags import get_args_parser

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
    # Images from the web are only needed until they have been seen.
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
    """Return the model and, with --truth, the annotations: those of the classes that the model learned."""
    everything = args.json is not None or args.queries is not None
    # AP needs detections of every score, and --queries is about all of them.
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
    if detector.classes is not None:
        print(f"--truth {args.truth}: objects of {detector.classes} count: the model was trained with these --classes")
    truth = Truth(Path(args.truth), masks=masks, category_ids=detector.category_ids, classes=detector.classes)
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
