"""Padding images to one tensor."""

import pytest
import torch

from util.nested_tensor import IMAGENET_MEAN, IMAGENET_STD, NestedTensor, nested_tensor_from_tensor_list


def test_images_are_padded_below_and_to_the_right_with_zeros() -> None:
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
def test_what_is_not_a_list_of_images_is_refused(images: list) -> None:
    with pytest.raises(ValueError, match="C, H, W"):
        nested_tensor_from_tensor_list(images)


def test_to_moves_both_parts() -> None:
    batch = NestedTensor(torch.rand(1, 3, 2, 2), torch.zeros(1, 2, 2, dtype=torch.bool)).to("meta")
    assert batch.tensors.device.type == batch.mask.device.type == "meta"
    assert "(1, 3, 2, 2)" in repr(batch)


def test_a_canvas_fixes_the_size_and_refuses_larger_images() -> None:
    images = [torch.ones(3, 4, 6, dtype=torch.uint8), torch.ones(3, 5, 2, dtype=torch.uint8)]
    tensors, mask = nested_tensor_from_tensor_list(images, canvas=(8, 7)).decompose()
    assert tensors.shape == (2, 3, 8, 7) and tensors.sum() == 3 * (24 + 10)
    assert (~mask).flatten(1).sum(1).tolist() == [24, 10] and not mask[0, :4, :6].any() and not mask[1, :5, :2].any()
    for canvas in ((4, 7), (8, 5)):
        with pytest.raises(ValueError, match="too small"):
            nested_tensor_from_tensor_list(images, canvas=canvas)


def test_bytes_normalise_to_the_closed_form_with_zeros_on_padding() -> None:
    levels = torch.arange(256, dtype=torch.uint8).reshape(1, 16, 16).repeat(3, 1, 1)
    batch = nested_tensor_from_tensor_list([levels, levels[:, :5, :9]]).normalized()
    for c in range(3):
        expected = (torch.arange(256, dtype=torch.float64) / 255 - IMAGENET_MEAN[c]) / IMAGENET_STD[c]
        torch.testing.assert_close(batch.tensors[0, c].double().flatten(), expected, atol=1e-6, rtol=0)
    assert batch.tensors.dtype == torch.float32 and batch.tensors[1][:, batch.mask[1]].eq(0).all()
    assert torch.equal(batch.tensors[1, :, :5, :9], batch.tensors[0, :, :5, :9])


def test_floats_are_taken_for_normalised() -> None:
    batch = nested_tensor_from_tensor_list([torch.rand(3, 2, 2)])
    assert batch.normalized() is batch
