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
from .categories import note_labels, note_unused, read_categories
from .classes import ChosenClasses
from .columns import distinct
from .dense import DenseLabels
from .findings import Action, Findings
from .flat_masks import FlatMasks, MaskBuilder
from .images import ImageFiles, Images, NoFiles
from .kinds import IssueLog
from .listed import ListedObjects
from .lists import parse_coco
from .masks import MaskRules, mask_area
from .objects import AnnotationTable
from .parse import not_json, without_collector
from .table import Annotations, ImageColumns, ObjectColumns
from .table import index_coco as index_coco  # the evaluation imports it from here

#: Bits of a row's number in the key that sorts them; no file has as many rows, or images, as either part can count.
ROW_BITS = 32


def read_annotations(
    path: str | Path,
    *,
    num_classes: int | DenseLabels | ChosenClasses | None = None,
    need_masks: bool = False,
    num_queries: int | None = None,
    strict: bool = False,
    fixing: bool = False,
    findings: Findings | None = None,
    files: ImageFiles | None = None,
) -> Annotations:
    """Read, check and repair the annotation file at `path`.

    Args:
        path: the JSON file.
        num_classes: a label that is not below it is refused; or how category ids become labels; or which are kept.
        need_masks: objects without a readable segmentation, and images without height and width, are refused.
        num_queries: images with more objects are noted.
        strict: what would be repaired is refused.
        fixing: refusals that the caller will mend (`kinds.FIXED`) pass.
        findings: everything odd is added to it, also what is refused, before the error.
        files: the images' files. Asked for a size before a box is cut at the size listed, and where masks have a size.

    Raises:
        DatasetError: it names the file and, where an entry is at fault, the id.
    """
    path = Path(path)
    issues = IssueLog(path)
    with without_collector():
        data = parse_coco(path)
        if data.annotations is None:
            issues.add(kinds.NO_ANNOTATIONS, "file", path.name)
        categories = read_categories(data.categories, issues)
        entries = ListedObjects() if data.annotations is None else data.annotations
        if isinstance(num_classes, ChosenClasses):
            entries, categories = num_classes.keep(entries, categories, path)
            num_classes = num_classes.labels
        dense = num_classes if isinstance(num_classes, DenseLabels) else None
        if dense is None:
            note_labels(categories, issues)
        images = Images(data.images, issues, need_sizes=need_masks, files=files or NoFiles(), fixing=fixing)
        # What has been read goes as soon as it is not needed: of a large file each column is hundreds of megabytes.
        del data
        table = AnnotationTable(
            entries,
            issues,
            images=images,
            categories=categories,
            num_classes=num_classes if isinstance(num_classes, int) else None,
            fixing=fixing,
        )
        # Rows that were refused or left out are dead from here on.
        rows = _by_image(table)
        if need_masks:
            # Polygons fit any size; run lengths only that of the file. Crowds are never drawn in training.
            single = rows[~table.crowd[rows] & table.entries.segmentations.present()[rows]]
            are_runs = table.entries.segmentations.first_bytes(single) == ord("{")
            images.measure(np.unique(table.images[single[are_runs]]))
        masks = _read_masks(table, rows, images, MaskRules(table.entries, issues, needed=need_masks))
        note_unused(categories, distinct(table.labels[table.alive]), issues)
        listed = list(categories.values())
        if dense is not None:
            table.labels[rows], listed = dense.renumber(table.labels[rows], categories, path)
        # Flat arrays: processes of a loader share their pages, which Python's objects lose to reference counts.
        table.entries = entries = ListedObjects()
        annotations = _pack(table, rows, images, masks, listed)
        _note_counts(annotations, num_queries, issues)
    # At the end: an error tells all that is wrong, not the first entry alone.
    issues.settle(Findings() if findings is None else findings, strict=strict, fixing=fixing)
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
    images = table.images[rows]
    if (images[1:] >= images[:-1]).all():  # as most files are
        return rows
    # Image and row in one number: numpy sorts numbers many times as fast as it finds a stable order of them, and
    # objects of an image keep the file's order.
    images <<= ROW_BITS
    images |= rows
    images.sort()
    images &= (1 << ROW_BITS) - 1
    return images


def _read_masks(table: AnnotationTable, rows: np.ndarray, images: Images, rules: MaskRules) -> FlatMasks:
    # (m,) rows with something to read; without --masks a row without segmentation has no mask.
    asked = np.flatnonzero(table.entries.segmentations.present()[rows] | rules.needed)
    builder = MaskBuilder(len(rows))
    sizes = [images.size(position) for position in range(len(images.ids))] if len(asked) else []
    rows = rows[asked]
    columns = (table.images[rows].tolist(), table.boxes[rows], table.crowd[rows].tolist())
    try:
        for k, row, position, box, crowd in zip(asked.tolist(), rows.tolist(), *columns):
            builder.put(k, rules.read(row, size=sizes[position], box=box, crowd=crowd))
    except (ValueError, RecursionError) as error:
        raise not_json(rules.issues.path, error) from None
    # One object without a mask is a fault of its own; a file without any was made for boxes.
    if rules.needed and not rules.drawn and not table.crowd[rows].all():
        first = table.entries[int(rows[0])]
        rules.issues.add(kinds.NO_MASKS_AT_ALL, "annotation", first.id, "segmentation", first.segmentation)
    return FlatMasks(builder)


def _pack(
    table: AnnotationTable, rows: np.ndarray, images: Images, masks: FlatMasks, categories: list[dict[str, Any]]
) -> Annotations:
    lacking = np.flatnonzero(table.lacks_area[rows])
    positions = table.take("images", rows)
    areas = table.take("areas", rows)
    for k in lacking.tolist():
        # The evaluation sorts objects by these: that of the mask is COCO's, that of the box stands in for it.
        areas[k] = mask_area(masks[k], images.size(int(positions[k]))) or areas[k]
    objects = ObjectColumns(
        images=positions,
        ids=table.take("ids", rows),
        labels=table.take("labels", rows),
        boxes=table.take("boxes", rows),
        areas=areas,
        crowd=table.take("crowd", rows),
        masks=masks,
    )
    listed = ImageColumns(ids=images.ids, names=images.names, sizes=images.sizes)
    return Annotations(listed, objects, categories, listed=table.listed, left_out=table.left_out)


def _note_counts(annotations: Annotations, num_queries: int | None, issues: IssueLog) -> None:
    """Note the images without objects and those with more than `num_queries`."""
    counts = annotations.object_counts()
    # Nothing is above infinity: without a number of queries no image is crowded.
    most = np.inf if num_queries is None else num_queries
    for kind, odd in ((kinds.NEGATIVES, counts == 0), (kinds.CROWDED, counts > most)):
        found = np.flatnonzero(odd)
        if len(found):
            first = int(found[0])
            issues.add(
                kind, "image", int(annotations.image_ids[first]), "objects", int(counts[first]), count=len(found)
            )
