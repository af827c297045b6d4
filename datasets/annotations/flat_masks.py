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
        self._object_ends = _tensor(builder.object_ends, np.int64)
        self._runs = _tensor(builder.runs, np.uint8)
        self._run_ends = _tensor(builder.run_ends, np.int64)
        # (m, 2) height, width; 0, 0 for objects without run lengths.
        self._run_sizes = _tensor(builder.run_sizes, np.int32).reshape(-1, 2)

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
    """Collects the masks of one object after the other."""

    def __init__(self) -> None:
        self.coordinates, self.polygon_ends, self.object_ends = array("d"), array("q", [0]), array("q", [0])
        self.runs, self.run_ends, self.run_sizes = bytearray(), array("q", [0]), array("i")

    def append(self, mask: Polygons | RunLengths | None) -> None:
        """Add the mask of the next object; polygons must not be an empty list."""
        size = (0, 0)
        if isinstance(mask, list):
            for polygon in mask:
                self.coordinates.fromlist(polygon)
                self.polygon_ends.append(len(self.coordinates))
        elif mask is not None:
            self.runs += mask["counts"]
            size = mask["size"]
        # For every object, also one without polygons: its part is then empty.
        self.object_ends.append(len(self.polygon_ends) - 1)
        self.run_ends.append(len(self.runs))
        self.run_sizes.extend(size)


def _tensor(values: array | bytearray, dtype: type) -> Tensor:
    """A tensor over the same memory; tensors, unlike arrays, also stay shared where workers are started by spawning."""
    # No copy of what may be hundreds of megabytes.
    return torch.from_numpy(np.frombuffer(values, dtype))
