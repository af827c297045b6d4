"""Read the Parquet files of a data set on Hugging Face's hub: a row for each image, with its bytes and its objects.

So lies CPPE-5 there (`rishitdagli/cppe-5`): `image` with bytes and path, `objects` with `bbox` as COCO's and `category`
counted from 0. The names of the categories are in a note of the library `datasets` on the columns.
"""

import json
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from util.errors import DatasetError
from util.progress import with_progress

from .folder import LabelledFolder, LabelledImage, LabelledObject, Mistakes, image_size

#: Names of the validation images' files; CPPE-5 has train and test alone.
VAL_NAMES = ("val", "valid", "validation", "test")
#: The beginning of a PNG.
PNG = b"\x89PNG"


def parquet_files(root: Path, split: str) -> list[Path]:
    """Return the files of a split, such as data/train-00000-of-00002.parquet, in their order."""
    for folder in (root, root / "data"):
        if files := [*sorted(folder.glob(f"{split}-*.parquet")), *folder.glob(f"{split}.parquet")]:
            return files
    return []


def read_huggingface(root: Path, *, sets: Mapping[str, str], classes: list[str] | None = None) -> LabelledFolder:
    """Read the splits of a folder with Parquet files.

    `sets` names the split of each set: {"train": "train", "val": "val"}; for "val" its other usual names are tried as
    well, and it may be missing, which is noted. Class 0 is the file's category 0, named by the file or by `classes`.
    Objects without area inside their image are left out, as in reading COCO's files. Raises DatasetError with file and
    row, and without pyarrow.
    """
    reader = _Reader(dict(enumerate(classes or [])))
    splits, notes = {}, []
    for split, name in sets.items():
        names = (name, *VAL_NAMES) if split == "val" else (name,)
        # The first name that has files: "validation" and "test" may both be there.
        files = next((files for name in names if (files := parquet_files(root, name))), [])
        if not files and split == "train":
            raise DatasetError(f"{root}: no {name}-*.parquet, neither there nor in {root / 'data'}")
        if files:
            splits[split] = [image for file in files for image in reader.read_file(file)]
        else:
            notes.append(f"{root}: no Parquet file for {split}: {', '.join(names)} were looked for")
    reader.mistakes.raise_any()
    if reader.empty:
        notes.append(f"{reader.empty} boxes without area inside their image: left out")
    return LabelledFolder(reader.classes, splits, notes)


class _Reader:
    """Reads files one after another, collecting the mistakes of all."""

    def __init__(self, classes: dict[int, str]) -> None:
        self.classes = classes
        self.mistakes = Mistakes()
        self.empty = 0

    def read_file(self, path: Path) -> Iterator[LabelledImage]:
        """Yield the images of a file; their bytes are read again when they are written."""
        file = _open(path)
        self.classes = self.classes or _names_of_categories(path, file)
        number = 0
        for group in with_progress(range(file.num_row_groups), str(path)):
            for row, entry in enumerate(file.read_row_group(group, columns=["image", "objects"]).to_pylist()):
                try:
                    yield self._image(path, number, entry, partial(_content, file, group, row))
                except (DatasetError, KeyError, TypeError, ValueError) as error:
                    self.mistakes.add(f"{path}: row {number}", " ".join(str(error).split()))
                number += 1

    def _image(self, path: Path, number: int, entry: dict[str, Any], content: partial) -> LabelledImage:
        bytes_ = entry["image"]["bytes"]
        if not bytes_:
            raise DatasetError("no bytes of an image, only its path: push the data set with its images embedded")
        # Numbered, for names may repeat, and CPPE-5 has none there.
        name = f"{path.stem}_{number:06d}{'.png' if bytes_.startswith(PNG) else '.jpg'}"
        size = image_size(path.with_name(name), bytes_)
        objects = []
        for label, box in self._labels_and_boxes(entry["objects"]):
            corners = np.array(box, dtype=float).reshape(2, 2)  # x, y and width, height
            corners[1] += corners[0]
            inside = corners.clip(0, (size.width, size.height))
            # (2, 2): corner by corner, x and y.
            self.empty += (empty := bool((inside[1] <= inside[0]).any()))
            objects += [] if empty else [LabelledObject(label, corners)]
        return LabelledImage(path, name, size.width, size.height, objects, content)

    def _labels_and_boxes(self, objects: Any) -> list[tuple[int, list[float]]]:
        """Pair labels with boxes: a dictionary of lists, or a list of dictionaries; either is written."""
        if isinstance(objects, list):
            pairs = [(thing["category"], thing["bbox"]) for thing in objects]
        else:
            pairs = list(zip(objects["category"], objects["bbox"], strict=True))
        for label, _ in pairs:
            if label not in self.classes:
                raise DatasetError(f"category {label} is none of the {len(self.classes)} that have names")
        return pairs


def _open(path: Path) -> Any:
    try:
        from pyarrow.parquet import ParquetFile  # 50 MB, and for these files alone
    except ImportError:
        raise DatasetError(f"{path}: Parquet files need pyarrow (pip install pyarrow)") from None
    try:
        file = ParquetFile(path)
    except (OSError, ValueError) as error:  # pyarrow's own errors are ValueErrors
        raise DatasetError(f"{path}: cannot be read as Parquet ({' '.join(str(error).split())})") from None
    if missing := {"image", "objects"} - set(file.schema_arrow.names):
        raise DatasetError(f"{path}: has no column {' and no '.join(sorted(missing))}, as data sets of detection have")
    return file


def _names_of_categories(path: Path, file: Any) -> dict[int, str]:
    """Return the names of the categories by their number, as the library `datasets` notes them."""
    noted = json.loads((file.schema_arrow.metadata or {}).get(b"huggingface", b"{}"))
    found: list[list[str]] = []

    def search(part: Any) -> None:
        # `category` lies in a "feature", in lists or directly in `objects`, by the version of the library.
        if isinstance(part, dict) and isinstance(part.get("category"), dict):
            found.extend(
                filter(None, [part["category"].get("names"), part["category"].get("feature", {}).get("names")])
            )
        for inner in part.values() if isinstance(part, dict) else part if isinstance(part, list) else ():
            search(inner)

    search(noted.get("info", {}).get("features", {}).get("objects", {}))
    if not found:
        raise DatasetError(f"{path}: does not say the names of its categories: give --classes FILE, from category 0 on")
    return dict(enumerate(found[0]))


def _content(file: Any, group: int, row: int) -> bytes:
    """Return the bytes of an image; the last group of rows is kept, for images are written in their order."""
    # A group of rows is decompressed as a whole: without the note each image would read its group anew.
    if getattr(file, "group_at_hand", (None,))[0] != group:
        file.group_at_hand = group, file.read_row_group(group, columns=["image"]).column("image")
    return file.group_at_hand[1][row]["bytes"].as_py()
