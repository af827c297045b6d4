"""COCO's average precision and recall for predictions that arrive batch by batch and rank by rank.

Kept per image are small arrays, not dictionaries: a whole validation set of 5000 images with 100 boxes each takes
about 15 MB until `datasets/scoring/backends.py` computes the numbers, once, at the end.
"""

from collections import Counter, OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from pycocotools import mask as rle_tools
from pycocotools.coco import COCO
from pycocotools.cocoeval import Params
from torch import Tensor

from util.dist.distributed import all_gather, print_once
from util.runs.plain import to_plain

from .annotations.dense import listed_ids
from .scoring.backends import Detections, compute_scores

#: COCO's twelve numbers in COCO's order; s, m and l are areas below 32^2, between, and above 96^2 pixels.
STAT_NAMES = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl")
IOU_TYPES = ("bbox", "segm")
#: What pycocotools' `params` of an evaluation hold.
PARAMS = ("iouType", "imgIds", "catIds", "iouThrs", "recThrs", "maxDets", "areaRng", "areaRngLbl", "useCats")


@dataclass
class _ImageDetections:
    """Predictions for one image: scores (Q,), labels (Q,), boxes xywh (Q, 4), run lengths (Q) for segm."""

    scores: np.ndarray
    labels: np.ndarray
    boxes: np.ndarray
    rles: list[dict[str, Any]] | None


@dataclass
class NotScored:
    """Stand in for a kind's scores until they are computed: the `params` that they will be computed with."""

    params: Params


