"""Losses and matchers of somebody else: subclasses that override the original's methods, `losses`, plain matchers."""

import functools

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.criterion import SetCriterion
from models.matcher import HungarianMatcher
from tests.models.golden import golden_outputs, golden_targets
from util.box_ops import box_cxcywh_to_xyxy, generalized_box_iou

WEIGHTS = {"loss_ce": 1.0, "loss_bbox": 5.0, "loss_giou": 2.0}
ALL = ["labels", "boxes", "cardinality"]


def criterion(cls: type[SetCriterion] = SetCriterion, matcher: nn.Module | None = None, losses=ALL) -> SetCriterion:
    return cls(5, matcher or HungarianMatcher(1, 5, 2), WEIGHTS, 0.1, losses)


class AsPublished(SetCriterion):
    """Losses as a fork of the original writes them, from the arguments it gets there."""

    def loss_labels(self, outputs, targets, indices, num_boxes, log=True):
        logits, index = outputs["pred_logits"], self._get_src_permutation_idx(indices)
        labels = torch.cat([t["labels"][objects] for t, (_, objects) in zip(targets, indices)])
        classes = torch.full(logits.shape[:2], self.num_classes, dtype=torch.int64, device=logits.device)
        classes[index] = labels
        losses = {"loss_ce": F.cross_entropy(logits.transpose(1, 2), classes, self.empty_weight)}
        if log:
            losses["class_error"] = 100 - 100 * (logits[index].argmax(-1) == labels).float().mean()
        return losses

    def loss_boxes(self, outputs, targets, indices, num_boxes):
        index = self._get_src_permutation_idx(indices)
        predicted = outputs["pred_boxes"][index]
        boxes = torch.cat([t["boxes"][i] for t, (_, i) in zip(targets, indices)], dim=0)
        giou = torch.diag(generalized_box_iou(box_cxcywh_to_xyxy(predicted), box_cxcywh_to_xyxy(boxes)))
        return {
            "loss_bbox": F.l1_loss(predicted, boxes, reduction="none").sum() / num_boxes,
            "loss_giou": (1 - giou).sum() / num_boxes,
        }

    def loss_cardinality(self, outputs, targets, indices, num_boxes):
        counts = torch.as_tensor([len(t["labels"]) for t in targets])
        predicted = (outputs["pred_logits"].argmax(-1) != outputs["pred_logits"].shape[-1] - 1).sum(1)
        return {"cardinality_error": F.l1_loss(predicted.float(), counts.float())}


class PlainMatcher(HungarianMatcher):
    """Image by image and layer by layer, behind the one method that the original has."""

    def __init__(self) -> None:
        super().__init__(1, 5, 2)
        self.seen: list[set[str]] = []

    def forward(self, outputs, targets):
        self.seen.append(set(outputs))
        parts = [{name: value[i : i + 1] for name, value in outputs.items()} for i in range(len(targets))]
        return [HungarianMatcher.forward(self, part, [target])[0] for part, target in zip(parts, targets)]


@pytest.mark.parametrize("own_losses", [False, True])
@pytest.mark.parametrize("own_matcher", [False, True])
def test_own_losses_and_matchers_give_the_numbers_of_ours(own_losses: bool, own_matcher: bool) -> None:
    expected = criterion()(golden_outputs(), golden_targets())
    matcher = PlainMatcher() if own_matcher else None
    got = criterion(AsPublished if own_losses else SetCriterion, matcher)(golden_outputs(), golden_targets())
    assert got.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(got[name], value, msg=name)
    if matcher is not None:
        assert matcher.seen == [{"pred_logits", "pred_boxes"}] * 2  # both layers, without `aux_outputs`


def test_the_list_decides_what_is_computed() -> None:
    losses = criterion(losses=["boxes"])(golden_outputs(), golden_targets())
    assert set(losses) == {"loss_bbox", "loss_giou", "loss_bbox_0", "loss_giou_0"}
    assert criterion().losses == ALL
    with pytest.raises(ValueError, match="losses: depth is none of labels, cardinality, boxes, masks"):
        criterion(losses=["depth"])(golden_outputs(), golden_targets())


