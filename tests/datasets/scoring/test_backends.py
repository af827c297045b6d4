"""hotcoco's numbers are pycocotools' to the last bit; where they would not be, pycocotools is asked, and says so."""

import builtins
import json
import sys
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as rle_tools

from datasets.annotations.table import index_coco
from datasets.scoring import backends
from datasets.scoring.backends import CocoScores, Detections, HotcocoScores, by_hotcoco, by_pycocotools, compute_scores

SIDE = 64


@pytest.fixture(autouse=True)
def lines_are_said_again() -> Iterator[None]:
    backends._say_once.cache_clear()
    yield
    backends._say_once.cache_clear()


@st.composite
def cases(draw: st.DrawFn) -> tuple[dict[str, Any], Detections, list[int]]:
    """Ground truth, detections and the images to judge: few classes with gaps, ties, crowds, areas on the bounds."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    categories = draw(st.lists(st.integers(0, 1000), min_size=1, max_size=5, unique=True))
    image_ids = draw(st.lists(st.integers(0, 10**6), min_size=1, max_size=6, unique=True))
    whole, ties = draw(st.booleans()), draw(st.sampled_from([1, 3, 10**6]))
    objects = [
        {
            "id": number,
            "image_id": int(rng.choice(image_ids)),
            "category_id": int(rng.choice(categories)),
            "bbox": box,
            "area": float(rng.choice([box[2] * box[3], 0, 32**2, 96**2, 1e5])),
            "iscrowd": int(rng.random() < 0.15),
            "segmentation": run_lengths(box),
        }
        for number, box in enumerate(boxes(rng, draw(st.integers(0, 30)), whole=whole).tolist(), start=1)
    ]
    images = [{"id": i, "file_name": "x", "height": SIDE, "width": SIDE} for i in image_ids]
    truth = {"images": images, "annotations": objects, "categories": [{"id": i, "name": str(i)} for i in categories]}
    found = detections(rng, truth, draw(st.sampled_from([0, 5, 40, 400])), ties=ties, whole=whole)
    some = draw(st.integers(1, len(image_ids)))
    return truth, found, sorted(image_ids)[:some]


def boxes(rng: np.random.Generator, n: int, *, whole: bool) -> np.ndarray:
    """Boxes xywh (n, 4) in an image of SIDE x SIDE, some without a pixel."""
    corners = rng.uniform(0, SIDE / 2, (n, 4)) * [1, 1, 1, 0.7]
    return corners.round() if whole else corners


def run_lengths(box: list[float]) -> dict[str, Any]:
    """The mask of a box xywh as compressed run lengths."""
    x, y, w, h = np.round(box).astype(int)
    mask = np.zeros((SIDE, SIDE), dtype=np.uint8, order="F")
    mask[y : y + h, x : x + w] = 1
    rle = rle_tools.encode(mask)
    return {"size": [SIDE, SIDE], "counts": rle["counts"].decode()}


def detections(rng: np.random.Generator, truth: dict[str, Any], n: int, *, ties: int, whole: bool) -> Detections:
    """n detections, most of them near an object and half of those of its class, some of a class that is not listed."""
    objects, images, labels = truth["annotations"], truth["images"], [c["id"] for c in truth["categories"]]
    image_ids, classes = rng.choice([i["id"] for i in images], n), rng.choice([*labels, 2000], n)
    found = boxes(rng, n, whole=whole)
    for k in range(n) if objects else ():
        if rng.random() < 0.8:
            source = objects[rng.integers(len(objects))]
            found[k] = np.abs(source["bbox"] + rng.integers(-2, 3, 4) * (rng.random() < 0.7))
            image_ids[k] = source["image_id"]
            classes[k] = source["category_id"] if rng.random() < 0.7 else classes[k]
    order = np.argsort(image_ids, kind="stable")
    return Detections(
        image_ids=image_ids[order],
        labels=classes[order],
        scores=(rng.integers(0, ties, n) / ties).astype(np.float32),
        boxes=found[order].astype(np.float32),
        rles=[run_lengths(box) for box in found[order].tolist()],
    )


def assert_same(ours: CocoScores, theirs: CocoScores) -> None:
    assert np.array_equal(ours.stats, theirs.stats)
    for name in ("precision", "recall", "scores"):
        assert np.array_equal(ours.eval[name], theirs.eval[name]), name
    assert list(ours.params.catIds) == list(theirs.params.catIds)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["bbox", "segm"])
@settings(max_examples=60)
@given(case=cases())
def test_every_bit_is_pycocotools(kind: str, case: tuple[dict[str, Any], Detections, list[int]]) -> None:
    truth, found, image_ids = case
    scores = compute_scores(index_coco(truth), found, kind, image_ids)
    assert isinstance(scores, HotcocoScores)
    assert_same(scores, by_pycocotools(index_coco(truth), found, kind, image_ids))


def polygon_case() -> tuple[dict[str, Any], Detections]:
    """Outlines with decimals, in two parts and over the edge, and uncompressed run lengths of a crowd."""
    rng = np.random.default_rng(3)
    objects = []
    for number in range(1, 31):
        outline = (rng.uniform(-5, SIDE + 5, 2) + rng.normal(0, 9, (7, 2))).round(2)
        parts = [outline.ravel().tolist(), (outline[:4] / 3).ravel().tolist()][: 1 + number % 2]
        crowd = {"size": [SIDE, SIDE], "counts": [100, 900, SIDE * SIDE - 1000]}
        low, high = outline.min(0), outline.max(0)
        objects.append(
            {
                "id": number,
                "image_id": number % 3,
                "category_id": 1,
                "iscrowd": int(number == 9),
                "bbox": [*low.tolist(), *(high - low).tolist()],
                "area": 1000.0,
                "segmentation": crowd if number == 9 else parts,
            }
        )
    images = [{"id": i, "file_name": "x", "height": SIDE, "width": SIDE} for i in range(3)]
    truth = {"images": images, "annotations": objects, "categories": [{"id": 1, "name": "x"}]}
    rles = [index_coco(truth).annToRLE(o) for o in objects]
    return truth, Detections(
        image_ids=np.array([o["image_id"] for o in objects]),
        labels=np.ones(30, dtype=np.int64),
        scores=rng.random(30).astype(np.float32),
        boxes=np.array([o["bbox"] for o in objects], dtype=np.float32),
        rles=[{"size": [SIDE, SIDE], "counts": rle["counts"].decode()} for rle in rles],
    )


@pytest.mark.parametrize("kind", ["bbox", "segm"])
def test_polygons_and_plain_run_lengths(kind: str) -> None:
    truth, found = polygon_case()
    scores = compute_scores(index_coco(truth), found, kind, [0, 1, 2])
    assert isinstance(scores, HotcocoScores) and scores.stats[0] > 0.8
    assert_same(scores, by_pycocotools(index_coco(truth), found, kind, [0, 1, 2]))


def test_ids_beyond_what_a_float_holds() -> None:
    truth, found = polygon_case()
    for row in truth["images"]:
        row["id"] += 2**60
    for row in truth["annotations"]:
        row["image_id"] += 2**60
    ids = [i + 2**60 for i in range(3)]
    found = Detections(found.image_ids + 2**60, found.labels, found.scores, found.boxes, found.rles)
    scores = compute_scores(index_coco(truth), found, "bbox", ids)
    assert isinstance(scores, HotcocoScores)
    assert_same(scores, by_pycocotools(index_coco(truth), found, "bbox", ids))


@pytest.mark.parametrize(
    ("fault", "line"),
    [("zero", "an object's id is 0"), ("twice", "objects share an id"), ("nan", "a detection is not finite")],
)
def test_where_they_differ_pycocotools_is_asked(fault: str, line: str, capsys: pytest.CaptureFixture[str]) -> None:
    truth, found = polygon_case()
    if fault == "nan":
        found.boxes[4, 2] = np.nan
    else:
        truth["annotations"][0]["id"] = {"zero": 0, "twice": 4}[fault]
        truth["annotations"][3]["category_id"] = 2
        truth["categories"].append({"id": 2, "name": "y"})
    for _ in range(2):
        scores = compute_scores(index_coco(truth), found, "bbox", [0, 1, 2])
    assert capsys.readouterr().out == f"COCO's numbers by pycocotools, which takes longer: {line}\n"
    assert_same(scores, by_pycocotools(index_coco(truth), found, "bbox", [0, 1, 2]))
    fast = by_hotcoco(index_coco(truth), found, "bbox", [0, 1, 2])
    assert not np.array_equal(fast.stats, scores.stats), "hotcoco agrees now: no need to ask pycocotools"


@pytest.mark.parametrize(
    ("module", "line"),
    [
        (None, "hotcoco is not installed (pip install hotcoco)"),
        (SimpleNamespace(__version__="1.2.9"), "hotcoco 1.2.9 is older than 1.3 (pip install -U hotcoco)"),
    ],
)
def test_without_a_hotcoco_that_is_exact(module: Any, line: str, monkeypatch: Any, capsys: Any) -> None:
    truth, found = polygon_case()
    expected = compute_scores(index_coco(truth), found, "segm", [0, 1])
    monkeypatch.setitem(sys.modules, "hotcoco", module)
    for _ in range(2):  # said once
        assert_same(compute_scores(index_coco(truth), found, "segm", [0, 1]), expected)
    assert capsys.readouterr().out == f"COCO's numbers by pycocotools, which takes longer: {line}\n"


def test_versions_are_compared_as_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    for version, accepted in (("1.3.0", True), ("1.10.1", True), ("2.0", True), ("0.9.9", False)):
        monkeypatch.setitem(sys.modules, "hotcoco", SimpleNamespace(__version__=version))
        assert (backends.why_not_hotcoco() is None) == accepted


def test_nothing_is_printed_and_the_truth_stays(capfd: pytest.CaptureFixture[str]) -> None:
    truth, found = polygon_case()
    found.labels[:5] = 70  # no category has it: DETR predicts such classes
    truth["categories"] = [{"id": 1}]
    ground_truth, before = index_coco(truth), json.dumps(truth)
    compute_scores(ground_truth, found, "bbox", [0, 1, 2])
    compute_scores(ground_truth, found, "segm", [0, 1, 2])
    assert capfd.readouterr() == ("", "")
    assert json.dumps(ground_truth.dataset) == before


def test_results_are_plain() -> None:
    _, found = polygon_case()
    row = found.results("bbox")[0]
    assert [type(value) for value in row.values()] == [int, int, list, builtins.float]
    assert list(found.results("segm")[0]) == ["image_id", "category_id", "segmentation", "score"]
