"""An evaluation to report on, and hotcoco's scores of it."""

import contextlib
import importlib
import io
import math
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from types import ModuleType
from typing import Any

from PIL import Image
from pycocotools.coco import COCO

from ..errors import UserError

#: From an image's id to its RGB image; raises UserError or OSError where it cannot be read.
OpenImage = Callable[[int], Image.Image]


@dataclass(frozen=True, kw_only=True)
class Evaluated:
    """Detections of a set of images, and its truth.

    Attributes:
        name: what the run is called on a page.
        truth: the annotations; they are not changed.
        results: by kind ("bbox", "segm") detections in COCO's results format, in the same order in both.
        image_ids: the images that were evaluated.
        open_image: opens an image; None where there are only annotations.
        max_dets: detections of a class in an image that count.
        facts: what a page says about the run: `checkpoint`, `command`, `date`, `commit`.
        log: rows of log.txt; none for a run without one.
        panoptic: panoptic quality, as `PanopticEvaluator.summarize` returns it, with `name` in each class; or None.
        notes: what a reader should know, a sentence each.
    """

    name: str
    truth: COCO
    results: Mapping[str, list[dict[str, Any]]]
    image_ids: Sequence[int]
    open_image: OpenImage | None = None
    max_dets: int = 100
    facts: Mapping[str, Any] = field(default_factory=dict)
    log: Sequence[Mapping[str, Any]] = ()
    panoptic: Mapping[str, Any] | None = None
    notes: Sequence[str] = ()

    def __post_init__(self) -> None:
        if not any(self.objects_of(image_id) for image_id in self.image_ids):
            raise UserError(f"{self.name}: no report: its {len(self.image_ids)} images have no objects to measure by")

    @property
    def kinds(self) -> list[str]:
        return list(self.results)

    @property
    def main_kind(self) -> str:
        """The kind that a run is judged by: masks where there are any, as in training."""
        return "segm" if "segm" in self.results else "bbox"

    @cached_property
    def class_names(self) -> dict[int, str]:
        """Name of each category by its id; where two have the same, with the id behind it."""
        names = {c["id"]: str(c.get("name", c["id"])) for c in self.truth.dataset["categories"]}
        counts = Counter(names.values())
        return {id_: name if counts[name] == 1 else f"{name} ({id_})" for id_, name in names.items()}

    @cached_property
    def annotations(self) -> list[dict[str, Any]]:
        """All objects; the one that hotcoco calls k is number k - 1 here, as in `detections`."""
        return self.truth.dataset["annotations"]

    @cached_property
    def _by_image(self) -> dict[int, list[dict[str, Any]]]:
        grouped: dict[int, list[dict[str, Any]]] = {}
        for annotation in self.annotations:
            grouped.setdefault(annotation["image_id"], []).append(annotation)
        return grouped

    def objects_of(self, image_id: int) -> list[dict[str, Any]]:
        """Return the objects of an image, without crowds."""
        return [a for a in self._by_image.get(image_id, []) if not a.get("iscrowd")]

    def detections(self, kind: str, *, min_score: float = 0.0) -> list[dict[str, Any]]:
        """Return the detections that count: of the data's classes and images, finite, and scored highly enough."""
        known, images = self.class_names, set(self.image_ids)
        return [
            found
            for found in self._with_boxes(kind)
            if found["score"] >= min_score
            and found["category_id"] in known
            and found["image_id"] in images
            and (kind != "bbox" or all(map(math.isfinite, found["bbox"])))
        ]

    def _with_boxes(self, kind: str) -> Sequence[dict[str, Any]]:
        """Return detections, those with masks with their box as `box`: under `bbox` it would decide on their area."""
        found = self.results[kind]
        boxes = self.results.get("bbox", ())
        if kind == "bbox" or len(boxes) != len(found):
            return found
        return [mask | {"box": box["bbox"]} for mask, box in zip(found, boxes)]

    def score(self, kind: str, detections: Sequence[dict[str, Any]]) -> Any:
        """Match detections to the objects of the evaluated images; return hotcoco's COCOeval, after `summarize`."""
        hotcoco = import_hotcoco()
        with _quiet():
            truth = self._truth_for(hotcoco)
            scores = hotcoco.COCOeval(truth, truth.load_res(list(detections)), kind)
            scores.params.img_ids = sorted(self.image_ids)
            # COCO's three limits, the last of which AP is under.
            scores.params.max_dets = [1, 10, self.max_dets]
            for step in (scores.evaluate, scores.accumulate, scores.summarize):
                step()
        return scores

    def _truth_for(self, hotcoco: ModuleType) -> Any:
        # Ids are counted anew: 0 would be no match to some tools, and two objects may share one.
        objects = [annotation | {"id": k} for k, annotation in enumerate(self.annotations, start=1)]
        categories = [{"id": id_, "name": name} for id_, name in self.class_names.items()]
        return hotcoco.COCO({"images": self.truth.dataset["images"], "annotations": objects, "categories": categories})


def import_hotcoco() -> ModuleType:
    """Return the package. Raises UserError where it is missing."""
    try:
        return importlib.import_module("hotcoco")
    except ImportError:
        raise UserError("a report needs the package hotcoco, for all its numbers: pip install hotcoco") from None


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep tables and remarks of the library off the terminal."""
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
