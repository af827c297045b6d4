"""Chosen images with truth and detections drawn, as JPEG data that stands inside a page."""

import base64
import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image
from pycocotools import mask as rle_tools
from pycocotools.coco import COCO

from ..draw.boxes import draw_detections
from ..errors import UserError
from .choice import ImageChoice
from .evaluated import Evaluated, OpenImage

#: Pixels of a picture's longer side: three in a row fill a page, and one the width of a phone.
LONGER_SIDE = 380
QUALITY = 72
PAPER = (236, 236, 232)  # stands for an image that is gone


class Pictures:
    """Draws the images of an evaluation; `unreadable` lists those that could not be read, with the reason."""

    def __init__(self, evaluated: Evaluated, kind: str) -> None:
        self.truth: COCO = evaluated.truth
        self.open_image: OpenImage | None = evaluated.open_image
        self.class_names = evaluated.class_names
        self.evaluated = evaluated
        self.with_masks = kind == "segm"
        self.unreadable: dict[int, str] = {}

    def draw(self, choice: ImageChoice) -> list[dict[str, Any]]:
        """Return `heading`, `uri`, `width` and `height` of a picture of the truth and one of each run's detections."""
        image = self._open(choice.image_id)
        objects = self.evaluated.objects_of(choice.image_id)
        drawn = [("truth", self._over(image, objects, scored=False))]
        runs = choice.detections.items()
        drawn += [
            (name if len(runs) > 1 else "detected", self._over(image, found, scored=True)) for name, found in runs
        ]
        return [
            {"heading": heading, "uri": as_data_uri(picture), "width": picture.width, "height": picture.height}
            for heading, picture in drawn
        ]

    def _open(self, image_id: int) -> Image.Image:
        if self.open_image is not None and image_id not in self.unreadable:
            try:
                return self.open_image(image_id)
            except (UserError, OSError) as error:
                self.unreadable[image_id] = error.line() if isinstance(error, UserError) else str(error)
        # Grey paper of the listed size, or else just as large as its boxes reach.
        listed = self.truth.imgs[image_id]
        boxes = [a["bbox"] for a in self.evaluated.objects_of(image_id)]
        reach = np.array([(x + w, y + h) for x, y, w, h in boxes] or [(1, 1)]).max(0)
        width, height = listed.get("width") or reach[0], listed.get("height") or reach[1]
        return Image.new("RGB", (max(1, round(width)), max(1, round(height))), PAPER)

    def _over(self, image: Image.Image, objects: Sequence[Mapping[str, Any]], *, scored: bool) -> Image.Image:
        boxes = np.array([box_of(o) for o in objects], dtype=float).reshape(-1, 4)
        masks = [self._mask(o, image.size) for o in objects] if self.with_masks else None
        return draw_detections(
            image,
            boxes + np.concatenate([np.zeros_like(boxes[:, 2:]), boxes[:, :2]], axis=1),  # xywh to xyxy
            [o["category_id"] for o in objects],
            scores=[o["score"] for o in objects] if scored else None,
            masks=masks,
            class_names=self.class_names,
            longer_side=LONGER_SIDE,
        )

    def _mask(self, found: Mapping[str, Any], size: tuple[int, int]) -> np.ndarray:
        """Return the mask (H, W) of an object; none of one that has only a box."""
        segmentation = found.get("segmentation")
        if not segmentation:
            return np.zeros((size[1], size[0]), dtype=bool)
        if "score" in found:
            return rle_tools.decode(segmentation).astype(bool)
        return self.truth.annToMask(found).astype(bool)


def box_of(found: Mapping[str, Any]) -> list[float]:
    """Return the box xywh of an object; of a detection with a mask the detector's, else that around the mask."""
    box = found.get("bbox") or found.get("box")
    if box is not None and np.isfinite(box).all():
        return box
    return rle_tools.toBbox(found["segmentation"]).tolist()


def as_data_uri(image: Image.Image) -> str:
    """Return an image as JPEG inside a `data:` address."""
    file = io.BytesIO()
    image.save(file, format="JPEG", quality=QUALITY, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode()
