"""Shapes of everything that passes through a detector, for a reader of the code (`main.py --print_shapes`)."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from .detector import DETR
from .segmentation import DETRsegm

#: Modules that get a row, as regular expressions on the names of the state dict, and what they compute.
PARTS = {
    r"backbone\.0\.body\.(conv1|maxpool|layer\d|features|stem|trunk_output|stages?_\d)": "features (B, channels, h, w)",
    r"backbone\.1": "position encoding (B, D, h, w)",
    r"input_proj": "features at the transformer's width (B, D, h, w)",
    r"transformer\.encoder\.layers\.\d+": "cells of the feature map (B, h*w, D)",
    r"transformer\.decoder\.layers\.\d+": "queries (B, Q, D)",
    r"transformer\.decoder": "every decoder layer's queries (L, B, Q, D)",
    r"class_embed": "class scores, the last one \"no object\" (L, B, Q, C+1)",
    r"bbox_embed": "boxes before the sigmoid (L, B, Q, 4)",
    r"bbox_attention": "attention of queries to cells (B, Q, heads, h, w)",
}  # fmt: skip


class PartShape(NamedTuple):
    """A row of the table: a module, the shape of its output, its parameters, and the meaning of the output."""

    name: str
    shape: tuple[int, ...]
    parameters: int
    meaning: str


def shapes_of(model: DETR | DETRsegm, images: Tensor) -> list[PartShape]:
    """Run images (B, 3, H, W) through a model; return a row for each part, in the order of the computation."""
    rows = [PartShape("images", tuple(images.shape), 0, "padded images (B, 3, H, W)")]
    was_training = model.training
    with torch.no_grad(), _rows_of_parts(model, rows):
        outputs = model.eval()(images)
    # As it was: `--print_shapes` may be followed by a training.
    model.train(was_training)
    meanings = {
        "pred_logits": "(B, Q, C+1)",
        "pred_boxes": "cxcywh in 0..1 (B, Q, 4)",
        "pred_masks": "over the padded images (B, Q, H/4, W/4)",
    }
    rows += [PartShape(key, tuple(outputs[key].shape), 0, text) for key, text in meanings.items() if key in outputs]
    return rows


def format_shapes(rows: list[PartShape]) -> str:
    """Return the rows as an aligned table; neighbours that differ only in their number are one line."""
    lines = [("part", "shape", "parameters", "output")]
    for name, shape, parameters, meaning in _joined(rows):
        lines.append((name, " x ".join(map(str, shape)), f"{parameters:,}" if parameters else "", meaning))
    widths = [max(len(line[column]) for line in lines) for column in range(3)]
    return "\n".join(
        f"{name:{widths[0]}}  {shape:{widths[1]}}  {parameters:>{widths[2]}}  {meaning}".rstrip()
        for name, shape, parameters, meaning in lines
    )


@contextmanager
def _rows_of_parts(model: nn.Module, rows: list[PartShape]) -> Iterator[None]:
    """Append a row whenever a part of the model has computed its output."""
    handles = []
    for name, module in model.named_modules():
        for pattern, meaning in PARTS.items():
            if re.fullmatch(rf"(detr\.)?{pattern}", name):
                # Hooks see what really passes by, so the table cannot differ from the code.
                handles.append(module.register_forward_hook(partial(_append, rows, name, meaning)))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _append(rows: list[PartShape], name: str, meaning: str, module: nn.Module, _: Any, output: Any) -> None:
    parameters = sum(parameter.numel() for parameter in module.parameters())
    rows.append(PartShape(name, tuple(output.shape), parameters, meaning))


def _joined(rows: list[PartShape]) -> list[PartShape]:
    """Join layers of equal shape and size: `encoder.layers.0` to `encoder.layers.5`, with the parameters of all."""
    joined: list[PartShape] = []
    for row in rows:
        last = joined[-1] if joined else None
        stem, number = re.fullmatch(r"(.*?)(\d*)", row.name).groups()  # type: ignore[union-attr]
        # A ResNet's `layer1` to `layer4` stay apart: their shapes differ.
        if last and number and last.name.startswith(f"{stem}0") and "layers" in stem and last.shape == row.shape:
            row = row._replace(name=f"{stem}0 to {number}", parameters=last.parameters + row.parameters)
            joined.pop()
        joined.append(row)
    return joined
