"""The set loss: values of the original, its symmetries, and what each part ignores."""

import pytest
import torch

from datasets.collate import ObjectSizes
from models.criterion import SetCriterion, class_error
from models.matcher import HungarianMatcher
from tests.models.golden import golden_outputs, golden_targets


@pytest.fixture
def criterion() -> SetCriterion:
    matcher = HungarianMatcher(cost_class=1, cost_bbox=5, cost_giou=2)
    weights = {"loss_ce": 1.0, "loss_bbox": 5.0, "loss_giou": 2.0, "loss_ce_0": 1.0}
    return SetCriterion(num_classes=5, matcher=matcher, weight_dict=weights, eos_coef=0.1)


def test_losses_equal_the_original(criterion: SetCriterion) -> None:
    losses = criterion(golden_outputs(), golden_targets())
    golden = dict(
        loss_ce=2.153646,
        class_error=100,
        loss_bbox=0.507322,
        loss_giou=1.151514,
        cardinality_error=2.5,
        loss_ce_0=1.868305,
    )
    for name, value in golden.items():
        torch.testing.assert_close(losses[name].item(), float(value), rtol=0, atol=2e-6, msg=name)
    assert set(losses) == {"loss_ce", "loss_bbox", "loss_giou", "class_error", "cardinality_error"} | {
        f"{n}_0" for n in ("loss_ce", "loss_bbox", "loss_giou", "cardinality_error")
    }


def test_total_weighs_what_has_a_weight(criterion: SetCriterion) -> None:
    losses = criterion(golden_outputs(), golden_targets())
    expected = losses["loss_ce"] + 5 * losses["loss_bbox"] + 2 * losses["loss_giou"] + losses["loss_ce_0"]
    torch.testing.assert_close(criterion.total(losses), expected)


def test_the_order_of_objects_and_images_does_not_matter(criterion: SetCriterion) -> None:
    outputs, targets = golden_outputs(), golden_targets()
    losses = criterion(outputs, targets)
    reversed_objects = [{name: value.flip(0) for name, value in t.items()} for t in targets]
    flip = lambda out: {k: v.flip(0) for k, v in out.items() if k != "aux_outputs"}
    swapped = flip(outputs) | {"aux_outputs": [flip(outputs["aux_outputs"][0])]}
    for other in (criterion(outputs, reversed_objects), criterion(swapped, targets[::-1])):
        for name, value in losses.items():
            torch.testing.assert_close(other[name], value)


def test_box_losses_divide_by_num_boxes_and_classification_does_not(criterion: SetCriterion) -> None:
    default = criterion(golden_outputs(), golden_targets())
    doubled = criterion(golden_outputs(), golden_targets(), num_boxes=torch.tensor(6.0))
    torch.testing.assert_close(doubled["loss_bbox"], default["loss_bbox"] / 2)
    torch.testing.assert_close(doubled["loss_giou_0"], default["loss_giou_0"] / 2)
    torch.testing.assert_close(doubled["loss_ce"], default["loss_ce"])


def test_a_batch_without_objects_trains_the_no_object_class_only(criterion: SetCriterion) -> None:
    outputs = golden_outputs()
    outputs["pred_logits"].requires_grad_()
    outputs["pred_boxes"].requires_grad_()
    targets = [{"labels": torch.zeros(0, dtype=torch.int64), "boxes": torch.zeros(0, 4)} for _ in range(2)]
    losses = criterion(outputs, targets)
    assert losses["loss_bbox"] == losses["loss_giou"] == 0 and losses["class_error"] == 100
    criterion.total(losses).backward()
    assert outputs["pred_logits"].grad.abs().sum() > 0
    assert outputs["pred_boxes"].grad.eq(0).all()  # a gradient, not None: every process reduces the same tensors


@pytest.mark.parametrize("sizes", [(5,), (1, 2, 7), (2,)])
@pytest.mark.parametrize("label", [0, 3, 5])
def test_padded_objects_change_neither_losses_nor_gradients(criterion: SetCriterion, sizes: tuple, label: int) -> None:
    """Whatever their number and label; also in an image without real ones."""
    nothing = {"labels": torch.zeros(0, dtype=torch.int64), "boxes": torch.zeros(0, 4)}
    for targets in (golden_targets(), [golden_targets()[0], nothing], [nothing, nothing]):
        results = []
        for given in (targets, [ObjectSizes(sizes=sizes, no_object=label).pad(t) for t in targets]):
            outputs = golden_outputs()
            leaves = [outputs[name].requires_grad_() for name in ("pred_logits", "pred_boxes")]
            losses = criterion(outputs, given)
            criterion.total(losses).backward()
            results.append((losses, [leaf.grad for leaf in leaves]))
        (losses, gradients), (padded_losses, padded_gradients) = results
        torch.testing.assert_close(padded_losses, losses, atol=1e-6, rtol=0)
        torch.testing.assert_close(padded_gradients, gradients, atol=1e-6, rtol=0)


def test_no_object_weighs_eos_coef_in_the_mean(criterion: SetCriterion) -> None:
    """The weighted mean of 3 matched and 5 unmatched queries divides by 3 + 5 * 0.1."""
    outputs, targets = golden_outputs(), golden_targets()
    log_p = outputs["pred_logits"].log_softmax(-1)
    matched = {(0, 0): 3, (0, 1): 1, (1, 0): 0}
    total = sum(
        -log_p[b, q, matched[b, q]] if (b, q) in matched else -0.1 * log_p[b, q, 5] for b in range(2) for q in range(4)
    )
    torch.testing.assert_close(criterion(outputs, targets)["loss_ce"], total / 3.5)


def test_class_error_is_the_share_of_wrong_labels() -> None:
    logits = torch.eye(4)
    assert class_error(logits, torch.tensor([0, 1, 2, 0])) == 25