def test_a_loss_may_be_added() -> None:
    calls = []

    class WithCentre(SetCriterion):
        def loss_centre(self, outputs: dict, targets: list, indices: list, num_boxes: Tensor) -> dict[str, Tensor]:
            boxes = torch.cat([t["boxes"][objects] for t, (_, objects) in zip(targets, indices)])
            predicted = outputs["pred_boxes"][self._get_src_permutation_idx(indices)]
            return {"loss_centre": (predicted - boxes)[:, :2].abs().sum() / num_boxes}

        def get_loss(self, loss, outputs, targets, indices, num_boxes, **kwargs):
            calls.append((loss, kwargs))
            if loss == "centre":
                return self.loss_centre(outputs, targets, indices, num_boxes, **kwargs)
            return super().get_loss(loss, outputs, targets, indices, num_boxes, **kwargs)

    losses = criterion(WithCentre, losses=["labels", "centre"])(golden_outputs(), golden_targets())
    assert set(losses) == {"loss_ce", "class_error", "loss_centre", "loss_ce_0", "loss_centre_0"}
    assert calls == [("labels", {}), ("centre", {}), ("labels", {"log": False}), ("centre", {})]


def test_masks_are_asked_of_the_last_layer_only() -> None:
    asked = []

    class Recorded(SetCriterion):
        def loss_masks(self, outputs, targets, indices, num_boxes):
            asked.append("pred_masks" in outputs)
            return {}

    outputs = golden_outputs() | {"pred_masks": torch.zeros(2, 4, 8, 8)}
    criterion(Recorded, losses=["masks"])(outputs, golden_targets())
    assert asked == [True]


def test_a_loss_is_called_with_the_pairs_of_any_matcher() -> None:
    """As a copied `forward` does it: the matcher's own list, and the same numbers."""
    ours, (outputs, targets) = criterion(), (golden_outputs(), golden_targets())
    pairs = ours.matcher(outputs, targets)
    expected, named = ours(outputs, targets, num_boxes=3.0), {}
    for loss in ALL:
        named |= ours.get_loss(loss, outputs, targets, pairs, 3.0)
    for name, value in named.items():
        torch.testing.assert_close(value, expected[name], msg=name)
    image, query = ours._get_src_permutation_idx(pairs)
    image_again, obj = ours._get_tgt_permutation_idx(pairs)
    assert image.tolist() == image_again.tolist() == [0, 0, 1]
    assert query.tolist() == [0, 1, 0] and obj.tolist() == [1, 0, 0]


def test_a_matcher_may_pair_an_object_with_several_queries_and_another_number_in_each_layer() -> None:
    class Greedy(nn.Module):
        calls = 0

        def forward(self, outputs: dict, targets: list) -> list:
            self.calls += 1
            queries = torch.arange(1 + self.calls)
            return [(queries, torch.zeros_like(queries)) for _ in targets]

    losses = criterion(matcher=Greedy())(golden_outputs(), golden_targets())
    outputs, targets = golden_outputs(), golden_targets()
    first = sum((outputs["pred_boxes"][i, :2] - t["boxes"][0]).abs().sum() for i, t in enumerate(targets))
    other = outputs["aux_outputs"][0]
    second = sum((other["pred_boxes"][i, :3] - t["boxes"][0]).abs().sum() for i, t in enumerate(targets))
    torch.testing.assert_close(losses["loss_bbox"], first / 3)
    torch.testing.assert_close(losses["loss_bbox_0"], second / 3)


@pytest.mark.parametrize("takes", [False, True])
def test_an_own_classification_loss_gets_the_divisor_of_the_whole_batch_if_it_takes_it(takes: bool) -> None:
    got = []

    class Own(SetCriterion):
        def loss_labels(self, outputs, targets, indices, num_boxes, log=True):
            got.append({})
            return {}

    class Taking(SetCriterion):
        def loss_labels(self, outputs, targets, indices, num_boxes, log=True, **kwargs):
            got.append(kwargs)
            return {}

    criterion(Taking if takes else Own)(golden_outputs(), golden_targets(), class_weight=7.0)
    assert got == [{"class_weight": 7.0} if takes else {}] * 2


def test_attributes_are_the_originals() -> None:
    ours = criterion()
    assert ours.num_classes == 5 and ours.weight_dict == WEIGHTS and ours.eos_coef == 0.1
    torch.testing.assert_close(ours.empty_weight, torch.tensor([1.0] * 5 + [0.1]))
    losses = ours(golden_outputs(), golden_targets())
    by_hand = functools.reduce(torch.add, [losses[k] * ours.weight_dict[k] for k in losses if k in ours.weight_dict])
    torch.testing.assert_close(ours.total(losses), by_hand)
