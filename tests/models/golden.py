"""Closed-form predictions and targets whose losses the original DETR was run on."""

import torch


def golden_outputs() -> dict:
    """Two images, four queries, five classes, one auxiliary layer."""
    logits = torch.sin(torch.arange(48, dtype=torch.float32)).view(2, 4, 6)
    boxes = torch.sigmoid(torch.cos(torch.arange(32, dtype=torch.float32))).view(2, 4, 4)
    boxes[..., 2:] *= 0.4
    aux = {"pred_logits": 0.5 * logits, "pred_boxes": boxes.flip(1)}
    return {"pred_logits": logits, "pred_boxes": boxes, "aux_outputs": [aux]}


def golden_targets() -> list[dict]:
    """Two objects in the first image, one in the second."""
    return [
        {"labels": torch.tensor([1, 3]), "boxes": torch.tensor([[0.3, 0.4, 0.2, 0.2], [0.6, 0.5, 0.3, 0.1]])},
        {"labels": torch.tensor([0]), "boxes": torch.tensor([[0.5, 0.5, 0.4, 0.6]])},
    ]
