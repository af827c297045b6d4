"""A model of bfloat16 weights and activations (`--bf16`), as CPPE-5's scripts have it; boxes and losses are float32.

Weights of 8 bits lose what a step changes by less than a 256th of them: `--amp bf16` keeps them in float32 and costs
little more. Class and box heads stay in float32 here, so that scores, boxes, costs of matching and losses are as wide
as ever.
"""

from typing import Any

import torch
from torch import Tensor, nn

from models.detector import DETR
from util.nested_tensor import NestedTensor


def compute_in_bfloat16(model: DETR) -> None:
    """Turn a plain DETR's weights to bfloat16 but for its heads, in place; its outputs stay float32."""
    heads = (model.class_embed, model.bbox_embed)
    for part in model.children():
        if part not in heads:  # there and back would round their weights, and a resumed run would be another
            part.to(torch.bfloat16)
    model.register_forward_pre_hook(_narrow_images)
    for head in heads:
        head.register_forward_pre_hook(_widen)


def _narrow_images(model: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    samples, *rest = inputs
    if isinstance(samples, NestedTensor):
        samples = NestedTensor(samples.tensors.to(torch.bfloat16), samples.mask)
    return samples, *rest


def _widen(head: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return tuple(x.float() for x in inputs)
