"""Read a COCO annotation file: what is harmless is repaired in the open, what would corrupt a training is refused.

`datasets/annotations/kinds.py` is the list of oddities with what is done about each.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np

from util.errors import DatasetError
from util.runs.atomic import atomic_file

from . import kinds
from .findings import Action, Findings
from .flat_masks import FlatMasks, MaskBuilder
from .headers import Images, SizeOfFile, no_size_of_file, note_unused, read_categories
from .kinds import IssueLog
from .masks import MaskRules
from .objects import AnnotationTable
from .parse import not_json, parse_coco, without_collector
from .table import Annotations, ImageColumns, ObjectColumns
from .table import index_coco as index_coco  # the evaluation imports it from here


def read_annotations(
    path: str | Path,
    *,
    num_classes: int | None = None,
    need_masks: bool = False,
    num_queries: int | None = None,
    strict: bool = False,
    findings: Findings | None = None,
    size_of_file: SizeOfFile = no_size_of_file,
) -> Annotations:
    """Read, check and repair the annotation file at `path`.

    Args:
        num_classes: a label that is not below it is refused.
        need_masks: objects without a readable segmentation, and images without height and width, are refused.
        num_queries: images with more objects are noted.
        strict: what would be repaired is refused.
        findings: everything odd is added to it, also what is refused, before the error.
        size_of_file: gives the (height, width) of an image's file; asked before a box is cut at the size listed.

    Raises:
        DatasetError: it names the file and, where an entry is at fault, the id.
    """
    path = Path(path)
    issues = IssueLog(path)
    with without_collector():
        data = parse_coco(path)
        categories = read_categories(data.categories, issues)
        images = Images(data.images, issues, need_sizes=need_masks)
        table = AnnotationTable(
            data.annotations,
            issues,
            images=images,
            categories=categories,
            num_classes=num_classes,
            size_of_file=size_of_file,
        )
        rows = _by_image(table)
        masks = _read_masks(table, rows, images, MaskRules(issues, needed=need_masks))
        annotations = _pack(table, rows, images, masks, list(categories.values()))
        del data
        note_unused(categories, table.labels[rows], issues)
        _note_counts(annotations, num_queries, issues)
        del table
    issues.settle(Findings() if findings is None else findings, strict=strict)
    return annotations


def write_annotations(annotations: Annotations, out_path: str | Path) -> None:
    """Write what was read, repaired, as a COCO file, whole or not at all; reading it finds nothing to repair.

    Only what detection reads is written: keys such as `license` or `keypoints` are not. Raises DatasetError.
    """
    try:
        with atomic_file(out_path) as file:
            file.write(json.dumps(annotations.to_dict(), allow_nan=False).encode())
    except OSError as error:
        raise DatasetError(f"{out_path}: cannot be written ({error.strerror})") from None


def repair_file(path: str | Path, out_path: str | Path, *, findings: Findings | None = None) -> None:
    """Read the annotation file at `path` and write it repaired to `out_path`. Raises DatasetError as both do."""
    write_annotations(read_annotations(path, findings=findings), out_path)


def describe_repairs(path: str | Path, findings: Findings) -> str | None:
    """Describe in one line what was repaired in the file at `path`, None where nothing was."""
    repairs = [finding for finding in findings if finding.action is Action.REPAIRED]
    if not repairs:
        return None
    listed = "; ".join(f"{finding.kind}: {finding.count} ({finding.remedy})" for finding in repairs)
    return f"{path}: repaired on reading: {listed}"


def _by_image(table: AnnotationTable) -> np.ndarray:
    """Return the rows that live (m,), by image, within one in the file's order."""
    rows = np.flatnonzero(table.alive)
    return rows[np.argsort(table.images[rows], kind="stable")]


def _read_masks(table: AnnotationTable, rows: np.ndarray, images: Images, rules: MaskRules) -> FlatMasks:
    builder = MaskBuilder()
    sizes = [images.size(position) for position in range(len(images.ids))]
    columns = (table.images[rows].tolist(), table.boxes[rows], table.crowd[rows].tolist())
    try:
        for row, position, box, crowd in zip(rows.tolist(), *columns):
            builder.append(rules.read(table.entries[row], size=sizes[position], box=box, crowd=crowd))
    except (ValueError, RecursionError) as error:
        raise not_json(rules.issues.path, error) from None
    if rules.needed and not rules.drawn and not table.crowd[rows].all():
        first = table.entries[rows[0]]
        rules.issues.add(kinds.NO_MASKS_AT_ALL, "annotation", first.id, "segmentation", first.segmentation)
    return FlatMasks(builder)


def _pack(
    table: AnnotationTable, rows: np.ndarray, images: Images, masks: FlatMasks, categories: list[dict[str, Any]]
) -> Annotations:
    objects = ObjectColumns(
        images=table.images[rows],
        ids=table.ids[rows],
        labels=table.labels[rows],
        boxes=table.boxes[rows],
        areas=table.areas[rows],
        crowd=table.crowd[rows],
        masks=masks,
    )
    return Annotations(ImageColumns(ids=images.ids, names=images.names, sizes=images.sizes), objects, categories)


def _note_counts(annotations: Annotations, num_queries: int | None, issues: IssueLog) -> None:
    """Note the images without objects and those with more than `num_queries`."""
    counts = annotations.object_counts()
    most = np.inf if num_queries is None else num_queries
    for kind, odd in ((kinds.NEGATIVES, counts == 0), (kinds.CROWDED, counts > most)):
        found = np.flatnonzero(odd)
        if len(found):
            first = int(found[0])
            issues.add(
                kind, "image", int(annotations.image_ids[first]), "objects", int(counts[first]), count=len(found)
            )
