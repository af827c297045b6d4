"""Padding pictures to one tensor."""

import pytest
import torch

from util.nested_tensor import NestedTensor, nested_tensor_from_tensor_list


def test_pictures_are_padded_below_and_to_the_right_with_zeros() -> None:
    images = [torch.ones(3, 4, 6), 2 * torch.ones(3, 5, 2)]
    tensors, mask = nested_tensor_from_tensor_list(images).decompose()
    assert tensors.shape == (2, 3, 5, 6)  # the largest sides, not a multiple of the stride
    assert tensors[0, :, :4].eq(1).all() and tensors[0, :, 4:].eq(0).all()
    assert tensors[1, :, :, :2].eq(2).all() and tensors[1, :, :, 2:].eq(0).all()
    assert mask[0].sum() == 6 and mask[0, 4].all()
    assert mask[1].sum() == 5 * 4 and mask[1, :, 2:].all()


def test_a_batch_tensor_has_no_padding() -> None:
    batch = nested_tensor_from_tensor_list(torch.rand(2, 3, 4, 5))
    assert len(batch) == 2 and not batch.mask.any()


@pytest.mark.parametrize("images", [[], [torch.rand(4, 5)], [torch.rand(3, 4, 5), torch.rand(1, 4, 5)]])
def test_what_is_not_a_list_of_pictures_is_refused(images: list) -> None:
    with pytest.raises(ValueError, match="C, H, W"):
        nested_tensor_from_tensor_list(images)


def test_to_moves_both_parts() -> None:
    batch = NestedTensor(torch.rand(1, 3, 2, 2), torch.zeros(1, 2, 2, dtype=torch.bool)).to("meta")
    assert batch.tensors.device.type == batch.mask.device.type == "meta"
    assert "(1, 3, 2, 2)" in repr(batch)
