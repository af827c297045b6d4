"""Classes as independent sigmoids under the focal loss (Lin et al. 2017), as in Deformable DETR (`--focal`).

The class head keeps its C + 1 outputs, so that checkpoints with and without the loss exchange their rows by class; the
last, "no object", takes no part. A query sees nothing where every class is unlikely.

Shapes: B images, Q queries, C classes, T objects.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

#: Weight of objects against background, and the exponent that makes sure predictions count little.
ALPHA, GAMMA = 0.25, 2.0
#: Probability of every class at the start: else nearly all of the first losses is background called an object.
PRIOR = 0.01


def start_unlikely(class_embed: nn.Linear) -> None:
    """Set the bias of a class head so that every class starts with the probability `PRIOR`."""
    nn.init.constant_(class_embed.bias, -math.log((1 - PRIOR) / PRIOR))


def focal_losses(logits: Tensor, classes: Tensor) -> Tensor:
    """Focal loss (B, Q, C) of each query and class (equation 5 of the paper).

    Args:
        logits: (B, Q, C+1).
        classes: (B, Q) int64, C where a query has no object.
    """
    logits = logits[..., :-1]
    # (B, Q, C), all zeros without an object; F.one_hot would read the largest class back first.
    truth = (classes[..., None] == torch.arange(logits.shape[-1], device=classes.device)).to(logits.dtype)
    probability = logits.sigmoid()
    entropy = F.binary_cross_entropy_with_logits(logits, truth, reduction="none")
    # How wrong the prediction is, to a power: what is sure and right hardly counts.
    wrong = torch.where(truth > 0, 1 - probability, probability)
    weight = torch.where(truth > 0, ALPHA, 1 - ALPHA)
    # Their caller divides the sum by the objects, for background cells would make a mean vanish.
    return weight * wrong**GAMMA * entropy


def focal_cost(logits: Tensor) -> Tensor:
    """Cost (..., C+1) of matching a query to an object of each class: its loss as that class less that as nothing."""
    probability = logits.float().sigmoid()
    # -log p and -log(1 - p) without an epsilon: a logit of -10,000 costs as much as it says.
    # softplus(-x) = -log sigmoid(x), and softplus(x) = -log(1 - sigmoid(x)).
    as_object = ALPHA * (1 - probability) ** GAMMA * F.softplus(-logits.float())
    as_nothing = (1 - ALPHA) * probability**GAMMA * F.softplus(logits.float())
    return as_object - as_nothing
