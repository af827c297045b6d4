"""The rules for segmentations: polygons or run lengths; the rest is repaired, left out or refused.

Nothing may reach pycocotools unchecked: its C code reads past the end of broken run lengths and runs out of memory on
polygons far away.
"""

import functools
from typing import Any

import numpy as np
from pycocotools import mask as rle_tools

from . import kinds
from .flat_masks import Polygons, RunLengths
from .kinds import IssueLog
from .listed import ListedObjects
from .parse import FARTHEST, to_float, to_int

#: (height, width)
Size = tuple[int, int]
#: The run lengths of so large an image still fit in pycocotools' 32 bits.
LARGEST_SIDE = 65_535


class MaskRules:
    """Reads segmentations; with `needed` (--masks) one that is missing or broken is refused, else left out."""

    def __init__(self, entries: ListedObjects, issues: IssueLog, *, needed: bool) -> None:
        self.entries = entries
        self.issues = issues
        self.needed = needed
        #: Objects whose mask has pixels.
        self.drawn = 0

    def read(self, row: int, *, size: Size | None, box: np.ndarray, crowd: bool) -> Polygons | RunLengths | None:
        """Read the mask of a row in an image of `size`, whose `box` (4,) is xywh; None for none."""
        segmentation = self.entries.segmentation(row)
        if segmentation is None:
            return self._missing(row, box, crowd) if self.needed else None
        mask: Polygons | RunLengths | None
        if isinstance(segmentation, list):
            mask = self._polygons(segmentation, row)
            if mask == []:
                self._note(kinds.EMPTY_MASK, row)
                return empty_mask(size)
        else:
            mask = read_run_lengths(segmentation, size)
        if mask is None:
            self._note(self._why_not(segmentation), row)
        self.drawn += not crowd
        return mask

    def _why_not(self, segmentation: Any) -> kinds.Kind:
        """Return the kind of a segmentation that cannot be taken: for its size alone, or because it is broken."""
        if read_run_lengths(segmentation, None) is not None:
            return kinds.OTHER_SIZE_REFUSED if self.needed else kinds.OTHER_SIZE_MASK
        return kinds.BAD_MASK_REFUSED if self.needed else kinds.BAD_MASK

    def _missing(self, row: int, box: np.ndarray, crowd: bool) -> Polygons | None:
        if not crowd:
            self._note(kinds.NO_MASK, row)
            return None
        self._note(kinds.CROWD_WITHOUT_MASK, row)
        x, y, width, height = box.tolist()
        # The box as a polygon of its four corners, clockwise.
        return [[x, y, x + width, y, x + width, y + height, x, y + height]]

    def _polygons(self, polygons: list, row: int) -> Polygons | None:
        """Return the polygons that can be drawn, perhaps none; None where these are no polygons."""
        # Numbers where polygons should be: one polygon without the list around it.
        if polygons and all(to_float(value) is not None for value in polygons):
            self._note(kinds.FLAT_POLYGON, row)
            polygons = [polygons]
        drawable = []
        for polygon in polygons:
            if not _is_sound(polygon):
                polygon = self._mend(polygon, row)
                if polygon is None:
                    return None
            if polygon:
                drawable.append(polygon)
        return drawable

    def _mend(self, polygon: Any, row: int) -> list[float] | None:
        """Return a polygon of floats, [] for one to drop, None for what is none."""
        values = [to_float(value) for value in polygon] if isinstance(polygon, list) else [None]
        numbers = [value for value in values if value is not None]
        if len(numbers) < len(values):
            return None
        # Less than three points enclose nothing.
        if len(numbers) < 6:
            self._note(kinds.SHORT_POLYGON, row)
            return []
        if len(numbers) % 2 or not all(-FARTHEST <= number <= FARTHEST for number in numbers):
            self._note(kinds.BAD_POLYGON, row)
            return []
        if any(isinstance(value, str) for value in polygon):
            self._note(kinds.TEXT_POLYGON, row)
        return numbers

    def _note(self, kind: kinds.Kind, row: int) -> None:
        # Only the first of a kind is put into words.
        if not self.issues.count(kind):
            entry = self.entries[row]
            self.issues.add(kind, "annotation", entry.id, "segmentation", entry.segmentation)


@functools.lru_cache(maxsize=1 << 12)
def empty_mask(size: Size | None) -> RunLengths | None:
    """Return the mask without a pixel, a run of zeros: pycocotools stops at an empty list of polygons."""
    return None if size is None else compress([size[0] * size[1]], size)


