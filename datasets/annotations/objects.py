"""The rules for the annotations of a file: ids, labels, boxes, crowds and areas, checked column by column.

A file has hundreds of thousands of annotations: a rule is one comparison of whole columns, and only what differs from
the plain types that JSON should hold is looked at one by one.
"""

from collections.abc import Iterable

import numpy as np

from . import kinds
from .boxes import SAMPLE, BoxRules
from .columns import are_unique, free_numbers
from .growing import by_block
from .images import Images
from .kinds import IssueLog
from .listed import ListedObjects
from .rows import CheckedRows


class AnnotationTable(CheckedRows):
    """The annotations as columns of length m. `alive` (m,) bool: neither dropped nor refused.

    `ids`, `images` (positions in `Images`) and `labels` (m,) int64, `boxes` (m, 4) float64 xywh, `crowd` (m,) bool,
    `areas` (m,) float64, of the box where `lacks_area` (m,) bool; where a row is not alive its values mean nothing.
    """

    def __init__(
        self,
        entries: ListedObjects,
        issues: IssueLog,
        *,
        images: Images,
        categories: Iterable[int],
        num_classes: int | None,
        fixing: bool = False,
    ) -> None:
        """Read the columns; with `fixing` boxes in another convention are converted and equal objects dropped."""
        super().__init__(entries, issues)
        self.fixing = fixing
        self.listed = len(entries)
        self.images = images.positions(self._integers("image_id"))
        # First: nothing else about an object of no image matters.
        self.find(kinds.UNKNOWN_IMAGES, self.images < 0, "image_id", drop=True)
        self.labels = self._integers("category_id")
        self._check_labels(list(categories), num_classes)
        self.crowd = self._read_crowd()
        # Not kept: it holds columns that `take` lets go of.
        rules = BoxRules(self, images, self.images, fixing=fixing)
        self.boxes = rules.read()
        # After the boxes: the area of the box stands in for one that is missing.
        self.areas, self.lacks_area = self._read_areas(scaled=rules.scaled)
        # Last, so that an object dropped above takes no id from another.
        self.ids = self._read_ids()
        rules.note_odd(self.boxes)
        self.find(kinds.EQUAL_BOX, self._equal(images), "bbox", drop=fixing)
        crowds = int((self.crowd & self.alive).sum())
        if crowds:
            self.left_out[kinds.CROWDS.name] = crowds

    def take(self, name: str, rows: np.ndarray) -> np.ndarray:
        """Return a column's `rows` (k,) and let go of the column, so that no two of a large file are there twice."""
        column = self.__dict__.pop(name)
        # Nothing dropped and sorted already, as in most files: no copy.
        if len(rows) == len(column) and (rows == np.arange(len(rows))).all():
            return column
        if column.ndim == 1:
            return column[rows]
        # (m, w), half of the memory of all columns: in place, one of the w at a time.
        taken = column[: len(rows)]
        for place in range(column.shape[1]):
            taken[:, place] = column[rows, place]
        return taken

    def _integers(self, field: str) -> np.ndarray:
        """Return a column of integers (m,) int64; rows without one are refused."""
        column = self.entries.numbers[field]
        self.find(kinds.BAD_IDS, column.unknown.array(), field, drop=True)
        self.find(kinds.CAST_NUMBERS, column.was_cast.array(), field)
        return column.numbers.array()

    def _check_labels(self, categories: list[int], num_classes: int | None) -> None:
        unknown = by_block(len(self.labels), bool, lambda part: ~np.isin(self.labels[part], categories))
        self.find(kinds.UNKNOWN_CATEGORIES, unknown, "category_id", drop=True)
        if num_classes is not None:
            self.find(kinds.BEYOND_CLASSES, self.labels >= num_classes, "category_id", drop=True)

    def _read_crowd(self) -> np.ndarray:
        column = self.entries.numbers["iscrowd"]
        numbers, absent, unknown = column.numbers.array(), column.absent.array(), column.unknown.array()
        self.find(kinds.NO_ISCROWD, absent, "iscrowd")
        # 2 and -1 are integers and say nothing.
        self.find(kinds.BAD_ISCROWD, ~absent & (unknown | (numbers < 0) | (numbers > 1)), "iscrowd", drop=True)
        self.find(kinds.CAST_ISCROWD, column.was_cast.array(), "iscrowd")
        self.find(kinds.CROWDS, numbers == 1, "iscrowd")
        return numbers == 1

    def _equal(self, images: Images) -> np.ndarray:
        """Mark the rows (m,) with the image, label and box of an earlier one; in a sample, as for a convention."""
        rows = np.flatnonzero(self.alive & ~self.crowd)
        if not images.files.sizes_known and not self.fixing:
            rows = rows[:SAMPLE].copy()
        # In float64: image positions, labels and coordinates are all exact there.
        keys = np.column_stack([self.images[rows], self.labels[rows], self.boxes[rows]])  # (k, 6)
        _, first = np.unique(keys, axis=0, return_index=True)
        equal = np.zeros(len(self.alive), dtype=bool)
        # All rows but the first of each key.
        equal[np.delete(rows, first)] = True
        return equal

    def _read_areas(self, *, scaled: bool) -> tuple[np.ndarray, np.ndarray]:
        column = self.entries.numbers["area"]
        numbers, absent = column.numbers.array(), column.absent.array()
        sound = ~column.unknown.array() & (numbers > 0) & np.isfinite(numbers)
        if scaled:
            # An area that was a product of fractions is at most 1: it does not belong to the boxes in pixels.
            sound &= numbers > 1
        self.find(kinds.NO_AREA, absent, "area")
        self.find(kinds.BAD_AREA, ~absent & ~sound, "area")
        self.find(kinds.TEXT_AREA, column.was_cast.array() & sound, "area")
        # Listed areas are kept, though width times height is larger: COCO's sizes small to large go by the mask's area.
        if not sound.all():
            numbers = numbers.copy()  # messages show what is listed
            numbers[~sound] = self.boxes[~sound, 2] * self.boxes[~sound, 3]
        return numbers, ~sound

    def _read_ids(self) -> np.ndarray:
        """Return ids that are unique and not 0: what has none, or another one's, is numbered from the largest id on."""
        column = self.entries.numbers["id"]
        ids, absent, unknown = column.numbers.array(), column.absent.array(), column.unknown.array()
        self.find(kinds.BAD_IDS, ~absent & unknown, "id", drop=True)
        self.find(kinds.CAST_NUMBERS, column.was_cast.array(), "id")
        self.find(kinds.NO_IDS, absent, "id")
        self.find(kinds.ZERO_IDS, ~unknown & (ids == 0), "id")
        fresh = absent | (ids == 0)
        repeated, copies = self._repeated(ids, fresh)
        self.find(kinds.COPIES, copies, "id", drop=True)
        self.find(kinds.REPEATED_IDS, repeated & ~copies, "id")
        # Only now, when it is decided which ids stay: a new one must not be one of those.
        fresh = (fresh | repeated) & self.alive
        if fresh.any():
            ids = ids.copy()  # messages show what is listed
            ids[fresh] = free_numbers(int(fresh.sum()), taken=ids[self.alive & ~fresh])
        return ids

    def _repeated(self, ids: np.ndarray, fresh: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Mark the rows (m,) with the id of an earlier one, and among them those that are the same object again."""
        repeated, copies = np.zeros(len(ids), dtype=bool), np.zeros(len(ids), dtype=bool)
        if are_unique(ids[self.alive & ~fresh]):
            return repeated, copies
        rows = np.flatnonzero(self.alive & ~fresh)
        # `first[inverse]` is, for every row, the first row with the same id.
        _, first, inverse = np.unique(ids[rows], return_index=True, return_inverse=True)
        first = rows[first[inverse]]
        repeated[rows] = first != rows
        same = (self.images[rows] == self.images[first]) & (self.labels[rows] == self.labels[first])
        copies[rows] = repeated[rows] & same & (self.boxes[rows] == self.boxes[first]).all(1)
        return repeated, copies
