"""COCO's average precision and recall, by pycocotools, for predictions that arrive batch by batch and rank by rank.

Kept per picture are small arrays, not dictionaries: a whole validation set of 5000 pictures with 100 boxes each takes
about 15 MB until the numbers are computed, once, at the end.
"""

import contextlib
import io
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from pycocotools import mask as rle_tools
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from torch import Tensor

from datasets.coco_file import index_coco
from util.distributed import all_gather, print_once

#: COCO's twelve numbers in COCO's order; s, m and l are areas below 32^2, between, and above 96^2 pixels.
STAT_NAMES = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl")
IOU_TYPES = ("bbox", "segm")


@dataclass
class _Detections:
    """Predictions for one picture: scores (Q,), labels (Q,), boxes xywh (Q, 4), run lengths (Q) for segm."""

    scores: np.ndarray
    labels: np.ndarray
    boxes: np.ndarray
    rles: list[dict[str, Any]] | None


class CocoEvaluator:
    """Collect predictions with `update`, then `synchronize_between_processes`, `accumulate`, `summarize`.

    coco_gt: ground truth; it is not changed. iou_types: "bbox", "segm" or both. Only pictures passed to `update` are
    evaluated, so a subset is judged by its own objects. Numbers are those of pycocotools on the same
    results as JSON; -1 where there is nothing to measure.
    """

    def __init__(self, coco_gt: COCO, iou_types: Sequence[str]) -> None:
        unknown = set(iou_types) - set(IOU_TYPES)
        if unknown:
            raise ValueError(f"unknown iou types {sorted(unknown)}; known are {IOU_TYPES}")
        self.iou_types = tuple(iou_types)
        # pycocotools writes into the annotations it evaluates: give it copies of the outer dictionaries.
        self.coco_gt = index_coco({**coco_gt.dataset, "annotations": [dict(a) for a in coco_gt.dataset["annotations"]]})
        self.coco_eval = {kind: _quietly(COCOeval, self.coco_gt, iouType=kind) for kind in iou_types}
        self._detections: dict[int, _Detections] = {}

    def update(self, predictions: Mapping[int, Mapping[str, Tensor]]) -> None:
        """Add {image id: scores (Q,), labels (Q,), boxes (Q, 4) xyxy in pixels[, masks (Q, 1, H, W) or (Q, H, W)]}.

        A picture seen before is left as it was. Raises ValueError for an image id without ground truth.
        """
        for image_id, prediction in predictions.items():
            if image_id not in self.coco_gt.imgs:
                raise ValueError(f"image id {image_id} is not among the annotations")
            if image_id not in self._detections:
                self._detections[image_id] = _pack(prediction, with_masks="segm" in self.coco_eval)

    def synchronize_between_processes(self) -> None:
        """Give every process the predictions of all; a picture that a padded sampler repeated counts once."""
        merged: dict[int, _Detections] = {}
        for detections in all_gather(self._detections):
            merged = detections | merged
        self._detections = dict(sorted(merged.items()))

    def accumulate(self) -> None:
        """Match predictions to objects and compute all numbers."""
        for kind, coco_eval in self.coco_eval.items():
            coco_eval.cocoDt = _index_results(self.coco_gt, self.results(kind))
            coco_eval.params.imgIds = sorted(self._detections)
            _quietly(coco_eval.evaluate)
            _quietly(coco_eval.accumulate)
            _quietly(coco_eval.summarize)

    def summarize(self) -> str:
        """Return the table of all numbers, also per class; rank 0 prints it."""
        table = "\n".join(self._table(kind) for kind in self.coco_eval)
        print_once(table)
        return table

    def results(self, iou_type: str) -> list[dict[str, Any]]:
        """All predictions in COCO's results format, in plain types, by image id."""
        results = []
        for image_id, found in sorted(self._detections.items()):
            key, shapes = ("bbox", found.boxes.tolist()) if iou_type == "bbox" else ("segmentation", found.rles)
            results += [
                {"image_id": int(image_id), "category_id": label, key: shape, "score": score}
                for label, shape, score in zip(found.labels.tolist(), shapes, found.scores.tolist())
            ]
        return results

    def stats(self, iou_type: str) -> dict[str, float]:
        """COCO's twelve numbers by name; call `accumulate` before."""
        return dict(zip(STAT_NAMES, map(float, self.coco_eval[iou_type].stats)))

    def precision_recall(self, iou_type: str) -> dict[str, Any]:
        """What pycocotools accumulated, as tensors and plain lists that `torch.load` reads safely; see `eval.pth`.

        `precision` and `scores` (IoU thresholds, recalls, classes, areas, most detections), `recall` (without recalls),
        and the thresholds, recalls and category ids along them; -1 where there is nothing to measure.
        """
        coco_eval = self.coco_eval[iou_type]
        arrays = {name: torch.from_numpy(coco_eval.eval[name]) for name in ("precision", "recall", "scores")}
        params = coco_eval.params
        return arrays | {
            "iou_thresholds": params.iouThrs.tolist(),
            "recall_thresholds": params.recThrs.tolist(),
            "category_ids": list(params.catIds),
        }

    def per_class(self, iou_type: str) -> list[dict[str, Any]]:
        """Id, name, AP, AP50 and number of instances (crowds excluded) of each category; call `accumulate` before."""
        instances = Counter(
            annotation["category_id"]
            for image_id in self._detections
            for annotation in self.coco_gt.imgToAnns.get(image_id, [])
            if not annotation.get("iscrowd")
        )
        coco_eval = self.coco_eval[iou_type]
        # (T, R, K) at all areas and the most detections; the first IoU threshold is 0.5.
        precision = coco_eval.eval["precision"][:, :, :, 0, -1]
        return [
            {
                "id": category_id,
                "name": str(self.coco_gt.cats[category_id].get("name", category_id)),
                "AP": _mean_of_measured(precision[:, :, k]),
                "AP50": _mean_of_measured(precision[0, :, k]),
                "instances": instances[category_id],
            }
            for k, category_id in enumerate(coco_eval.params.catIds)
        ]

    def _table(self, iou_type: str) -> str:
        """pycocotools' twelve lines with the short names before them, then the classes that have instances."""
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            self.coco_eval[iou_type].summarize()
        table = [f"IoU metric: {iou_type}, pictures: {len(self._detections)}"]
        table += [f"{name:>6} {line}" for name, line in zip(STAT_NAMES, printed.getvalue().splitlines())]
        classes = [row for row in self.per_class(iou_type) if row["instances"]]
        width = max([len("class"), *(len(row["name"]) for row in classes)])
        table.append(f"{'class':<{width}}     AP   AP50  instances")
        table += [
            f"{row['name']:<{width}}  {row['AP']:5.3f}  {row['AP50']:5.3f}  {row['instances']:9d}" for row in classes
        ]
        return "\n".join(table)


