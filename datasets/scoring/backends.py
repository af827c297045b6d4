"""Compute COCO's numbers: by hotcoco, far faster than pycocotools with the same bits, else by pycocotools.

hotcoco differs in four cases, so there pycocotools is asked: an object with id 0 (which pycocotools takes for no
match), objects that share an id, detections that are not finite, and no images at all.
"""

import contextlib
import functools
import importlib
import io
import re
from collections import Counter
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Protocol

import numpy as np
from pycocotools import mask as rle_tools
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval, Params

from util.dist.distributed import print_once

from ..annotations.table import index_coco

#: The first hotcoco whose numbers are pycocotools' to the last bit.
OLDEST_HOTCOCO = (1, 3)
#: Parameters of COCO's evaluation that a caller may change; images and categories are those of the data.
PARAMETERS = ("iouThrs", "recThrs", "maxDets", "areaRng", "areaRngLbl", "useCats")
#: Up to here every whole number is one of float64.
LARGEST_EXACT = 2**53


@dataclass(frozen=True)
class Detections:
    """n detections, by image: image_ids, labels and scores (n,), boxes xywh (n, 4), with masks n run lengths."""

    image_ids: np.ndarray
    labels: np.ndarray
    scores: np.ndarray
    boxes: np.ndarray
    rles: list[dict[str, Any]] | None

    def results(self, kind: str) -> list[dict[str, Any]]:
        """Return them in COCO's results format with boxes (kind "bbox") or masks ("segm"), in plain types."""
        key = "bbox" if kind == "bbox" else "segmentation"
        shapes: list[Any] = self.boxes.tolist() if kind == "bbox" else self.rles or []
        columns = (self.image_ids.tolist(), self.labels.tolist(), shapes, self.scores.tolist())
        return [
            {"image_id": image_id, "category_id": label, key: shape, "score": score}
            for image_id, label, shape, score in zip(*columns)
        ]

    def of_categories(self, category_ids: list[int]) -> "Detections":
        """Return only those with one of these labels: no other counts anywhere."""
        kept = np.flatnonzero(np.isin(self.labels, category_ids))
        rles = None if self.rles is None else [self.rles[i] for i in kept.tolist()]
        return Detections(self.image_ids[kept], self.labels[kept], self.scores[kept], self.boxes[kept], rles)


class CocoScores(Protocol):
    """Result of either library: the 12 `stats`, `eval` with the arrays, `params`, and `summarize()`, which prints."""

    stats: np.ndarray
    eval: dict[str, Any]
    params: Any

    def summarize(self) -> None: ...


class HotcocoScores:
    """hotcoco's result with pycocotools' parameters: DETR's scripts save `eval`, and hotcoco's cannot be pickled."""

    def __init__(self, scores: CocoScores, kind: str) -> None:
        self._scores = scores
        self.stats = scores.stats
        self.params = Params(iouType=kind)
        for name in (*PARAMETERS, "imgIds", "catIds"):
            setattr(self.params, name, getattr(scores.params, name))
        self.eval: dict[str, Any] = {**scores.eval, "params": self.params}

    def summarize(self) -> None:
        self._scores.summarize()

    def __getattr__(self, name: str) -> Any:
        if name == "_scores":  # asked for by copy and pickle before it is there
            raise AttributeError(name)
        return getattr(self._scores, name)


def compute_scores(
    truth: COCO, found: Detections, kind: str, image_ids: list[int], *, params: Params | None = None
) -> CocoScores:
    """Match detections to the objects of these images and compute all numbers; `truth` is not changed.

    `params` are COCO's thresholds, areas and most detections, or the caller's own. One printed line, once, says when
    and why it is not hotcoco that computes.
    """
    # As pycocotools: it looks at the categories of the truth only.
    found = found.of_categories(list(truth.cats))
    _say_crowded(truth, image_ids, most=(params or Params(iouType=kind)).maxDets[-1])
    reason = why_not_hotcoco() or _where_they_differ(truth, found, image_ids)
    # `by_hotcoco` computes with COCO's own parameters alone.
    if params is not None and own_params(params, kind):
        reason = reason or f"the parameters are not COCO's ({', '.join(own_params(params, kind))})"
    if reason is not None:
        _say_once(f"COCO's numbers by pycocotools, which takes longer: {reason}")
    if reason is None:
        return by_hotcoco(truth, found, kind, image_ids)
    return by_pycocotools(truth, found, kind, image_ids, params=params)


def own_params(params: Params, kind: str) -> list[str]:
    """Name the parameters that are not COCO's."""
    usual = Params(iouType=kind)
    return [name for name in PARAMETERS if not np.array_equal(getattr(params, name), getattr(usual, name))]


def why_not_hotcoco() -> str | None:
    """Describe what is the matter with the installed hotcoco, None where nothing is."""
    try:
        version = _hotcoco().__version__
    except ImportError:
        return "hotcoco is not installed (pip install hotcoco)"
    oldest = ".".join(map(str, OLDEST_HOTCOCO))
    numbers = tuple(map(int, re.findall(r"\d+", version)[:2]))
    return None if numbers >= OLDEST_HOTCOCO else f"hotcoco {version} is older than {oldest} (pip install -U hotcoco)"


