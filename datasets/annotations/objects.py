"""The rules for the annotations of a file: ids, labels, boxes, crowds and areas, checked column by column.

A file has hundreds of thousands of annotations: a rule is one comparison of whole columns, and only what differs from
the plain types that JSON should hold is looked at one by one.
"""

from collections.abc import Iterable
from itertools import chain
from operator import attrgetter
from typing import Any

import numpy as np

from . import kinds
from .columns import cast_column, free_numbers, is_none, mark, to_flag
from .conventions import DISAGREES, around_turned, find_convention, overlap
from .headers import Images
from .kinds import IssueLog, Kind
from .masks import box_around
from .parse import FARTHEST, Entry, to_float, to_int
from .relative_polygons import are_relative, scale_polygons

#: What a box may reach over the edge without being an error: COCO's are rounded outlines of polygons.
ROUNDING = 1.0
#: What the sum of x and width is off by in floating point.
NOISE = 1e-6
#: Objects to look at for a convention where looking at all would take long.
SAMPLE = 2000


class AnnotationTable:
    """The annotations as columns of length m. `alive` (m,) bool: neither dropped nor refused.

    `ids`, `images` (positions in `Images`) and `labels` (m,) int64, `boxes` (m, 4) float64 xywh, `crowd` (m,) bool,
    `areas` (m,) float64, of the box where `lacks_area` (m,) bool; where a row is not alive its values mean nothing.
    `left_out` counts the objects that are not trained on, by the name of their kind.
    """

    def __init__(
        self,
        entries: list[Entry],
        issues: IssueLog,
        *,
        images: Images,
        categories: Iterable[int],
        num_classes: int | None,
        fixing: bool = False,
    ) -> None:
        """Read the columns; with `fixing` boxes in another convention are converted and equal objects dropped."""
        self.fixing = fixing
        #: Whether boxes or polygons were fractions of the image and are now in pixels; areas may have been, too.
        self.scaled = False
        # Rows (k,) of boxes of the file, and the boxes (k, 4) around their polygons or masks.
        self._around = np.zeros(0, dtype=np.int64), np.zeros((0, 4))
        self.entries = entries
        self.issues = issues
        self.alive = np.ones(len(entries), dtype=bool)
        self.left_out: dict[str, int] = {}
        self.images = images.positions(self._integers("image_id"))
        # First: nothing else about an object of no image matters.
        self._find(kinds.UNKNOWN_IMAGES, self.images < 0, "image_id", drop=True)
        self.labels = self._integers("category_id")
        self._check_labels(list(categories), num_classes)
        self.crowd = self._read_crowd()
        self._check_polygons(images)
        self.boxes = self._read_boxes(images)
        self._fit_boxes(images)
        # After the boxes: the area of the box stands in for one that is missing.
        self.areas, self.lacks_area = self._read_areas()
        # Last, so that an object dropped above takes no id from another.
        self.ids = self._read_ids()
        odd = np.zeros(len(entries), dtype=bool)
        looked_at, around = self._around
        # IoU of the listed box and the one around its polygon, row by row.
        odd[looked_at] = overlap(self.boxes[looked_at], around) < DISAGREES
        self._find(kinds.ODD_BOX, odd, "bbox")
        self._find(kinds.EQUAL_BOX, self._equal(images), "bbox", drop=fixing)
        crowds = int((self.crowd & self.alive).sum())
        if crowds:
            self.left_out[kinds.CROWDS.name] = crowds

    def _find(self, kind: Kind, odd: np.ndarray | np.bool, field: str, *, drop: bool = False) -> None:
        """Note the rows that are alive and `odd`; with `drop` they no longer live."""
        # A row that was dropped is counted once, under the first rule that it broke.
        odd = odd & self.alive
        count = int(odd.sum())
        if count:
            # argmax of booleans is the first True.
            first = self.entries[int(odd.argmax())]
            self.issues.add(kind, "annotation", first.id, field, getattr(first, field), count=count)
        if drop:
            self.alive &= ~odd
            if count and kind is not kinds.COPIES:
                self.left_out[kind.name] = self.left_out.get(kind.name, 0) + count

    def _column(self, field: str) -> list[Any]:
        return list(map(attrgetter(field), self.entries))

    def _integers(self, field: str) -> np.ndarray:
        """Return a column of integers (m,) int64; rows without one are refused."""
        values = self._column(field)
        numbers, known, cast = cast_column(values, to_int, {int}, np.int64)
        self._find(kinds.BAD_IDS, ~known, field, drop=True)
        self._find(kinds.CAST_NUMBERS, cast, field)
        return numbers

    def _check_labels(self, categories: list[int], num_classes: int | None) -> None:
        self._find(kinds.UNKNOWN_CATEGORIES, ~np.isin(self.labels, categories), "category_id", drop=True)
        if num_classes is not None:
            self._find(kinds.BEYOND_CLASSES, self.labels >= num_classes, "category_id", drop=True)

    def _read_crowd(self) -> np.ndarray:
        values = self._column("iscrowd")
        absent = mark(values, is_none)
        numbers, known, cast = cast_column(values, to_flag, {int}, np.int64)
        self._find(kinds.NO_ISCROWD, absent, "iscrowd")
        # 2 and -1 are integers and say nothing.
        self._find(kinds.BAD_ISCROWD, ~absent & (~known | (numbers < 0) | (numbers > 1)), "iscrowd", drop=True)
        self._find(kinds.CAST_ISCROWD, cast, "iscrowd")
        self._find(kinds.CROWDS, numbers == 1, "iscrowd")
        return numbers == 1

    def _check_polygons(self, images: Images) -> None:
        """Note polygons in fractions of the image; bring them to pixels if that is asked for."""
        rows = self._sample(self.alive, images)
        if not are_relative(self.entries, rows, self._image_sizes(images)):
            return
        first = next(self.entries[row] for row in rows.tolist() if self.entries[row].segmentation)
        field = "segmentation (no point of any polygon is above 1)"
        self.issues.add(kinds.RELATIVE_POLYGONS, "annotation", first.id, field, first.segmentation, count=len(rows))
        if self.fixing:
            self.scaled = True
            scale_polygons(self.entries, rows, self._image_sizes(images))

    def _sample(self, rows: np.ndarray, images: Images) -> np.ndarray:
        """Return the places of `rows` (m,) bool; a sample where the images are not decoded anyway."""
        places = np.flatnonzero(rows)
        if images.files.sizes_known or self.fixing:
            return places
        # Spread over the whole file: an exporter may have changed its mind.
        return places[:: max(1, len(places) // SAMPLE)]

    def _image_sizes(self, images: Images) -> np.ndarray:
        """Return width and height (m, 2) of the image of each row, NaN where it is not known or the row not alive."""
        sizes = np.full((len(self.alive), 2), np.nan)
        sizes[self.alive] = images.sizes[self.images[self.alive], ::-1]
        sizes[sizes < 0] = np.nan
        return sizes

    def _read_boxes(self, images: Images) -> np.ndarray:
        values = self._column("bbox")
        from_mask = self._take_boxes_of_masks(values)
        self._find(kinds.NO_BOX, mark(values, lambda box: box is None or box == []), "bbox", drop=True)
        self._find(kinds.BAD_BOX, mark(values, lambda box: type(box) is not list or len(box) != 4), "bbox", drop=True)
        # Four numbers in every row, so that the column can be flattened to (4 m,).
        filled = [box if alive else [0, 0, 0, 0] for box, alive in zip(values, self.alive.tolist())]
        numbers, known, cast = cast_column(list(chain.from_iterable(filled)), to_float, {int, float}, np.float64)
        self._find(kinds.BAD_BOX, ~known.reshape(-1, 4).all(1), "bbox", drop=True)
        self._find(kinds.TEXT_BOX, cast.reshape(-1, 4).any(1), "bbox")
        boxes = numbers.reshape(-1, 4)
        self._find(kinds.ENDLESS_BOX, ~(np.abs(boxes) <= FARTHEST).all(1), "bbox", drop=True)
        # What was dropped may hold 1e300: products further down would overflow and warn.
        boxes[~self.alive] = 0
        boxes = self._check_convention(boxes, images, self.alive & ~from_mask)
        turned = boxes[:, 2:] < 0  # (m, 2): drawn from the right, from below
        self._find(kinds.TURNED_BOX, turned.any(1), "bbox")
        # The corner moves to the other end, and sizes become positive.
        boxes[:, :2] += np.where(turned, boxes[:, 2:], 0)
        np.abs(boxes[:, 2:], out=boxes[:, 2:])
        # In the sum, as the corners are what is trained on: a width too small for it is none.
        self._find(kinds.EMPTY_BOX, ~(boxes[:, :2] + boxes[:, 2:] > boxes[:, :2]).all(1), "bbox", drop=True)
        return boxes

    def _check_convention(self, boxes: np.ndarray, images: Images, listed: np.ndarray) -> np.ndarray:
        """Note boxes that are not xywh in pixels, or odd, and return them (m, 4), converted if that is asked for.

        Where the images are not decoded anyway, a sample has to do. `listed` (m,) are boxes of the file.
        """
        rows = self._sample(listed, images)
        around = np.full((len(rows), 4), np.nan)
        for k, row in enumerate(rows.tolist()):
            # NaN in all four numbers where there is no mask: comparisons with it are False.
            around[k] = self._box_of_mask(row) or np.nan
        sizes = self._image_sizes(images)
        convention = find_convention(boxes[rows], around, sizes[rows])
        if convention is not None:
            first = self.entries[int(rows[0])]
            field = f"bbox ({convention.evidence})"
            self.issues.add(kinds.OTHER_CONVENTION, "annotation", first.id, field, first.bbox, count=len(rows))
            if self.fixing:
                self.scaled |= convention.fractions
                boxes[listed] = convention.convert(boxes[listed], sizes[listed])
        else:
            known = np.isfinite(around).all(1)
            self._around = rows[known], around[known]
        if self.fixing:
            self._take_boxes_around_turned(boxes, rows, around)
        sides = np.abs(boxes[:, 2:])
        self._find(kinds.TINY_BOX, ((sides > 0) & (sides < 1)).any(1), "bbox")
        self._find(kinds.ROTATED_BOX, mark(self.entries, lambda entry: entry.is_rotated), "bbox")
        return boxes

    def _take_boxes_around_turned(self, boxes: np.ndarray, rows: np.ndarray, around: np.ndarray) -> None:
        """Put the box around its polygon, or else around what CVAT turned, in place of each that is to be turned.

        Of other exporters' angles it is not known about which point and in which unit they turn. `around` (k, 4) are
        the boxes around the polygons of `rows` (k,).
        """
        for row, outer in zip(rows.tolist(), around):
            degrees = self.entries[row].turn_about_centre
            if self.entries[row].is_rotated and np.isfinite(outer).all():
                boxes[row] = outer
            elif degrees and np.isfinite(degrees):
                boxes[row] = around_turned(boxes[None, row], np.array([degrees]))[0]

    def _box_of_mask(self, row: int) -> list[float] | None:
        try:
            return box_around(self.entries[row].segmentation)
        except (ValueError, RecursionError):  # no JSON: refused when masks are read
            return None

    def _take_boxes_of_masks(self, values: list[Any]) -> np.ndarray:
        """Put boxes around polygons and masks where `values` has none, or only zeros; return the rows (m,) bool."""
        absent = mark(values, lambda box: not box or box == [0, 0, 0, 0])
        found = np.zeros(len(values), dtype=bool)
        for row in np.flatnonzero(absent & self.alive).tolist():
            box = self._box_of_mask(row)
            if box is not None:
                values[row], found[row] = box, True
        self._find(kinds.MASK_BOX, found, "bbox")
        return found

    def _fit_boxes(self, images: Images) -> None:
        """Drop boxes outside their image and clamp those that hang over its edge."""
        # Once with the sizes of the file, and once more after the images in doubt were opened.
        _, over = self._clamp(images)
        # A size in the file may be wrong (CPPE-5 has 49): before a box is cut, the image itself is asked.
        images.measure(np.unique(self.images[over > ROUNDING]))
        clamped, over = self._clamp(images)
        self._find(kinds.OUTSIDE_BOX, (clamped[:, 2:] <= clamped[:, :2]).any(1), "bbox", drop=True)
        self._find(kinds.ROUNDED_BOX, (over > NOISE) & (over <= ROUNDING), "bbox")
        hanging = self.alive & (over > ROUNDING)
        self._find(kinds.OVERHANGING_BOX, hanging, "bbox")
        clamped[:, 2:] -= clamped[:, :2]
        self.boxes[hanging] = clamped[hanging]

    def _clamp(self, images: Images) -> tuple[np.ndarray, np.ndarray]:
        """Return boxes (m, 4) xyxy cut to their images, and by how many pixels each hung over, 0 where not alive."""
        corners = np.where(self.alive[:, None], self.boxes, 0.0)
        corners[:, 2:] += corners[:, :2]
        sizes = np.full((len(corners), 2), -1.0)  # width, height
        sizes[self.alive] = images.sizes[self.images[self.alive], ::-1]
        # Not known: clipping to infinity leaves a box as it is.
        sizes[sizes < 0] = np.inf
        # (m, 2, 2) corners against (m, 1, 2) sizes; infinity where a size is not known.
        clamped = corners.reshape(-1, 2, 2).clip(0, sizes[:, None]).reshape(-1, 4)
        known = np.isfinite(sizes[:, 0]) & self.alive
        return np.where(known[:, None], clamped, corners), np.where(known, np.abs(corners - clamped).max(1), 0.0)

    def _equal(self, images: Images) -> np.ndarray:
        """Mark the rows (m,) with the image, label and box of an earlier one; in a sample, as `_check_convention`."""
        rows = np.flatnonzero(self.alive & ~self.crowd)
        if not images.files.sizes_known and not self.fixing:
            rows = rows[:SAMPLE]
        # In float64: image positions, labels and coordinates are all exact there.
        keys = np.column_stack([self.images[rows], self.labels[rows], self.boxes[rows]])  # (k, 6)
        _, first = np.unique(keys, axis=0, return_index=True)
        equal = np.zeros(len(self.alive), dtype=bool)
        # All rows but the first of each key.
        equal[np.delete(rows, first)] = True
        return equal

    def _read_areas(self) -> tuple[np.ndarray, np.ndarray]:
        values = self._column("area")
        absent = mark(values, is_none)
        numbers, known, cast = cast_column(values, to_float, {int, float}, np.float64)
        sound = known & (numbers > 0) & np.isfinite(numbers)
        if self.scaled:
            # An area that was a product of fractions is at most 1: it does not belong to the boxes in pixels.
            sound &= numbers > 1
        self._find(kinds.NO_AREA, absent, "area")
        self._find(kinds.BAD_AREA, ~absent & ~sound, "area")
        self._find(kinds.TEXT_AREA, cast & sound, "area")
        # Listed areas are kept, though width times height is larger: COCO's sizes small to large go by the mask's area.
        return np.where(sound, numbers, self.boxes[:, 2] * self.boxes[:, 3]), ~sound

    def _read_ids(self) -> np.ndarray:
        """Return ids that are unique and not 0: what has none, or another one's, is numbered from the largest id on."""
        values = self._column("id")
        absent = mark(values, is_none)
        ids, known, cast = cast_column(values, to_int, {int}, np.int64)
        self._find(kinds.BAD_IDS, ~absent & ~known, "id", drop=True)
        self._find(kinds.CAST_NUMBERS, cast, "id")
        self._find(kinds.NO_IDS, absent, "id")
        self._find(kinds.ZERO_IDS, known & (ids == 0), "id")
        fresh = absent | (ids == 0)
        repeated, copies = self._repeated(ids, fresh)
        self._find(kinds.COPIES, copies, "id", drop=True)
        self._find(kinds.REPEATED_IDS, repeated & ~copies, "id")
        # Only now, when it is decided which ids stay: a new one must not be one of those.
        fresh = (fresh | repeated) & self.alive
        ids[fresh] = free_numbers(int(fresh.sum()), taken=ids[self.alive & ~fresh])
        return ids

    def _repeated(self, ids: np.ndarray, fresh: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Mark the rows (m,) with the id of an earlier one, and among them those that are the same object again."""
        repeated, copies = np.zeros(len(ids), dtype=bool), np.zeros(len(ids), dtype=bool)
        rows = np.flatnonzero(self.alive & ~fresh)
        # `first[inverse]` is, for every row, the first row with the same id.
        _, first, inverse = np.unique(ids[rows], return_index=True, return_inverse=True)
        if len(first) == len(rows):
            return repeated, copies
        first = rows[first[inverse]]
        repeated[rows] = first != rows
        same = (self.images[rows] == self.images[first]) & (self.labels[rows] == self.labels[first])
        copies[rows] = repeated[rows] & same & (self.boxes[rows] == self.boxes[first]).all(1)
        return repeated, copies
