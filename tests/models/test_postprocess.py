"""From logits and relative boxes to scores, labels and pixels."""

import pytest
import torch

from models.postprocess import PostProcess, PostProcessSegm


def test_second_best_class_when_no_object_wins_and_boxes_in_pixels() -> None:
    logits = torch.tensor([[[1.0, 3.0, 9.0], [2.0, 0.0, -9.0]]])
    boxes = torch.tensor([[[0.5, 0.5, 0.2, 0.4], [0.0, 0.0, 0.5, 0.5]]])
    (result,) = PostProcess()({"pred_logits": logits, "pred_boxes": boxes}, torch.tensor([[100, 200]]))
    assert result["labels"].tolist() == [1, 0]
    torch.testing.assert_close(result["scores"], logits[0].softmax(-1)[[0, 1], [1, 0]])
    torch.testing.assert_close(result["boxes"], torch.tensor([[80.0, 30, 120, 70], [-50, -25, 50, 25]]))  # not clipped


def test_sizes_must_fit_the_batch() -> None:
    outputs = {"pred_logits": torch.zeros(2, 3, 4), "pred_boxes": torch.zeros(2, 3, 4)}
    with pytest.raises(ValueError, match="target_sizes"):
        PostProcess()(outputs, torch.tensor([[100, 200]]))


def test_masks_are_cut_off_where_the_image_ends_and_brought_to_its_original_size() -> None:
    """On a canvas of 8 x 12 the first image has 8 x 6 pixels; its mask covers the upper half and the padding."""
    masks = torch.full((2, 1, 2, 3), -30.0)
    masks[:, :, 0] = 30.0
    masks[0, 0, :, 2] = 30.0
    sizes, originals = torch.tensor([[8, 6], [4, 12]]), torch.tensor([[16, 12], [2, 6]])
    first, second = PostProcessSegm()([{}, {}], {"pred_masks": masks}, originals, sizes)
    assert first["masks"].shape == (1, 1, 16, 12) and first["masks"].dtype == torch.uint8
    assert first["masks"][0, 0, :8].all() and not first["masks"][0, 0, 8:].any()
    assert second["masks"].shape == (1, 1, 2, 6) and second["masks"].all()  # the upper half of the canvas


def test_a_larger_canvas_and_the_threshold_are_heeded() -> None:
    masks = torch.tensor([[[[1.0, -30.0]]]])
    whole = torch.tensor([[1, 8]])
    on = PostProcessSegm()([{}], {"pred_masks": masks, "canvas": (1, 16)}, whole, whole)[0]["masks"]
    assert on.flatten().tolist() == [1] * 4 + [0] * 4  # a slope from 1 at pixel 3.5 to -30 at pixel 11.5
    sure = PostProcessSegm(threshold=0.8)([{}], {"pred_masks": masks, "canvas": (1, 16)}, whole, whole)[0]["masks"]
    assert not sure.any()  # sigmoid(1) is 0.73


def test_original_and_processed_sizes_must_be_as_many() -> None:
    with pytest.raises(ValueError, match="2 original sizes for 1"):
        PostProcessSegm()([{}], {"pred_masks": torch.zeros(1, 1, 2, 2)}, torch.ones(2, 2).int(), torch.ones(1, 2).int())
