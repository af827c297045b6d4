"""One evaluator in a process of its own: whenever a line arrives, a whole evaluation of generated detections, timed.

Started by `evaluation.py`. "ours" and "original" are a checkout's own `CocoEvaluator`; "pycocotools" is that library,
called directly.
"""

import contextlib
import importlib
import io
import json
import os
import sys
import time
import warnings
from collections.abc import Callable
from typing import Any

order = json.loads(sys.stdin.readline())
for name in ("OMP_NUM_THREADS", "RAYON_NUM_THREADS"):  # before the libraries start their threads
    os.environ[name] = str(order["threads"])

import numpy as np
import torch
from pycocotools import mask as rle_tools
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

BATCH = 2
HEIGHT, WIDTH = 240, 320
Predictions = dict[int, dict[str, torch.Tensor]]


def make_truth(rng: np.random.Generator, *, images: int, objects: int, classes: int, masks: bool) -> dict[str, Any]:
    """Make annotations in COCO's format: category ids with gaps, a crowd in a hundred objects, images without any."""
    count = images * objects
    # Drawn, so that some images get none and some many; sorted, as searchsorted below needs it.
    owners = np.sort(rng.integers(1, images + 1, count))
    boxes = make_boxes(rng, count).round(2)
    # Odd ids only: gaps as in COCO, whose 80 classes have ids up to 90.
    labels = rng.integers(0, classes, count) * 2 + 1
    annotations = [
        {
            "id": number,
            "image_id": owner,
            "category_id": label,
            "bbox": box,
            "area": box[2] * box[3] * 0.6,
            "iscrowd": int(number % 100 == 0),
            **({"segmentation": rectangle(box)} if masks else {}),
        }
        for number, (owner, label, box) in enumerate(zip(owners.tolist(), labels.tolist(), boxes.tolist()), start=1)
    ]
    image_entries = [
        {"id": i, "file_name": f"{i:012d}.jpg", "height": HEIGHT, "width": WIDTH} for i in range(1, images + 1)
    ]
    categories = [{"id": 2 * i + 1, "name": f"class {i}"} for i in range(classes)]
    return {"images": image_entries, "annotations": annotations, "categories": categories}


def make_boxes(rng: np.random.Generator, count: int) -> np.ndarray:
    """Boxes xywh (count, 4) inside an image."""
    sizes = rng.uniform(0.02, 0.4, (count, 2)) * (WIDTH, HEIGHT)
    return np.concatenate([rng.random((count, 2)) * ((WIDTH, HEIGHT) - sizes), sizes], axis=1)


def rectangle(box: list[float]) -> dict[str, Any]:
    """A box's mask in run lengths."""
    rle = rle_tools.encode(np.asfortranarray(mask_of(box)))
    return {"size": [HEIGHT, WIDTH], "counts": rle["counts"].decode()}


def mask_of(box: list[float]) -> np.ndarray:
    """Mask (HEIGHT, WIDTH) of a box xywh, at least a pixel wide and high."""
    x, y, w, h = np.round(box).astype(int)
    mask = np.zeros((HEIGHT, WIDTH), dtype=np.uint8)
    mask[max(y, 0) : y + max(h, 1), max(x, 0) : x + max(w, 1)] = 1
    return mask


def make_predictions(rng: np.random.Generator, truth: dict[str, Any], detections: int, *, masks: bool) -> Predictions:
    """Make detections of each image: near its objects, with errors of many sizes, a third of other classes, ties."""
    objects = truth["annotations"]
    owners = np.array([o["image_id"] for o in objects])
    boxes, labels = np.array([o["bbox"] for o in objects]), np.array([o["category_id"] for o in objects])
    every_label = np.array([c["id"] for c in truth["categories"]])
    predictions = {}
    for image_id in range(1, len(truth["images"]) + 1):
        # The image's objects are [first, last).
        first, last = np.searchsorted(owners, [image_id, image_id + 1])
        found, classes = make_boxes(rng, detections), rng.choice(every_label, detections)
        if last > first:  # boxes move by 1, 4 or 16 pixels, so that some match at every threshold and some at none
            source = rng.integers(first, last, detections)
            found = boxes[source] + rng.normal(0, 1, (detections, 4)) * rng.choice([1, 4, 16], (detections, 1))
            classes = np.where(rng.random(detections) < 0.66, labels[source], classes)
        # Width and height to the second corner; noise may have made them negative.
        found[:, 2:] = found[:, 2:].clip(1) + found[:, :2]
        predictions[image_id] = {
            "boxes": torch.from_numpy(found).float(),
            "labels": torch.from_numpy(classes),
            "scores": torch.from_numpy(rng.integers(1, 1000, detections) / 1000).float(),  # three decimals: many ties
        }
        if masks:
            predictions[image_id]["masks"] = to_masks(found)
    return predictions


