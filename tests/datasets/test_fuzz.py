"""Mutated annotation files end in annotations or in one line of the project's own, never in another error.

`make soak` runs many more examples: SOAK says how many.
"""

import copy
import json
import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from datasets.annotations import read_annotations
from datasets.annotations.panoptic import read_panoptic_file
from tests.datasets.panoptic_folder import panoptic_data
from tests.datasets.test_coco_file_faults import VALID
from util.errors import DatasetError

EXAMPLES = int(os.environ.get("SOAK", "400"))
ODD = (
    *(None, True, False, 0, 1, -1, 3, 0.5, -0.0, 1e18, 1e308, 10**40, 2**31, 2**63, float("nan"), float("inf")),
    *("", "1", "x", "\ud800", "9" * 5000, [], [[]], {}, [1, 2], {"a": 1}, [None], -float("inf"), "é", [10**400] * 6),
)


def mutate(data: Any, rng: random.Random) -> Any:
    """A copy with one to four of its values changed, lost, repeated, or exchanged with another's."""
    data = copy.deepcopy(data)
    for _ in range(rng.randint(1, 4)):
        places = list(walk(data))
        if not places:
            break
        holder, key = rng.choice(places)
        action = rng.choice(("odd", "odd", "lose", "exchange", "repeat"))
        if action == "odd":
            holder[key] = copy.deepcopy(rng.choice(ODD))
        elif action == "lose":
            del holder[key]
        elif action == "exchange":
            other, place = rng.choice(places)
            holder[key] = copy.deepcopy(other[place])
        elif isinstance(holder, list):
            holder.append(copy.deepcopy(holder[key]))
    return data


def walk(value: Any) -> Any:
    """Every place of a value in a dictionary or a list."""
    entries = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in entries:
        yield value, key
        yield from walk(inner)


def read_boxes(path: Path) -> None:
    read_annotations(path).to_coco()


def read_masks(path: Path) -> None:
    read_annotations(path, need_masks=True).to_coco()


def with_sizes() -> dict[str, Any]:
    """The valid file with a size for each image, which masks need."""
    return VALID | {"images": [image | {"height": 9, "width": 12} for image in VALID["images"]]}


@pytest.mark.parametrize(
    ("valid", "read"),
    [(VALID, read_boxes), (with_sizes(), read_masks), (panoptic_data(), read_panoptic_file)],
    ids=["boxes", "masks", "panoptic"],
)
def test_only_errors_of_the_project_come_through(tmp_path: Path, valid: dict, read: Callable[[Path], Any]) -> None:
    rng, path, outcomes = random.Random(0), tmp_path / "some.json", {"read": 0, "refused": 0}
    for _ in range(EXAMPLES):
        path.write_text(json.dumps(mutate(valid, rng)))
        try:
            read(path)
            outcomes["read"] += 1
        except DatasetError as error:
            assert str(error).startswith(f"{path}: ") and "\n" not in str(error) and len(str(error)) < 1000
            outcomes["refused"] += 1
    assert min(outcomes.values()) > EXAMPLES / 50, outcomes
