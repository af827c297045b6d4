"""Check of one split: its annotations are read and all its images are decoded."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from os.path import isfile
from pathlib import Path

import numpy as np

from util.errors import DatasetError

from ..annotations import read_annotations
from ..annotations.dense import DenseLabels
from ..annotations.findings import Findings
from ..annotations.images import last_part
from ..annotations.kinds import WRONG_SIZE
from ..annotations.lists import parse_coco
from ..annotations.losses import note_no_objects
from ..annotations.masks import Size
from ..annotations.parse import to_int
from ..annotations.table import Annotations
from ..image_files import FindImage, by_base_name, hint_for_missing
from ..images import ImageFolder
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


@dataclass
class DecodedFiles:
    """The files of a split's images as the check found them, by image id."""

    listed: list[ListedImage]
    facts: list[ImageFacts]
    sizes_known = True

    def __post_init__(self) -> None:
        self._paths = {image.image_id: image.path for image in self.listed}
        facts = zip(self.listed, self.facts)
        self._sizes = {image.image_id: fact.size for image, fact in facts if fact.error is None}

    def path(self, file_name: str, image_id: int) -> Path | None:
        """Return the file of an image."""
        return self._paths.get(image_id)

    def size(self, file_name: str, image_id: int, listed: Size | None) -> Size | None:
        """Return the decoded (height, width) of an image, None where it cannot be read."""
        return self._sizes.get(image_id)

    def set_ambiguous(self, last_parts: Iterable[str]) -> None:
        """Do nothing: the paths were found by more than their last part where it is ambiguous."""


def check_split(
    name: str, split: Split, find: FindImage, num_queries: int, num_classes: int | DenseLabels | None, need_masks: bool
) -> SplitCheck:
    """Read a split's annotations and decode all its images; whatever is wrong is in the report.

    Args:
        name: "train" must have objects.
        split: its folder and annotation file.
        find: how the files of the images are found.
        num_queries: images with more objects are noted.
        num_classes: a label that is not below it is refused; None: its own largest id + 1. Or the order of labels.
        need_masks: objects without a mask are refused.
    """
    report = SplitReport(name, split)
    try:
        listed = list_images(split, find)
    except DatasetError as error:
        report.error = str(error)
        return SplitCheck(report, [], [])
    # From here on images are decoded even where the annotations are refused: one call finds both kinds of faults.
    report.images = len(listed)
    facts = inspect_all(listed, label=f"{name} images")
    found = Findings()
    checked = SplitCheck(report, listed, facts)
    try:
        checked.annotations = read_annotations(
            split.annotations,
            num_classes=num_classes,
            need_masks=need_masks,
            num_queries=num_queries,
            findings=found,
            # Sizes of the decoded files, so that nothing is opened twice.
            files=DecodedFiles(listed, facts),
        )
    except DatasetError as error:
        report.error = str(error)
    for finding in found:
        if finding.kind != WRONG_SIZE.name:  # with the files' names, below
            report.findings.add(
                finding.kind, finding.action, remedy=finding.remedy, example=finding.example, count=finding.count
            )
    note_images(listed, facts, split.annotations, report.findings)
    note_repeats(listed, facts, split.annotations, report.findings)
    if checked.annotations is not None:
        note_no_objects(split.annotations, checked.annotations, report.findings, training=name == "train")
        _measure(checked.annotations, report)
    return checked


def list_images(split: Split, find: FindImage) -> list[ListedImage]:
    """List the images of an annotation file, also where it is to be refused.

    Entries without id or name are left out. Raises DatasetError where the file is absent or not COCO.
    """
    entries = parse_coco(split.annotations).images
    folder = ImageFolder(split.images, find)
    # Images are found by the last part of their name where that is unambiguous, as in training.
    last_parts = Counter(last_part(name) for entry in entries if isinstance(name := entry.file_name, str))
    folder.set_ambiguous(part for part, count in last_parts.items() if count > 1)
    listed: dict[int, ListedImage] = {}
    lost: dict[int, Path] = {}
    for entry in entries:
        id_, name = to_int(entry.id), entry.file_name
        # Such entries are findings of `read_annotations`; here they only have no file.
        if id_ is None or not isinstance(name, str) or not name or id_ in listed:
            continue
        path = folder.path(name, id_)
        height, width = to_int(entry.height), to_int(entry.width)
        size = None if height is None or width is None else (height, width)
        listed[id_] = ListedImage(id_, name, size, path, renamed=path != split.images / name)
        if not isfile(path):
            # Where the last part of the name alone leads to.
            lost[id_] = find(split.images, name, id_)
    # By its last part alone a name may lead to the file of another: both are refused for that, not for a missing file.
    taken = Counter([*(image.path for image in listed.values()), *lost.values()])
    for id_, place in lost.items():
        if taken[place] > 1 and isfile(place):
            listed[id_] = replace(listed[id_], path=place, renamed=True)
        elif find is not by_base_name:
            listed[id_] = replace(listed[id_], hint=hint_for_missing(split.images, listed[id_].file_name))
    return [listed[id_] for id_ in sorted(listed)]


def _measure(annotations: Annotations, report: SplitReport) -> None:
    """Fill in the report's numbers."""
    # (n, 4) boxes x, y, w, h in pixels, and (n,) labels, of each image.
    parts = [annotations.boxes_of(index) for index in range(len(annotations))]
    boxes = np.concatenate([boxes for boxes, _ in parts])
    report.class_names = dict(annotations.class_names)
    report.counts = annotations.object_counts()
    report.labels = np.concatenate([labels for _, labels in parts])
    # Of the box's area; COCO's own sizes go by the area that is listed, which may be the mask's.
    report.sides = np.sqrt(boxes[:, 2] * boxes[:, 3])
