"""The focal loss and its cost: against the formula by hand, and what they make of a whole loss and of detections."""

import math

import pytest
import torch
from torch.testing import assert_close

from models.variants.focal import focal_cost, focal_losses, start_unlikely
from models.variants.set_loss import FocalCriterion, FocalMatcher, FocalPostProcess

BOXES = torch.tensor([[0.2, 0.2, 0.2, 0.2], [0.7, 0.6, 0.4, 0.3], [0.5, 0.5, 0.1, 0.1]])


def by_hand(probability: float, *, is_object: bool) -> float:
    """Loss of one class of one query: 0.25 (1-p)^2 (-log p) for an object, 0.75 p^2 (-log(1-p)) for none."""
    if is_object:
        return 0.25 * (1 - probability) ** 2 * -math.log(probability)
    return 0.75 * probability**2 * -math.log(1 - probability)


def test_the_loss_is_the_formulas_sum_over_queries_and_classes() -> None:
    probabilities = torch.tensor([[[0.9, 0.2, 0.5], [0.3, 0.4, 0.5]]])  # (1, Q = 2, C+1 = 3)
    expected = by_hand(0.9, is_object=True) + by_hand(0.2, is_object=False)
    expected += by_hand(0.3, is_object=False) + by_hand(0.4, is_object=False)
    losses = focal_losses(probabilities.logit(), torch.tensor([[0, 2]]))
    assert losses.sum().item() == pytest.approx(expected, rel=1e-5), "the last class takes no part"


def test_the_cost_is_the_loss_as_an_object_less_that_as_nothing() -> None:
    expected = by_hand(0.3, is_object=True) - by_hand(0.3, is_object=False)
    assert focal_cost(torch.tensor([0.3]).logit()).item() == pytest.approx(expected, rel=1e-5)


def test_a_logit_of_padding_costs_more_than_any_box_and_loses_nothing() -> None:
    nothing = torch.full((1, 1, 3), -1e4)
    assert focal_cost(nothing).min() > 1000
    assert focal_losses(nothing, torch.tensor([[2]])).sum().item() == 0


def test_every_class_starts_with_a_probability_of_a_hundredth() -> None:
    head = torch.nn.Linear(4, 3)
    start_unlikely(head)
    assert_close(head.bias.sigmoid(), torch.full((3,), 0.01))


def criterion() -> FocalCriterion:
    """The set loss over two classes."""
    weights = {"loss_ce": 2.0, "loss_bbox": 5.0, "loss_giou": 2.0}
    return FocalCriterion(2, FocalMatcher(2, 5, 2), weights, 0.1, ("labels", "boxes", "cardinality"))


def test_perfect_predictions_lose_nothing_and_count_right() -> None:
    logits = torch.full((1, 3, 3), -40.0)
    logits[0, 0, 1] = logits[0, 2, 0] = 40.0
    targets = [{"labels": torch.tensor([0, 1]), "boxes": BOXES[[2, 0]]}]
    losses = criterion()({"pred_logits": logits, "pred_boxes": BOXES[None]}, targets)
    assert_close(torch.stack([losses[name] for name in ("loss_ce", "loss_bbox", "loss_giou")]), torch.zeros(3))
    assert losses["class_error"] == 0 and losses["cardinality_error"] == 0


def test_the_loss_is_divided_by_the_objects_also_where_there_are_none() -> None:
    outputs = {"pred_logits": torch.zeros(1, 3, 3), "pred_boxes": BOXES[None]}
    empty = criterion()(outputs, [{"labels": torch.tensor([], dtype=torch.int64), "boxes": torch.zeros(0, 4)}])
    assert empty["loss_ce"].item() == pytest.approx(6 * by_hand(0.5, is_object=False), rel=1e-5)
    target = {"labels": torch.tensor([0, 1]), "boxes": BOXES[:2]}
    two = criterion()(outputs, [target])["loss_ce"].item()
    expected = 2 * by_hand(0.5, is_object=True) + 4 * by_hand(0.5, is_object=False)
    assert two == pytest.approx(expected / 2, rel=1e-5)


def test_a_query_may_answer_with_two_classes_and_says_that_it_did() -> None:
    logits = torch.tensor([[[0.9, 0.8, 0.99], [0.1, 0.7, 0.99]]]).logit()
    (result,) = FocalPostProcess()({"pred_logits": logits, "pred_boxes": BOXES[None, :2]}, torch.tensor([[100, 200]]))
    assert_close(result["scores"], torch.tensor([0.9, 0.8, 0.7, 0.1]))
    assert result["labels"].tolist() == [0, 1, 1, 0] and result["queries"].tolist() == [0, 0, 1, 1]
    assert_close(result["boxes"][0], torch.tensor([20.0, 10.0, 60.0, 30.0]))


def test_at_most_a_hundred_answers_where_there_are_fewer_queries() -> None:
    outputs = {"pred_logits": torch.randn(1, 60, 11), "pred_boxes": torch.rand(1, 60, 4)}
    (result,) = FocalPostProcess()(outputs, torch.tensor([[10, 10]]))
    assert len(result["scores"]) == 100 and bool((result["scores"].diff() <= 0).all())


def test_no_object_is_what_the_likeliest_class_leaves() -> None:
    probabilities = FocalPostProcess().probabilities(torch.tensor([0.2, 0.7, 0.5]).logit())
    assert_close(probabilities, torch.tensor([0.2, 0.7, 0.3]))
