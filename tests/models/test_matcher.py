"""The matcher against golden values, brute force, a plain loop, and under permutation."""

from itertools import permutations

import pytest
import torch
from scipy.optimize import linear_sum_assignment

from models import matcher
from models.matcher import HungarianMatcher
from tests.models.golden import golden_outputs, golden_targets
from util.box_ops import box_cxcywh_to_xyxy, generalized_box_iou

MATCHER = HungarianMatcher(cost_class=1, cost_bbox=5, cost_giou=2)


def random_case(batch: int, queries: int, counts: list[int], classes: int = 6) -> tuple[dict, list[dict]]:
    outputs = {
        "pred_logits": torch.randn(batch, queries, classes + 1),
        "pred_boxes": torch.rand(batch, queries, 4) * 0.5 + 0.2,
    }
    targets = [{"labels": torch.randint(classes, (n,)), "boxes": torch.rand(n, 4) * 0.5 + 0.2} for n in counts]
    return outputs, targets


def plain_cost(logits: torch.Tensor, boxes: torch.Tensor, target: dict) -> torch.Tensor:
    """The cost of one image, term by term as the paper writes it."""
    l1 = torch.cdist(boxes, target["boxes"], p=1)
    giou = generalized_box_iou(box_cxcywh_to_xyxy(boxes), box_cxcywh_to_xyxy(target["boxes"]))
    return 5 * l1 - logits.softmax(-1)[:, target["labels"]] - 2 * giou


def as_lists(match: list) -> list:
    return [(q.tolist(), o.tolist()) for q, o in match]


def test_golden_matches_of_both_layers() -> None:
    outputs = golden_outputs()
    last, aux = MATCHER.match_layers([outputs, *outputs["aux_outputs"]], golden_targets())
    assert as_lists(last) == [([0, 1], [1, 0]), ([0], [0])]
    assert as_lists(aux) == [([2, 3], [0, 1]), ([3], [0])]


@pytest.mark.parametrize("objects", range(1, 7))
def test_no_assignment_is_cheaper_than_the_one_found(objects: int) -> None:
    outputs, targets = random_case(1, 6, [objects])
    cost = plain_cost(outputs["pred_logits"][0], outputs["pred_boxes"][0], targets[0])
    queries, matched = MATCHER(outputs, targets)[0]
    best = min(sum(cost[q, o] for o, q in enumerate(chosen)) for chosen in permutations(range(6), objects))
    assert sorted(matched.tolist()) == list(range(objects))
    torch.testing.assert_close(cost[queries, matched].sum(), best)


@pytest.mark.parametrize("seed", range(20))
def test_batches_equal_a_plain_loop(seed: int) -> None:
    torch.manual_seed(seed)
    counts = torch.randint(0, 9, (5,)).tolist()
    counts[seed % 5] = 0
    outputs, targets = random_case(5, 20, counts)
    for i, (queries, objects) in enumerate(MATCHER(outputs, targets)):
        expected = linear_sum_assignment(plain_cost(outputs["pred_logits"][i], outputs["pred_boxes"][i], targets[i]))
        assert (queries.tolist(), objects.tolist()) == (expected[0].tolist(), expected[1].tolist())


def test_permuted_targets_are_matched_to_the_same_queries() -> None:
    outputs, targets = random_case(1, 12, [7])
    order = torch.randperm(7)
    permuted = [{name: value[order] for name, value in targets[0].items()}]
    queries, objects = MATCHER(outputs, targets)[0]
    queries2, objects2 = MATCHER(outputs, permuted)[0]
    assert dict(zip(objects.tolist(), queries.tolist())) == dict(zip(order[objects2].tolist(), queries2.tolist()))


def test_more_objects_than_queries_and_no_objects_at_all() -> None:
    outputs, targets = random_case(2, 3, [5, 0])
    (queries, objects), (none, _) = MATCHER(outputs, targets)
    assert queries.tolist() == [0, 1, 2] and len(set(objects.tolist())) == 3 and len(none) == 0
    assert [len(q) for q, _ in MATCHER(*random_case(2, 3, [0, 0]))] == [0, 0]


def test_predictions_that_are_not_finite_do_not_stop_the_matcher() -> None:
    """The engine reports them with loss, step and images; see tests/test_engine.py."""
    outputs, targets = random_case(1, 4, [2])
    outputs["pred_logits"][0, 1] = float("nan")
    outputs["pred_boxes"][0, 2] = float("inf")
    assert MATCHER(outputs, targets)[0][0].tolist() == [0, 3]


def test_all_weights_zero_is_refused() -> None:
    with pytest.raises(ValueError, match="--set_cost_class"):
        HungarianMatcher(cost_class=0, cost_bbox=0, cost_giou=0)


def formula(logits: torch.Tensor, boxes: torch.Tensor, labels: torch.Tensor, objects: torch.Tensor) -> torch.Tensor:
    """DETR's cost (L, B, Q, T) in its order of operations, with the four coordinates innermost."""
    boxes = boxes.float()
    l1 = (boxes[..., :, None, :] - objects[..., None, :, :]).abs().sum(-1)
    giou = generalized_box_iou(box_cxcywh_to_xyxy(boxes), box_cxcywh_to_xyxy(objects))
    index = labels[None, :, None].expand(*logits.shape[:-1], -1)
    cost = 5 * l1 - 1 * logits.float().softmax(-1).gather(-1, index) - 2 * giou
    return cost.nan_to_num(matcher.NOT_A_COST, matcher.NOT_A_COST, -matcher.NOT_A_COST)


@pytest.mark.parametrize("objects", [0, 1, 37])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64])
def test_costs_have_the_bits_of_the_formula(dtype: torch.dtype, objects: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """In parts of three objects and in one part; with boxes that have no area, and numbers that are not finite."""
    torch.manual_seed(objects)
    logits, boxes = torch.randn(2, 3, 10, 7).to(dtype), torch.rand(2, 3, 10, 4).to(dtype)
    labels, truth = torch.randint(6, (3, objects)), torch.rand(3, objects, 4).to(dtype)
    boxes[0, 0, :2, 2:] = truth[0, :1, 2:] = 0  # 0 / 0 where the centres are equal, too
    boxes[0, 0, :1, :2] = truth[0, :1, :2] = 0.25
    boxes[1, 1, 1, 0], logits[1, 1, 2, 0] = float("inf"), float("nan")
    expected = formula(logits, boxes, labels, truth)
    for pairs in (1, 200, matcher.HOST_PAIRS):
        monkeypatch.setattr(matcher, "HOST_PAIRS", pairs)
        cost = MATCHER.cost(logits, boxes, labels, truth)
        assert cost.dtype == expected.dtype
        assert cost.numpy().tobytes() == expected.numpy().tobytes()


def test_images_by_themselves_and_threads_change_no_pair(monkeypatch: pytest.MonkeyPatch) -> None:
    outputs, targets = random_case(5, 20, [3, 0, 20, 31, 1])
    outputs["hidden"] = torch.rand(5, 20) < 0.2
    layers = [outputs, random_case(5, 20, [])[0] | {"hidden": outputs["hidden"]}, random_case(5, 8, [])[0]]
    together = [as_lists(layer) for layer in MATCHER.match_layers(layers, targets)]
    monkeypatch.setattr(matcher, "HOST_PAIRS", 50)
    monkeypatch.setattr(matcher, "THREADED_PAIRS", 1)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    assert [as_lists(layer) for layer in MATCHER.match_layers(layers, targets)] == together