class CocoEvaluator:
    """Collect predictions with `update`, then `synchronize_between_processes`, `accumulate`, `summarize`.

    coco_gt: ground truth; it is not changed. iou_types: "bbox", "segm" or both. Only images passed to `update` are
    evaluated, so a subset is scored by its own objects. Numbers are those of pycocotools on the same
    results as JSON; -1 where there is nothing to measure. Of a class in an image the `max_dets` surest count.
    """

    def __init__(self, coco_gt: COCO, iou_types: Sequence[str], *, max_dets: int = 100) -> None:
        unknown = set(iou_types) - set(IOU_TYPES)
        if unknown:
            raise ValueError(f"unknown iou types {sorted(unknown)}; known are {IOU_TYPES}")
        self.iou_types = tuple(iou_types)
        self.coco_gt = coco_gt
        self._params = {kind: Params(iouType=kind) for kind in self.iou_types}
        for params in self._params.values():
            # COCO's [1, 10, 100]: AR1 and AR10 keep their meaning, AP is under the last.
            params.maxDets = [*params.maxDets[:-1], max_dets]
        #: By kind: `params`, which may be changed before the evaluation, as in pycocotools; and once accumulated
        #: `stats` and `eval`, as pycocotools' COCOeval has them.
        self.coco_eval: dict[str, Any] = {kind: NotScored(params) for kind, params in self._params.items()}
        #: Of a panoptic model's segments in the same images, if somebody measured it: `PanopticEvaluator.quality`.
        self.panoptic_quality: dict[str, Any] | None = None
        self._detections: dict[int, _ImageDetections] = {}

    def update(self, predictions: Mapping[int, Mapping[str, Tensor]]) -> None:
        """Add {image id: scores (Q,), labels (Q,), boxes (Q, 4) xyxy in pixels[, masks (Q, 1, H, W) or (Q, H, W)]}.

        An image seen before is left as it was. Raises ValueError for an image id without ground truth.
        """
        for image_id in predictions:
            # Looked at before anything is kept: half a batch would be counted otherwise.
            if image_id not in self.coco_gt.imgs:
                raise ValueError(f"image id {image_id} is not among the annotations")
        new = {image_id: found for image_id, found in predictions.items() if image_id not in self._detections}
        if new:
            self._detections |= zip(new, _pack(list(new.values()), with_masks="segm" in self.iou_types))

    @property
    def measured(self) -> bool:
        """True if there are objects to measure predictions against."""
        return bool(self.coco_gt.anns)

    def synchronize_between_processes(self) -> None:
        """Give every process the predictions of all; an image that a padded sampler repeated counts once."""
        merged: dict[int, _ImageDetections] = {}
        for detections in all_gather(self._detections):
            # Of an image that several have, the lowest rank's counts, in every process.
            merged = detections | merged
        self._detections = dict(sorted(merged.items()))

    def accumulate(self) -> None:
        """Match predictions to objects and compute all numbers."""
        # Sorted by image id, as pycocotools sorts them: equal scores are then ordered alike in every run.
        found, image_ids = self._all_detections(), sorted(self._detections)
        self.coco_eval = {
            kind: compute_scores(self.coco_gt, found, kind, image_ids, params=params)
            for kind, params in self._params.items()
        }

    def summarize(self) -> str:
        """Return the table of all numbers, also per class; rank 0 prints it. Without objects it is one line."""
        table = "\n".join(self._table(kind) for kind in self.coco_eval)
        if not self.coco_gt.anns:
            table = f"{len(self._detections)} images without a single object: there is nothing to measure against"
        print_once(table)
        return table

    def prepare(self, predictions: Mapping[int, Mapping[str, Tensor]], iou_type: str) -> list[dict[str, Any]]:
        """Return predictions, as `update` takes them, in COCO's results format: boxes ("bbox") or masks ("segm")."""
        if not predictions:
            return []
        packed = _pack(list(predictions.values()), with_masks=iou_type == "segm")
        return _join(dict(zip(predictions, packed)), with_masks=iou_type == "segm").results(iou_type)

    def prepare_for_coco_detection(self, predictions: Mapping[int, Mapping[str, Tensor]]) -> list[dict[str, Any]]:
        """Return predictions in COCO's results format with boxes."""
        return self.prepare(predictions, "bbox")

    def prepare_for_coco_segmentation(self, predictions: Mapping[int, Mapping[str, Tensor]]) -> list[dict[str, Any]]:
        """Return predictions in COCO's results format with masks."""
        return self.prepare(predictions, "segm")

    def results(self, iou_type: str) -> list[dict[str, Any]]:
        """Return all predictions in COCO's results format, in plain types, by image id, under the file's category ids.

        With `--dense_labels` a label without a category is left out.
        """
        rows, ids = self._all_detections().results(iou_type), self._category_ids()
        if ids is None:
            return rows
        return [row | {"category_id": ids[row["category_id"]]} for row in rows if row["category_id"] in ids]

    def stats(self, iou_type: str) -> dict[str, float]:
        """Return COCO's twelve numbers by name, AR100 under the most detections; call `accumulate` before."""
        scores = self.coco_eval[iou_type]
        numbers = dict(zip(STAT_NAMES, map(float, scores.stats)))
        most = list(scores.params.maxDets)
        if 100 not in most:  # which pycocotools takes AP at, whatever the parameters say
            # (T, R, K, A, M): IoU thresholds, recalls, classes, areas, most detections; area 0 is "all".
            numbers["AP"] = _mean_of_measured(scores.eval["precision"][:, :, :, 0, -1])
        return {f"AR{most[-1]}" if name == "AR100" else name: value for name, value in numbers.items()}

    def precision_recall(self, iou_type: str) -> dict[str, Any]:
        """Return pycocotools' `eval` as tensors and plain values, which `torch.load` reads safely; see `eval.pth`.

        `precision` and `scores` (IoU thresholds, recalls, classes, areas, most detections), `recall` (without recalls),
        -1 where there is nothing to measure; `counts`, the sizes along them; `params`, what lies along them under
        pycocotools' names (`iouThrs`, `recThrs`, `catIds`, ...), as keys and, for scripts written for DETR, as
        attributes; and the `date`.
        """
        coco_eval = self.coco_eval[iou_type]
        ids = self._category_ids()
        arrays = {name: torch.from_numpy(coco_eval.eval[name]) for name in ("precision", "recall", "scores")}
        # The one type with attributes of its own that `torch.load` takes for safe.
        params = OrderedDict({name: to_plain(getattr(coco_eval.params, name)) for name in PARAMS})
        params["catIds"] = [id_ if ids is None else ids[id_] for id_ in params["catIds"]]
        vars(params).update(params)
        return arrays | {"params": params, "counts": to_plain(coco_eval.eval["counts"]), "date": coco_eval.eval["date"]}

    def per_class(self, iou_type: str) -> list[dict[str, Any]]:
        """List id, name, AP, AP50 and instances (without crowds) of each category; call `accumulate` before."""
        instances = Counter(
            annotation["category_id"]
            for image_id in self._detections
            for annotation in self.coco_gt.imgToAnns.get(image_id, [])
            if not annotation.get("iscrowd")
        )
        coco_eval = self.coco_eval[iou_type]
        precision = coco_eval.eval["precision"][:, :, :, 0, -1]  # (T, R, K) at all areas and the most detections
        at_half = np.isclose(coco_eval.params.iouThrs, 0.5)  # (T,), nowhere true with thresholds of the caller's own
        return [
            {
                "id": int(category_id),
                "name": str(self.coco_gt.cats[category_id].get("name", category_id)),
                "AP": _mean_of_measured(precision[:, :, k]),
                "AP50": _mean_of_measured(precision[at_half, :, k]),
                "instances": instances[category_id],
            }
            for k, category_id in enumerate(coco_eval.params.catIds)
        ]

    def _category_ids(self) -> dict[int, int] | None:
        """Return the category id of each label; None where the labels are these ids."""
        return listed_ids(list(self.coco_gt.cats.values()))

    def _all_detections(self) -> Detections:
        """Join those of all images, by image id."""
        return _join(dict(sorted(self._detections.items())), with_masks="segm" in self.iou_types)

    def _table(self, iou_type: str) -> str:
        """Format the twelve numbers in pycocotools' words, then the classes that have instances."""
        table = [f"IoU metric: {iou_type}, images: {len(self._detections)}"]
        most = self._params[iou_type].maxDets[-1]
        table += [_describe(name, value, most) for name, value in self.stats(iou_type).items()]
        classes = [row for row in self.per_class(iou_type) if row["instances"]]
        width = max([len("class"), *(len(row["name"]) for row in classes)])
        table.append(f"{'class':<{width}}     AP   AP50  instances")
        table += [
            f"{row['name']:<{width}}  {row['AP']:5.3f}  {row['AP50']:5.3f}  {row['instances']:9d}" for row in classes
        ]
        return "\n".join(table)


