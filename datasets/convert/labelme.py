"""Read LabelMe: a JSON file for each image, with polygons, rectangles and circles."""

import json
import math
from collections import Counter, defaultdict
from os.path import isfile  # which, other than a Path's, takes a name of any length
from pathlib import Path
from typing import Any

import numpy as np

from util.errors import DatasetError
from util.progress import with_progress

from ..image_files import by_base_name
from .folder import (
    IMAGE_SUFFIXES,
    ImageSize,
    LabelledFolder,
    LabelledImage,
    LabelledObject,
    Mistakes,
    image_size,
    polygon_area,
    sort_classes,
)

#: Corners of the polygon that stands for a circle.
CIRCLE = 32
#: Shapes that enclose nothing.
WITHOUT_AREA = ("point", "points", "line", "linestrip")


def read_labelme(root: Path, *, sets: dict[str, str], classes: list[str] | None = None) -> LabelledFolder:
    """Read the sets of a folder with LabelMe's files.

    `sets` names the folder of each split: {"train": "train", "val": "val"}; one for "val" may be missing, which is
    noted, and without a folder for "train" the files in `root` are that split. Shapes of one label and one `group_id`
    are one object. Points and lines are left out, masks become their boxes; both are noted. Classes are in alphabetical
    order, or that of `classes`. Raises DatasetError, with the file.
    """
    reader = _Reader({name: index for index, name in enumerate(classes or [])}, closed=classes is not None)
    splits, notes = {}, []
    for split, name in sets.items():
        # Names that people give validation images.
        others = ("valid", "validation", "test") if split == "val" else ()
        folders = [root / folder for folder in (name, *others)] + ([root] if split == "train" else [])
        folder = next((folder for folder in folders if any(folder.glob("*.json"))), None)
        if folder is None and split == "train":
            raise DatasetError(f"{root}: no folder {name} with LabelMe's JSON files, and none of them in {root} itself")
        if folder is None:
            notes.append(f"{root}: no folder {name} with JSON files, so there are no images for {split}")
        else:
            splits[split] = reader.read_folder(folder, notes)
    reader.mistakes.raise_any()
    if not reader.names:
        raise DatasetError(f"{root}: its files hold no object")
    notes += [f"{count} shapes of type {kind}: {what}" for (kind, what), count in sorted(reader.odd.items())]
    if reader.resized:
        notes.append(f"{reader.resized} images have another size than their JSON file says: theirs counts")
    if classes is None:
        sort_classes(reader.names, splits)
    return LabelledFolder({index: name for name, index in reader.names.items()}, splits, notes)


