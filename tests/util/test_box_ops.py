"""Boxes against values computed by hand or by the original DETR."""

import pytest
import torch

from util.box_ops import (
    box_cxcywh_to_xyxy,
    box_iou,
    box_xyxy_to_cxcywh,
    generalized_box_iou,
    masks_to_boxes,
    paired_generalized_box_iou,
)

A = torch.tensor([[0.0, 0, 2, 2], [1, 1, 3, 3]])
B = torch.tensor([[1.0, 1, 2, 2], [4, 4, 5, 6]])


def test_conversions_are_each_others_inverse() -> None:
    torch.testing.assert_close(box_cxcywh_to_xyxy(torch.tensor([10.0, 20, 4, 6])), torch.tensor([8.0, 17, 12, 23]))
    boxes = torch.rand(5, 7, 4)
    torch.testing.assert_close(box_xyxy_to_cxcywh(box_cxcywh_to_xyxy(boxes)), boxes)


def test_iou_and_union_by_hand() -> None:
    iou, union = box_iou(A, B)
    assert iou.tolist() == [[0.25, 0.0], [0.25, 0.0]]
    assert union.tolist() == [[4, 6], [4, 6]]


def test_generalized_iou_equals_the_original() -> None:
    torch.testing.assert_close(generalized_box_iou(A, B), torch.tensor([[0.25, -0.8], [0.25, -0.7]]))


def test_paired_giou_is_the_diagonal_of_the_pairwise_one() -> None:
    boxes1, boxes2 = (box_cxcywh_to_xyxy(torch.rand(9, 4)) for _ in range(2))
    torch.testing.assert_close(
        paired_generalized_box_iou(boxes1, boxes2), generalized_box_iou(boxes1, boxes2).diagonal()
    )


def test_generalized_iou_broadcasts_over_leading_dimensions() -> None:
    boxes1, boxes2 = box_cxcywh_to_xyxy(torch.rand(3, 2, 5, 4)), box_cxcywh_to_xyxy(torch.rand(2, 4, 4))
    result = generalized_box_iou(boxes1, boxes2)
    assert result.shape == (3, 2, 5, 4)
    torch.testing.assert_close(result[1, 0], generalized_box_iou(boxes1[1, 0], boxes2[0]))


def test_two_boxes_without_area_give_nan_as_in_the_original() -> None:
    assert generalized_box_iou(torch.zeros(1, 4), torch.zeros(1, 4)).isnan().all()


@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8])
def test_masks_to_boxes(dtype: torch.dtype) -> None:
    masks = torch.zeros(2, 6, 8, dtype=dtype)
    masks[0, 2:5, 1:7] = 1
    assert masks_to_boxes(masks).tolist() == [[1, 2, 6, 4], [1e8, 1e8, 0, 0]]
    assert masks_to_boxes(masks[:0]).shape == (0, 4)


def test_a_pair_apart_changes_no_bit_of_another_pairs_gradient() -> None:
    """PyTorch's `prod` would round another way where any number of its input is 0, as an overlap may be."""
    generator = torch.Generator().manual_seed(0)
    first, second = (torch.rand(50, 4, generator=generator) * 0.2 + torch.tensor([0.4, 0.4, 0.4, 0.4]) for _ in "ab")
    first, second = box_cxcywh_to_xyxy(first), box_cxcywh_to_xyxy(second)
    apart = torch.tensor([[0.0, 0.0, 0.1, 0.1]]), torch.tensor([[0.8, 0.8, 0.9, 0.9]])
    gradients = []
    for a, b in ((first, second), tuple(torch.cat(pair) for pair in zip((first, second), apart))):
        a = a.clone().requires_grad_()
        gradients.append(torch.autograd.grad(paired_generalized_box_iou(a, b).sum(), a)[0][:50])
    assert torch.equal(*gradients)
