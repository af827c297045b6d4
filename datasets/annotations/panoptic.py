"""Read COCO's panoptic annotation files: images, and for each the segments of one PNG."""

import json
import math
from pathlib import Path
from typing import Any

from util.errors import DatasetError

from .categories import LARGEST_LABEL
from .kinds import shorten
from .parse import to_float, to_int

#: Ids of segments are the colours of a PNG, R + 256 G + 256^2 B; 0 is no segment.
LARGEST_SEGMENT = 256**3 - 1


def read_panoptic_file(path: Path) -> dict[str, Any]:
    """Parse and check a panoptic annotation file; every image comes with its one annotation.

    Raises DatasetError, naming the file and the entry.
    """
    try:
        data = json.loads(path.read_bytes())
        _check_lists(data)
        _check_headers(data)
        # After the check of the ids, which must not be lists or the like to be keys.
        things = {category["id"]: category["isthing"] for category in data["categories"]}
        # Ids are integers and unique by now, so they may be keys.
        listed = {image["id"]: image["file_name"] for image in data["images"]}
        for annotation in data["annotations"]:
            _check_annotation(annotation, listed, things)
        data["annotations"] = _join_rows(data["annotations"])
    except FileNotFoundError:
        raise DatasetError(f"{path}: no such panoptic annotation file (see --coco_panoptic_path)") from None
    except OSError as error:
        raise DatasetError(f"{path}: cannot be read ({error.strerror})") from None
    # The checks below know the entry, only this place knows the file.
    except DatasetError as error:
        raise DatasetError(f"{path}: {error}") from None
    except KeyError as error:
        raise DatasetError(f"{path}: an entry has no {error.args[0]}") from None
    except (ValueError, RecursionError) as error:
        raise DatasetError(f"{path}: not a panoptic annotation file ({' '.join(str(error).split())})") from None
    missing = sorted(listed.keys() - {annotation["image_id"] for annotation in data["annotations"]})
    if missing:
        raise DatasetError(f"{path}: image id {missing[0]} has no annotation ({len(missing)} such images)")
    return data


def _check_lists(data: Any) -> None:
    for key in ("images", "annotations", "categories"):
        entries = data.get(key) if isinstance(data, dict) else None
        if not isinstance(entries, list) or not entries or not all(isinstance(entry, dict) for entry in entries):
            raise DatasetError(f'not a panoptic annotation file: it has no list "{key}" of objects')


def _check_headers(data: dict[str, Any]) -> None:
    """Refuse images and categories that cannot be told apart or named, and drop sizes that are none."""
    _check_ids(data)
    _check_images(data["images"])
    for category in data["categories"]:
        if category["id"] > LARGEST_LABEL:
            raise DatasetError(
                f"category id {category['id']}: a model has a class for every number up to the largest id: renumber "
                f"them from 1 on"
            )
        # True and False pass as well, for they equal 1 and 0.
        if category["isthing"] not in (0, 1):
            raise DatasetError(f"category id {category['id']}: isthing {shorten(category['isthing'])} is not 0 or 1")


def _check_ids(data: dict[str, Any]) -> None:
    for key in ("images", "categories"):
        ids = set()
        for entry in data[key]:
            id_ = entry["id"]
            # type, not isinstance: a bool is an int to Python. Beyond 63 bits torch cannot hold the id.
            if type(id_) is not int or id_ < 0 or id_ >= 2**63:
                raise DatasetError(f"{key}: id {shorten(id_)} is not an integer of at least 0")
            if id_ in ids:
                raise DatasetError(f"{key}: id {id_} is listed twice")
            ids.add(id_)


def _check_images(images: list[dict[str, Any]]) -> None:
    files: dict[str, int] = {}
    for image in images:
        name = image["file_name"]
        if not isinstance(name, str) or not name:
            raise DatasetError(f"image id {image['id']}: file_name {shorten(name)} is not text")
        if files.setdefault(name, image["id"]) != image["id"]:
            raise DatasetError(f"image id {image['id']}: file_name {name!r} is also that of image id {files[name]}")
        # Sizes are not needed: without them each image is opened for its own.
        if not all(type(image.get(side)) is int and image[side] > 0 for side in ("height", "width")):
            image.pop("height", None)
            image.pop("width", None)


def _check_annotation(annotation: dict[str, Any], listed: dict[int, str], things: dict[int, Any]) -> None:
    """Refuse segments that cannot be read, and fill in `iscrowd` 0 where a segment has none."""
    name = f"annotation of image id {shorten(annotation['image_id'])}"
    if type(annotation["image_id"]) is not int or annotation["image_id"] not in listed:
        raise DatasetError(f"{name}: no such image is listed")
    if not isinstance(annotation["file_name"], str):
        raise DatasetError(f"{name}: file_name {shorten(annotation['file_name'])} is not text")
    segments = annotation["segments_info"]
    if not isinstance(segments, list) or not all(isinstance(segment, dict) for segment in segments):
        raise DatasetError(f"{name}: segments_info is no list of objects")
    labels: dict[int, Any] = {}
    for segment in segments:
        place = f"{name}: segment {shorten(segment['id'])}"
        label = segment["category_id"]
        if type(label) is not int or label not in things:
            raise DatasetError(f"{place}: label {shorten(label)} (category_id) is not among the categories")
        id_, area = to_int(segment["id"]), to_float(segment["area"])
        # 0 is the colour of unlabelled pixels: a segment of that id would take all of them.
        if id_ is None or not 0 < id_ <= LARGEST_SEGMENT:
            raise DatasetError(f"{place}: its id is no integer from 1 to {LARGEST_SEGMENT}, which a PNG can hold")
        if id_ in labels:
            raise DatasetError(f"{place}: the id is listed twice, with category_id {labels[id_]} and {label}")
        labels[id_] = label
        if area is None or not math.isfinite(area) or area < 0:
            raise DatasetError(f"{place}: area {shorten(segment['area'])} is not a number of at least 0")
        if segment.get("iscrowd") not in (None, 0, 1):
            raise DatasetError(f"{place}: iscrowd {shorten(segment['iscrowd'])} is not 0 or 1")
        # Plain types from here on: an id of "12" would equal no pixel of the PNG.
        segment["id"], segment["area"], segment["iscrowd"] = id_, area, int(segment.get("iscrowd") or 0)


def _join_rows(annotations: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Join the rows of an image that name one PNG and different segments; refuse others."""
    of_image: dict[int, dict[str, Any]] = {}
    for annotation in annotations:
        # Some files have several rows for an image, each with a part of its segments.
        known = of_image.setdefault(annotation["image_id"], annotation)
        if known is annotation:
            continue
        name = f"image id {annotation['image_id']} has two annotations"
        if known["file_name"] != annotation["file_name"]:
            raise DatasetError(f"{name} with the PNGs {known['file_name']!r} and {annotation['file_name']!r}")
        # One id twice would give two objects the same pixels.
        shared = {s["id"] for s in known["segments_info"]} & {s["id"] for s in annotation["segments_info"]}
        if shared:
            raise DatasetError(f"{name} that both list segment {min(shared)}")
        known["segments_info"] = known["segments_info"] + annotation["segments_info"]
    return list(of_image.values())
