"""The numbers of a report, on evaluations whose answers are known."""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from datasets.annotations import index_coco
from datasets.coco_eval import CocoEvaluator
from tests.util.report.evaluations import CAT, DOG, IMAGES, SECOND_CAT, UNUSED, evaluated, faulty, perfect, truth
from util.errors import UserError
from util.report.choice import choose_differing, choose_images, count_differing, diagnose
from util.report.curves import Curves
from util.report.numbers import describe_kind
from util.report.pictures import box_of
from util.report.single import write_report


def numbers_of(results: list[dict[str, Any]], *, kind: str = "bbox", **more: Any) -> dict[str, Any]:
    one = evaluated(results, masks=kind == "segm", **more)
    return describe_kind(one, kind, one.detections(kind))


def by_id(numbers: dict[str, Any]) -> dict[int, dict[str, Any]]:
    return {row["id"]: row for row in numbers["classes"]}


@pytest.mark.parametrize("kind", ["bbox", "segm"])
def test_perfect_detections_have_nothing_to_mend(kind: str) -> None:
    numbers = numbers_of(perfect(), kind=kind)
    assert numbers["metrics"]["AP"] == numbers["metrics"]["AR100"] == numbers["F1"] == 1
    assert numbers["metrics"]["APl"] is None, "no object is large"
    assert [row["count"] for row in numbers["errors"]["kinds"]] == [0] * 6
    assert numbers["confusion"]["matrix"] == [[2, 0, 0, 0], [0, 2, 0, 0], [0, 0, 1, 0], [0, 0, 0, 0]]
    assert numbers["calibration"]["ECE"] == pytest.approx(0.1, abs=1e-4)
    classes = by_id(numbers)
    assert classes[CAT]["name"] == f"cat ({CAT})" and classes[SECOND_CAT]["name"] == f"cat ({SECOND_CAT})"
    assert classes[CAT]["objects"] == 2 and classes[CAT]["threshold"] == pytest.approx(0.9, abs=1e-4)
    nothing = classes[UNUSED]
    assert (nothing["objects"], nothing["AP"], nothing["F1"], nothing["ECE"]) == (0, None, None, None)


def test_known_mistakes_are_named() -> None:
    numbers = numbers_of(faulty())
    counts = {row["error"]: row["count"] for row in numbers["errors"]["kinds"]}
    assert counts == {"class": 1, "localisation": 0, "both": 0, "duplicate": 1, "background": 2, "missed": 1}
    assert sum(row["share"] for row in numbers["errors"]["kinds"]) == pytest.approx(1, abs=1e-3)
    pairs = {(pair["true"], pair["detected"]): pair["count"] for pair in numbers["confusion"]["pairs"]}
    assert pairs == {("dog", f"cat ({CAT})"): 1}
    assert by_id(numbers)[DOG]["recall"] == 0.5
    assert [row["objects"] for row in numbers["by_size"]] == [5, 2, 3, 0]


def test_no_detections_at_all_are_a_report_of_zeros() -> None:
    numbers = numbers_of([])
    assert numbers["metrics"]["AP"] == numbers["F1"] == 0
    assert numbers["errors"]["kinds"][-1]["count"] == 5 and numbers["calibration"]["count"] == 0


@pytest.mark.parametrize("max_dets", [100, 130])
def test_numbers_are_those_of_the_evaluation(max_dets: int) -> None:
    rng = np.random.default_rng(0)
    data, results = truth(), []
    data["annotations"] = []
    for k, image_id in enumerate(np.repeat(IMAGES[:2], 125).tolist()):
        x, y = rng.uniform(0, 80, 2)
        w, h = rng.uniform(5, 20, 2)
        label = int(rng.choice([CAT, DOG])) if k < 125 else CAT
        data["annotations"].append(
            dict(id=k + 1, image_id=image_id, category_id=label, bbox=[x, y, w, h], area=w * h, iscrowd=0)
        )
        box = np.array([x, y, w, h]) + rng.normal(0, 1, 4)
        results.append(dict(image_id=image_id, category_id=label, bbox=box.tolist(), score=float(rng.uniform())))
    numbers = numbers_of(results, truth=data, max_dets=max_dets, image_ids=list(IMAGES[:2]))

    evaluator = CocoEvaluator(index_coco(data), ["bbox"], max_dets=max_dets)
    for image_id in IMAGES[:2]:
        own = [r for r in results if r["image_id"] == image_id]
        boxes = torch.tensor([r["bbox"] for r in own])
        boxes[:, 2:] += boxes[:, :2]
        columns = dict(scores=[r["score"] for r in own], labels=[r["category_id"] for r in own])
        evaluator.update({image_id: {"boxes": boxes} | {name: torch.tensor(v) for name, v in columns.items()}})
    evaluator.accumulate()
    expected = {name: None if value < 0 else value for name, value in evaluator.stats("bbox").items()}
    assert numbers["metrics"] == {name: v if v is None else pytest.approx(v, abs=2e-5) for name, v in expected.items()}
    for row in evaluator.per_class("bbox"):
        assert by_id(numbers)[row["id"]]["AP"] == (None if row["AP"] < 0 else pytest.approx(row["AP"], abs=2e-5))