class _Reader:
    """Reads folders one after another, collecting the classes and mistakes of all."""

    def __init__(self, names: dict[str, int], *, closed: bool) -> None:
        self.names = names
        self.closed = closed
        self.mistakes = Mistakes()
        #: Shapes by their type and what became of them.
        self.odd: Counter[tuple[str, str]] = Counter()
        self.resized = 0

    def read_folder(self, folder: Path, notes: list[str]) -> list[LabelledImage]:
        """Read the files of a folder; images without one were not labelled and are left out."""
        # By name: the images of a split lie in one folder afterwards.
        images: dict[str, LabelledImage] = {}
        for path in with_progress(sorted(folder.glob("*.json")), str(folder)):
            try:
                image = self._read(path)
            except DatasetError as error:
                self.mistakes.found.append(str(error))
                continue
            if images.setdefault(image.name, image) is not image:
                self.mistakes.add(str(path), f"its image is called {image.name}, as that of another JSON file")
        # LabelMe writes a file only once an image is saved: one without may be unlabelled or empty, and would be
        # learned as empty.
        rest = sum(path.suffix.lower() in IMAGE_SUFFIXES and path.name not in images for path in folder.iterdir())
        if rest:
            notes.append(f"{folder}: {rest} images without a JSON file are left out")
        return list(images.values())

    def _read(self, path: Path) -> LabelledImage:
        try:
            data = json.loads(path.read_bytes())
        except (OSError, ValueError, RecursionError) as error:
            raise DatasetError(f"{path}: cannot be read as JSON ({' '.join(str(error).split())})") from None
        if not isinstance(data, dict) or not isinstance(data.get("shapes"), list):
            raise DatasetError(f'{path}: not a file of LabelMe: it has no list "shapes"')
        image = self._image_of(path, data)
        size = image_size(image)
        upright = self._drawn_upright(size, data)
        objects = defaultdict(list)
        for number, shape in enumerate(data["shapes"]):
            try:
                label, group, points = self._shape(shape)
            except ValueError as error:
                self.mistakes.add(f"{path}: shape {number}", str(error))
                continue
            if points is not None:
                # As fractions of the upright image, then in pixels of the image as stored, which annotations speak of.
                outline = size.to_stored(points / size.upright) if upright else points
                # A shape's number keeps it apart; marked, a group's id never meets a number.
                objects[label, number if group is None else ("group", group)].append(outline)
        found = [_object(label, outlines) for (label, _), outlines in objects.items()]
        return LabelledImage(image, image.name, size.width, size.height, found)

    def _drawn_upright(self, size: ImageSize, data: dict[str, Any]) -> bool:
        """Return True unless the shapes were drawn on the image as stored: LabelMe turns it as EXIF says, if it can."""
        said = (data.get("imageWidth"), data.get("imageHeight"))
        # LabelMe shows images upright; a square one looks alike both ways and is taken as upright.
        if said in (size.upright, (None, None)):
            return True
        if said != (size.width, size.height):
            self.resized += 1
        return False

    def _image_of(self, path: Path, data: dict[str, Any]) -> Path:
        said = data.get("imagePath")
        said = said.replace("\\", "/") if isinstance(said, str) else ""  # as LabelMe writes it on Windows
        # imagePath is often that of another machine: its last part counts.
        image = by_base_name(path.parent, said, 0) if said else path
        if image != path and isfile(image):
            return image
        beside = [other for other in path.parent.glob(f"{path.stem}.*") if other.suffix.lower() in IMAGE_SUFFIXES]
        if len(beside) != 1:
            inside = " (it is only inside the file, as imageData: save it beside)" if data.get("imageData") else ""
            raise DatasetError(f"{path}: its image {said!r} is not there{inside}")
        return beside[0]

    def _shape(self, shape: Any) -> tuple[int, Any, np.ndarray | None]:
        """Return class, group and outline (n, 2), None for a shape that encloses nothing. Raises ValueError."""
        if not isinstance(shape, dict) or not isinstance(shape.get("label"), str) or not shape["label"].strip():
            raise ValueError("has no label")
        name, kind = shape["label"].strip(), shape.get("shape_type") or "polygon"
        # Before the points are looked at: one point is right for a point.
        if kind in WITHOUT_AREA:
            self.odd[kind, "left out, they enclose nothing"] += 1
            return 0, None, None
        points = _outline(kind, _points(shape.get("points")))
        if self.closed and name not in self.names:
            raise ValueError(f"class {name!r} is not among the given classes")
        if kind == "mask":
            self.odd[kind, "their boxes are taken"] += 1
        group = shape.get("group_id")
        return self.names.setdefault(name, len(self.names)), group if isinstance(group, int | str) else None, points


def _points(value: Any) -> np.ndarray:
    try:
        points = np.array(value, dtype=np.float64)
    except (TypeError, ValueError, OverflowError):  # the last: a whole number of hundreds of digits
        points = np.zeros(0)
    if points.ndim != 2 or points.shape[1] != 2 or not np.isfinite(points).all():
        raise ValueError("its points are no list of pairs of numbers")
    return points


def _outline(kind: str, points: np.ndarray) -> np.ndarray:
    """Return two corners of a box, or the points of a polygon."""
    if kind in ("rectangle", "mask", "circle") and len(points) < 2:
        raise ValueError(f"a {kind} of {len(points)} points")
    if kind in ("rectangle", "mask"):
        # The corners of a mask are its first and last pixel, both inside.
        outline = np.stack([points.min(0), points.max(0) + (kind == "mask")])
    elif kind == "circle":
        # A circle is its centre and a point on it.
        radius = math.dist(points[0], points[1])
        angles = np.arange(CIRCLE) * 2 * np.pi / CIRCLE
        outline = points[0] + radius * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    elif kind in ("polygon", "oriented_rectangle"):
        outline = points
    else:
        raise ValueError(f"shape_type {kind!r} is not known")
    # Points on one vertical or horizontal line enclose nothing.
    if (np.ptp(outline, axis=0) <= 0).any() or (kind == "polygon" and len(points) < 3):
        raise ValueError(f"a {kind} without an area")
    return outline


def _object(label: int, outlines: list[np.ndarray]) -> LabelledObject:
    if len(outlines) == 1:
        return LabelledObject(label, outlines[0])
    polygons = [_as_polygon(outline) for outline in outlines]
    area = sum(map(polygon_area, polygons))
    # COCO's form: one list x, y, x, y, ... for each part. Parts that overlap count twice in the area.
    segmentation = [polygon.reshape(-1).tolist() for polygon in polygons]
    # All points together give the box; the parts of the outline are given apart.
    return LabelledObject(label, np.concatenate(outlines), {"segmentation": segmentation, "area": area})


def _as_polygon(outline: np.ndarray) -> np.ndarray:
    if len(outline) > 2:
        return outline
    (left, top), (right, bottom) = outline
    return np.array([[left, top], [right, top], [right, bottom], [left, bottom]])
