"""The masks of all objects of an annotation file in a few flat tensors, which processes share.

A list of polygons per object would be millions of Python objects: reading one writes its reference count, so that each
loader worker ends up with a copy of all. Flat memory is only read.
"""

from array import array
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

Polygons = list[list[float]]
#: Compressed run lengths as pycocotools has them: "size" [height, width] and "counts" in ASCII bytes.
RunLengths = dict[str, Any]


class FlatMasks:
    """Polygons, run lengths or nothing for each of m objects; `masks[i]` is COCO's `segmentation` or None."""

    def __init__(self, builder: "MaskBuilder") -> None:
        self._coordinates = _tensor(builder.coordinates, np.float64)
        self._polygon_ends = _tensor(builder.polygon_ends, np.int64)
        self._object_ends = _ends(builder.places, builder.polygon_counts, builder.count)
        self._runs = _tensor(builder.runs, np.uint8)
        self._run_ends = _ends(builder.places, builder.run_counts, builder.count)
        # (m, 2) height, width; 0, 0 for objects without run lengths.
        self._run_sizes = _at(builder.places, _array(builder.run_sizes, np.int32).reshape(-1, 2), builder.count)

    @classmethod
    def from_columns(cls, columns: Mapping[str, Tensor]) -> "FlatMasks":
        """Make the masks over tensors named as the attributes are, without copying. Raises KeyError for one less."""
        made = cls.__new__(cls)
        for name in ("coordinates", "polygon_ends", "object_ends", "runs", "run_ends", "run_sizes"):
            setattr(made, f"_{name}", columns[name])
        return made

    def __len__(self) -> int:
        return len(self._object_ends) - 1

    def __getitem__(self, index: int) -> Polygons | RunLengths | None:
        """Polygons [[x, y, x, y, ...], ...] in pixels, or compressed run lengths with counts as text, as in JSON."""
        # Ends of objects count polygons, ends of polygons count coordinates: two steps to the numbers.
        first, last = self._object_ends[index : index + 2].tolist()
        if last > first:
            ends = self._polygon_ends[first : last + 1].tolist()
            return [self._coordinates[a:b].tolist() for a, b in zip(ends, ends[1:])]
        first, last = self._run_ends[index : index + 2].tolist()
        if last > first:
            counts = self._runs[first:last].numpy().tobytes().decode("ascii")
            return {"size": self._run_sizes[index].tolist(), "counts": counts}
        return None


class MaskBuilder:
    """Collects the masks of some of `count` objects, in their order."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.coordinates, self.polygon_ends = array("d"), array("q", [0])
        self.runs, self.run_sizes = bytearray(), array("i")
        # Of each mask: its object, its polygons, the bytes of its run lengths.
        self.places, self.polygon_counts, self.run_counts = array("q"), array("q"), array("q")

    def put(self, place: int, mask: Polygons | RunLengths | None) -> None:
        """Add the mask of an object that comes after the last; polygons must not be an empty list."""
        if mask is None:
            return
        polygons = mask if isinstance(mask, list) else []
        for polygon in polygons:
            self.coordinates.fromlist(polygon)
            self.polygon_ends.append(len(self.coordinates))
        counts, size = (b"", (0, 0)) if isinstance(mask, list) else (mask["counts"], mask["size"])
        self.runs += counts
        self.places.append(place)
        self.polygon_counts.append(len(polygons))
        self.run_counts.append(len(counts))
        self.run_sizes.extend(size)


def _array(values: array | bytearray, dtype: type) -> np.ndarray:
    # No copy of what may be hundreds of megabytes.
    return np.frombuffer(values, dtype)


def _tensor(values: array | bytearray, dtype: type) -> Tensor:
    """A tensor over the same memory; tensors, unlike arrays, also stay shared where workers are started by spawning."""
    return torch.from_numpy(_array(values, dtype))


def _ends(places: array, counts: array, count: int) -> Tensor:
    """Return the running sum (count + 1,) of the `counts` (k,) at `places` (k,), from 0 on."""
    if not any(counts):
        return _zeros((count + 1,), np.int64)
    ends = np.zeros(count + 1, np.int64)
    ends[_array(places, np.int64) + 1] = counts
    return torch.from_numpy(np.cumsum(ends, out=ends))


def _at(places: array, rows: np.ndarray, count: int) -> Tensor:
    """Return rows (count, 2) that are `rows` (k, 2) at `places` (k,), and 0 elsewhere."""
    if not rows.any():
        return _zeros((count, 2), rows.dtype)
    column = np.zeros((count, 2), rows.dtype)
    column[_array(places, np.int64)] = rows
    return torch.from_numpy(column)


def _zeros(shape: tuple[int, ...], dtype: Any) -> Tensor:
    """Return zeros to be read: one of them, seen through strides of 0, as a file without masks needs no more."""
    return torch.from_numpy(np.zeros(1, dtype)).expand(shape)
