"""Reading a COCO annotation file: pycocotools' index over it, or one line that says what is wrong with it."""

import contextlib
import io
import json
import math
from pathlib import Path
from typing import Any

from pycocotools.coco import COCO

from util.errors import DatasetError

Annotation = dict[str, Any]


def read_coco_file(path: str | Path, *, num_classes: int | None = None, need_masks: bool = False) -> COCO:
    """Parse and check the annotation file at `path` and index it without pycocotools' chatter.

    What harmless files leave out is filled in, so that training and evaluation read the same: `iscrowd` 0, `area`
    width * height, objects without a box ("bbox": []) are dropped, and polygons without three points are
    removed. Raises DatasetError, naming the file and the entry, when the file is not there, not JSON, not COCO,
    lists no pictures, or holds a label that is no category or (with `num_classes`) not below `num_classes`;
    with `need_masks` also for an object without segmentation or a picture without height and width.
    """
    data = _parse(Path(path))
    try:
        category_ids = _check_categories(data["categories"])
        sizes = _check_images(data["images"], need_masks=need_masks)
        objects = [a for a in data["annotations"] if not _lacks_box(a)]
        for annotation in objects:
            _check_annotation(annotation, category_ids, num_classes=num_classes, need_masks=need_masks)
            _complete(annotation, sizes.get(annotation["image_id"]))
    except DatasetError as error:
        raise DatasetError(f"{path}: {error}") from None
    return index_coco({**data, "annotations": objects})


def index_coco(data: dict[str, Any]) -> COCO:
    """pycocotools' COCO over annotations in memory (keys images, annotations, categories), without its prints."""
    coco = COCO()
    coco.dataset = data
    with contextlib.redirect_stdout(io.StringIO()):
        coco.createIndex()
    return coco


def _parse(path: Path) -> dict[str, Any]:
    """The file as a dictionary with COCO's three lists."""
    try:
        data = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise DatasetError(f"{path}: no such annotation file (COCO's layout is expected, see --coco_path)") from None
    except (ValueError, RecursionError) as error:
        raise DatasetError(f"{path}: not JSON ({error})") from None
    except OSError as error:
        raise DatasetError(f"{path}: cannot be read ({error.strerror})") from None
    for key in ("images", "annotations", "categories"):
        entries = data.get(key) if isinstance(data, dict) else None
        if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
            raise DatasetError(f'{path}: not a COCO annotation file: it has no list "{key}" of objects')
    return data


def _check_categories(categories: list[dict[str, Any]]) -> set[int]:
    """The category ids, each an int of at least 0."""
    for category in categories:
        if not _is_int(category.get("id")) or category["id"] < 0:
            raise DatasetError(f"category id {category.get('id')!r} is not an integer of at least 0")
    if not categories:
        raise DatasetError("it lists no categories")
    return {category["id"] for category in categories}


def _check_images(images: list[dict[str, Any]], *, need_masks: bool) -> dict[int, tuple[int, int] | None]:
    """Image id to (height, width) where the file gives them."""
    if not images:
        raise DatasetError("it lists no pictures")
    sizes = {}
    for image in images:
        if not _is_int(image.get("id")):
            raise DatasetError(f"image id {image.get('id')!r} is not an integer")
        if not isinstance(image.get("file_name"), str):
            raise DatasetError(f"image id {image['id']} has no file_name")
        known = _is_int(image.get("height")) and _is_int(image.get("width"))
        if need_masks and not known:
            raise DatasetError(f"image id {image['id']} has no height and width, which --masks needs")
        sizes[image["id"]] = (image["height"], image["width"]) if known else None
    return sizes


def _lacks_box(annotation: Annotation) -> bool:
    """True for objects that say they have no box: "bbox" empty, null or left out."""
    return annotation.get("bbox") in ([], None)


def _check_annotation(
    annotation: Annotation, category_ids: set[int], *, num_classes: int | None, need_masks: bool
) -> None:
    """Raise DatasetError for an annotation that cannot be trained on or evaluated."""
    label, box = annotation.get("category_id"), annotation["bbox"]
    name = f"annotation id {annotation.get('id')!r}"
    if not _is_int(annotation.get("id")):
        raise DatasetError(f"{name} is not an integer")
    if not _is_int(annotation.get("image_id")):
        raise DatasetError(f"{name}: image_id {annotation.get('image_id')!r} is not an integer")
    if not _is_int(label):
        raise DatasetError(f"{name}: label {label!r} (category_id) is not an integer")
    if label not in category_ids:
        raise DatasetError(f"{name}: label {label} (category_id) is not among the categories")
    if num_classes is not None and label >= num_classes:
        raise DatasetError(
            f"{name}: label {label} (category_id) is outside 0..{num_classes - 1}; "
            f"--num_classes must be at least {max(category_ids) + 1}"
        )
    if not isinstance(box, list) or len(box) != 4 or not all(_is_number(value) for value in box):
        raise DatasetError(f"{name}: bbox {box!r} is not [x, y, width, height]")
    if need_masks and not annotation.get("iscrowd") and annotation.get("segmentation") is None:
        raise DatasetError(f"{name} has no segmentation, which --masks needs")


def _complete(annotation: Annotation, size: tuple[int, int] | None) -> None:
    """Fill in what pycocotools' evaluation reads; `size` is the picture's (height, width) when known."""
    _, _, width, height = annotation["bbox"]
    if annotation.get("iscrowd") is None:
        annotation["iscrowd"] = 0
    if annotation.get("area") is None:
        annotation["area"] = width * height
    polygons = annotation.get("segmentation")
    if isinstance(polygons, list):
        annotation["segmentation"] = drawable(polygons)
        if not annotation["segmentation"] and size is not None:
            # pycocotools stops at an empty list; a run of zeros is the mask that it means.
            annotation["segmentation"] = {"size": list(size), "counts": [size[0] * size[1]]}


def drawable(polygons: list) -> list:
    """The polygons [x, y, x, y, ...] that have at least three points (pycocotools takes two points for a box)."""
    return [polygon for polygon in polygons if isinstance(polygon, list) and len(polygon) >= 6]


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
