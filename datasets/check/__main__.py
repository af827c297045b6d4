"""Check a dataset: everything that is odd about it, with a count, an example, and the action of loading.

    python -m datasets.check --data_path DIR                       any layout
    python -m datasets.check --data_path DIR --sheet boxes.png     also draws a few images with their boxes
    python -m datasets.check --data_path DIR --fix repaired        also writes the annotations repaired
    python -m datasets.check --data_path DIR --json report.json    for machines

Exit codes: 0 sound, 1 loading repairs something, 2 something is refused, or with --strict would have to be repaired.
"""

import argparse
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from flag_checks import check_place_flags
from flags import add_place_flags
from util.errors import UserError
from util.flags import FlagParser

from .. import dataset_file_from_flags, layout_from_flags
from ..annotations.dense import DenseLabels, listed_ids
from ..annotations.findings import Findings
from ..image_files import image_finder
from ..images import allow_pixels
from ..layout import NAMED_SPLITS, DatasetSplits, Split
from .across import note_class_names, note_leaks
from .outputs import draw_sheet, write_json, write_repaired
from .panoptic import check_panoptic_split
from .report import Report, as_dict, as_text
from .split import SplitCheck, check_split

#: From a split's name, places, and number of classes (None: its own), or order of labels, to the check of it.
CheckSplit = Callable[[str, Split, int | DenseLabels | None], SplitCheck]


def check(
    layout: DatasetSplits,
    check_one: CheckSplit,
    *,
    num_queries: int,
    num_classes: int | DenseLabels | None = None,
    strict: bool = False,
) -> tuple[Report, list[SplitCheck]]:
    """Check all splits of a dataset with `check_one`, which gets a split's name, places, and number of classes.

    As in training, the validation labels must be below the largest of the training split + 1, or `num_classes`.
    Whatever is wrong with the data is in the report and raises nothing.
    """
    checked: list[SplitCheck] = []
    for name, split in layout.splits.items():
        one = check_one(name, split, num_classes)
        checked.append(one)
        if num_classes is None and one.report.error is None:
            # The first split that can be read is the training split, where there is one.
            num_classes = max(one.report.class_names) + 1
        elif isinstance(num_classes, DenseLabels) and num_classes.category_ids is None and one.annotations is not None:
            ids = listed_ids(one.annotations.categories) or {}
            num_classes = replace(num_classes, category_ids=tuple(ids.values()))
    across = Findings()
    note_leaks(((one.report.name, one.listed, one.facts) for one in checked), across)
    note_class_names([(one.report.name, one.report.class_names) for one in checked], across)
    return Report(layout, [one.report for one in checked], across, num_queries, strict), checked


def get_args_parser() -> argparse.ArgumentParser:
    """Make the parser of this command."""
    parser = FlagParser(prog="python -m datasets.check", description=__doc__.splitlines()[0])
    add_place_flags(parser, dataset_file=None)
    parser.add_argument("--num_queries", default=100, type=int, help="queries of the model to be trained (%(default)s)")
    parser.add_argument(
        "--num_classes", default=None, type=int, help="classes of the model (the training split's largest id + 1)"
    )
    parser.add_argument(
        "--dense_labels", action="store_true", help="labels 0, 1, ... instead of the category ids, as in training"
    )
    parser.add_argument(
        "--masks", action="store_true", help="refuse objects without a mask, as training with --masks does"
    )
    parser.add_argument("--strict", action="store_true", help="refuse what loading would repair")
    parser.add_argument("--json", default=None, metavar="FILE", type=Path, help="write the report for machines")
    parser.add_argument(
        "--fix",
        default=None,
        metavar="OUT",
        type=Path,
        help="write repaired annotations: OUT/train.json, OUT/val.json, ...",
    )
    parser.add_argument(
        "--sheet",
        default=None,
        metavar="FILE",
        type=Path,
        help="draw a few images of each split with their boxes on a sheet (PNG)",
    )
    return parser


def run(args: argparse.Namespace) -> int:
    """Check, print, write what was asked for; returns the exit code. Raises UserError for what is not data."""
    check_place_flags(args)
    allow_pixels(args.max_pixels)
    args.dataset_file = dataset_file_from_flags(args)
    panoptic = args.dataset_file == "coco_panoptic"
    if args.dataset_file == "shapes":
        raise UserError("--dataset_file shapes: its images are drawn on the fly, there is nothing to check")
    if panoptic and args.fix is not None:
        raise UserError("--fix repairs boxes; panoptic annotations are not repaired in a file")
    if panoptic and args.dense_labels:
        raise UserError("--dense_labels is not for --dataset_file coco_panoptic")
    layout = layout_from_flags(args)

    def check_boxes(name: str, split: Split, num_classes: int | DenseLabels | None) -> SplitCheck:
        find = image_finder(args.dataset_file, layout, name)
        return check_split(name, split, find, args.num_queries, num_classes, args.masks)

    def check_segments(name: str, split: Split, num_classes: int | DenseLabels | None) -> SplitCheck:
        assert not isinstance(num_classes, DenseLabels)
        return check_panoptic_split(name, split, args.num_queries, num_classes)

    num_classes = DenseLabels(num_classes=args.num_classes) if args.dense_labels else args.num_classes
    numbers = {"num_queries": args.num_queries, "num_classes": num_classes, "strict": args.strict}
    report, checked = check(layout, check_segments if panoptic else check_boxes, **numbers)
    print(as_text(report), flush=True)
    if args.json is not None:
        write_json(as_dict(report), args.json)
        print(f"wrote {args.json}")
    if args.sheet is None:
        print("--sheet FILE draws some images with their boxes: look at them once")
    elif drawn := draw_sheet(checked, args.sheet, title=f"{layout.root or layout.name}: boxes as loading reads them"):
        print(f"wrote {args.sheet}: {drawn} images with their boxes")
    if args.fix is not None:
        written = write_repaired(checked, args.fix)
        print(f"wrote {', '.join(map(str, written))}; to use them: {_flags_for(checked, written)}")
    # The exit code is the worst finding, so that a script can stop before a training.
    return int(report.worst())


def _flags_for(checked: list[SplitCheck], written: list[Path]) -> str:
    """Return the flags with which main.py, and this command, read the repaired annotations."""
    parts = [(one.report.name, one.report.split.images, path) for one, path in zip(checked, written)]
    named = [part for part in parts if part[0] in NAMED_SPLITS]
    return " ".join(f"--{name}_images {images} --{name}_annotations {path}" for name, images, path in named)


def cli(argv: list[str] | None = None) -> int:
    """Run from the command line: the check's exit code, or 2 after one line on stderr."""
    args = get_args_parser().parse_args(argv)
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="backslashreplace")  # names may hold what the terminal, or UTF-8 itself, cannot
    try:
        return run(args)
    except UserError as error:
        print(f"check: error: {error.line()}", file=sys.stderr, flush=True)
        return error.exit_code


if __name__ == "__main__":
    sys.exit(cli())