def _pack(prediction: Mapping[str, Tensor], *, with_masks: bool) -> _Detections:
    """One picture's prediction as arrays on the host, boxes xyxy to xywh (in float32, as DETR does)."""
    x0, y0, x1, y1 = prediction["boxes"].float().cpu().numpy().T
    return _Detections(
        scores=prediction["scores"].float().cpu().numpy(),
        labels=prediction["labels"].cpu().numpy(),
        boxes=np.stack([x0, y0, x1 - x0, y1 - y0], axis=1),
        rles=_encode(prediction["masks"]) if with_masks else None,
    )


def _encode(masks: Tensor) -> list[dict[str, Any]]:
    """Compressed run lengths, with text counts as JSON needs them, of masks (Q, 1, H, W) or (Q, H, W)."""
    masks = (masks.flatten(0, -3) > 0.5).permute(1, 2, 0).cpu().numpy()
    rles = rle_tools.encode(np.asfortranarray(masks, dtype=np.uint8))
    return [{"size": list(map(int, rle["size"])), "counts": rle["counts"].decode()} for rle in rles]


def _index_results(coco_gt: COCO, results: list[dict[str, Any]]) -> COCO:
    """What pycocotools' loadRes makes of results, but also of none, and without changing them."""
    annotations = []
    for number, result in enumerate(results, start=1):
        if "bbox" in result:
            area = result["bbox"][2] * result["bbox"][3]
        else:
            area = int(rle_tools.area(result["segmentation"]))
        annotations.append({**result, "id": number, "area": area, "iscrowd": 0})
    return index_coco(
        {"images": coco_gt.dataset["images"], "categories": coco_gt.dataset["categories"], "annotations": annotations}
    )


def _mean_of_measured(precision: np.ndarray) -> float:
    """Mean of the entries that were measured (-1 marks the others), -1 where none was."""
    measured = precision[precision > -1]
    return float(measured.mean()) if measured.size else -1.0


def _quietly(function: Any, *args: Any, **kwargs: Any) -> Any:
    """Call without pycocotools' progress messages."""
    with contextlib.redirect_stdout(io.StringIO()):
        return function(*args, **kwargs)
