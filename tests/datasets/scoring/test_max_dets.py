"""More objects of a class in an image than COCO's 100 detections count: a line says so, and --max_dets counts them."""

from collections.abc import Iterator

import pytest
import torch
from pycocotools.coco import COCO

from datasets.annotations.table import index_coco
from datasets.coco_eval import CocoEvaluator
from datasets.scoring import backends

COUNT = 150


@pytest.fixture(autouse=True)
def say_again() -> Iterator[None]:
    """Forget which lines were said."""
    backends._say_once.cache_clear()
    yield


def dense_truth(*, classes: int = 1) -> COCO:
    """Return one image with 150 small objects."""
    objects = [
        {
            "id": k + 1,
            "image_id": 1,
            "category_id": 1 + k % classes,
            "bbox": [20.0 * (k % 15), 20.0 * (k // 15), 16.0, 16.0],
            "area": 256.0,
            "iscrowd": 0,
        }
        for k in range(COUNT)
    ]
    categories = [{"id": label + 1, "name": f"cell {label}"} for label in range(classes)]
    images = [{"id": 1, "file_name": "1.png", "width": 300, "height": 200}]
    return index_coco({"images": images, "annotations": objects, "categories": categories})


def evaluate_perfect(truth: COCO, **more: int) -> CocoEvaluator:
    """Evaluate the very objects."""
    evaluator = CocoEvaluator(truth, ["bbox"], **more)
    boxes = torch.tensor([o["bbox"] for o in truth.dataset["annotations"]])
    boxes[:, 2:] += boxes[:, :2]
    labels = torch.tensor([o["category_id"] for o in truth.dataset["annotations"]])
    evaluator.update({1: {"scores": torch.ones(COUNT), "labels": labels, "boxes": boxes}})
    evaluator.accumulate()
    return evaluator


def test_objects_beyond_the_detections_that_count_are_said_and_missed(capsys: pytest.CaptureFixture) -> None:
    stats = evaluate_perfect(dense_truth()).stats("bbox")
    assert stats["AR100"] == pytest.approx(100 / COUNT) and stats["AP"] < 0.7
    evaluate_perfect(dense_truth())
    out = capsys.readouterr().out
    assert out.count("1 of 1 images hold more objects of one (up to 150)") == 1 and "try --max_dets 150" in out


def test_more_detections_count_on_demand(capsys: pytest.CaptureFixture) -> None:
    evaluator = evaluate_perfect(dense_truth(), max_dets=150)
    stats = evaluator.stats("bbox")
    assert stats["AP"] == stats["AP50"] == stats["APs"] == stats["AR150"] == 1 and "AR100" not in stats
    assert stats["AR10"] == pytest.approx(10 / COUNT) and evaluator.per_class("bbox")[0]["AP"] == 1
    table = evaluator.summarize()
    assert "AR150" in table and "maxDets=150 ] = 1.000" in table and "maxDets=100" not in table
    assert "warning" not in capsys.readouterr().out


def test_the_count_is_that_of_each_class(capsys: pytest.CaptureFixture) -> None:
    assert evaluate_perfect(dense_truth(classes=2)).stats("bbox")["AP"] == 1
    assert "warning" not in capsys.readouterr().out
