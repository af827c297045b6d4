"""Check of one split: its annotations are read and all its images are decoded."""

from dataclasses import dataclass

import numpy as np

from util.errors import DatasetError

from ..annotations import read_annotations
from ..annotations.findings import Findings
from ..annotations.kinds import OUTSIDE_BOX, OVERHANGING_BOX, WRONG_SIZE, Kind
from ..annotations.masks import Size
from ..annotations.parse import parse_coco, to_int
from ..annotations.table import Annotations
from ..image_files import FindImage
from ..layout import Split
from .images import ImageFacts, ListedImage, inspect_all, note_images, note_repeats
from .report import SplitReport


@dataclass
class SplitCheck:
    """A split after the check: its report, the images that are listed, what their files are, and the annotations.

    `annotations` is None where they are refused.
    """

    report: SplitReport
    listed: list[ListedImage]
    facts: list[ImageFacts]
    annotations: Annotations | None = None


def check_split(
    name: str, split: Split, find: FindImage, num_queries: int, num_classes: int | None, need_masks: bool
) -> SplitCheck:
    """Read a split's annotations and decode all its images; whatever is wrong is in the report.

    Args:
        find: how the files of the images are found.
        num_queries: images with more objects are noted.
        num_classes: a label that is not below it is refused; None: its own largest id + 1.
        need_masks: objects without a mask are refused.
    """
    report = SplitReport(name, split)
    try:
        listed = list_images(split, find)
    except DatasetError as error:
        report.error = str(error)
        return SplitCheck(report, [], [])
    report.images = len(listed)
    facts = inspect_all([image.path for image in listed], label=f"{name} images")
    sizes = {image.image_id: fact.size for image, fact in zip(listed, facts) if fact.error is None}
    found = Findings()
    checked = SplitCheck(report, listed, facts)
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
        if finding.kind != WRONG_SIZE.name:  # all images are compared below, not only those that reading asked about
            report.findings.add(
                finding.kind, finding.action, remedy=finding.remedy, example=finding.example, count=finding.count
            )
    note_images(listed, facts, split.annotations, report.findings)
    note_repeats(listed, facts, split.annotations, report.findings)
    if checked.annotations is not None:
        _note_cut_boxes(checked, checked.annotations)
        _measure(checked.annotations, report)
    return checked


def list_images(split: Split, find: FindImage) -> list[ListedImage]:
    """List the images of an annotation file, also where it is to be refused.

    Entries without id or name are left out. Raises DatasetError where the file is absent or not COCO.
    """
    listed: dict[int, ListedImage] = {}
    for entry in parse_coco(split.annotations).images:
        id_, name = to_int(entry.get("id")), entry.get("file_name")
        if id_ is None or not isinstance(name, str) or not name or id_ in listed:
            continue
        path = find(split.images, name, id_)
        height, width = to_int(entry.get("height")), to_int(entry.get("width"))
        size = None if height is None or width is None else (height, width)
        listed[id_] = ListedImage(id_, name, size, path, renamed=path != split.images / name)
    return [listed[id_] for id_ in sorted(listed)]


def _note_cut_boxes(checked: SplitCheck, annotations: Annotations) -> None:
    """Add the boxes that fit the size listed, if any is, and not that of the file: loading cuts them there."""
    report = checked.report
    facts = {image.image_id: fact for image, fact in zip(checked.listed, checked.facts)}
    for index, image_id in enumerate(annotations.image_ids.tolist()):
        fact = facts[image_id]
        if fact.error is not None or annotations.image_size(index) == fact.size:
            continue
        for kind, count in _count_cut(annotations.boxes_of(index)[0], fact.size):
            if count:
                place = f"{report.split.annotations}: image {image_id}"
                example = f"{place}: a box beyond the size of the file, not beyond one listed"
                report.findings.add(kind.name, kind.action, remedy=kind.remedy, example=example, count=count)


def _count_cut(boxes: np.ndarray, size: Size) -> list[tuple[Kind, int]]:
    """Count the boxes (k, 4) xywh that are outside an image of (height, width), and those that reach over its edge."""
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
