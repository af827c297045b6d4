"""Polygons whose points are fractions of the image, as some exporters write them: found, and brought to pixels."""

import json

import numpy as np
from msgspec import Raw

from .listed import ListedObjects
from .masks import drawable
from .parse import to_float

#: Fractions of an image are below it, with some rounding.
ONE = 1.001
#: Evidence: so many objects with polygons; images of a side below SMALL pixels show nothing.
LEAST, SMALL = 2, 3


def are_relative(entries: ListedObjects, rows: np.ndarray, sizes: np.ndarray) -> bool:
    """Return True where no point of the polygons in `rows` (k,) of `entries` is outside of 0..1.

    `sizes` (k, 2) are width and height of their images, NaN where they are not known. In a usual file the first polygon
    decides.
    """
    seen = 0
    for row, size in zip(rows.tolist(), sizes):
        numbers = _numbers(entries, row)
        # In an image of one or two pixels a point in 0..1 may well be meant in pixels.
        if numbers is None or size.min() < SMALL:  # NaN is not smaller
            continue
        if not all(0 <= number <= ONE for number in numbers):
            return False
        seen += 1
    return seen >= LEAST


def scale_polygons(entries: ListedObjects, rows: np.ndarray, sizes: np.ndarray) -> None:
    """Multiply the polygons in `rows` (k,) by width and height of their images (k, 2), where these are known."""
    for row, size in zip(rows.tolist(), sizes):
        if _numbers(entries, row) is not None and np.isfinite(size).all():
            polygons = entries.segmentation(row)
            polygons = polygons if isinstance(polygons[0], list) else [polygons]
            # (points, 2) times (width, height), and flat again as COCO has it.
            scaled = [(np.reshape(polygon, (-1, 2)) * size).reshape(-1).tolist() for polygon in polygons]
            entries.segmentations[row] = Raw(json.dumps(scaled).encode())


def _numbers(entries: ListedObjects, row: int) -> list[float] | None:
    """Return all coordinates of an object's polygons; None where there are none, or one that is no polygon."""
    try:
        polygons = entries.segmentation(row)
    except (ValueError, RecursionError):  # no JSON: refused when masks are read
        return None
    if not isinstance(polygons, list) or not polygons:
        return None
    polygons = polygons if isinstance(polygons[0], list) else [polygons]
    numbers = [to_float(value) for polygon in drawable(polygons) for value in polygon]
    known = [number for number in numbers if number is not None]
    sound = len(drawable(polygons)) == len(polygons) and not any(len(polygon) % 2 for polygon in polygons)
    return known if sound and len(known) == len(numbers) else None
