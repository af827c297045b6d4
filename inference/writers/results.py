"""Detections as JSON: COCO's results format for images, one line a frame for videos."""

import json
from contextlib import ExitStack
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from pycocotools import mask as rle_tools

from util.runs.atomic import atomic_file

from ..detections import Detections
from ..items import Item, Pictures


class CocoResults:
    """All detections of images in COCO's results format, as `main.py --eval` writes them: every query, boxes xywh.

    Masks go to a second file, because pycocotools takes areas from boxes as soon as a result has one. With `file_names`
    every result says its image's name. Files appear when they are whole.
    """

    complete = True

    def __init__(self, path: Path, *, masks: bool, file_names: bool) -> None:
        self.paths = {"bbox": path} | ({"segmentation": path.with_stem(f"{path.stem}_segm")} if masks else {})
        self.file_names = file_names
        self._open = ExitStack()
        self._files: dict[str, BinaryIO] = {}

    def write(self, item: Item, found: Detections, pictures: Pictures) -> None:
        """Add the results of an image; a frame is left alone."""
        # COCO's format has no place for the frames of a video.
        if item.frame is not None or item.image_id is None:
            return
        first = not self._files
        if first:
            # Opened at the first image: where there are only videos, no empty file is left behind.
            self._files = {key: self._open.enter_context(atomic_file(path)) for key, path in self.paths.items()}
            for file in self._files.values():
                file.write(b"[")
            self._empty = True
        head: dict[str, Any] = {"image_id": item.image_id}
        tail = {"file_name": item.name.as_posix()} if self.file_names else {}
        shapes: dict[str, list] = {"bbox": boxes_xywh(found)}
        if found.masks is not None:
            shapes["segmentation"] = [encode_mask(mask) for mask in found.masks]
        for key, file in self._files.items():
            rows = [
                json.dumps({**head, "category_id": label, key: shape, "score": score, **tail})
                for label, shape, score in zip(found.labels.tolist(), shapes[key], found.scores.tolist())
            ]
            # One result a line, so that a file of half a million can be looked into.
            if rows:
                file.write((("" if self._empty else ",") + "\n" + ",\n".join(rows)).encode())
        self._empty = self._empty and len(found) == 0

    def close(self) -> str | None:
        """End the lists, so that the files get their names."""
        for file in self._files.values():
            file.write(b"\n]\n")
        self._open.close()
        return ", ".join(str(path) for path in self.paths.values()) if self._files else None


class FrameLines:
    """A JSON object on a line for every frame of a video: its number, its time, and what was found in it."""

    complete = False

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._open = ExitStack()
        self._files: dict[Path, BinaryIO] = {}

    def write(self, item: Item, found: Detections, pictures: Pictures) -> None:
        """Add the line of a frame; an image is left alone."""
        if item.frame is None:
            return
        path = self.folder / item.name.with_suffix(".jsonl")
        if path not in self._files:
            self._files[path] = self._open.enter_context(atomic_file(path))
        row = {
            "frame": item.frame.number,
            "time": round(item.frame.seconds, 6),
            "detections": [
                {"category_id": label, "name": name, "bbox": box, "score": score}
                for label, name, box, score in zip(
                    found.labels.tolist(), found.names, boxes_xywh(found), found.scores.tolist()
                )
            ],
        }
        self._files[path].write(json.dumps(row).encode() + b"\n")

    def close(self) -> str | None:
        """End the files of all videos."""
        self._open.close()
        return ", ".join(map(str, self._files)) or None


def boxes_xywh(found: Detections) -> list[list[float]]:
    """Return boxes as left, top, width and height, computed in float32 as an evaluation does."""
    # First the difference in float32, then doubles for JSON: the same digits as in predictions.json of an evaluation.
    corners, others = found.boxes[:, :2], found.boxes[:, 2:]
    return np.concatenate([corners, others - corners], axis=1).tolist()


def encode_mask(mask: np.ndarray) -> dict[str, Any]:
    """Return a mask (H, W) as COCO's compressed run lengths, in plain types."""
    # pycocotools reads the mask down its columns: Fortran order, or it would be transposed.
    rle = rle_tools.encode(np.asfortranarray(mask, dtype=np.uint8))
    return {"size": list(rle["size"]), "counts": rle["counts"].decode("ascii")}