def convert_to_xywh(boxes: Tensor) -> Tensor:
    """Return boxes (n, 4) given by their corners, xyxy, as corner and size."""
    corner, other = boxes[:, :2], boxes[:, 2:]
    return torch.cat([corner, other - corner], dim=1)


def _join(detections: Mapping[int, _ImageDetections], *, with_masks: bool) -> Detections:
    """Join the detections of images, in their order."""
    images, counts = detections.values(), [len(image.scores) for image in detections.values()]
    rles = [rle for image in images for rle in image.rles or []]
    return Detections(
        image_ids=np.repeat(np.array(list(detections), dtype=np.int64), counts),
        labels=np.concatenate([np.zeros(0, np.int64), *(image.labels for image in images)]),
        scores=np.concatenate([np.zeros(0, np.float32), *(image.scores for image in images)]),
        boxes=np.concatenate([np.zeros((0, 4), np.float32), *(image.boxes for image in images)]),
        rles=rles if with_masks else None,
    )


def _pack(predictions: Sequence[Mapping[str, Tensor]], *, with_masks: bool) -> list[_ImageDetections]:
    """Return a batch's predictions as arrays on the host, boxes xyxy to xywh (in float32, as DETR does).

    All images together come in one transfer a quantity: each transfer waits for the device.
    """
    joined = {key: torch.cat([found[key] for found in predictions]) for key in ("scores", "labels", "boxes")}
    scores, boxes = (joined[key].float().cpu().numpy() for key in ("scores", "boxes"))
    labels = joined["labels"].cpu().numpy()
    # COCO's results have corner and size; subtracted in float32, as the original does, for equal digits.
    boxes = np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1)
    # Where each image's rows end; the last needs no cut.
    ends = np.cumsum([len(found["scores"]) for found in predictions])[:-1]
    return [
        _ImageDetections(own_scores, own_labels, own_boxes, _encode(found["masks"]) if with_masks else None)
        for found, own_scores, own_labels, own_boxes in zip(
            predictions, *(np.split(array, ends) for array in (scores, labels, boxes))
        )
    ]


def _encode(masks: Tensor) -> list[dict[str, Any]]:
    """Return compressed run lengths, with text counts as JSON needs them, of masks (Q, 1, H, W) or (Q, H, W).

    Masks of uint8 are 0 and 1, as the postprocessor leaves them; others are cut at a half.
    """
    # (Q, 1, H, W) and (Q, H, W) both to (Q, H, W).
    masks = masks.flatten(0, -3)
    if masks.dtype != torch.uint8:
        masks = (masks > 0.5).to(torch.uint8)
    # Run lengths go down the columns: the transposition, most of the work, is quick between bytes.
    columns = masks.cpu().transpose(1, 2).contiguous().numpy()  # (Q, W, H)
    rles = rle_tools.encode(columns.T)
    return [{"size": list(map(int, rle["size"])), "counts": rle["counts"].decode()} for rle in rles]


def _describe(name: str, value: float, most: int) -> str:
    """Return a number's line: its short name, then what pycocotools prints for it; `most` detections count."""
    kind, rest = name[:2], name[2:]
    words = {"AP": "Average Precision", "AR": "Average Recall"}[kind]
    iou = f"0.{rest}" if name in ("AP50", "AP75") else "0.50:0.95"
    area = {"s": "small", "m": "medium", "l": "large"}.get(rest, "all")
    count = rest if name in ("AR1", "AR10") else most
    return f"{name:>6}  {words:<18} ({kind}) @[ IoU={iou:<9} | area={area:>6} | maxDets={count:>3} ] = {value:0.3f}"


def _mean_of_measured(precision: np.ndarray) -> float:
    """Return the mean of the entries that were measured (-1 marks the others), -1 where none was."""
    measured = precision[precision > -1]
    return float(measured.mean()) if measured.size else -1.0
