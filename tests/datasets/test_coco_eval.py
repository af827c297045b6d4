"""The numbers equal pycocotools' on the results written as JSON, and small cases are right by hand."""

import contextlib
import io
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pycocotools import mask as rle_tools
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from torch import Tensor

from datasets import coco_eval
from datasets.annotations import index_coco
from datasets.coco_eval import STAT_NAMES, CocoEvaluator, convert_to_xywh

Predictions = dict[int, dict[str, Tensor]]
SIDE = 120


def masks_of(boxes: np.ndarray) -> np.ndarray:
    """Rectangles (n, SIDE, SIDE) uint8 of boxes xyxy (n, 4)."""
    y, x = np.mgrid[:SIDE, :SIDE]
    x0, y0, x1, y1 = boxes.round().T[..., None, None]
    return ((x >= x0) & (x < x1) & (y >= y0) & (y < y1)).astype(np.uint8)


def random_case(seed: int, *, images: int = 12, queries: int = 15) -> tuple[dict[str, Any], Predictions]:
    """Ground truth with crowds and empty images, and predictions near it, with ties and labels of no category."""
    rng = np.random.default_rng(seed)
    categories = [{"id": i, "name": f"class {i}"} for i in (2, 3, 5, 9)]
    image_entries, annotations, predictions = [], [], {}
    for image_id in rng.permutation(100)[:images].tolist():
        image_entries.append({"id": image_id, "file_name": f"{image_id}.jpg", "height": SIDE, "width": SIDE})
        boxes = rng.uniform(0, 70, (rng.integers(0, 7), 4))
        boxes[:, 2:] = boxes[:, :2] + rng.uniform(4, 50, boxes[:, 2:].shape)
        labels = rng.choice([2, 3, 5], len(boxes))
        for box, label, mask in zip(boxes, labels, masks_of(boxes)):
            rle = rle_tools.encode(np.asfortranarray(mask))
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image_id,
                    "category_id": int(label),
                    "bbox": [*box[:2].tolist(), *(box[2:] - box[:2]).tolist()],
                    "iscrowd": int(rng.random() < 0.15),
                    "area": float(mask.sum()),
                    "segmentation": {"size": [SIDE, SIDE], "counts": rle["counts"].decode()},
                }
            )
        source = rng.integers(0, len(boxes), queries) if len(boxes) else None
        found = rng.uniform(0, 60, (queries, 4)) + [0, 0, 60, 60] if source is None else boxes[source]
        found = (found + rng.normal(0, 3, found.shape)).astype(np.float32)
        kept = rng.choice([2, 3, 5], queries) if source is None else labels[source]
        predictions[image_id] = {
            "boxes": torch.from_numpy(found),
            "labels": torch.from_numpy(np.where(rng.random(queries) < 0.7, kept, rng.choice([0, 2, 3, 9], queries))),
            "scores": torch.from_numpy(rng.integers(1, 8, queries) / 8).float(),
            "masks": torch.from_numpy(masks_of(found))[:, None],
        }
    return {"images": image_entries, "annotations": annotations, "categories": categories}, predictions


def evaluate(truth: dict[str, Any], *batches: Predictions, iou_types: tuple[str, ...] = ("bbox",)) -> CocoEvaluator:
    """An evaluator that was given the batches and has its numbers."""
    evaluator = CocoEvaluator(index_coco(truth), iou_types)
    for batch in batches:
        evaluator.update(batch)
    evaluator.synchronize_between_processes()
    evaluator.accumulate()
    return evaluator


def judge(folder: Path, truth: dict[str, Any], results: list[dict], iou_type: str, image_ids: list[int]) -> COCOeval:
    """pycocotools on the ground truth and the results, both written as JSON."""
    (folder / "truth.json").write_text(json.dumps(truth))
    (folder / "results.json").write_text(json.dumps(results))
    with contextlib.redirect_stdout(io.StringIO()):
        ground_truth = COCO(str(folder / "truth.json"))
        judged = COCOeval(ground_truth, ground_truth.loadRes(str(folder / "results.json")), iou_type)
        judged.params.imgIds = image_ids
        judged.evaluate()
        judged.accumulate()
        judged.summarize()
    return judged


def one_object(score: float = 0.9, shift: float = 0.0) -> tuple[dict[str, Any], Predictions]:
    """One 10 x 10 object of class 1, predicted `shift` pixels to its right; class 2 has no instance."""
    truth = {
        "images": [{"id": i, "file_name": "x", "height": SIDE, "width": SIDE} for i in (1, 2)],
        "categories": [{"id": 1, "name": "cell"}, {"id": 2, "name": "virus"}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [5, 5, 10, 10], "area": 100, "iscrowd": 0}],
    }
    box = torch.tensor([[5.0 + shift, 5, 15 + shift, 15]])
    return truth, {1: {"boxes": box, "labels": torch.tensor([1]), "scores": torch.tensor([score])}}


