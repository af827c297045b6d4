"""A training in bfloat16 beside one in float32."""

import pytest
import torch

from engine import StepContext, train_one_epoch
from tests.helpers import CPU, batch, build
from util.dist.precision import Precision

pytestmark = pytest.mark.usefixtures("narrow_resnet18")


def losses_of_training(precision: Precision, steps: int = 24) -> list[float]:
    """Loss of every step on two images that are learned by heart."""
    torch.manual_seed(0)
    model, criterion, _ = build("--backbone_norm batch")
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-4, fused=True)
    return [
        train_one_epoch(model, criterion, [batch()], optimizer, CPU, epoch, 0.1, context=StepContext(precision=precision))["loss"]
        for epoch in range(steps)
    ]


@pytest.mark.slow
def test_the_loss_of_a_short_run_stays_near_float32s() -> None:
    expected, losses = losses_of_training(Precision(CPU)), losses_of_training(Precision(CPU, torch.bfloat16))
    assert losses != expected, "nothing was rounded: no autocast"
    assert sum(losses[12:]) == pytest.approx(sum(expected[12:]), rel=0.03)
    assert losses[-1] < 0.7 * losses[0]
