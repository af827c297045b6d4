"""Reading a COCO annotation file: what is harmless is repaired in the open, what would corrupt a training is refused.

`datasets/annotation_kinds.py` is the list of oddities with what is done about each.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np

from datasets import annotation_kinds as kinds
from datasets.annotation_kinds import Notes
from datasets.annotation_rules import AnnotationTable
from datasets.annotations import Annotations
from datasets.annotations import index_coco as index_coco  # the evaluation imports it from here
from datasets.coco_json import not_json, parse_coco, without_collector
from datasets.entry_rules import Pictures, SizeOfFile, no_size_of_file, note_unused, read_categories
from datasets.findings import Action, Findings
from datasets.flat_masks import FlatMasks, MaskBuilder
from datasets.mask_rules import MaskRules
from util.atomic import atomic_file
from util.errors import DatasetError


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
        need_masks: objects without a readable segmentation, and pictures without height and width, are refused.
        num_queries: pictures with more objects are noted.
        strict: what would be repaired is refused.
        findings: everything odd is added to it, also what is refused, before the error.
        size_of_file: gives the (height, width) of a picture's file; asked before a box is cut at the size listed.

    Raises:
        DatasetError: it names the file and, where an entry is at fault, the id.
    """
    path = Path(path)
    notes = Notes(path)
    with without_collector():
        data = parse_coco(path)
        categories = read_categories(data.categories, notes)
        pictures = Pictures(data.images, notes, need_sizes=need_masks)
        table = AnnotationTable(
            data.annotations, notes,
            pictures=pictures, categories=categories, num_classes=num_classes, size_of_file=size_of_file,
        )  # fmt: skip
        rows = _by_picture(table)
        masks = _read_masks(table, rows, pictures, MaskRules(notes, needed=need_masks))
        annotations = _pack(table, rows, pictures, masks, list(categories.values()))
        del data
        note_unused(categories, table.labels[rows], notes)
        _note_counts(annotations, num_queries, notes)
        del table
    notes.settle(Findings() if findings is None else findings, strict=strict)
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
    """One line on what was repaired in the file at `path`, None where nothing was."""
    repairs = [finding for finding in findings if finding.action is Action.REPAIRED]
    if not repairs:
        return None
    listed = "; ".join(f"{finding.kind}: {finding.count} ({finding.remedy})" for finding in repairs)
    return f"{path}: repaired on reading: {listed}"


def _by_picture(table: AnnotationTable) -> np.ndarray:
    """The rows that live (m,), by picture, within one in the file's order."""
    rows = np.flatnonzero(table.alive)
    return rows[np.argsort(table.pictures[rows], kind="stable")]


def _read_masks(table: AnnotationTable, rows: np.ndarray, pictures: Pictures, rules: MaskRules) -> FlatMasks:
    builder = MaskBuilder()
    sizes = [pictures.size(position) for position in range(len(pictures.ids))]
    columns = (table.pictures[rows].tolist(), table.boxes[rows], table.crowd[rows].tolist())
    try:
        for row, position, box, crowd in zip(rows.tolist(), *columns):
            builder.append(rules.read(table.entries[row], size=sizes[position], box=box, crowd=crowd))
    except (ValueError, RecursionError) as error:
        raise not_json(rules.notes.path, error) from None
    if rules.needed and not rules.drawn and not table.crowd[rows].all():
        first = table.entries[rows[0]]
        rules.notes.add(kinds.NO_MASKS_AT_ALL, "annotation", first.id, "segmentation", first.segmentation)
    return FlatMasks(builder)


def _pack(
    table: AnnotationTable, rows: np.ndarray, pictures: Pictures, masks: FlatMasks, categories: list[dict[str, Any]]
) -> Annotations:
    return Annotations(
        image_ids=pictures.ids,
        file_names=pictures.names,
        sizes=pictures.sizes,
        object_pictures=table.pictures[rows],
        object_ids=table.ids[rows],
        labels=table.labels[rows],
        boxes=table.boxes[rows],
        areas=table.areas[rows],
        crowd=table.crowd[rows],
        masks=masks,
        categories=categories,
    )


def _note_counts(annotations: Annotations, num_queries: int | None, notes: Notes) -> None:
    """Note the pictures without objects and those with more than `num_queries`."""
    counts = annotations.object_counts()
    most = np.inf if num_queries is None else num_queries
    for kind, odd in ((kinds.NEGATIVES, counts == 0), (kinds.CROWDED, counts > most)):
        found = np.flatnonzero(odd)
        if len(found):
            first = int(found[0])
            notes.add(kind, "image", int(annotations.image_ids[first]), "objects", int(counts[first]), count=len(found))
