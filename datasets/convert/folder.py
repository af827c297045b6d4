"""A folder of labelled images between reading it in one format and writing it in COCO's."""

import io
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from util.errors import DatasetError
from util.progress import with_progress

from ..images import one_line

IMAGE_SUFFIXES = frozenset((".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"))
_ORIENTATION = 0x0112  # the EXIF tag

# For each EXIF orientation, where a point of the upright image lies in the stored one; both in 0..1.
_TO_STORED: dict[int, Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]] = {
    1: lambda x, y: (x, y),
    2: lambda x, y: (1 - x, y),
    3: lambda x, y: (1 - x, 1 - y),
    4: lambda x, y: (x, 1 - y),
    5: lambda x, y: (y, x),
    6: lambda x, y: (y, 1 - x),
    7: lambda x, y: (1 - y, 1 - x),
    8: lambda x, y: (1 - y, x),
}


@dataclass(frozen=True)
class LabelledObject:
    """One object: its class index and its outline in pixels of the stored image, 0-based."""

    label: int
    #: (n, 2) points: two opposite corners of a box, or at least three points of a polygon.
    points: np.ndarray
    #: More entries for its annotation.
    fields: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class LabelledImage:
    """One image, by which name the annotations call it, its stored size, and its objects.

    `content` reads its bytes where `path` is a file that holds several.
    """

    path: Path
    name: str
    width: int
    height: int
    objects: list[LabelledObject]
    content: Callable[[], bytes] | None = None


@dataclass
class LabelledFolder:
    """Images of the splits "train" and "val", class index to name, and lines for the user."""

    classes: dict[int, str]
    splits: dict[str, list[LabelledImage]]
    notes: list[str] = field(default_factory=list)


#: Letters of what is wrong with a line, which may hold thousands.
MOST_SHOWN = 300


class Mistakes:
    """Bad lines: all are looked for, so that the first can be named together with how many there are."""

    def __init__(self) -> None:
        self.found: list[str] = []

    def add(self, place: str, what: str) -> None:
        """Note that at `place`, a file with a line number where it has lines, `what` is wrong."""
        self.found.append(f"{place}: {what if len(what) <= MOST_SHOWN else f'{what[:MOST_SHOWN]}...'}")

    def raise_any(self) -> None:
        """Raise DatasetError if there are any."""
        if self.found:
            more = f" (and {len(self.found) - 1} more mistakes in other places)" if len(self.found) > 1 else ""
            raise DatasetError(self.found[0] + more)


@dataclass(frozen=True)
class ImageSize:
    """Width and height as stored, which is how images are loaded, and EXIF's orientation (1 is upright)."""

    width: int
    height: int
    orientation: int

    @property
    def upright(self) -> tuple[int, int]:
        """Width and height of the image turned upright."""
        # 5 to 8 are the orientations with a quarter turn.
        return (self.height, self.width) if self.orientation >= 5 else (self.width, self.height)

    def to_stored(self, points: np.ndarray) -> np.ndarray:
        """Return points (n, 2) of the upright image, in 0..1, as pixels of the stored one."""
        x, y = _TO_STORED[self.orientation](points[:, 0], points[:, 1])
        return np.stack([x * self.width, y * self.height], axis=1)


def image_size(path: Path, content: bytes | None = None) -> ImageSize:
    """Read the header of an image, or of its bytes. Raises DatasetError where it has none that can be read."""
    try:
        with Image.open(path if content is None else io.BytesIO(content)) as image:
            orientation = image.getexif().get(_ORIENTATION, 1)
            return ImageSize(*image.size, orientation if orientation in _TO_STORED else 1)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise DatasetError(f"{path}: cannot be read as an image ({one_line(error)})") from None


def polygon_area(points: np.ndarray) -> float:
    """Return the area of a polygon (n, 2) by the shoelace formula: half the sum of neighbours' cross products."""
    x, y = points.T
    return float(abs(x @ np.roll(y, -1) - y @ np.roll(x, -1)) / 2)


def sort_classes(names: dict[str, int], splits: dict[str, list[LabelledImage]]) -> None:
    """Give the classes their places in the alphabet, in `names` and in every object."""
    order = {names[name]: place for place, name in enumerate(sorted(names))}
    for images in splits.values():
        for image in images:
            # In place, for the image itself is frozen.
            image.objects[:] = [LabelledObject(order[o.label], o.points, o.fields) for o in image.objects]
    names.update({name: order[index] for name, index in names.items()})


