"""Small checkpoints with random weights, as `main.py` writes them."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import nn

from models.config import Architecture, build_detector
from util.runs.checkpoint import save_checkpoint

NAMES = {1: "cat", 2: "dog", 3: "cup"}


def write_checkpoint(
    path: Path, *, names: dict[int, str] | None = None, category_ids: dict[int, int] | None = None, **parts: Any
) -> Path:
    """Write a detector that is not trained, for images with a shorter side of 64; `parts` change its architecture.

    With `category_ids` it is as one trained with --dense_labels.

    Its scores and boxes differ from query to query and image to image: heads start at a scale at which they do.
    """
    torch.manual_seed(1)
    small = {"backbone": "resnet18", "enc_layers": 1, "dec_layers": 2, "hidden_dim": 32, "nheads": 2}
    small |= {"dim_feedforward": 32, "num_queries": 6, "num_classes": 4, "pre_norm": True}
    architecture = Architecture(**(small | parts))
    model = build_detector(architecture)
    detr: Any = getattr(model, "detr", model)
    nn.init.normal_(detr.class_embed.weight, std=1)
    nn.init.normal_(detr.query_embed.weight, std=5)
    nn.init.normal_(detr.bbox_embed.layers[-1].weight, std=0.3)
    with torch.no_grad():  # of all queries together no class is likelier than another
        mean = detr.eval().detect([torch.randn(3, 64, 64)])[1].queries.mean((0, 1))
        detr.class_embed.bias.copy_(-detr.class_embed.weight @ mean)
        detr.class_embed.bias[[0, -1]] -= 9  # but "no object", and the id that has no name
    state: dict[str, Any] = {"model": model.state_dict()}
    state["args"] = asdict(architecture) | {"image_size": 64, "max_size": 107, "dataset_file": "custom"}
    if names is not None:
        state["class_names"] = names
    if category_ids is not None:
        state["category_ids"] = category_ids
    save_checkpoint(path, state)
    return path
