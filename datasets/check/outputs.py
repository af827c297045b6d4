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
from ..annotations.categories import LARGEST_LABEL
from ..images import read_image
from .split import DecodedFiles, SplitCheck

SHEET_IMAGES, SHEET_COLUMNS = 12, 4


def write_repaired(checked: list[SplitCheck], out: Path) -> list[Path]:
    """Write the annotations of each split, repaired, to {out}/{split}.json, or to `out` for a single split.

    What loading repairs is repaired, and what only this can mend: boxes in another convention, equal objects, several
    ids for one file, and class ids too large to count up to, renumbered alike in all splits. Sizes and file names are
    those of the files; images that cannot be read are left out. Raises DatasetError for what is refused all the
    same, and for a name that ends in .json where there are several splits.
    """
    single = out.suffix == ".json"
    if single and len(checked) > 1:
        raise DatasetError(f"--fix {out}: there are {len(checked)} splits; give a folder for their files")
    paths = [out if single else out / f"{one.report.name}.json" for one in checked]
    for one, path in zip(checked, paths):
        if path.resolve() == one.report.split.annotations.resolve():
            raise DatasetError(f"--fix {out}: that is the file to be repaired; give another place")
    # All splits before the first is written: a refusal in the last would leave half a dataset.
    contents = [_repaired(one, out) for one in checked]
    renumber_categories(contents)
    for path, data in zip(paths, contents):
        write_json(data, path)
        # Once more: boxes that lay within a wrong size may reach over the edge of the real one.
        write_annotations(read_annotations(path), path)
    return paths


def renumber_categories(splits: list[dict[str, Any]]) -> None:
    """Number the categories of all splits from 1 on, in the order of their ids, where one is too large."""
    known = sorted({category["id"] for data in splits for category in data["categories"]})
    if not known or known[-1] <= LARGEST_LABEL:
        return
    # One numbering for all splits, or a class would have two ids.
    number = {id_: place for place, id_ in enumerate(known, start=1)}
    for data in splits:
        data["categories"] = [category | {"id": number[category["id"]]} for category in data["categories"]]
        for annotation in data["annotations"]:
            annotation["category_id"] = number[annotation["category_id"]]


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
            # JSON has no NaN; Python would write one that other readers refuse.
            file.write(json.dumps(data, allow_nan=False).encode())
    except OSError as error:
        raise DatasetError(f"{path}: cannot be written ({error.strerror})") from None


def _repaired(checked: SplitCheck, out: Path) -> dict[str, Any]:
    """Return the annotations with the sizes and names of the files, without the images that cannot be read."""
    report = checked.report
    try:
        files = DecodedFiles(checked.listed, checked.facts)
        data = read_annotations(report.split.annotations, fixing=True, files=files).to_dict()
    except DatasetError as error:
        refusal = f"nothing is written, the {report.name} annotations are refused: {error}"
        raise DatasetError(f"--fix {out}: {refusal}") from None
    found = {listed_image.image_id: (listed_image, fact) for listed_image, fact in zip(checked.listed, checked.facts)}
    images = []
    for image in data["images"]:
        listed_image, fact = found[image["id"]]
        if fact.error is None:
            height, width = fact.size
            # A file found under another name or folder gets the one that it has, so that other programs find it.
            name = (
                os.path.relpath(listed_image.path, checked.report.split.images)
                if listed_image.renamed
                else listed_image.file_name
            )
            images.append(image | {"height": height, "width": width, "file_name": name})
    # Annotations of an image that is not listed would be a fault of the new file.
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
    # Evenly over the split, first and last included: neighbours are often frames of one video. The set drops repeats
    # where there are few.
    for place in sorted({round(k) for k in np.linspace(0, len(usable) - 1, num=min(count, len(usable)))}):
        index = usable[place]
        listed_image = files[ids[index]]
        described = f"the image with image id {listed_image.image_id}"
        image = read_image(listed_image.path, described=described, listed=listed_image.size)
        boxes, labels = annotations.boxes_of(index)
        # x, y, w, h to x0, y0, x1, y1; `image.size * 2` is (w, h, w, h), for a tuple is repeated.
        corners = np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1).clip(min=0, max=image.size * 2)
        # Boxes that were outside have no area after clipping, and cannot be drawn.
        inside = (corners[:, 2:] > corners[:, :2]).all(1)
        drawn = draw_detections(
            image, corners[inside], labels[inside], class_names=annotations.class_names, longer_side=GRID_TILE
        )
        tiles.append((drawn, f"{checked.report.name}: {listed_image.path.name}"))
    return tiles