@pytest.mark.parametrize("iou_type", ["bbox", "segm"])
@pytest.mark.parametrize("seed", range(6))
def test_numbers_are_pycocotools_on_the_written_results(tmp_path: Path, iou_type: str, seed: int) -> None:
    truth, predictions = random_case(seed)
    ids = list(predictions)
    batches = [{i: predictions[i] for i in ids[k : k + 5]} for k in range(0, len(ids), 5)]
    evaluator = evaluate(truth, *batches, iou_types=("bbox", "segm"))
    judged = judge(tmp_path, truth, evaluator.results(iou_type), iou_type, sorted(ids))
    assert list(evaluator.stats(iou_type).values()) == judged.stats.tolist()
    assert 0.05 < evaluator.stats(iou_type)["AP"] < 0.95
    assert np.array_equal(evaluator.coco_eval[iou_type].eval["precision"], judged.eval["precision"])


def test_more_than_a_hundred_predictions_in_an_image(tmp_path: Path) -> None:
    truth, predictions = random_case(20, images=3, queries=300)
    evaluator = evaluate(truth, predictions)
    judged = judge(tmp_path, truth, evaluator.results("bbox"), "bbox", sorted(predictions))
    assert list(evaluator.stats("bbox").values()) == judged.stats.tolist()


def test_only_images_seen_are_evaluated(tmp_path: Path) -> None:
    truth, predictions = random_case(7)
    some = dict(list(predictions.items())[:5])
    evaluator = evaluate(truth, some)
    judged = judge(tmp_path, truth, evaluator.results("bbox"), "bbox", sorted(some))
    assert list(evaluator.stats("bbox").values()) == judged.stats.tolist()
    assert evaluator.stats("bbox") != evaluate(truth, predictions).stats("bbox")


def test_processes_together_are_one_and_repeats_count_once(monkeypatch: pytest.MonkeyPatch) -> None:
    truth, predictions = random_case(8)
    ids = sorted(predictions)
    # As with a padded sampler: the second rank has the first image again, and other predictions for it.
    again = {ids[0]: {key: value[:3] for key, value in predictions[ids[0]].items()}}
    ranks = [evaluate(truth, {i: predictions[i] for i in ids[::2]})]
    ranks.append(evaluate(truth, {i: predictions[i] for i in ids[1::2]}, again))
    gathered = [rank._detections for rank in ranks]
    monkeypatch.setattr(coco_eval, "all_gather", lambda _: gathered)
    for rank in ranks:
        rank.synchronize_between_processes()
        rank.accumulate()
        assert rank.results("bbox") == evaluate(truth, predictions).results("bbox")
    monkeypatch.undo()
    assert ranks[0].stats("bbox") == ranks[1].stats("bbox") == evaluate(truth, predictions).stats("bbox")


def test_a_process_without_images(monkeypatch: pytest.MonkeyPatch) -> None:
    truth, predictions = random_case(9)
    full = evaluate(truth, predictions)
    monkeypatch.setattr(coco_eval, "all_gather", lambda own: [own, full._detections])
    idle = CocoEvaluator(index_coco(truth), ["bbox"])
    idle.synchronize_between_processes()
    idle.accumulate()
    assert idle.stats("bbox") == full.stats("bbox")


def test_a_perfect_and_a_shifted_prediction_by_hand() -> None:
    truth, exact = one_object()
    stats = evaluate(truth, exact).stats("bbox")
    assert stats == {**dict.fromkeys(STAT_NAMES, pytest.approx(1.0)), "APm": -1, "APl": -1, "ARm": -1, "ARl": -1}
    # 2 of 10 pixels to the right: IoU 80 / 120 = 0.667 passes 0.5, 0.55, 0.6 and 0.65 of the ten thresholds.
    _, shifted = one_object(shift=2)
    stats = evaluate(truth, shifted).stats("bbox")
    assert stats["AP"] == pytest.approx(0.4) and stats["AP50"] == pytest.approx(1) and stats["AP75"] == 0
    assert stats["AR1"] == pytest.approx(0.4)


def test_an_object_is_found_once() -> None:
    truth, exact = one_object()
    twice = {1: {key: torch.cat([value, value]) for key, value in exact[1].items()}}
    assert evaluate(truth, twice).stats("bbox")["AR100"] == pytest.approx(1)


def test_the_first_prediction_for_an_image_stays() -> None:
    truth, exact = one_object()
    _, shifted = one_object(shift=50)
    assert evaluate(truth, exact, shifted).stats("bbox")["AP"] == pytest.approx(1)


