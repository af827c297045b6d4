"""Any folder made ready for training: other formats converted, and validation images set apart where there are none."""

import json
import os
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

from util.errors import DatasetError
from util.runs.atomic import atomic_file

from ..foreign import CONVERTIBLE, kind_to_convert
from ..layout import DatasetSplits, find_layout
from .folder import LabelledFolder, write_coco
from .huggingface import read_huggingface
from .labelme import read_labelme
from .voc import read_voc
from .yolo import read_yolo

T = TypeVar("T")

#: Names of the set to train on and of the one to evaluate on, the usual first.
TRAIN_SETS, VAL_SETS = ("train", "trainval"), ("val", "valid", "validation", "test")


def make_ready(
    source: Path, dest: Path, *, val_fraction: float = 0.2, seed: int = 42, copy: bool = False
) -> tuple[Path, list[str], LabelledFolder | None]:
    """Make a folder in any known format ready for training.

    A folder whose format is found one or two levels deeper is taken from there. COCO's annotations with validation
    images stay where they are; without, they are split in two files beside a link to the images. Other formats are
    converted.

    Args:
        source: the folder.
        dest: a folder that does not exist yet; written only where something has to be.
        val_fraction: part of the images to set apart where there are no validation images, drawn by `seed`.
        copy: copy images instead of hard links.

    Returns:
        The folder to train on, lines on what was found and done, and what was converted, if anything.

    Raises:
        DatasetError: a folder in no known format, or broken; a fraction that leaves no image for one of the sets.
    """
    if not 0 < val_fraction < 1:
        raise DatasetError(f"--val_fraction {val_fraction}: must lie between 0 and 1")
    root, layout = _find(source)
    where = f"{root}: " if root != source else ""
    if layout is not None and "val" in layout.splits:
        return root, [f"{where}{layout.name}: COCO's annotations with validation images; nothing to convert"], None
    if layout is not None:
        line = split_annotations(layout, dest, val_fraction, seed)
        return dest, [f"{where}{layout.name}: COCO's annotations; {dest} has them in two parts", line], None
    kind = kind_to_convert(root)
    assert kind is not None  # _find refuses a folder without one
    folder = _read(kind, root)
    lines = [f"{where}{CONVERTIBLE[kind]}, converted to {dest}"]
    if not folder.splits.get("val"):
        train, val = split_at_random(folder.splits["train"], val_fraction, seed)
        folder.splits.update(train=train, val=val)
        lines.append(_describe(len(train), len(val), seed))
    write_coco(folder, dest, copy=copy)
    return dest, lines, folder


def _find(source: Path) -> tuple[Path, DatasetSplits | None]:
    """Return the folder, at most two levels down, with data in a known format, and its layout where it is COCO's."""
    if not source.is_dir():
        raise DatasetError(f"{source}: no such folder")
    # An archive often unpacks to a folder in a folder; deeper ones are somebody's images.
    below = sorted(path for pattern in ("*", "*/*") for path in source.glob(pattern) if path.is_dir())
    for root in (source, *below):
        try:
            return root, find_layout("custom", root)
        except DatasetError:
            if kind_to_convert(root) is not None:
                return root, None
    find_layout("custom", source)  # says what it looked for
    raise AssertionError("find_layout refused the folder before")


def _read(kind: str, root: Path) -> LabelledFolder:
    """Read a folder with the sets that it has: validation images are optional."""
    if kind != "voc":
        readers = {"yolo": read_yolo, "labelme": read_labelme, "hf": read_huggingface}
        return readers[kind](root, sets={"train": "train", "val": "val"})
    listed = {path.stem for path in (root / "ImageSets" / "Main").glob("*.txt")}
    train = next((name for name in TRAIN_SETS if name in listed), "train")
    # Images of trainval are those of val, too.
    others = VAL_SETS if train == "train" else ("test",)
    return read_voc(root, sets={"train": train, "val": next((name for name in others if name in listed), "val")})


def split_at_random(items: Sequence[T], fraction: float, seed: int) -> tuple[list[T], list[T]]:
    """Return two lists: a random `fraction` of the items is the second, at least one each; both in their order.

    Raises DatasetError for a single item.
    """
    if len(items) < 2:
        raise DatasetError(f"{len(items)} image cannot be split into training and validation images: label more")
    # At least one on either side.
    count = min(len(items) - 1, max(1, round(fraction * len(items))))
    # A generator of its own: the choice depends on the seed alone, on every machine.
    apart = set(random.Random(seed).sample(range(len(items)), count))
    return [x for i, x in enumerate(items) if i not in apart], [x for i, x in enumerate(items) if i in apart]


def split_annotations(layout: DatasetSplits, dest: Path, fraction: float, seed: int) -> str:
    """Write the training images' COCO annotations in two parts, with a link to the images; return a line on it."""
    split = layout.split("train")
    document = _load(split.annotations)
    train, val = split_at_random(sorted(document["images"], key=lambda image: image["id"]), fraction, seed)
    if dest.exists() and any(dest.iterdir()):
        raise DatasetError(f"{dest}: exists and is not empty; name a new folder")
    try:
        (dest / "annotations").mkdir(parents=True, exist_ok=True)
        # A link: images are not needed twice for two lists of them.
        os.symlink(split.images.resolve(), dest / "images", target_is_directory=True)
        for name, images in (("train", train), ("val", val)):
            ids = {image["id"] for image in images}
            objects = [a for a in document.get("annotations", []) if a.get("image_id") in ids]
            with atomic_file(dest / "annotations" / f"{name}.json") as file:
                file.write(json.dumps(document | {"images": images, "annotations": objects}).encode())
    except OSError as error:
        raise DatasetError(f"{error.filename or dest}: cannot be written ({error.strerror})") from error
    return _describe(len(train), len(val), seed)


def _load(path: Path) -> dict[str, Any]:
    """Read an annotation file far enough to split it; the rest is checked when training reads it."""
    try:
        document = json.loads(path.read_bytes())
        if isinstance(document, dict) and all(isinstance(image["id"], int) for image in document["images"]):
            return document
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DatasetError(f"{path}: cannot be read ({' '.join(str(error).split())})") from None
    raise DatasetError(f"{path}: images without ids cannot be split; python -m datasets.check says more")


def _describe(train: int, val: int, seed: int) -> str:
    return (
        f"no validation images: {val} of the {train + val} images were set apart at random (seed {seed}); {train} are "
        "left to train on"
    )