def to_masks(boxes: np.ndarray) -> torch.Tensor:
    """Masks (n, 1, HEIGHT, WIDTH) of boxes xyxy, as the mask postprocessor leaves them."""
    xywh = np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1)
    return torch.from_numpy(np.stack([mask_of(box) for box in xywh.tolist()]))[:, None]


def by_evaluator(truth: COCO, predictions: Predictions, kind: str) -> tuple[list[float], float, float]:
    """Return the twelve numbers by the checkout's evaluator, and the times of its last batch and of its end."""
    evaluator = importlib.import_module("datasets.coco_eval").CocoEvaluator(truth, [kind])
    ids = list(predictions)
    for first in range(0, len(ids), BATCH):
        evaluator.update({i: predictions[i] for i in ids[first : first + BATCH]})
    gathered = time.perf_counter()
    evaluator.synchronize_between_processes()
    evaluator.accumulate()
    evaluator.summarize()
    done = time.perf_counter()
    return np.asarray(evaluator.coco_eval[kind].stats).tolist(), gathered, done


def by_pycocotools(truth: COCO, predictions: Predictions, kind: str) -> tuple[list[float], float, float]:
    """Return what `by_evaluator` does by pycocotools alone: a list of results, which it indexes and evaluates."""
    results = []
    for image_id, found in predictions.items():
        if kind == "bbox":
            key, boxes = "bbox", found["boxes"]
            # xyxy to COCO's xywh.
            shapes = torch.cat([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], dim=1).tolist()
        else:
            key, masks = "segmentation", found["masks"][:, 0].permute(1, 2, 0).numpy()
            # (H, W, N), column by column: the order of COCO's run lengths.
            shapes = rle_tools.encode(np.asfortranarray(masks))
        results += [
            {"image_id": image_id, "category_id": label, key: shape, "score": score}
            for label, shape, score in zip(found["labels"].tolist(), shapes, found["scores"].tolist())
        ]
    gathered = time.perf_counter()
    evaluator = COCOeval(truth, truth.loadRes(results), kind)
    evaluator.evaluate()
    evaluator.accumulate()
    evaluator.summarize()
    return evaluator.stats.tolist(), gathered, time.perf_counter()


def main() -> None:
    """Generate, then evaluate for every further line."""
    warnings.simplefilter("ignore")
    torch.set_num_threads(order["threads"])
    sys.path.insert(0, order["checkout"])
    evaluate: Callable = by_pycocotools if order["evaluator"] == "pycocotools" else by_evaluator
    rng, kind = np.random.default_rng(0), order["iou_type"]
    data = make_truth(rng, masks=kind == "segm", **{key: order[key] for key in ("images", "objects", "classes")})
    predictions = make_predictions(rng, data, order["detections"], masks=kind == "segm")
    answers = sys.stdout
    # A line is an order for one more evaluation; the parent alternates between the workers.
    for _ in sys.stdin:
        # The answer must be the only line: pycocotools prints.
        with contextlib.redirect_stdout(io.StringIO()):
            truth = COCO()
            truth.dataset = json.loads(json.dumps(data))  # pycocotools writes into it
            truth.createIndex()
            start = time.perf_counter()
            stats, gathered, done = evaluate(truth, predictions, kind)
        answer = {"whole": done - start, "gathering": gathered - start, "numbers": done - gathered, "stats": stats}
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
