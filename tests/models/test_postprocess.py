"""From logits and relative boxes to scores, labels and pixels."""

import pytest
import torch

from models.postprocess import PostProcess


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