def test_per_class_by_hand() -> None:
    truth, shifted = one_object(shift=2)
    rows = evaluate(truth, shifted).per_class("bbox")
    assert rows == [
        {"id": 1, "name": "cell", "AP": pytest.approx(0.4), "AP50": pytest.approx(1.0), "instances": 1},
        {"id": 2, "name": "virus", "AP": -1.0, "AP50": -1.0, "instances": 0},
    ]


def test_per_class_averages_to_the_total_and_leaves_crowds_out() -> None:
    truth, predictions = random_case(10, images=20)
    evaluator = evaluate(truth, predictions)
    rows = [row for row in evaluator.per_class("bbox") if row["instances"]]
    assert np.mean([row["AP"] for row in rows]) == pytest.approx(evaluator.stats("bbox")["AP"])
    assert np.mean([row["AP50"] for row in rows]) == pytest.approx(evaluator.stats("bbox")["AP50"])
    assert sum(row["instances"] for row in rows) == sum(not a["iscrowd"] for a in truth["annotations"])


def test_no_predictions_give_zeros() -> None:
    truth, _ = one_object()
    nothing = {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64), "scores": torch.zeros(0)}
    nothing["masks"] = torch.zeros(0, 1, SIDE, SIDE)
    truth["annotations"][0]["segmentation"] = [[5, 5, 15, 5, 15, 15, 5, 15]]
    evaluator = evaluate(truth, {1: nothing, 2: nothing}, iou_types=("bbox", "segm"))
    for iou_type in ("bbox", "segm"):
        assert evaluator.results(iou_type) == []
        assert [evaluator.stats(iou_type)[name] for name in ("AP", "AP50", "AR100", "APs")] == [0, 0, 0, 0]


def test_nothing_to_measure_is_minus_one() -> None:
    truth, predictions = one_object()
    empty_image = {2: predictions[1]}
    assert set(evaluate(truth, empty_image).stats("bbox").values()) == {-1}
    assert set(evaluate(truth).stats("bbox").values()) == {-1}


@pytest.mark.parametrize("without_hotcoco", [False, True])
def test_precision_recall_is_pycocotools_and_loads_safely(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, without_hotcoco: bool
) -> None:
    if without_hotcoco:
        monkeypatch.setitem(sys.modules, "hotcoco", None)
    truth, predictions = random_case(15)
    evaluator = evaluate(truth, predictions)
    torch.save(evaluator.precision_recall("bbox"), tmp_path / "eval.pth")
    kept = torch.load(tmp_path / "eval.pth", weights_only=True)
    judged = judge(tmp_path, truth, evaluator.results("bbox"), "bbox", sorted(predictions))
    for name in ("precision", "recall", "scores"):
        assert np.array_equal(kept[name].numpy(), judged.eval[name])
    params = kept["params"]
    assert {name: getattr(params, name) for name in params} == params  # params.recThrs, as scripts for DETR read it
    assert kept["counts"] == list(kept["precision"].shape) and params["iouType"] == "bbox"
    assert params["iouThrs"] == judged.params.iouThrs.tolist() and params["recThrs"] == judged.params.recThrs.tolist()
    assert params["catIds"] == list(judged.params.catIds) == [2, 3, 5, 9] and params["imgIds"] == sorted(predictions)
    for name in ("areaRng", "areaRngLbl", "maxDets"):
        assert params[name] == getattr(judged.params, name)


def test_results_are_plain_and_in_order() -> None:
    truth, predictions = random_case(11, images=3, queries=2)
    evaluator = evaluate(truth, predictions, iou_types=("bbox", "segm"))
    boxes, segments = evaluator.results("bbox"), evaluator.results("segm")
    assert json.loads(json.dumps(boxes)) == boxes and json.loads(json.dumps(segments)) == segments
    assert [row["image_id"] for row in boxes] == sorted(i for i in predictions for _ in range(2))
    first = predictions[min(predictions)]
    x0, y0, x1, y1 = first["boxes"][0]
    assert boxes[0] == {
        "image_id": min(predictions),
        "category_id": first["labels"][0].item(),
        "score": first["scores"][0].item(),
        "bbox": [x0.item(), y0.item(), (x1 - x0).item(), (y1 - y0).item()],
    }
    assert np.array_equal(rle_tools.decode(segments[0]["segmentation"]), first["masks"][0, 0].numpy())


def test_masks_with_and_without_channel_are_the_same() -> None:
    truth, predictions = random_case(12, images=2, queries=3)
    flat = {i: {**p, "masks": p["masks"][:, 0].bool()} for i, p in predictions.items()}
    expected = evaluate(truth, predictions, iou_types=("segm",)).results("segm")
    assert evaluate(truth, flat, iou_types=("segm",)).results("segm") == expected