def test_the_best_threshold_is_that_of_a_search_over_all_scores() -> None:
    rng = np.random.default_rng(1)
    data = truth()
    box = [10, 10, 30, 30]
    data["images"] = [{"id": i, "width": 100, "height": 100} for i in range(1, 101)]
    data["annotations"] = [
        dict(id=i, image_id=i, category_id=CAT, bbox=box, area=900, iscrowd=0) for i in range(1, 101)
    ]
    hits = rng.uniform(size=100) < 0.7
    scores = np.round(np.where(hits, rng.beta(5, 3, 100), rng.beta(2, 4, 100)), 6)
    results = [
        dict(image_id=i, category_id=CAT, bbox=box if hits[i - 1] else [60, 60, 30, 30], score=float(scores[i - 1]))
        for i in range(1, 101)
    ]
    one = evaluated(results, truth=data, image_ids=list(range(1, 101)))
    found = one.detections("bbox")
    curves = Curves(one, one.score("bbox", found), found)

    def f1(threshold: float) -> float:
        kept = scores >= threshold
        return 2 * hits[kept].sum() / (kept.sum() + 100)

    best = max(map(f1, scores))
    row = curves.best_of(curves.class_ids.index(CAT))
    assert row["F1"] == pytest.approx(best, abs=1e-5) and f1(row["threshold"]) == pytest.approx(best, abs=1e-5)
    assert best - 0.02 <= f1(curves.best_threshold()) == pytest.approx(curves.mean_f1.max())
    k = curves.class_ids.index(CAT)
    assert np.allclose(curves.f1_by_score[k], [f1(t) for t in np.linspace(0, 1, 101)])


def test_images_are_ranked_and_contradictions_listed() -> None:
    chosen = choose_images(diagnose(evaluated(faulty()), "bbox", threshold=0.5), 2)
    assert [choice.image_id for choice in chosen["best"]] == [IMAGES[0], IMAGES[1]]
    assert [choice.image_id for choice in chosen["worst"]] == [IMAGES[2]]
    assert chosen["worst"][0].counts["a run"] == {"found": 0, "false": 1, "missed": 1, "F1": 0.0}
    suspects = {choice.image_id: choice for choice in chosen["mislabelled"]}
    wrong, extra = suspects[IMAGES[1]], suspects[IMAGES[2]]
    assert wrong.suspects[0]["annotated"] == "dog" and wrong.suspects[0]["detected"] == f"cat ({CAT})"
    assert [d["category_id"] for d in wrong.detections["a run"]] == [CAT], "only the suspect is drawn"
    assert extra.suspects[0]["problem"] == "not annotated" and extra.suspects[0]["score"] == 0.7


def test_images_on_which_two_runs_differ() -> None:
    a, b = (diagnose(evaluated(r, name=n), "bbox", threshold=0.5) for r, n in ((faulty(), "a"), (perfect(), "b")))
    assert count_differing(a, b) == {"better": 3, "equal": 1, "worse": 0}
    chosen = choose_differing(a, b, 2)
    assert [choice.image_id for choice in chosen["better"]] == [IMAGES[2], IMAGES[1]] and not chosen["worse"]
    assert list(chosen["better"][0].detections) == ["a", "b"]
    assert [choice.image_id for choice in choose_differing(b, a, 1)["worse"]] == [IMAGES[2]]


def test_without_objects_or_hotcoco_there_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    crowd = truth() | {"annotations": truth()["annotations"][-1:]}
    with pytest.raises(UserError, match=r"a run: no report: its 4 images have no objects"):
        evaluated(perfect(), truth=crowd)
    monkeypatch.setitem(sys.modules, "hotcoco", None)
    with pytest.raises(UserError, match="pip install hotcoco"):
        numbers_of(perfect())


def test_a_detection_whose_mask_is_empty_is_drawn_at_its_box() -> None:
    empty = {"size": [100, 100], "counts": "T`0"}
    one = evaluated(faulty(), masks=True)
    one.results["segm"][0]["segmentation"] = empty
    first = one.detections("segm")[0]
    assert box_of(first) == faulty()[0]["bbox"] and "bbox" not in first
    assert box_of(first | {"box": [float("nan"), 0, 1, 1]}) == [0, 0, 0, 0]
    assert one.score("segm", one.detections("segm")).stats[0] < 1


def test_many_classes_are_drawn_in_part(tmp_path: Path) -> None:
    data = truth()
    data["categories"] += [{"id": id_, "name": f"<class {id_}>"} for id_ in range(1000, 1130)]
    data["annotations"] += [
        dict(id=id_, image_id=IMAGES[1], category_id=id_, bbox=[1, 1, 9, 9], area=81) for id_ in range(1000, 1130)
    ]
    page, numbers = write_report(evaluated([], truth=data), tmp_path, count=0)
    text = page.read_text()
    assert "too many classes" in text and text.count('class="line class"') == 2 * 120
    assert "<class" not in text and "<img" not in text
    assert len(json.loads(numbers.read_text())["kinds"]["bbox"]["confusion"]["matrix"]) == 134
