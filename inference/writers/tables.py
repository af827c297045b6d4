"""Detections as a table (CSV), and as YOLO's label files."""

import csv
import io
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from util.runs.atomic import atomic_file

from ..detections import Detections
from ..items import Item, Pictures
from ..summary import in_words

COLUMNS = ("file", "frame", "seconds", "category_id", "name", "score", "left", "top", "right", "bottom")


class Table:
    """A CSV file with a row for every detection; boxes in pixels. It appears when it is whole."""

    complete = False

    def __init__(self, path: Path) -> None:
        self.path = path
        self._open = ExitStack()
        self._file = io.TextIOWrapper(self._open.enter_context(atomic_file(path)), encoding="utf-8", newline="")
        self._rows = csv.writer(self._file)
        self._rows.writerow(COLUMNS)

    def write(self, item: Item, found: Detections, pictures: Pictures) -> None:
        """Add the rows of an item."""
        place = [item.name.as_posix(), *(("", "") if item.frame is None else (item.frame.number, item.frame.seconds))]
        for label, name, score, box in zip(found.labels, found.names, found.scores, found.boxes):
            self._rows.writerow([*place, label, name, f"{score:.4f}", *(f"{side:.1f}" for side in box)])

    def close(self) -> str | None:
        """End the file, so that it gets its name."""
        self._file.flush()
        self._file.detach()  # the file below it is closed, and renamed, by its own context
        self._open.close()
        return str(self.path)


class YoloLabels:
    """A text file for every image: class number, centre and size relative to the image; empty for no detection.

    `classes.txt` in the folder above has the names of the class numbers, by line. Boxes are cut at the image's edges.
    Without class names the numbers are the category ids; with them, classes that have no name are left out.
    """

    complete = False

    def __init__(self, folder: Path, class_names: Mapping[int, str]) -> None:
        self.folder = folder
        self.count = 0
        # YOLO counts classes from 0 without gaps; category ids need not.
        self._numbers = {id_: number for number, id_ in enumerate(sorted(class_names))}
        if class_names:
            with atomic_file(folder.parent / "classes.txt") as file:
                file.writelines(f"{class_names[id_]}\n".encode() for id_ in self._numbers)

    def write(self, item: Item, found: Detections, pictures: Pictures) -> None:
        """Write the label file of an item."""
        height, width = found.size
        # height, width of the image, but (width, height, width, height) for boxes xyxy.
        # Clipped in pixels first: YOLO's trainers refuse coordinates outside of 0..1.
        boxes = found.boxes.clip(0, (width, height, width, height)) / (width, height, width, height)
        # Centre x, centre y, width, height in 0..1 (N, 4).
        rows = np.concatenate([(boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]], axis=1)
        path = self.folder / item.result_name(".txt")
        with atomic_file(path, sync=False) as file:
            for label, row in zip(found.labels.tolist(), rows):
                number = self._numbers.get(label) if self._numbers else label
                if number is not None:
                    file.write(f"{' '.join([str(number), *(f'{value:.6f}' for value in row)])}\n".encode())
        self.count += 1

    def close(self) -> str | None:
        """Return how many files were written."""
        return f"{in_words(self.count, 'label file')} in {self.folder}" if self.count else None
