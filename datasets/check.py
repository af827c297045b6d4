"""Is this dataset sound? Everything that is odd about it, with a count, an example, and what loading does about it.

    python -m datasets.check --data_path DIR                       any layout; writes check.png, pictures with their boxes
    python -m datasets.check --data_path DIR --fix repaired        also writes the annotations as loading reads them
    python -m datasets.check --data_path DIR --json report.json    for machines

Exit codes: 0 sound, 1 loading repairs something, 2 something is refused, or with --strict would have to be repaired.
"""

import argparse
import json
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from datasets import layout_from_flags, picture_finder
from datasets.annotation_kinds import OUTSIDE_BOX, OVERHANGING_BOX, WRONG_SIZE, Kind
from datasets.annotations import Annotations
from datasets.check_report import Report, SplitReport, as_dict, as_text
from datasets.coco_file import read_annotations, write_annotations
from datasets.coco_json import parse_coco
from datasets.findings import Action, Findings
from datasets.layout import Layout, Split
from datasets.mask_rules import Size
from datasets.numbers import to_int
from datasets.picture_check import Facts, Listed, inspect_all, note_leaks, note_pictures, note_repeats
from datasets.pictures import FindPicture, read_picture
from flags import add_place_flags, check_place_flags
from util.atomic import atomic_file
from util.contact_sheet import contact_sheet
from util.errors import DatasetError, PictureError, UserError
from util.flags import FlagParser
from util.visualize import GRID_TILE, draw_detections

RENAMED_CLASSES = Kind("class ids with another name in another split", Action.REFUSED, "one id must be one class")
SHEET_PICTURES, SHEET_COLUMNS = 12, 4


@dataclass
class Checked:
    """A split after the check: its report, the pictures that are listed, what their files are, and the annotations.

    `annotations` is None where they are refused.
    """

    report: SplitReport
    listed: list[Listed]
    facts: list[Facts]
    annotations: Annotations | None = None


def check(
    layout: Layout,
    *,
    finder: Callable[[str], FindPicture],
    num_queries: int = 100,
    num_classes: int | None = None,
    need_masks: bool = False,
    strict: bool = False,
) -> tuple[Report, list[Checked]]:
    """Read all annotations of a dataset and decode all its pictures.

    `finder` gives how the pictures of a split are found. As in training, the held-out labels must be below the largest of the
    training split + 1, or `num_classes`. Whatever is wrong is in the report: only what is not data raises.
    """
    checked: list[Checked] = []
    for name, split in layout.splits.items():
        one = _check_split(name, split, finder(name), num_queries, num_classes, need_masks)
        checked.append(one)
        if num_classes is None and one.annotations is not None:
            num_classes = max(one.annotations.class_names) + 1
    across = Findings()
    note_leaks(((one.report.name, one.listed, one.facts) for one in checked), across)
    note_class_names([(one.report.name, one.report.class_names) for one in checked], across)
    return Report(layout, [one.report for one in checked], across, num_queries, strict), checked


def note_class_names(splits: list[tuple[str, dict[int, str]]], findings: Findings) -> None:
    """Add class ids whose name (upper and lower case aside) is another than in an earlier split."""
    known: dict[int, tuple[str, str]] = {}
    for split, names in splits:
        for id_, name in names.items():
            first, other = known.setdefault(id_, (split, name))
            if other.strip().casefold() != name.strip().casefold():
                example = f"id {id_}: {other!r} in {first}, {name!r} in {split}"
                kind = RENAMED_CLASSES
                findings.add(kind.name, kind.action, remedy=kind.remedy, example=example)


def write_repaired(checked: list[Checked], out: Path) -> list[Path]:
    """Write the annotations of each split as loading reads them to {out}/{split}.json, or to `out` for a single split.

    Sizes and file names are those of the files; pictures that cannot be read are left out. Raises DatasetError for
    splits whose annotations are refused, and for a name that ends in .json where there are several splits.
    """
    refused = [one.report for one in checked if one.annotations is None]
    if refused:
        raise DatasetError(
            f"--fix {out}: nothing is written, the {refused[0].name} annotations are refused: {refused[0].error}"
        )
    single = out.suffix == ".json"
    if single and len(checked) > 1:
        raise DatasetError(f"--fix {out}: there are {len(checked)} splits; give a folder for their files")
    written = []
    for one in checked:
        path = out if single else out / f"{one.report.name}.json"
        if path.resolve() == one.report.split.annotations.resolve():
            raise DatasetError(f"--fix {out}: that is the file to be repaired; give another place")
        _write_json(_repaired(one), path)
        # Once more: boxes that lay within a wrong size may reach over the edge of the real one.
        write_annotations(read_annotations(path), path)
        written.append(path)
    return written


