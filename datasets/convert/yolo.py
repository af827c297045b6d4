"""Read YOLO folders: a text file of labels for each image, and data.yaml with the names of the classes."""

import math
from pathlib import Path
from typing import Any

import numpy as np

from util.errors import DatasetError
from util.progress import with_progress

from ..image_files import by_base_name
from .darknet import is_darknet, read_darknet
from .folder import (
    IMAGE_SUFFIXES,
    ImageSize,
    LabelledFolder,
    LabelledImage,
    LabelledObject,
    Mistakes,
    image_size,
    polygon_area,
)

#: How far a normalised coordinate may lie outside 0..1: what rounding does to boxes at the border.
_TOLERANCE = 0.01


def read_yolo(root: Path, *, sets: dict[str, str], classes: list[str] | None = None) -> LabelledFolder:
    """Read the sets of a YOLO folder.

    `sets` names the set of each split: {"train": "train", "val": "val"}; one for "val" may be missing, which is noted.
    A set's images lie where data.yaml says (a folder, a file that lists them, or several), if that is inside `root`,
    else in images/{set} or {set}/images; its labels where "labels" stands for the last "images" of that path. A label
    is `class cx cy w h`, or `class x1 y1 x2 y2 x3 y3 ...` for a polygon, as fractions of the upright image's size.
    Without data.yaml, Darknet's obj.data and obj.names are read. `classes` stands in place of either.
    Images without labels are kept. Raises DatasetError, with file and line.
    """
    if not root.is_dir():
        raise DatasetError(f"{root}: no such folder")
    config, names = _read_names(root) if classes is None else ({}, dict(enumerate(classes)))
    mistakes, splits = Mistakes(), {}
    notes: list[str] = []
    for split, set_name in sets.items():
        places = _find_set(root, config, set_name, notes)
        if places:
            splits[split] = _read_set(root, places, names, mistakes, notes)
        # Without training images there is nothing to convert.
        elif split == "train":
            raise DatasetError(
                f"{root}: no images in images/{set_name} or {set_name}/images; name the set: --train_set"
            )
        else:
            notes.append(f"{root}: no set {set_name}, so there are no images for {split}")
    # At the end: one run names the mistakes of all files.
    mistakes.raise_any()
    return LabelledFolder(names, splits, notes)


def _read_names(root: Path) -> tuple[dict[str, Any], dict[int, str]]:
    """Return the places of the sets and the names of the classes, from data.yaml or Darknet's files."""
    return read_darknet(root) if _config_file(root) is None and is_darknet(root) else _read_config(root)


def _config_file(root: Path) -> Path | None:
    """Return data.yaml, or the only file of that kind."""
    if (root / "data.yaml").exists():
        return root / "data.yaml"
    others = sorted([*root.glob("*.yaml"), *root.glob("*.yml")])
    return others[0] if len(others) == 1 else None


def _read_config(root: Path) -> tuple[dict[str, Any], dict[int, str]]:
    """Read data.yaml, and the names of the classes in it by their index."""
    path = _config_file(root)
    if path is None:
        raise DatasetError(
            f"{root}: no data.yaml or obj.names with the names of the classes; give them with --classes FILE"
        )
    try:
        import yaml
    except ModuleNotFoundError:
        raise DatasetError(f"{path}: needs PyYAML to be read: pip install pyyaml, or give --classes FILE") from None
    try:
        config = yaml.safe_load(path.read_bytes())
    except (yaml.YAMLError, OSError, ValueError, RecursionError) as error:
        raise DatasetError(f"{path}: cannot be read as YAML ({' '.join(str(error).split())})") from None
    if not isinstance(config, dict):
        raise DatasetError(f"{path}: holds no entries like names: and train:")
    if "kpt_shape" in config:
        raise DatasetError(f"{path}: kpt_shape says that the labels are poses, which are not read")
    return config, _names(config, path)