def by_hotcoco(truth: COCO, found: Detections, kind: str, image_ids: list[int]) -> CocoScores:
    """Compute the numbers by hotcoco, whatever it thinks of the input."""
    hotcoco = _hotcoco()
    objects = truth.dataset["annotations"]
    ground_truth = hotcoco.COCO.from_arrays(
        truth.dataset["images"],
        [{"name": str(c["id"]), **c} for c in truth.dataset["categories"]],  # it remarks on classes without one
        np.array([o["image_id"] for o in objects], dtype=np.int64),
        np.array([o["category_id"] for o in objects], dtype=np.int64),
        np.array([o["bbox"] for o in objects], dtype=np.float64).reshape(-1, 4),
        ids=np.array([o["id"] for o in objects], dtype=np.int64),
        area=np.array([o["area"] for o in objects], dtype=np.float64),
        iscrowd=np.array([o.get("iscrowd", 0) for o in objects], dtype=np.int64),
        segmentation=[o["segmentation"] for o in objects] if kind == "segm" else None,
    )
    # As one float64 array, without a dictionary for every detection: most of the time saved. Ids that float64 would
    # round go the slow way.
    if kind == "bbox" and max(image_ids) <= LARGEST_EXACT:  # image id, x, y, w, h, score, label
        numbers = (found.image_ids[:, None], found.boxes, found.scores[:, None], found.labels[:, None])
        results: Any = np.concatenate(numbers, axis=1, dtype=np.float64)  # (n, 7)
    else:  # masks without their boxes, whose area they would be given
        results = found.results(kind)
    scores = hotcoco.COCOeval(ground_truth, ground_truth.load_res(results), kind)
    scores.params.img_ids = image_ids
    return HotcocoScores(_run(scores), kind)


def by_pycocotools(
    truth: COCO, found: Detections, kind: str, image_ids: list[int], *, params: Params | None = None
) -> CocoScores:
    """Compute the numbers by pycocotools, with COCO's parameters or those of `PARAMETERS` in `params`."""
    # pycocotools writes into the annotations it evaluates: it gets copies of the outer dictionaries.
    objects = [dict(o) for o in truth.dataset["annotations"]]
    scores = _quietly(COCOeval, index_coco({**truth.dataset, "annotations": objects}), iouType=kind)
    # What `loadRes` does, but also for no detections, at which it fails.
    scores.cocoDt = index_coco({**truth.dataset, "annotations": _with_areas(found.results(kind))})
    scores.params.imgIds = image_ids
    for name in PARAMETERS if params is not None else ():
        value = getattr(params, name)
        setattr(scores.params, name, np.asarray(value) if name.endswith("Thrs") else value)
    return _run(scores)


def _hotcoco() -> ModuleType:
    return importlib.import_module("hotcoco")


@functools.cache
def _say_once(line: str) -> None:
    print_once(line)


def _say_crowded(truth: COCO, image_ids: list[int], *, most: int) -> None:
    """Say, once, that images hold more objects of a class than detections of it count."""
    measured = set(image_ids)
    # By image and class: the limit of detections is per class.
    counts = Counter(
        (o["image_id"], o["category_id"])
        for o in truth.anns.values()
        if o["image_id"] in measured and not o.get("iscrowd")
    )
    images = {image_id for (image_id, _), count in counts.items() if count > most}
    if images:
        largest = max(counts.values())
        _say_once(
            f"warning: of a class in an image the {most} surest detections count, and {len(images)} of {len(measured)} "
            f"images hold more objects of one (up to {largest}), which AP and AR miss: try --max_dets {largest}"
        )


def _where_they_differ(truth: COCO, found: Detections, image_ids: list[int]) -> str | None:
    """Describe why hotcoco's numbers would not be pycocotools', None where they are."""
    # pycocotools notes a match by the object's id, and reads 0 as "none".
    if 0 in truth.anns:
        return "an object's id is 0"
    # `anns` is a dictionary by id: of objects with one id the last is left.
    if len(truth.anns) < len(truth.dataset["annotations"]):
        return "objects share an id"
    if not image_ids:
        return "there are no images"
    if not (np.isfinite(found.scores).all() and np.isfinite(found.boxes).all()):
        return "a detection is not finite"
    return None


def _run(scores: Any) -> CocoScores:
    for step in (scores.evaluate, scores.accumulate, scores.summarize):
        _quietly(step)
    return scores


def _quietly(function: Any, *args: Any, **kwargs: Any) -> Any:
    """Call without the libraries' progress messages."""
    with contextlib.redirect_stdout(io.StringIO()):
        return function(*args, **kwargs)


def _with_areas(results: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return what pycocotools' loadRes makes of results, but also of none, and without changing them."""
    annotations = []
    for number, result in enumerate(results, start=1):
        if "bbox" in result:
            area = result["bbox"][2] * result["bbox"][3]
        else:
            area = int(rle_tools.area(result["segmentation"]))
        # Ids from 1, for the same reason as above: 0 would be "no match".
        annotations.append({**result, "id": number, "area": area, "iscrowd": 0})
    return annotations
