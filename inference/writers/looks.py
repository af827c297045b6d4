"""A look inside a model, as files: pages of its attention, and where its queries' boxes lie."""

import csv
import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from util.runs.atomic import atomic_file

from ..attention.figure import write_figure
from ..attention.maps import look_inside, refuse_without_layers
from ..attention.page import write_page
from ..detections import Detections
from ..detector import Detector
from ..items import Item, Pictures
from ..query_plot import KINDS, draw_queries, kinds_of


class AttentionPages:
    """For each image a page of its attention, `photo.attention.html`, and the paper's figures, `photo.attention.png`.

    The model runs once more on each image, without its fused attention. Frames of videos get none. Raises UserError for
    a model that cannot be asked.
    """

    complete = False

    def __init__(self, folder: Path, detector: Detector, *, checkpoint: str) -> None:
        self.folder, self.detector, self.checkpoint = folder, detector, checkpoint
        self.count = self.frames = 0
        refuse_without_layers(detector)

    def write(self, item: Item, found: Detections, pictures: Pictures) -> None:
        if item.frame is not None:
            self.frames += 1
            return
        inside = look_inside(self.detector, item.image, found.queries)
        names = {"image_name": item.name.name, "checkpoint_name": self.checkpoint}
        write_page(inside, self.folder / item.result_name(".html", extra=".attention"), **names)
        write_figure(inside, self.folder / item.result_name(".png", extra=".attention"), **names)
        self.count += 1

    def close(self) -> str | None:
        words = [f"{self.count} attention pages and figures in {self.folder}"] if self.count else []
        words += [f"no attention pages of {self.frames} frames: --attention is for images"] if self.frames else []
        return ", ".join(words) or None


@dataclass(frozen=True)
class _Boxes:
    """Boxes (N, 4) cxcywh in 0..1 of one image, and what is known of each of them."""

    image: str
    boxes: np.ndarray
    kinds: np.ndarray
    queries: np.ndarray
    names: list[str]
    scores: np.ndarray


class QueryBoxes:
    """Places of the first queries' boxes over all images: `queries.png`, and each box in `queries.csv`."""

    complete = True

    def __init__(self, folder: Path, *, count: int) -> None:
        self.folder, self.count = folder, count
        self._images: list[_Boxes] = []

    def write(self, item: Item, found: Detections, pictures: Pictures) -> None:
        height, width = found.size
        # By the query's number, not by the order of scores: figure 7 is about queries.
        first = np.flatnonzero(found.queries < self.count)
        # (N, 4) xyxy in pixels -> cxcywh in 0..1, which is what a query's place means for images of any size.
        corners = found.boxes[first] / np.array([width, height, width, height], dtype=np.float32)
        boxes = np.concatenate([(corners[:, :2] + corners[:, 2:]) / 2, corners[:, 2:] - corners[:, :2]], axis=1)
        image = item.name.as_posix() if item.frame is None else f"{item.name.as_posix()} {item.frame.number}"
        names = [found.names[k] for k in first]
        kinds = kinds_of(boxes, width / height)
        self._images.append(_Boxes(image, boxes, kinds, found.queries[first], names, found.scores[first]))

    def close(self) -> str | None:
        # The empty array in front: np.concatenate of no image at all is an error.
        queries = np.concatenate([np.zeros(0, np.int64), *(image.queries for image in self._images)])
        if not len(queries):
            return None
        boxes = np.concatenate([image.boxes for image in self._images])
        kinds = np.concatenate([image.kinds for image in self._images])
        path = self.folder / "queries.png"
        draw_queries(path, queries=queries, boxes=boxes, kinds=kinds)
        self._write_table(path.with_suffix(".csv"))
        return f"{len(queries)} boxes of {len(np.unique(queries))} queries in {path}"

    def _write_table(self, path: Path) -> None:
        names = list(KINDS)
        text = io.StringIO()
        rows = csv.writer(text)
        rows.writerow(["file", "query", "center_x", "center_y", "width", "height", "kind", "name", "score"])
        for image in self._images:
            # Detections come by score; a table is read by query.
            for k in np.argsort(image.queries):
                numbers = [f"{value:.4f}" for value in image.boxes[k]]
                what = [names[image.kinds[k]], image.names[k], f"{image.scores[k]:.4f}"]
                rows.writerow([image.image, image.queries[k], *numbers, *what])
        with atomic_file(path) as file:
            file.write(text.getvalue().encode())