def write_coco(folder: LabelledFolder, dest: Path, *, copy: bool) -> None:
    """Write the folder in COCO's layout: {dest}/{split}2017 and annotations/instances_{split}2017.json.

    Images are hard links to the originals where the file system can, else or with `copy` they are copies. Ids
    start at 1, a class's id is its index + 1. `dest` appears at the end, whole. Raises DatasetError for a box that is
    outside its image, a `dest` that holds something, and a disk that cannot be written.
    """
    # Before the first image is copied: a mistake in a box must not cost gigabytes of copying.
    documents = _documents(folder)
    unfinished = dest.resolve().with_name(f".{dest.resolve().name}.unfinished")
    try:
        if dest.exists() and (not dest.is_dir() or any(dest.iterdir())):
            raise DatasetError(f"{dest}: exists and is not empty; name a new folder")
        if unfinished.exists():
            shutil.rmtree(unfinished)
        (unfinished / "annotations").mkdir(parents=True)
        for split, images in folder.splits.items():
            for image in with_progress(images, f"{split} images"):
                _place(image, unfinished / f"{split}2017" / image.name, copy=copy)
            with open(unfinished / "annotations" / f"instances_{split}2017.json", "w", encoding="utf-8") as file:
                json.dump(documents[split], file)
        # An empty folder of that name may be there, which a rename replaces.
        os.replace(unfinished, dest)
    except OSError as error:
        raise DatasetError(f"{error.filename or dest}: cannot be written ({error.strerror})") from error


def _documents(folder: LabelledFolder) -> dict[str, dict[str, Any]]:
    """Return the annotations of each split as COCO has them."""
    mistakes, documents, clipped = Mistakes(), {}, 0
    categories = [{"id": index + 1, "name": name} for index, name in sorted(folder.classes.items())]
    for split, images in folder.splits.items():
        image_entries: list[dict[str, Any]] = []
        annotations: list[dict[str, Any]] = []
        for image_id, image in enumerate(images, start=1):
            size = {"width": image.width, "height": image.height}
            image_entries.append({"id": image_id, "file_name": image.name, **size})
            for thing in image.objects:
                corners, overhang = _corners(thing, image)
                if (corners[1] <= corners[0]).any():
                    mistakes.add(str(image.path), f"a box of class {folder.classes[thing.label]} lies outside of it")
                # Less than a pixel is rounding, and not worth a line.
                clipped += overhang > 1
                ids = {"id": len(annotations) + 1, "image_id": image_id, "category_id": thing.label + 1}
                annotations.append(ids | _annotation(thing, corners))
        documents[split] = {"images": image_entries, "annotations": annotations, "categories": categories}
    mistakes.raise_any()
    if clipped:
        folder.notes.append(f"{clipped} boxes reached more than a pixel over the border: clipped")
    return documents


def _corners(thing: LabelledObject, image: LabelledImage) -> tuple[np.ndarray, float]:
    """Return the box around an object, clipped to the image, as two corners (2, 2), and the pixels cut off."""
    corners = np.stack([thing.points.min(0), thing.points.max(0)])
    # To width and height themselves, not width - 1: coordinates are edges of pixels, as in COCO.
    clipped = np.clip(corners, 0, (image.width, image.height))
    return clipped, float(np.abs(corners - clipped).max())


def _annotation(thing: LabelledObject, corners: np.ndarray) -> dict[str, Any]:
    width, height = (corners[1] - corners[0]).tolist()
    result = {"bbox": [*corners[0].tolist(), width, height], "area": width * height, "iscrowd": 0}
    # Two points are the corners of a box, more are an outline.
    if len(thing.points) > 2:
        result["area"] = polygon_area(thing.points)
        result["segmentation"] = [thing.points.reshape(-1).tolist()]
    return result | thing.fields


def _place(image: LabelledImage, target: Path, *, copy: bool) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if image.content is not None:
        target.write_bytes(image.content())
        return
    if not copy:
        try:
            os.link(image.path.resolve(), target)  # a link to a link would be a link, not a file
            return
        except OSError:  # another file system, or one without hard links
            pass
    shutil.copyfile(image.path, target)
