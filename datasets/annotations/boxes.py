"""The rules for the boxes of a file: their convention and sides, the polygons beside them, the edge of their image."""

import numpy as np

from . import kinds
from .columns import any_of_row
from .conventions import DISAGREES, around_turned, find_convention, overlap
from .growing import by_block
from .images import Images
from .masks import box_around
from .parse import FARTHEST
from .relative_polygons import are_relative, scale_polygons
from .rows import CheckedRows

#: What a box may reach over the edge without being an error: COCO's are rounded outlines of polygons.
ROUNDING = 1.0
#: What the sum of x and width is off by in floating point.
NOISE = 1e-6
#: Objects to look at for a convention where looking at all would take long.
SAMPLE = 2000


class BoxRules:
    """The rules for the boxes of a table's rows, which it also changes where they are repaired.

    Attributes:
        scaled: boxes or polygons were fractions of the image and are now in pixels; areas may have been, too.
    """

    def __init__(self, table: CheckedRows, images: Images, positions: np.ndarray, *, fixing: bool) -> None:
        """Prepare the rules for rows whose images are those at `positions` (m,) in `images`.

        With `fixing` boxes in another convention are converted.
        """
        self.scaled = False
        self._table = table
        self._entries = table.entries
        self._images = images
        self._positions = positions
        self._fixing = fixing
        # Rows (k,) of boxes of the file, and the boxes (k, 4) around their polygons or masks.
        self._around = np.zeros(0, dtype=np.int64), np.zeros((0, 4))

    def read(self) -> np.ndarray:
        """Return the boxes (m, 4) xywh, inside their images and with an area where a row is alive."""
        # First: a box may be missing, and that around its polygon stand in for it.
        self._check_polygons()
        boxes = self._read_listed()
        self._fit(boxes)
        return boxes

    def note_odd(self, boxes: np.ndarray) -> None:
        """Note the boxes (m, 4), as `read` returned them, that do not fit the polygon or mask beside them."""
        odd = np.zeros(len(boxes), dtype=bool)
        looked_at, around = self._around
        # IoU of the listed box and the one around its polygon, row by row.
        odd[looked_at] = overlap(boxes[looked_at], around) < DISAGREES
        self._table.find(kinds.ODD_BOX, odd, "bbox")

    def _check_polygons(self) -> None:
        """Note polygons in fractions of the image; bring them to pixels if that is asked for."""
        rows = self._sample(self._table.alive)
        sizes = self._image_sizes(rows)
        if not are_relative(self._entries, rows, sizes):
            return
        first = self._entries[next(row for row in rows.tolist() if self._entries.segmentation(row))]
        field = "segmentation (no point of any polygon is above 1)"
        self._table.issues.add(
            kinds.RELATIVE_POLYGONS, "annotation", first.id, field, first.segmentation, count=len(rows)
        )
        if self._fixing:
            self.scaled = True
            scale_polygons(self._entries, rows, sizes)

    def _sample(self, rows: np.ndarray) -> np.ndarray:
        """Return the places of `rows` (m,) bool; a sample where the images are not decoded anyway."""
        places = np.flatnonzero(rows)
        if self._images.files.sizes_known or self._fixing:
            return places
        # Spread over the whole file: an exporter may have changed its mind.
        return places[:: max(1, len(places) // SAMPLE)].copy()

    def _image_sizes(self, rows: np.ndarray) -> np.ndarray:
        """Return width and height (k, 2) of the images of `rows` (k,), all alive; NaN where they are not known."""
        sizes = self._images.sizes[self._positions[rows], ::-1].astype(np.float64)
        sizes[sizes < 0] = np.nan
        return sizes

    def _read_listed(self) -> np.ndarray:
        listed = self._entries.boxes
        from_mask = self._take_boxes_of_masks()
        self._table.find(kinds.NO_BOX, listed.absent.array() & ~from_mask, "bbox", drop=True)
        self._table.find(kinds.BAD_BOX, listed.shapeless.array() & ~from_mask, "bbox", drop=True)
        self._table.find(kinds.BAD_BOX, listed.unknown.array() & ~from_mask, "bbox", drop=True)
        self._table.find(kinds.TEXT_BOX, listed.was_cast.array() & ~from_mask, "bbox")
        boxes = listed.numbers.array()
        endless = by_block(len(boxes), bool, lambda part: any_of_row(~(np.abs(boxes[part]) <= FARTHEST)))
        self._table.find(kinds.ENDLESS_BOX, endless, "bbox", drop=True)
        # What was dropped may hold 1e300: products further down would overflow and warn.
        boxes[~self._table.alive] = 0
        self._check_convention(boxes, self._table.alive & ~from_mask)
        turned = by_block(len(boxes), bool, lambda part: any_of_row(boxes[part, 2:] < 0))
        self._table.find(kinds.TURNED_BOX, turned, "bbox")
        rows = np.flatnonzero(turned)
        # A side (k, 2) that is drawn from the right, from below: its corner is at the other end.
        corners = boxes[rows, :2] + np.minimum(boxes[rows, 2:], 0)
        self._entries.change_boxes(rows, np.concatenate([corners, np.abs(boxes[rows, 2:])], axis=1))
        # In the sum, as the corners are what is trained on: a width too small for it is none.
        empty = by_block(
            len(boxes), bool, lambda part: any_of_row(~(boxes[part, :2] + boxes[part, 2:] > boxes[part, :2]))
        )
        self._table.find(kinds.EMPTY_BOX, empty, "bbox", drop=True)
        return boxes

    def _check_convention(self, boxes: np.ndarray, listed: np.ndarray) -> None:
        """Note boxes (m, 4) that are not xywh in pixels, or odd; convert them if that is asked for.

        Where the images are not decoded anyway, a sample has to do. `listed` (m,) are boxes of the file.
        """
        rows = self._sample(listed)
        around = np.full((len(rows), 4), np.nan)
        for k, row in enumerate(rows.tolist()):
            # NaN in all four numbers where there is no mask: comparisons with it are False.
            around[k] = self._box_of_mask(row) or np.nan
        convention = find_convention(boxes[rows], around, self._image_sizes(rows))
        if convention is not None:
            first = self._entries[int(rows[0])]
            field = f"bbox ({convention.evidence})"
            self._table.issues.add(kinds.OTHER_CONVENTION, "annotation", first.id, field, first.bbox, count=len(rows))
            if self._fixing:
                self.scaled |= convention.fractions
                places = np.flatnonzero(listed)
                converted = convention.convert(boxes[places], self._image_sizes(places))
                self._entries.change_boxes(places, converted)
        else:
            known = np.isfinite(around).all(1)
            self._around = rows[known], around[known]
        if self._fixing:
            self._take_boxes_around_turned(boxes, rows, around)
        tiny = by_block(len(boxes), bool, lambda part: _has_tiny_side(boxes[part]))
        self._table.find(kinds.TINY_BOX, tiny, "bbox")
        self._table.find(kinds.ROTATED_BOX, self._entries.rotated.array(), "bbox")

    def _take_boxes_around_turned(self, boxes: np.ndarray, rows: np.ndarray, around: np.ndarray) -> None:
        """Put the box around its polygon, or else around what CVAT turned, in place of each that is to be turned.

        Of other exporters' angles it is not known about which point and in which unit they turn. `around` (k, 4) are
        the boxes around the polygons of `rows` (k,).
        """
        turned = self._entries.rotated.array()[rows]
        rows, around = rows[turned], around[turned].copy()
        for k in np.flatnonzero(~np.isfinite(around).all(1)).tolist():
            degrees = self._entries[int(rows[k])].turn_about_centre
            if degrees and np.isfinite(degrees):
                around[k] = around_turned(boxes[None, rows[k]], np.array([degrees]))[0]
        found = np.isfinite(around).all(1)
        self._entries.change_boxes(rows[found], around[found])

    def _box_of_mask(self, row: int) -> list[float] | None:
        try:
            return box_around(self._entries.segmentation(row))
        except (ValueError, RecursionError):  # no JSON: refused when masks are read
            return None

    def _take_boxes_of_masks(self) -> np.ndarray:
        """Put boxes around polygons and masks where there is none, or only zeros; return the rows (m,) bool."""
        candidates = self._entries.boxes.empty.array() & self._table.alive & self._entries.segmentations.present()
        around = {row: self._box_of_mask(row) for row in np.flatnonzero(candidates).tolist()}
        boxes = {row: box for row, box in around.items() if box is not None}
        found = np.zeros(len(self._entries), dtype=bool)
        found[list(boxes)] = True
        self._entries.change_boxes(np.flatnonzero(found), np.array(list(boxes.values())).reshape(-1, 4))
        self._table.find(kinds.MASK_BOX, found, "bbox")
        return found

    def _fit(self, boxes: np.ndarray) -> None:
        """Drop boxes outside their image and clamp those that hang over its edge."""
        if not self._table.alive.any():
            return
        # Once with the sizes of the file, and once more after the images in doubt were opened.
        over = by_block(len(boxes), np.float64, lambda part: self._overhang(boxes, part))
        # A size in the file may be wrong (CPPE-5 has 49): before a box is cut, the image itself is asked.
        doubtful = np.unique(self._positions[over > ROUNDING])
        if len(doubtful):
            self._images.measure(doubtful)
            over = by_block(len(boxes), np.float64, lambda part: self._overhang(boxes, part))
        # Boxes that are not cut have an area: those without were dropped.
        rows = np.flatnonzero(over)
        clamped = self._clamp(boxes, rows)
        outside = np.zeros(len(over), dtype=bool)
        outside[rows] = _are_empty(clamped)
        self._table.find(kinds.OUTSIDE_BOX, outside, "bbox", drop=True)
        self._table.find(kinds.ROUNDED_BOX, (over > NOISE) & (over <= ROUNDING), "bbox")
        self._table.find(kinds.OVERHANGING_BOX, over > ROUNDING, "bbox")
        cut = self._table.alive[rows] & (over[rows] > ROUNDING)
        clamped[:, 2:] -= clamped[:, :2]
        self._entries.change_boxes(rows[cut], clamped[cut])

    def _overhang(self, boxes: np.ndarray, rows: slice) -> np.ndarray:
        """Return by how many pixels boxes (k,) reach over an edge; by none where a row is not alive."""
        # (2, k): both coordinates of the two corners, and width and height of the image.
        low, sides = boxes[rows, :2].T, self._images.sizes[self._positions[rows], ::-1].T
        high = low + boxes[rows, 2:].T
        over = np.maximum(-low.min(0), (high - sides).max(0))
        return np.where((sides[0] > 0) & self._table.alive[rows], np.maximum(over, 0.0), 0.0)

    def _clamp(self, boxes: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """Return the boxes (k, 4) xyxy of `rows` (k,), whose images have known sizes, cut to these."""
        corners = boxes[rows]
        corners[:, 2:] += corners[:, :2]
        # (k, 2, 2) corners against (k, 1, 2) width and height.
        sizes = self._images.sizes[self._positions[rows], None, ::-1].astype(np.float64)
        return corners.reshape(-1, 2, 2).clip(0, sizes).reshape(-1, 4)


def _are_empty(corners: np.ndarray) -> np.ndarray:
    """Mark boxes (k, 4) xyxy without width or height."""
    return any_of_row(corners[:, 2:] <= corners[:, :2])


def _has_tiny_side(boxes: np.ndarray) -> np.ndarray:
    """Mark boxes (k, 4) xywh with a side below a pixel, but above nothing."""
    sides = np.abs(boxes[:, 2:])
    return any_of_row((sides > 0) & (sides < 1))