def draw_sheet(checked: list[Checked], path: Path) -> int:
    """Write a sheet of pictures with boxes and names, spread evenly over each split; returns how many, 0 for no sheet."""
    readable = [one for one in checked if one.annotations is not None]
    tiles = [tile for one in readable for tile in _tiles(one, max(1, SHEET_PICTURES // len(readable)))]
    if tiles:
        title = f"{readable[0].report.split.annotations}: boxes as loading reads them"
        contact_sheet(tiles, columns=SHEET_COLUMNS, path=path, title=title)
    return len(tiles)


def _check_split(
    name: str, split: Split, find: FindPicture, num_queries: int, num_classes: int | None, need_masks: bool
) -> Checked:
    report = SplitReport(name, split)
    try:
        listed = list_pictures(split, find)
    except DatasetError as error:
        report.error = str(error)
        return Checked(report, [], [])
    report.pictures = len(listed)
    facts = inspect_all([picture.path for picture in listed], label=f"{name} pictures")
    sizes = {picture.image_id: fact.size for picture, fact in zip(listed, facts) if fact.error is None}
    found = Findings()
    checked = Checked(report, listed, facts)
    try:
        checked.annotations = read_annotations(
            split.annotations,
            num_classes=num_classes,
            need_masks=need_masks,
            num_queries=num_queries,
            findings=found,
            size_of_file=lambda _, image_id: sizes.get(image_id),
        )
    except DatasetError as error:
        report.error = str(error)
    for finding in found:
        if finding.kind != WRONG_SIZE.name:  # all pictures are compared below, not only those that reading asked about
            report.findings.add(
                finding.kind, finding.action, remedy=finding.remedy, example=finding.example, count=finding.count
            )
    note_pictures(listed, facts, split.annotations, report.findings)
    note_repeats(listed, facts, split.annotations, report.findings)
    if checked.annotations is not None:
        _note_cut_boxes(checked)
        _measure(checked.annotations, report)
    return checked


def list_pictures(split: Split, find: FindPicture) -> list[Listed]:
    """The pictures that an annotation file lists, also where it is to be refused; entries without id or name are left out.

    Raises DatasetError where the file is absent or not COCO.
    """
    listed: dict[int, Listed] = {}
    for entry in parse_coco(split.annotations)["images"]:
        id_, name = to_int(entry.get("id")), entry.get("file_name")
        if id_ is None or not isinstance(name, str) or not name or id_ in listed:
            continue
        path = find(split.images, name, id_)
        height, width = to_int(entry.get("height")), to_int(entry.get("width"))
        size = None if height is None or width is None else (height, width)
        listed[id_] = Listed(id_, name, size, path, renamed=path != split.images / name)
    return [listed[id_] for id_ in sorted(listed)]


def _note_cut_boxes(checked: Checked) -> None:
    """Add the boxes that fit the size listed and not that of the file: loading cuts them there."""
    annotations, report = checked.annotations, checked.report
    facts = {picture.image_id: fact for picture, fact in zip(checked.listed, checked.facts)}
    for index, image_id in enumerate(annotations.image_ids.tolist()):
        fact = facts[image_id]
        if fact.error is not None or annotations.image_size(index) in (None, fact.size):
            continue
        for kind, count in _count_cut(annotations.boxes_of(index)[0], fact.size):
            if count:
                example = (
                    f"{report.split.annotations}: image {image_id}: a box that fits the size listed, not the file's"
                )
                report.findings.add(kind.name, kind.action, remedy=kind.remedy, example=example, count=count)


def _count_cut(boxes: np.ndarray, size: Size) -> list[tuple[Kind, int]]:
    """How many boxes (k, 4) xywh are outside a picture of (height, width), and how many reach over its edge."""
    outside = (boxes[:, 0] >= size[1]) | (boxes[:, 1] >= size[0])
    over = (boxes[:, 0] + boxes[:, 2] > size[1] + 1) | (boxes[:, 1] + boxes[:, 3] > size[0] + 1)
    return [(OUTSIDE_BOX, int(outside.sum())), (OVERHANGING_BOX, int((over & ~outside).sum()))]


def _measure(annotations: Annotations, report: SplitReport) -> None:
    """Fill in the report's numbers."""
    parts = [annotations.boxes_of(index) for index in range(len(annotations))]
    boxes = np.concatenate([boxes for boxes, _ in parts])
    report.class_names = dict(annotations.class_names)
    report.counts = annotations.object_counts()
    report.labels = np.concatenate([labels for _, labels in parts])
    report.sides = np.sqrt(boxes[:, 2] * boxes[:, 3])


def _repaired(checked: Checked) -> dict[str, Any]:
    """The annotations with the sizes and names of the files, without the pictures that cannot be read."""
    data = checked.annotations.to_dict()
    files = {picture.image_id: (picture, fact) for picture, fact in zip(checked.listed, checked.facts)}
    images = []
    for image in data["images"]:
        picture, fact = files[image["id"]]
        if fact.error is None:
            height, width = fact.size
            name = os.path.relpath(picture.path, checked.report.split.images) if picture.renamed else picture.file_name
            images.append(image | {"height": height, "width": width, "file_name": name})
    kept = {image["id"] for image in images}
    objects = [annotation for annotation in data["annotations"] if annotation["image_id"] in kept]
    return data | {"images": images, "annotations": objects}


def _tiles(checked: Checked, count: int) -> list[tuple[Any, str]]:
    """Up to `count` drawn pictures of a split with captions, those with objects if there are such."""
    annotations = checked.annotations
    files = {picture.image_id: picture for picture, fact in zip(checked.listed, checked.facts) if fact.error is None}
    ids = annotations.image_ids.tolist()
    usable = [index for index in range(len(ids)) if ids[index] in files]
    usable = [index for index in usable if annotations.object_counts()[index]] or usable
    tiles = []
    for place in sorted({round(k) for k in np.linspace(0, len(usable) - 1, num=min(count, len(usable)))}):
        index = usable[place]
        picture = files[ids[index]]
        boxes, labels = annotations.boxes_of(index)
        corners = np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1)
        image = read_picture(picture.path, described=f"the picture with image id {picture.image_id}")
        drawn = draw_detections(image, corners, labels, class_names=annotations.class_names, longer_side=GRID_TILE)
        tiles.append((drawn, f"{checked.report.name}: {picture.path.name}"))
    return tiles


def _write_json(data: dict[str, Any], path: Path) -> None:
    try:
        with atomic_file(path) as file:
            file.write(json.dumps(data, allow_nan=False).encode())
    except OSError as error:
        raise DatasetError(f"{path}: cannot be written ({error.strerror})") from None


def get_args_parser() -> argparse.ArgumentParser:
    """The flags of this command."""
    parser = FlagParser(prog="python -m datasets.check", description=__doc__.splitlines()[0])
    add_place_flags(parser, dataset_file=None)
    parser.add_argument("--num_queries", default=100, type=int, help="queries of the model to be trained (%(default)s)")
    parser.add_argument("--num_classes", default=None, type=int,
                        help="classes of the model (the training split's largest id + 1)")  # fmt: skip
    parser.add_argument(
        "--masks", action="store_true", help="refuse objects without a mask, as training with --masks does"
    )
    parser.add_argument("--strict", action="store_true", help="refuse what loading would repair")
    parser.add_argument("--json", default=None, metavar="FILE", type=Path, help="write the report for machines")
    parser.add_argument("--fix", default=None, metavar="OUT", type=Path,
                        help="write repaired annotations: OUT/train.json, OUT/val.json, ...")  # fmt: skip
    parser.add_argument("--sheet", default=Path("check.png"), metavar="FILE", type=Path,
                        help="where the sheet of pictures with their boxes goes (%(default)s)")  # fmt: skip
    return parser


def run(args: argparse.Namespace) -> int:
    """Check, print, write what was asked for; returns the exit code. Raises UserError for what is not data."""
    check_place_flags(args)
    args.dataset_file = args.dataset_file or "custom"
    if args.dataset_file in ("shapes", "coco_panoptic"):
        raise UserError(
            f"--dataset_file {args.dataset_file}: the check reads boxes of picture files; it has nothing to read here"
        )
    layout = layout_from_flags(args)
    report, checked = check(
        layout,
        finder=lambda split: picture_finder(args.dataset_file, layout, split),
        num_queries=args.num_queries,
        num_classes=args.num_classes,
        need_masks=args.masks,
        strict=args.strict,
    )
    print(as_text(report), flush=True)
    if args.json is not None:
        _write_json(as_dict(report), args.json)
        print(f"wrote {args.json}")
    try:
        drawn = draw_sheet(checked, args.sheet)
    except OSError as error:
        raise PictureError(f"{args.sheet}: cannot be written ({error.strerror})") from None
    if drawn:
        print(f"wrote {args.sheet}: {drawn} pictures with their boxes")
    if args.fix is not None:
        print(f"wrote {', '.join(map(str, write_repaired(checked, args.fix)))}")
    return int(report.worst())


def cli(argv: list[str] | None = None) -> int:
    """Run from the command line: the check's exit code, or 2 after one line on stderr."""
    args = get_args_parser().parse_args(argv)
    try:
        return run(args)
    except UserError as error:
        print(f"check: error: {error.line()}", file=sys.stderr, flush=True)
        return error.exit_code


if __name__ == "__main__":
    sys.exit(cli())
