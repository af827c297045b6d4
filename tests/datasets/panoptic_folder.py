"""Two small images with panoptic annotations, by hand; the lists are in different orders, as no rule forbids."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

DOG, CROWD, SKY, GONE = 5, 256 + 7, 2 * 65536 + 3 * 256 + 1, 77


def segment(id_: int, category_id: int, area: int, iscrowd: int = 0) -> dict[str, int]:
    return {"id": id_, "category_id": category_id, "area": area, "iscrowd": iscrowd, "bbox": [0, 0, 1, 1]}


def panoptic_data() -> dict[str, Any]:
    """Image 9 with a dog, a crowd, the sky and a segment without pixels; image 2 with the sky alone."""
    segments = [segment(DOG, 18, 6), segment(CROWD, 18, 8, 1), segment(SKY, 119, 30), segment(GONE, 18, 0)]
    return {
        "images": [
            {"id": 9, "file_name": "000000000009.jpg", "height": 6, "width": 8},
            {"id": 2, "file_name": "000000000002.jpeg", "height": 3, "width": 4},
        ],
        "annotations": [
            {"image_id": 2, "file_name": "000000000002.png", "segments_info": [segment(SKY, 119, 12)]},
            {"image_id": 9, "file_name": "000000000009.png", "segments_info": segments},
        ],
        "categories": [{"id": 119, "name": "sky", "isthing": 0}, {"id": 18, "name": "dog", "isthing": 1}],
    }


def write_panoptic_folder(root: Path, data: dict[str, Any]) -> Path:
    """The val2017 split in COCO's layout, with `data` as its annotations."""
    owners = {9: np.full((6, 8), SKY), 2: np.full((3, 4), SKY)}
    owners[9][1:3, 2:5] = DOG
    owners[9][5] = CROWD
    (root / "val2017").mkdir()
    (root / "annotations" / "panoptic_val2017").mkdir(parents=True)
    (root / "annotations" / "panoptic_val2017.json").write_text(json.dumps(data))
    for image_id, name in ((9, "000000000009.jpg"), (2, "000000000002.jpeg")):
        ids = owners[image_id]
        Image.new("RGB", ids.shape[::-1]).save(root / "val2017" / name)
        channels = np.stack([ids % 256, ids // 256 % 256, ids // 65536], axis=-1).astype(np.uint8)
        Image.fromarray(channels).save(root / "annotations" / "panoptic_val2017" / f"{image_id:012d}.png")
    return root
