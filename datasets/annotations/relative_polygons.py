"""Polygons whose points are fractions of the image, as some exporters write them: found, and brought to pixels."""

import json

import numpy as np
from msgspec import Raw

from .masks import drawable
from .parse import Entry, to_float

#: Fractions of an image are below it, with some rounding.
ONE = 1.001
#: Evidence: so many objects with polygons; images of a side below SMALL pixels show nothing.
LEAST, SMALL = 2, 3


def are_relative(entries: list[Entry], rows: np.ndarray, sizes: np.ndarray) -> bool:
    """Return True where no point of the polygons in `rows` of `entries` is outside of 0..1.

    `sizes` (m, 2) are width and height of the images of all entries, NaN where they are not known. In a usual file the
    first polygon decides.
    """
    seen = 0
    for row in rows.tolist():
        numbers = _numbers(entries[row])
        # In an image of one or two pixels a point in 0..1 may well be meant in pixels.
        if numbers is None or sizes[row].min() < SMALL:  # NaN is not smaller
            continue
        if not all(0 <= number <= ONE for number in numbers):
            return False
        seen += 1
    return seen >= LEAST


def scale_polygons(entries: list[Entry], rows: np.ndarray, sizes: np.ndarray) -> None:
    """Multiply the polygons in `rows` by width and height of their images, where these are known."""
    for row in rows.tolist():
        if _numbers(entries[row]) is not None and np.isfinite(sizes[row]).all():
            polygons = entries[row].segmentation
            polygons = polygons if isinstance(polygons[0], list) else [polygons]
            # (points, 2) times (width, height), and flat again as COCO has it.
            scaled = [(np.reshape(polygon, (-1, 2)) * sizes[row]).reshape(-1).tolist() for polygon in polygons]
            entries[row].raw_segmentation = Raw(json.dumps(scaled).encode())


def _numbers(entry: Entry) -> list[float] | None:
    """Return all coordinates of an object's polygons; None where there are none, or one that is no polygon."""
    try:
        polygons = entry.segmentation
    except (ValueError, RecursionError):  # no JSON: refused when masks are read
        return None
    if not isinstance(polygons, list) or not polygons:
        return None
    polygons = polygons if isinstance(polygons[0], list) else [polygons]
    numbers = [to_float(value) for polygon in drawable(polygons) for value in polygon]
    known = [number for number in numbers if number is not None]
    sound = len(drawable(polygons)) == len(polygons) and not any(len(polygon) % 2 for polygon in polygons)
    return known if sound and len(known) == len(numbers) else None
