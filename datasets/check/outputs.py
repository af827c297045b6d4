"""Files that the check of a dataset writes: repaired annotations, and a sheet of images with their boxes."""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from util.draw.boxes import GRID_TILE, draw_detections
from util.draw.sheets import contact_sheet
from util.errors import DatasetError
from util.runs.atomic import atomic_file

from ..annotations import read_annotations, write_annotations
from ..images import read_image
from .split import SplitCheck

SHEET_IMAGES, SHEET_COLUMNS = 12, 4


def write_repaired(checked: list[SplitCheck], out: Path) -> list[Path]:
    """Write the annotations of each split as loading reads them to {out}/{split}.json, or to `out` for a single split.

    Sizes and file names are those of the files; images that cannot be read are left out. Raises DatasetError for
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
        write_json(_repaired(one), path)
        # Once more: boxes that lay within a wrong size may reach over the edge of the real one.
        write_annotations(read_annotations(path), path)
        written.append(path)
    return written


def draw_sheet(checked: list[SplitCheck], path: Path, *, title: str) -> int:
    """Write a sheet of images with boxes and names, spread evenly over each split.

    Returns how many images there are on it; there is no sheet without any. Raises DatasetError where it cannot be
    written.
    """
    readable = [one for one in checked if one.annotations is not None]
    tiles = [tile for one in readable for tile in _tiles(one, max(1, SHEET_IMAGES // len(readable)))]
    try:
        if tiles:
            contact_sheet(tiles, columns=SHEET_COLUMNS, path=path, title=title)
    except OSError as error:
        raise DatasetError(f"{path}: cannot be written ({error.strerror})") from None
    return len(tiles)


def write_json(data: dict[str, Any], path: Path) -> None:
    """Write a JSON file, whole or not at all. Raises DatasetError."""
    try:
        with atomic_file(path) as file:
            file.write(json.dumps(data, allow_nan=False).encode())
    except OSError as error:
        raise DatasetError(f"{path}: cannot be written ({error.strerror})") from None


def _repaired(checked: SplitCheck) -> dict[str, Any]:
    """Return the annotations with the sizes and names of the files, without the images that cannot be read."""
    assert checked.annotations is not None  # `write_repaired` has refused the others
    data = checked.annotations.to_dict()
    files = {listed_image.image_id: (listed_image, fact) for listed_image, fact in zip(checked.listed, checked.facts)}
    images = []
    for image in data["images"]:
        listed_image, fact = files[image["id"]]
        if fact.error is None:
            height, width = fact.size
            name = (
                os.path.relpath(listed_image.path, checked.report.split.images)
                if listed_image.renamed
                else listed_image.file_name
            )
            images.append(image | {"height": height, "width": width, "file_name": name})
    kept = {image["id"] for image in images}
    objects = [annotation for annotation in data["annotations"] if annotation["image_id"] in kept]
    return data | {"images": images, "annotations": objects}


def _tiles(checked: SplitCheck, count: int) -> list[tuple[Image.Image, str]]:
    """Draw up to `count` images of a split with captions, those with objects if there are such."""
    annotations = checked.annotations
    assert annotations is not None  # `draw_sheet` has left out the others
    files = {
        listed_image.image_id: listed_image
        for listed_image, fact in zip(checked.listed, checked.facts)
        if fact.error is None
    }
    ids = annotations.image_ids.tolist()
    usable = [index for index in range(len(ids)) if ids[index] in files]
    usable = [index for index in usable if annotations.object_counts()[index]] or usable
    tiles = []
    for place in sorted({round(k) for k in np.linspace(0, len(usable) - 1, num=min(count, len(usable)))}):
        index = usable[place]
        listed_image = files[ids[index]]
        image = read_image(listed_image.path, described=f"the image with image id {listed_image.image_id}")
        boxes, labels = annotations.boxes_of(index)
        corners = np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1).clip(min=0, max=image.size * 2)
        inside = (corners[:, 2:] > corners[:, :2]).all(1)
        drawn = draw_detections(
            image, corners[inside], labels[inside], class_names=annotations.class_names, longer_side=GRID_TILE
        )
        tiles.append((drawn, f"{checked.report.name}: {listed_image.path.name}"))
    return tiles
