"""A small dataset with every fault that the check knows of, made by hand; nothing in it is refused unless asked for."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from pycocotools import mask as rle_tools

WIDTH, HEIGHT = 40, 30
POLYGON = [[2, 2, 12, 2, 12, 8, 2, 8]]


def noise(seed: int, *, width: int = WIDTH, height: int = HEIGHT) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def exif(orientation: int) -> Image.Exif:
    block = Image.Exif()
    block[0x0112] = orientation
    return block


def listed(id_: Any, file_name: str, width: int = WIDTH, height: int = HEIGHT) -> dict[str, Any]:
    return {"id": id_, "file_name": file_name, "width": width, "height": height}


def compressed() -> dict[str, Any]:
    mask = np.zeros((HEIGHT, WIDTH), dtype=np.uint8, order="F")
    mask[2:8, 2:12] = 1
    return {"size": [HEIGHT, WIDTH], "counts": rle_tools.encode(mask)["counts"].decode()}


def annotation(id_: Any, image_id: Any = 1, bbox: Any = (2, 2, 10, 6), **more: Any) -> dict[str, Any]:
    box = list(bbox) if isinstance(bbox, tuple) else bbox
    fields = {"category_id": 1, "area": 60, "iscrowd": 0, "segmentation": POLYGON}
    return {"id": id_, "image_id": image_id, "bbox": box} | fields | more


def write_fault_folder(root: Path, *, unreadable: bool = False, refused: bool = False) -> Path:
    """Both splits in the shape "images, annotations/{train,val}.json"; `unreadable` adds images that stop training,
    `refused` a label that is no category."""
    images = root / "images"
    images.mkdir(parents=True)
    (root / "annotations").mkdir()
    data = {"images": _images(images), "annotations": _annotations(), "categories": _categories()}
    if unreadable:
        data["images"] += _unreadable(images)
        data["annotations"].append(annotation(300, image_id=20))
    if refused:
        data["annotations"].append(annotation(400, category_id=99))
    (root / "annotations" / "train.json").write_text(json.dumps(data))
    noise(100).save(images / "validation.png")
    val = {
        "images": [listed(1, "validation.png"), listed(2, "good.png")],
        "annotations": [annotation(1), annotation(2, image_id=2)],
        "categories": _categories(),
    }
    (root / "annotations" / "val.json").write_text(json.dumps(val))
    return root


def _images(folder: Path) -> list[dict[str, Any]]:
    noise(1).save(folder / "good.png")
    noise(2).save(folder / "negative.png")
    noise(3).save(folder / "turned.jpg", exif=exif(6))
    noise(4).save(folder / "wrong_size.png")
    grey = np.arange(WIDTH * HEIGHT, dtype=np.uint16).reshape(HEIGHT, WIDTH) * 50
    Image.fromarray(grey).save(folder / "deep.png")
    noise(6).convert("P").save(folder / "palette.png")
    noise(7).convert("RGBA").save(folder / "alpha.png")
    noise(8).save(folder / "crowded.png")
    noise(1).save(folder / "good_again.bmp")
    noise(10).save(folder / "upside_down.jpg", exif=exif(3))
    noise(11).save(folder / "prefixed.png")
    noise(12).save(folder / "text_id.png")
    return [
        listed(1, "good.png"),
        listed(2, "negative.png"),
        listed(3, "turned.jpg", HEIGHT, WIDTH),
        listed(4, "wrong_size.png", 80, 60),
        listed(5, "deep.png"),
        listed(6, "palette.png"),
        listed(7, "alpha.png"),
        listed(8, "crowded.png"),
        listed(9, "good_again.bmp"),
        listed(10, "upside_down.jpg"),
        listed(11, "/home/someone/data/images/prefixed.png"),
        listed("12", "text_id.png"),
        listed(1, "good.png"),
    ]


def _unreadable(folder: Path) -> list[dict[str, Any]]:
    noise(20).save(folder / "truncated.png")
    content = (folder / "truncated.png").read_bytes()
    (folder / "truncated.png").write_bytes(content[: len(content) // 2])
    (folder / "text.png").write_text("this is no image")
    return [listed(20, "truncated.png"), listed(21, "text.png"), listed(22, "missing.png")]


def _annotations() -> list[dict[str, Any]]:
    no_area, no_crowd = annotation(11), annotation(12)
    del no_area["area"], no_crowd["iscrowd"]
    runs = {"size": [HEIGHT, WIDTH], "counts": [62, 6, HEIGHT * WIDTH - 68]}
    return [
        annotation(1),
        annotation(2, bbox=["2", "2", "10", "6"]),
        annotation(3, bbox=(2, math.nan, 10, 6)),
        annotation(4, bbox=(2, 2, 0, 6)),
        annotation(5, bbox=(100, 2, 10, 6)),
        annotation(6, bbox=(35, 2, 10, 6)),
        annotation(7, segmentation=compressed()),
        annotation(8, segmentation=runs, bbox=(2, 2, 1, 6)),
        annotation(9, segmentation=[]),
        annotation(10, segmentation=runs, iscrowd=1),
        no_area,
        no_crowd,
        annotation(13, bbox=[], segmentation=[]),
        annotation(14, image_id=77),
        annotation(14, bbox=(3, 3, 5, 5)),
        annotation("15", image_id="12", category_id="2"),
        annotation(1),
        # Within the 80 x 60 that the annotations give, beyond the 40 x 30 of the file.
        annotation(20, image_id=4, bbox=(30, 10, 30, 10)),
        annotation(21, image_id=4, bbox=(50, 10, 10, 10)),
        annotation(22, image_id=3, bbox=(1, 1, 20, 20)),
        *(annotation(30 + k, image_id=8, bbox=(k, k, 5 + k, 6)) for k in range(16)),
        *(annotation(50 + k, image_id=k) for k in (5, 6, 7, 9, 10, 11)),
    ]


def _categories() -> list[dict[str, Any]]:
    return [
        {"id": 0, "name": "animal", "supercategory": "none"},
        {"id": 1, "name": "cat", "supercategory": "animal"},
        {"id": 2, "name": "dog", "supercategory": "animal"},
        {"id": 7, "name": "car", "supercategory": "vehicle"},
    ]
