"""The set loss with queries that only training has: further groups (`--groups`) and noised truth (`--denoising`)."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from util.targets import Target

from ..criterion import SetCriterion, boxes_of_all_processes
from ..matcher import Outputs
from ..matches import match_batch
from .set_loss import FocalCriterion

#: In the suffix of a layer's losses: the number of its group follows.
GROUP = "#"


class ExtraQueriesCriterion(SetCriterion):
    """The mean of the groups' set losses; and for noised objects `loss_ce_dn` and so on, without a matcher.

    Args:
        denoising: how often objects are noised, 0 for not at all; the rest as `SetCriterion`.
    """

    def __init__(self, *args: Any, denoising: int = 0, **named: Any) -> None:
        super().__init__(*args, **named)
        self.denoising = denoising

    @property
    def targets_to_model(self) -> bool:
        """True where the model needs the targets beside the images in training."""
        return self.denoising > 0

    def forward(
        self,
        outputs: Outputs,
        targets: Sequence[Target],
        *,
        num_boxes: Tensor | float | None = None,
        class_weight: float | None = None,
    ) -> dict[str, Tensor]:
        """Compute all losses; arguments as in `SetCriterion`, whose numbers here are those of one group."""
        if num_boxes is None:
            num_boxes = boxes_of_all_processes(targets, outputs["pred_boxes"])
        # Noised objects lie apart in `outputs`: neither the matcher nor these losses see them.
        losses = _mean_of_groups(super().forward(outputs, targets, num_boxes=num_boxes, class_weight=class_weight))
        if "denoising" in outputs:
            losses |= self.loss_denoising(outputs["denoising"], num_boxes)
        return losses

    def layers_of(self, outputs: Outputs) -> dict[str, Outputs]:
        """Predictions of every layer of every group: all are matched in one go, each by itself."""
        layers = super().layers_of(outputs)
        for number, group in enumerate(outputs.get("groups", []), start=1):
            layers |= {f"{suffix}{GROUP}{number}": layer for suffix, layer in super().layers_of(group).items()}
        return layers

    def loss_denoising(self, outputs: Outputs, num_boxes: Tensor | float) -> dict[str, Tensor]:
        """Losses of M noised objects, in all layers `pred_logits` (1, M, C+1) and `pred_boxes` (1, M, 4).

        They are divided by the number of noised objects, those beyond the queries included, as the box losses are.
        """
        # Every object appears once in each of the N groups.
        truth, noised = outputs["truth"], num_boxes * self.denoising
        every = torch.arange(len(truth["labels"]))
        layers = {f"_dn{suffix}": layer for suffix, layer in SetCriterion.layers_of(self, outputs).items()}
        # Answer m belongs to object m by construction: the identity is the match.
        matches = match_batch([[(every, every)]] * len(layers), [truth], outputs["pred_logits"])
        return self.losses_of(layers, [truth], matches, noised, class_weight=noised, losses=["labels", "boxes"])


class FocalExtraQueriesCriterion(ExtraQueriesCriterion, FocalCriterion):
    """The same with `--focal`."""


def _mean_of_groups(losses: dict[str, Tensor]) -> dict[str, Tensor]:
    """Mean over the groups that have a loss: of masks and of the encoder's cells there is one each."""
    values: dict[str, list[Tensor]] = {}
    for name, value in losses.items():
        # `loss_ce_0#2` belongs to `loss_ce_0`: group 2's loss of auxiliary layer 0.
        values.setdefault(name.partition(GROUP)[0], []).append(value)
    return {name: torch.stack(group).mean(0) if len(group) > 1 else group[0] for name, group in values.items()}