def _names(config: dict[str, Any], path: Path) -> dict[int, str]:
    """Read class index to name from a list, or from a dictionary with the indices."""
    names = config.get("names")
    names = dict(enumerate(names)) if isinstance(names, list) else names
    if not isinstance(names, dict) or not names or not all(type(i) is int and i >= 0 for i in names):
        raise DatasetError(f"{path}: names is no list of class names and no dictionary from 0, 1, ... to them")
    # Of two counts one is wrong; a label beyond the shorter list would be found only image by image.
    if config.get("nc", len(names)) != len(names):
        raise DatasetError(f"{path}: nc is {config['nc']}, but names has {len(names)} classes")
    return {index: str(name) for index, name in names.items()}


def _find_set(root: Path, config: dict[str, Any], name: str, notes: list[str]) -> list[Path]:
    """Return the folders with the images of a set, or the files that list them; none where there is no such set.

    Raises DatasetError for an entry of data.yaml that is neither a text nor a list of such.
    """
    said = config.get(name, [])
    entries = said if isinstance(said, list) else [said]
    if not all(isinstance(entry, str) for entry in entries):
        raise DatasetError(f"{root}: {name}: {said!r} in the YAML file is no folder, no list file, and no list of them")
    # Ultralytics' data.yaml has `path`, the folder from which train and val are counted.
    base = str(config["path"]) if isinstance(config.get("path"), str) else ""
    inside, found = root.resolve(), []
    for entry in entries:
        # Exported files often point beside their own folder: whatever lies there is another dataset.
        places = [place for start in (root / base, root) if (place := (start / entry).resolve()).is_relative_to(inside)]
        # The root itself would be all splits at once.
        place = next((p for p in places if p != inside and (p.is_dir() or (p.is_file() and p.suffix == ".txt"))), None)
        # Part of a set would go missing; a single entry may have a usual folder in its place, below.
        if place is None and len(entries) > 1:
            raise DatasetError(f"{root}: {name}: {entry!r} in the YAML file is no folder and no list file below {root}")
        found += [place] if place is not None else []
    if found:
        return found
    usual = [root / "images" / name, root / name / "images"]
    if name == "val":  # Roboflow's word
        usual += [root / "images" / "valid", root / "valid" / "images"]
    there = next((place for place in usual if place.is_dir()), None)
    if entries and there is not None:
        notes.append(f"{root}: {name}: {entries[0]!r} in the YAML file is not below {root}; {there} is taken")
    return [] if there is None else [there]


def _read_set(
    root: Path, places: list[Path], names: dict[int, str], mistakes: Mistakes, notes: list[str]
) -> list[LabelledImage]:
    """Read the images in folders and list files, each with the objects of its label file."""
    images: list[LabelledImage] = []
    # cat.jpg and cat.png have one label file: which image the boxes belong to cannot be known.
    of_label: dict[Path, Path] = {}
    for place in places:
        pairs = _listed_images(root, place, mistakes) if place.is_file() else _images_below(place, notes)
        for path, name, label in with_progress(pairs, str(place)):
            # An image without a label file has no objects, which YOLO allows.
            # Without a label file two images of one stem are no contradiction: both are empty.
            if label.exists() and (other := of_label.setdefault(label, path)) != path:
                mistakes.add(str(label), f"belongs to two images, {other} and {path}; keep one of them")
                continue
            try:
                size = image_size(path)
            except DatasetError as error:
                mistakes.found.append(str(error))
                continue
            objects = _read_labels(label, size, names, mistakes)
            images.append(LabelledImage(path, name, size.width, size.height, objects))
    return images


def _images_below(folder: Path, notes: list[str]) -> list[tuple[Path, str, Path]]:
    """List the images of a folder: path, name, and the file of labels that belongs to it."""
    labels = _labels_folder(folder)
    if not labels.is_dir():
        raise DatasetError(f"{labels}: no such folder; the labels of {folder} are looked for there")
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES)
    if not paths:
        raise DatasetError(f"{folder}: holds no images")
    known = {path.relative_to(folder).with_suffix("") for path in paths}
    # classes.txt is labelImg's list of names, among the labels.
    files = [path.relative_to(labels) for path in labels.rglob("*.txt") if path.name != "classes.txt"]
    if strays := sum(file.with_suffix("") not in known for file in files):
        notes.append(f"{labels}: {strays} files of labels belong to no image")
    relative = [path.relative_to(folder) for path in paths]
    return [(path, name.as_posix(), (labels / name).with_suffix(".txt")) for path, name in zip(paths, relative)]


