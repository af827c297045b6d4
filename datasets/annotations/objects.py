"""The rules for the annotations of a file: ids, labels, boxes, crowds and areas, checked column by column.

A file has hundreds of thousands of annotations: a rule is one comparison of whole columns, and only what differs from
the plain types that JSON should hold is looked at one by one.
"""

from collections.abc import Iterable

import numpy as np

from . import kinds
from .columns import any_of_row, are_unique, free_numbers
from .conventions import DISAGREES, around_turned, find_convention, overlap
from .growing import by_block
from .headers import Images
from .kinds import IssueLog, Kind
from .listed import ListedObjects
from .masks import box_around
from .parse import FARTHEST
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
        entries: ListedObjects,
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
        self.listed = len(entries)
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

    def take(self, name: str, rows: np.ndarray) -> np.ndarray:
        """Return a column's `rows` (k,) and let go of the column, so that no two of a large file are there twice."""
        column = self.__dict__.pop(name)
        # Nothing dropped and sorted already, as in most files: no copy.
        return column if len(rows) == len(column) and (rows == np.arange(len(rows))).all() else column[rows]

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

    def _integers(self, field: str) -> np.ndarray:
        """Return a column of integers (m,) int64; rows without one are refused."""
        column = self.entries.numbers[field]
        self._find(kinds.BAD_IDS, column.unknown.array(), field, drop=True)
        self._find(kinds.CAST_NUMBERS, column.was_cast.array(), field)
        return column.numbers.array()

    def _check_labels(self, categories: list[int], num_classes: int | None) -> None:
        unknown = by_block(len(self.labels), bool, lambda part: ~np.isin(self.labels[part], categories))
        self._find(kinds.UNKNOWN_CATEGORIES, unknown, "category_id", drop=True)
        if num_classes is not None:
            self._find(kinds.BEYOND_CLASSES, self.labels >= num_classes, "category_id", drop=True)

    def _read_crowd(self) -> np.ndarray:
        column = self.entries.numbers["iscrowd"]
        numbers, absent, unknown = column.numbers.array(), column.absent.array(), column.unknown.array()
        self._find(kinds.NO_ISCROWD, absent, "iscrowd")
        # 2 and -1 are integers and say nothing.
        self._find(kinds.BAD_ISCROWD, ~absent & (unknown | (numbers < 0) | (numbers > 1)), "iscrowd", drop=True)
        self._find(kinds.CAST_ISCROWD, column.was_cast.array(), "iscrowd")
        self._find(kinds.CROWDS, numbers == 1, "iscrowd")
        return numbers == 1

    def _check_polygons(self, images: Images) -> None:
        """Note polygons in fractions of the image; bring them to pixels if that is asked for."""
        rows = self._sample(self.alive, images)
        sizes = self._image_sizes(images, rows)
        if not are_relative(self.entries, rows, sizes):
            return
        first = self.entries[next(row for row in rows.tolist() if self.entries.segmentation(row))]
        field = "segmentation (no point of any polygon is above 1)"
        self.issues.add(kinds.RELATIVE_POLYGONS, "annotation", first.id, field, first.segmentation, count=len(rows))
        if self.fixing:
            self.scaled = True
            scale_polygons(self.entries, rows, sizes)

    def _sample(self, rows: np.ndarray, images: Images) -> np.ndarray:
        """Return the places of `rows` (m,) bool; a sample where the images are not decoded anyway."""
        places = np.flatnonzero(rows)
        if images.files.sizes_known or self.fixing:
            return places
        # Spread over the whole file: an exporter may have changed its mind.
        return places[:: max(1, len(places) // SAMPLE)].copy()

    def _image_sizes(self, images: Images, rows: np.ndarray) -> np.ndarray:
        """Return width and height (k, 2) of the images of `rows` (k,), all alive; NaN where they are not known."""
        sizes = images.sizes[self.images[rows], ::-1].astype(np.float64)
        sizes[sizes < 0] = np.nan
        return sizes

    def _read_boxes(self, images: Images) -> np.ndarray:
        listed = self.entries.boxes
        from_mask = self._take_boxes_of_masks()
        self._find(kinds.NO_BOX, listed.absent.array() & ~from_mask, "bbox", drop=True)
        self._find(kinds.BAD_BOX, listed.shapeless.array() & ~from_mask, "bbox", drop=True)
        self._find(kinds.BAD_BOX, listed.unknown.array() & ~from_mask, "bbox", drop=True)
        self._find(kinds.TEXT_BOX, listed.was_cast.array() & ~from_mask, "bbox")
        boxes = listed.numbers.array()
        endless = by_block(len(boxes), bool, lambda part: any_of_row(~(np.abs(boxes[part]) <= FARTHEST)))
        self._find(kinds.ENDLESS_BOX, endless, "bbox", drop=True)
        # What was dropped may hold 1e300: products further down would overflow and warn.
        boxes[~self.alive] = 0
        self._check_convention(boxes, images, self.alive & ~from_mask)
        turned = by_block(len(boxes), bool, lambda part: any_of_row(boxes[part, 2:] < 0))
        self._find(kinds.TURNED_BOX, turned, "bbox")
        rows = np.flatnonzero(turned)
        # A side (k, 2) that is drawn from the right, from below: its corner is at the other end.
        corners = boxes[rows, :2] + np.minimum(boxes[rows, 2:], 0)
        self.entries.change_boxes(rows, np.concatenate([corners, np.abs(boxes[rows, 2:])], axis=1))
        # In the sum, as the corners are what is trained on: a width too small for it is none.
        empty = by_block(
            len(boxes), bool, lambda part: any_of_row(~(boxes[part, :2] + boxes[part, 2:] > boxes[part, :2]))
        )
        self._find(kinds.EMPTY_BOX, empty, "bbox", drop=True)
        return boxes

    def _check_convention(self, boxes: np.ndarray, images: Images, listed: np.ndarray) -> None:
        """Note boxes (m, 4) that are not xywh in pixels, or odd; convert them if that is asked for.

        Where the images are not decoded anyway, a sample has to do. `listed` (m,) are boxes of the file.
        """
        rows = self._sample(listed, images)
        around = np.full((len(rows), 4), np.nan)
        for k, row in enumerate(rows.tolist()):
            # NaN in all four numbers where there is no mask: comparisons with it are False.
            around[k] = self._box_of_mask(row) or np.nan
        convention = find_convention(boxes[rows], around, self._image_sizes(images, rows))
        if convention is not None:
            first = self.entries[int(rows[0])]
            field = f"bbox ({convention.evidence})"
            self.issues.add(kinds.OTHER_CONVENTION, "annotation", first.id, field, first.bbox, count=len(rows))
            if self.fixing:
                self.scaled |= convention.fractions
                places = np.flatnonzero(listed)
                converted = convention.convert(boxes[places], self._image_sizes(images, places))
                self.entries.change_boxes(places, converted)
        else:
            known = np.isfinite(around).all(1)
            self._around = rows[known], around[known]
        if self.fixing:
            self._take_boxes_around_turned(boxes, rows, around)
        tiny = by_block(len(boxes), bool, lambda part: _has_tiny_side(boxes[part]))
        self._find(kinds.TINY_BOX, tiny, "bbox")
        self._find(kinds.ROTATED_BOX, self.entries.rotated.array(), "bbox")

    def _take_boxes_around_turned(self, boxes: np.ndarray, rows: np.ndarray, around: np.ndarray) -> None:
        """Put the box around its polygon, or else around what CVAT turned, in place of each that is to be turned.

        Of other exporters' angles it is not known about which point and in which unit they turn. `around` (k, 4) are
        the boxes around the polygons of `rows` (k,).
        """
        turned = self.entries.rotated.array()[rows]
        rows, around = rows[turned], around[turned].copy()
        for k in np.flatnonzero(~np.isfinite(around).all(1)).tolist():
            degrees = self.entries[int(rows[k])].turn_about_centre
            if degrees and np.isfinite(degrees):
                around[k] = around_turned(boxes[None, rows[k]], np.array([degrees]))[0]
        found = np.isfinite(around).all(1)
        self.entries.change_boxes(rows[found], around[found])

    def _box_of_mask(self, row: int) -> list[float] | None:
        try:
            return box_around(self.entries.segmentation(row))
        except (ValueError, RecursionError):  # no JSON: refused when masks are read
            return None

    def _take_boxes_of_masks(self) -> np.ndarray:
        """Put boxes around polygons and masks where there is none, or only zeros; return the rows (m,) bool."""
        candidates = self.entries.boxes.empty.array() & self.alive & self.entries.segmentations.present()
        around = {row: self._box_of_mask(row) for row in np.flatnonzero(candidates).tolist()}
        boxes = {row: box for row, box in around.items() if box is not None}
        found = np.zeros(len(self.entries), dtype=bool)
        found[list(boxes)] = True
        self.entries.change_boxes(np.flatnonzero(found), np.array(list(boxes.values())).reshape(-1, 4))
        self._find(kinds.MASK_BOX, found, "bbox")
        return found

    def _fit_boxes(self, images: Images) -> None:
        """Drop boxes outside their image and clamp those that hang over its edge."""
        if not self.alive.any():
            return
        # Once with the sizes of the file, and once more after the images in doubt were opened.
        over = by_block(len(self.boxes), np.float64, lambda part: self._overhang(images, part))
        # A size in the file may be wrong (CPPE-5 has 49): before a box is cut, the image itself is asked.
        doubtful = np.unique(self.images[over > ROUNDING])
        if len(doubtful):
            images.measure(doubtful)
            over = by_block(len(self.boxes), np.float64, lambda part: self._overhang(images, part))
        # Boxes that are not cut have an area: those without were dropped.
        rows = np.flatnonzero(over)
        clamped = self._clamp(images, rows)
        outside = np.zeros(len(over), dtype=bool)
        outside[rows] = _are_empty(clamped)
        self._find(kinds.OUTSIDE_BOX, outside, "bbox", drop=True)
        self._find(kinds.ROUNDED_BOX, (over > NOISE) & (over <= ROUNDING), "bbox")
        self._find(kinds.OVERHANGING_BOX, over > ROUNDING, "bbox")
        cut = self.alive[rows] & (over[rows] > ROUNDING)
        clamped[:, 2:] -= clamped[:, :2]
        self.entries.change_boxes(rows[cut], clamped[cut])

    def _overhang(self, images: Images, rows: slice) -> np.ndarray:
        """Return by how many pixels boxes (k,) reach over an edge; by none where a row is not alive."""
        # (2, k): both coordinates of the two corners, and width and height of the image.
        low, sides = self.boxes[rows, :2].T, images.sizes[self.images[rows], ::-1].T
        high = low + self.boxes[rows, 2:].T
        over = np.maximum(-low.min(0), (high - sides).max(0))
        return np.where((sides[0] > 0) & self.alive[rows], np.maximum(over, 0.0), 0.0)

    def _clamp(self, images: Images, rows: np.ndarray) -> np.ndarray:
        """Return the boxes (k, 4) xyxy of `rows` (k,), whose images have known sizes, cut to these."""
        corners = self.boxes[rows]
        corners[:, 2:] += corners[:, :2]
        # (k, 2, 2) corners against (k, 1, 2) width and height.
        sizes = images.sizes[self.images[rows], None, ::-1].astype(np.float64)
        return corners.reshape(-1, 2, 2).clip(0, sizes).reshape(-1, 4)

    def _equal(self, images: Images) -> np.ndarray:
        """Mark the rows (m,) with the image, label and box of an earlier one; in a sample, as `_check_convention`."""
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

    def _read_areas(self) -> tuple[np.ndarray, np.ndarray]:
        column = self.entries.numbers["area"]
        numbers, absent = column.numbers.array(), column.absent.array()
        sound = ~column.unknown.array() & (numbers > 0) & np.isfinite(numbers)
        if self.scaled:
            # An area that was a product of fractions is at most 1: it does not belong to the boxes in pixels.
            sound &= numbers > 1
        self._find(kinds.NO_AREA, absent, "area")
        self._find(kinds.BAD_AREA, ~absent & ~sound, "area")
        self._find(kinds.TEXT_AREA, column.was_cast.array() & sound, "area")
        # Listed areas are kept, though width times height is larger: COCO's sizes small to large go by the mask's area.
        if not sound.all():
            numbers = numbers.copy()  # messages show what is listed
            numbers[~sound] = self.boxes[~sound, 2] * self.boxes[~sound, 3]
        return numbers, ~sound

    def _read_ids(self) -> np.ndarray:
        """Return ids that are unique and not 0: what has none, or another one's, is numbered from the largest id on."""
        column = self.entries.numbers["id"]
        ids, absent, unknown = column.numbers.array(), column.absent.array(), column.unknown.array()
        self._find(kinds.BAD_IDS, ~absent & unknown, "id", drop=True)
        self._find(kinds.CAST_NUMBERS, column.was_cast.array(), "id")
        self._find(kinds.NO_IDS, absent, "id")
        self._find(kinds.ZERO_IDS, ~unknown & (ids == 0), "id")
        fresh = absent | (ids == 0)
        repeated, copies = self._repeated(ids, fresh)
        self._find(kinds.COPIES, copies, "id", drop=True)
        self._find(kinds.REPEATED_IDS, repeated & ~copies, "id")
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


def _are_empty(corners: np.ndarray) -> np.ndarray:
    """Mark boxes (k, 4) xyxy without width or height."""
    return any_of_row(corners[:, 2:] <= corners[:, :2])


def _has_tiny_side(boxes: np.ndarray) -> np.ndarray:
    """Mark boxes (k, 4) xywh with a side below a pixel, but above nothing."""
    sides = np.abs(boxes[:, 2:])
    return any_of_row((sides > 0) & (sides < 1))
