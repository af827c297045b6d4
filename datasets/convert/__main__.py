"""Convert Pascal VOC, YOLO, LabelMe and Hugging Face's folders to COCO's layout, which training reads.

python -m datasets.convert voc|yolo|labelme|hf SRC DEST
python -m datasets.convert auto SRC DEST            finds the format; sets validation images apart where there are none
"""

import argparse
import itertools
import sys
from collections import Counter
from pathlib import Path

from util.errors import DatasetError, UserError
from util.flags import FlagParser

from .folder import LabelledFolder, write_coco
from .huggingface import read_huggingface
from .labelme import read_labelme
from .ready import make_ready
from .voc import read_voc
from .yolo import read_yolo


def convert(
    kind: str,
    source: Path,
    dest: Path,
    *,
    copy: bool = False,
    train_set: str = "train",
    val_set: str = "val",
    classes: list[str] | None = None,
    difficult_as_crowd: bool = False,
) -> LabelledFolder:
    """Convert the folder `source` of the kind "voc", "yolo", "labelme" or "hf" to COCO's layout in `dest`; return it.

    The sets are the folder's own names for what becomes train2017 and val2017. Raises DatasetError with file and line.
    """
    sets = {"train": train_set, "val": val_set}
    if kind == "voc":
        folder = read_voc(source, sets=sets, classes=classes, difficult_as_crowd=difficult_as_crowd)
    else:
        readers = {"yolo": read_yolo, "labelme": read_labelme, "hf": read_huggingface}
        folder = readers[kind](source, sets=sets, classes=classes)
    write_coco(folder, dest, copy=copy)
    return folder


def summary(folder: LabelledFolder) -> str:
    """Describe what was converted: notes, then images and objects of each split, then objects of each class."""
    lines = [f"note: {note}" for note in folder.notes]
    for split, images in folder.splits.items():
        objects = [thing for image in images for thing in image.objects]
        # Two points are a box.
        polygons = sum(len(thing.points) > 2 for thing in objects)
        empty = sum(not image.objects for image in images)
        lines.append(
            f"{split}: {len(images)} images, {len(objects)} objects ({polygons} with polygons), "
            f"{empty} images without objects (kept)"
        )
    every = itertools.chain(*folder.splits.values())
    count = Counter(thing.label for image in every for thing in image.objects)
    # Ids start at 1, a class's index at 0.
    counts = (f"{index + 1} {name} {count[index]}" for index, name in sorted(folder.classes.items()))
    return "\n".join([*lines, f"classes (id, name, objects): {', '.join(counts)}"])


def get_args_parser() -> FlagParser:
    """Make the parser of this command."""
    parser = FlagParser(prog="datasets.convert", description=__doc__.splitlines()[0])
    parser.add_argument("kind", choices=("voc", "yolo", "labelme", "hf", "auto"))
    parser.add_argument(
        "source",
        type=Path,
        metavar="SRC",
        help="voc: with Annotations, JPEGImages; yolo: with data.yaml or obj.names; labelme: with a JSON file an image"
        "; hf: with data/train-*.parquet",
    )
    parser.add_argument("dest", type=Path, metavar="DEST", help="a folder that does not exist yet")
    parser.add_argument(
        "--val_fraction",
        default=0.2,
        type=float,
        metavar="F",
        help="auto: part of the images to set apart where there are no validation images (%(default)s)",
    )
    parser.add_argument("--seed", default=42, type=int, help="auto: of the choice of those images (%(default)s)")
    parser.add_argument("--copy", action="store_true", help="copy the images; else they are hard links where possible")
    parser.add_argument("--train_set", default="train", metavar="NAME", help="what to train on, e.g. trainval")
    parser.add_argument("--val_set", default="val", metavar="NAME", help="what to evaluate on, e.g. test")
    parser.add_argument(
        "--classes",
        type=Path,
        metavar="FILE",
        help="the class names, one a line, in the order that their ids shall have",
    )
    parser.add_argument(
        "--difficult_as_crowd",
        action="store_true",
        help="voc: make difficult objects crowds, which are not trained on and ignored in the evaluation; else they "
        "are objects like any other. Either way each annotation keeps the field difficult",
    )
    return parser


def read_classes(path: Path) -> list[str]:
    """Read the names in a file, one a line. Raises DatasetError for none, or the same one twice."""
    try:
        names = [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetError(
            f"--classes {path}: cannot be read ({getattr(error, 'strerror', None) or 'not text'})"
        ) from None
    # An editor's newline at the end is no empty name.
    while names and not names[-1]:
        names.pop()
    if not names or "" in names or len(set(names)) < len(names):
        raise DatasetError(f"--classes {path}: holds no names, an empty line, or the same name twice")
    return names


def run_auto(args: argparse.Namespace) -> int:
    """Make a folder ready, whatever its format; the last line names the folder to train on. Raises UserError."""
    numbers = {"val_fraction": args.val_fraction, "seed": args.seed, "copy": args.copy}
    place, lines, folder = make_ready(args.source, args.dest, **numbers)
    print("\n".join([*lines, *([summary(folder)] if folder else []), f"ready: {place}"]), flush=True)
    return 0


def cli(argv: list[str] | None = None) -> int:
    """Run from the command line: 0 when the folder was converted, 2 with one line otherwise."""
    parser = get_args_parser()
    args = parser.parse_args(argv)
    if args.difficult_as_crowd and args.kind != "voc":
        parser.error("--difficult_as_crowd is for voc: other labels do not say what is difficult")
    try:
        if args.kind == "auto":
            return run_auto(args)
        folder = convert(
            args.kind,
            args.source,
            args.dest,
            copy=args.copy,
            train_set=args.train_set,
            val_set=args.val_set,
            classes=read_classes(args.classes) if args.classes else None,
            difficult_as_crowd=args.difficult_as_crowd,
        )
    except UserError as error:
        print(f"{parser.prog}: error: {error.line()}", file=sys.stderr, flush=True)
        return error.exit_code
    except KeyboardInterrupt:
        print(f"stopped; {args.dest} was not made", flush=True)
        return 130
    print(summary(folder), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(cli())