def box_around(segmentation: Any) -> list[float] | None:
    """Return the box xywh around polygons or run lengths, None where they enclose nothing."""
    if isinstance(segmentation, list):
        flat = bool(segmentation) and not isinstance(segmentation[0], list)
        polygons = drawable([segmentation] if flat else segmentation)
        numbers = [to_float(value) for polygon in polygons for value in polygon]
        points = [number for number in numbers if number is not None and abs(number) <= FARTHEST]
        if not points or len(points) < len(numbers) or len(points) % 2:
            return None
        # x, y, x, y, ...
        xs, ys = points[0::2], points[1::2]
        box = [min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys)]
    else:
        runs = read_run_lengths(segmentation, None)
        box = [0.0] * 4 if runs is None else rle_tools.toBbox(runs).tolist()
    return box if box[2] > 0 and box[3] > 0 else None


def mask_area(mask: Polygons | RunLengths | None, size: Size | None) -> float:
    """Count the pixels of a mask in an image of `size`; 0 for no mask, and for polygons where the size is not known."""
    if mask is None or (isinstance(mask, list) and size is None):
        return 0.0
    # The union, so that pixels which two polygons of an object share count once.
    runs = rle_tools.merge(rle_tools.frPyObjects(mask, *size)) if isinstance(mask, list) and size else mask
    return float(rle_tools.area(runs))


def drawable(polygons: list) -> list:
    """Return the polygons [x, y, x, y, ...] with at least three points (pycocotools takes two points for a box)."""
    return [polygon for polygon in polygons if isinstance(polygon, list) and len(polygon) >= 6]


def compress(counts: list[int], size: Size) -> RunLengths:
    """Compress plain run lengths (zeros, ones, zeros, ..., down the columns) as pycocotools does."""
    return rle_tools.frPyObjects({"size": list(size), "counts": counts}, *size)


def read_run_lengths(segmentation: Any, size: Size | None) -> RunLengths | None:
    """Return compressed run lengths that fill an image of `size` exactly, None where `segmentation` is none such."""
    if not isinstance(segmentation, dict):
        return None
    own, counts = _size_of(segmentation.get("size")), segmentation.get("counts")
    # A mask of another size than its image cannot be laid over it.
    if own is None or own != (size or own):
        return None
    pixels = own[0] * own[1]
    if isinstance(counts, list):
        plain = [to_int(count) for count in counts]
        lengths = [length for length in plain if length is not None]
        fill = len(lengths) == len(plain) and min(lengths, default=-1) >= 0 and sum(lengths) == pixels
        return compress(lengths, own) if fill else None
    if not isinstance(counts, str) or not counts.isascii():
        return None
    runs = decompress(counts.encode())
    if runs is None or runs.min() < 0 or runs.sum() != pixels:
        return None
    return {"size": list(own), "counts": counts.encode()}


def decompress(text: bytes) -> np.ndarray | None:
    """Return the run lengths (n,) int64 in pycocotools' compressed text, None where it is broken.

    The code is that of `rleToString` in pycocotools' maskApi.c: five bits a byte from 48 on, the lowest first; 32 marks
    that more follow, 16 in the last the sign. From the fourth on, a run is written as its difference to the last but
    one.
    """
    code = np.frombuffer(text, np.uint8).astype(np.int64) - 48
    ends = np.flatnonzero((code & 32) == 0)
    if not code.size or code.min() < 0 or code.max() > 63 or not ends.size or ends[-1] != code.size - 1:
        return None
    starts = np.concatenate([[0], ends[:-1] + 1])
    lengths = ends - starts + 1
    if lengths.max() > 7:  # more than 32 bits and a sign
        return None
    # Byte k of a number holds its bits 5 k to 5 k + 4.
    shifts = 5 * (np.arange(code.size) - np.repeat(starts, lengths))
    runs = np.add.reduceat((code & 31) << shifts, starts)
    # Two's complement: of n bytes the last one's sign bit stands for minus 2^(5 n).
    runs -= np.where(code[ends] & 16, 1 << (5 * lengths), 0)
    # Undo the differences; runs of zeros and of ones lie at even and odd places. The first three are written plainly,
    # which a sum from places 1 and 2 on respects.
    runs[1::2] = runs[1::2].cumsum()
    runs[2::2] = runs[2::2].cumsum()
    return runs


def _size_of(value: Any) -> Size | None:
    if not isinstance(value, list) or len(value) != 2:
        return None
    height, width = to_int(value[0]), to_int(value[1])
    if height is None or width is None:
        return None
    return (height, width) if 0 < height <= LARGEST_SIDE and 0 < width <= LARGEST_SIDE else None


def _is_sound(polygon: Any) -> bool:
    """Return True, quickly, for most polygons that need no mending; NaN and text fail the comparison."""
    try:
        return (
            type(polygon) is list and len(polygon) >= 6 and not len(polygon) % 2 and sum(map(abs, polygon)) < FARTHEST
        )
    except (TypeError, OverflowError):  # text, or an integer beyond all floats
        return False
