"""A sound annotation file, which the tests of this folder break."""

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def write(tmp_path: Path) -> Callable[[Any], Path]:
    """Write annotations as the file instances.json."""

    def to_file(data: Any) -> Path:
        path = tmp_path / "instances.json"
        path.write_text(json.dumps(data))
        return path

    return to_file


@pytest.fixture
def sound() -> dict[str, Any]:
    """A file about which nothing is odd: two images of 60 x 40 (w x h), three objects, two categories."""
    square = {"bbox": [10, 10, 20, 10], "area": 200, "iscrowd": 0, "segmentation": [[10, 10, 30, 10, 30, 20, 10, 20]]}
    objects = [
        {"id": 1, "image_id": 5, "category_id": 2, **square},
        {"id": 2, "image_id": 6, "category_id": 1, **square},
        {"id": 3, "image_id": 5, "category_id": 1, **square, "bbox": [0.5, 1.5, 7.25, 9]},
    ]
    objects[2]["segmentation"] = [[0.5, 1.5, 7.75, 1.5, 7.75, 10.5, 0.5, 10.5]]
    images = [{"id": id_, "file_name": f"{id_}.png", "height": 40, "width": 60} for id_ in (6, 5)]
    categories = [{"id": id_, "name": f"class {id_}"} for id_ in (1, 2)]
    return {"images": images, "annotations": [copy.deepcopy(one) for one in objects], "categories": categories}