def test_ground_truth_is_left_as_it_was() -> None:
    truth, predictions = random_case(13)
    truth["annotations"][0]["segmentation"] = [[5, 5, 15, 5, 15, 15, 5, 15]]
    ground_truth = index_coco(truth)
    before = json.dumps(truth)
    evaluator = CocoEvaluator(ground_truth, ("bbox", "segm"))
    evaluator.update(predictions)
    evaluator.accumulate()
    assert json.dumps(truth) == json.dumps(ground_truth.dataset) == before


def test_table_has_names_and_classes_with_instances(capsys: pytest.CaptureFixture[str]) -> None:
    truth, shifted = one_object(shift=2)
    evaluator = evaluate(truth, shifted)
    assert capsys.readouterr().out == ""
    table = evaluator.summarize()
    assert capsys.readouterr().out == table + "\n"
    lines = table.splitlines()
    assert lines[0] == "IoU metric: bbox, images: 1"
    assert [line.split()[0] for line in lines[1:13]] == list(STAT_NAMES)
    assert lines[1] == "    AP  Average Precision  (AP) @[ IoU=0.50:0.95 | area=   all | maxDets=100 ] = 0.400"
    assert [line.split() for line in lines[13:]] == [
        ["class", "AP", "AP50", "instances"],
        ["cell", "0.400", "1.000", "1"],
    ]


def test_table_is_pycocotools_words(tmp_path: Path) -> None:
    truth, predictions = random_case(14)
    evaluator = evaluate(truth, predictions)
    judged = judge(tmp_path, truth, evaluator.results("bbox"), "bbox", sorted(predictions))
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        judged.summarize()
    ours = [line.removeprefix(f"{name:>6} ") for name, line in zip(STAT_NAMES, evaluator.summarize().splitlines()[1:])]
    assert ours == printed.getvalue().splitlines()


def test_other_ranks_are_silent(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    truth, shifted = one_object()
    monkeypatch.setattr("util.dist.distributed.get_rank", lambda: 1)
    assert "cell" in evaluate(truth, shifted).summarize()
    assert capsys.readouterr().out == ""


def test_wrong_use_is_refused() -> None:
    truth, predictions = one_object()
    with pytest.raises(ValueError, match="keypoints"):
        CocoEvaluator(index_coco(truth), ("keypoints",))
    with pytest.raises(ValueError, match="image id 3 is not among the annotations"):
        evaluate(truth, {3: predictions[1]})


# ---- as scripts for the original DETR use it


def test_own_thresholds_are_set_before_the_evaluation_and_obeyed() -> None:
    truth, predictions = random_case(13, images=6, queries=8)
    evaluator = CocoEvaluator(index_coco(truth), ["bbox"])
    usual = CocoEvaluator(index_coco(truth), ["bbox"])
    evaluator.coco_eval["bbox"].params.iouThrs = [0.5, 0.7]
    for one in (evaluator, usual):
        one.update(predictions)
        one.accumulate()
    own, all_thresholds = (one.coco_eval["bbox"].eval["precision"] for one in (evaluator, usual))  # (T, R, K, A, M)
    np.testing.assert_array_equal(own, all_thresholds[[0, 4]])  # 0.50, 0.55, ..., 0.70
    assert evaluator.per_class("bbox")[0]["AP50"] == usual.per_class("bbox")[0]["AP50"]
    assert evaluator.precision_recall("bbox")["params"]["iouThrs"] == [0.5, 0.7]


@pytest.mark.parametrize("kind", ["bbox", "segm"])
def test_prepare_gives_cocos_results(kind: str) -> None:
    predictions = {
        7: {
            "scores": torch.tensor([0.5, 0.25]),
            "labels": torch.tensor([3, 1]),
            "boxes": torch.tensor([[1.0, 2.0, 4.0, 6.0], [0.0, 0.0, 2.0, 2.0]]),
            "masks": torch.ones(2, 1, 4, 5, dtype=torch.uint8),
        }
    }
    evaluator = CocoEvaluator(index_coco(random_case(1)[0]), [kind])
    first, second = evaluator.prepare(predictions, kind)
    assert (first["image_id"], first["category_id"], first["score"]) == (7, 3, 0.5) and second["category_id"] == 1
    if kind == "bbox":
        assert first["bbox"] == [1, 2, 3, 4] == convert_to_xywh(predictions[7]["boxes"])[0].tolist()
        assert evaluator.prepare_for_coco_detection(predictions) == [first, second]
    else:
        assert first["segmentation"]["size"] == [4, 5] and "bbox" not in first
        assert evaluator.prepare_for_coco_segmentation(predictions) == [first, second]
    assert evaluator.prepare({}, kind) == []
