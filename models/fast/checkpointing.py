"""Less memory for more time: layers whose insides are computed again in the backward pass (`--grad_checkpoint`).

Chen et al. 2016, "Training Deep Nets with Sublinear Memory Cost": only a layer's inputs are kept.
"""

from functools import partial

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint
from torchvision.models.resnet import BasicBlock, Bottleneck

from util.dist.distributed import print_once

from ..detr import DETR


def recompute_layers(detr: DETR) -> int:
    """Have transformer layers and, where they can, the backbone's blocks keep nothing but their inputs; return how many.

    Gradients are the same: random draws are repeated. A backbone is left as it is, with a printed line, where running it
    twice would change something: batch norms that train count a batch twice, and `padding_invariant` knows its masks only
    in the forward pass. Blocks are those of ResNets.
    """
    layers = [*detr.transformer.encoder.layers, *detr.transformer.decoder.layers]
    backbone = detr.backbone[0]
    blocks = [module for module in backbone.modules() if isinstance(module, (BasicBlock, Bottleneck))]
    if backbone.padding is not None or any(isinstance(m, nn.BatchNorm2d) for m in backbone.modules()) or not blocks:
        print_once("--grad_checkpoint: for the transformer's layers only; this backbone cannot be run twice")
        blocks = []
    for layer in [*layers, *blocks]:
        layer.forward = partial(_recomputed, layer.forward)
    return len(layers) + len(blocks)


def _recomputed(forward, *args, **kwargs):
    if not torch.is_grad_enabled():
        return forward(*args, **kwargs)
    return checkpoint(forward, *args, use_reentrant=False, **kwargs)
