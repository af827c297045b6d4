"""Small evaluations made by hand: odd ids, two classes of one name, one class without objects, a crowd."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

from datasets.annotations import index_coco
from util.report.evaluated import Evaluated

SIZE = 100
IMAGES = (10**12, 5, 7, 40)
CAT, DOG, SECOND_CAT, UNUSED = 7, 3, 900, 901
NAMES = {CAT: "cat", DOG: "dog", SECOND_CAT: "cat", UNUSED: "nothing"}
LEFT, RIGHT, BELOW = [5, 5, 30, 30], [60, 5, 30, 40], [5, 60, 40, 30]


def thing(id_: int, image_id: int, label: int, box: list[float], **more: Any) -> dict[str, Any]:
    x, y, w, h = box
    square = [[x, y, x + w, y, x + w, y + h, x, y + h]]
    return dict(id=id_, image_id=image_id, category_id=label, bbox=box, area=w * h, segmentation=square) | more


def truth() -> dict[str, Any]:
    """Five objects in three images, and a crowd; one id is 0, and two objects share another."""
    objects = [
        thing(0, IMAGES[0], CAT, LEFT),
        thing(4, IMAGES[0], DOG, RIGHT),
        thing(4, IMAGES[1], DOG, LEFT),
        thing(9, IMAGES[1], SECOND_CAT, BELOW),
        thing(10, IMAGES[2], CAT, RIGHT),
        thing(11, IMAGES[3], CAT, LEFT, iscrowd=1),
    ]
    images = [{"id": i, "file_name": f"{i}.png", "width": SIZE, "height": SIZE} for i in IMAGES]
    categories = [{"id": id_, "name": name} for id_, name in NAMES.items()]
    return {"images": images, "annotations": objects, "categories": categories}


def found(image_id: int, label: int, box: list[float], score: float) -> dict[str, Any]:
    return {"image_id": image_id, "category_id": label, "bbox": box, "score": score}


def perfect() -> list[dict[str, Any]]:
    """Every object once, with a score of 0.9; and what does not count: a label and an image that do not exist."""
    real = [found(o["image_id"], o["category_id"], o["bbox"], 0.9) for o in truth()["annotations"]]
    return [*real, found(5, 0, LEFT, 0.9), found(77, CAT, LEFT, 0.9), found(5, CAT, [float("nan"), 0, 1, 1], 0.9)]


def faulty() -> list[dict[str, Any]]:
    """One right, one twice, one in the wrong class, one where nothing is, one missed, and one that is too unsure."""
    return [
        found(IMAGES[0], CAT, LEFT, 0.95),
        found(IMAGES[0], CAT, [5, 5, 30, 29], 0.6),
        found(IMAGES[0], DOG, RIGHT, 0.9),
        found(IMAGES[1], CAT, LEFT, 0.85),
        found(IMAGES[1], SECOND_CAT, BELOW, 0.8),
        found(IMAGES[2], DOG, [10, 70, 20, 20], 0.7),
        found(IMAGES[2], DOG, [70, 70, 20, 20], 0.1),
    ]


def evaluated(results: Sequence[dict[str, Any]], *, name: str = "a run", masks: bool = False, **more: Any) -> Evaluated:
    """An evaluation of the truth above; with `masks` the boxes, filled, are masks as well."""
    coco = index_coco(more.pop("truth", None) or truth())
    kinds = {"bbox": list(results)}
    if masks:
        kinds["segm"] = [_with_mask(result) for result in results if not np.isnan(result["bbox"][0])]
    grey = Image.fromarray(np.full((SIZE, SIZE, 3), 90, dtype=np.uint8))
    settings: dict[str, Any] = dict(image_ids=list(IMAGES), open_image=lambda _: grey.copy())
    return Evaluated(name=name, truth=coco, results=kinds, **settings | more)


def _with_mask(result: dict[str, Any]) -> dict[str, Any]:
    from pycocotools import mask as rle_tools

    x, y, w, h = map(int, result["bbox"])
    mask = np.zeros((SIZE, SIZE), dtype=np.uint8, order="F")
    mask[y : y + h, x : x + w] = 1
    rle = rle_tools.encode(mask)
    rest = {key: value for key, value in result.items() if key != "bbox"}
    return rest | {"segmentation": {"size": rle["size"], "counts": rle["counts"].decode()}}
