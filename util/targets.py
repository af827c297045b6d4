"""What engine and models may assume of a target: the dictionary of one image's objects."""

from collections.abc import Mapping
from typing import Any

#: Under this key a padded target says how many of its objects are real. A number of the host, never a tensor.
NUM_OBJECTS = "num_objects"


def object_count(target: Mapping[str, Any]) -> int:
    """Return how many objects an image has: those listed under `labels`, without the padding at their end.

    Reads no device: a length, or the number that came with the padding.
    """
    return target.get(NUM_OBJECTS, len(target["labels"]))