def _listed_images(root: Path, listed: Path, mistakes: Mistakes) -> list[tuple[Path, str, Path]]:
    """List the images that a file names, one a line, relative to itself or to `root`."""
    try:
        lines = listed.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError):
        raise DatasetError(f"{listed}: cannot be read as text") from None
    result = []
    for number, line in enumerate(map(str.strip, lines), start=1):
        places = [(start / line).resolve() for start in (listed.parent, root)]
        places.append(by_base_name(root, line, 0))  # Darknet's paths begin in its own tree
        path = next((place for place in places if line and place.is_file()), None)
        if line and path is None:
            mistakes.add(f"{listed}:{number}", f"no image {line}")
        elif line and path is not None:
            inside = path.resolve().is_relative_to(root.resolve())
            path = path.resolve()
            name = path.relative_to(root.resolve()).as_posix() if inside else path.name
            result.append((path, name, (_labels_folder(path.parent) / path.name).with_suffix(".txt")))
    if not result and not mistakes.found:
        raise DatasetError(f"{listed}: lists no image")
    return result


def _labels_folder(folder: Path) -> Path:
    parts = list(folder.parts)
    if "images" not in parts:
        return folder
    # The last "images" of the path: a folder above the data may be called so, too.
    last = len(parts) - 1 - parts[::-1].index("images")
    return Path(*parts[:last], "labels", *parts[last + 1 :])


def _read_labels(path: Path, size: ImageSize, names: dict[int, str], mistakes: Mistakes) -> list[LabelledObject]:
    """Read the objects of one image; none where it has no file."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except FileNotFoundError:
        return []
    except (OSError, UnicodeDecodeError):
        mistakes.add(str(path), "cannot be read as text")
        return []
    objects = []
    for number, line in enumerate(lines, start=1):
        try:
            if line.strip():
                label, points = parse_label(line)
                if label not in names:
                    raise ValueError(f"class {label} has no name; the names are of {min(names)} to {max(names)}")
                objects.append(LabelledObject(label, size.to_stored(points)))
        except ValueError as error:
            mistakes.add(f"{path}:{number}", str(error))
    return objects


def parse_label(line: str) -> tuple[int, np.ndarray]:
    """Parse the class index of a label and its points (n, 2) in 0..1: two corners of a box, or a polygon's.

    Raises ValueError with what is wrong.
    """
    try:
        label, *values = map(float, line.split())
    except ValueError:
        raise ValueError(f"{line.strip()[:60]!r} is not made of numbers") from None
    if not all(map(math.isfinite, (label, *values))) or label != int(label) or label < 0:
        raise ValueError(f"{line.strip()[:60]!r} is no class index followed by finite numbers")
    # Boxes are centre and size, polygons are points; a polygon has at least three of them, so 4 numbers are no doubt.
    if len(values) == 4:
        # cx, cy, w, h as fractions: the corners are half a size to either side of the centre.
        centre, half = np.array(values[:2]), np.array(values[2:]) / 2
        points = np.stack([centre - half, centre + half])
        has_area = bool((half > 0).all())
    elif len(values) >= 6 and len(values) % 2 == 0:
        points = np.array(values).reshape(-1, 2)
        has_area = polygon_area(points) > 0
    else:
        raise ValueError(f"{len(values)} numbers after the class: 4 are a box, 6, 8, ... a polygon")
    # Pixels instead of fractions are the common mistake; rounding at the border is none.
    if points.min() < -_TOLERANCE or points.max() > 1 + _TOLERANCE:
        raise ValueError(f"{line.strip()[:60]!r} reaches outside of 0..1: not fractions of the image's size?")
    if not has_area:
        raise ValueError(f"{line.strip()[:60]!r} has no area")
    return int(label), points
