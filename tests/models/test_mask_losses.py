"""Focal and dice loss: the original's values, their textbook formulas, and gradients."""

import pytest
import torch

from models.mask_losses import dice, focal, mask_losses
from models.segmentation import dice_loss, sigmoid_focal_loss

LOGITS = 3 * torch.sin(torch.arange(12, dtype=torch.float32)).view(2, 6)
TRUTH = (torch.arange(12) % 3 == 0).view(2, 6)


def test_values_of_the_original() -> None:
    assert dice_loss(LOGITS, TRUTH, 2).item() == pytest.approx(0.479883, abs=1e-6)
    assert sigmoid_focal_loss(LOGITS, TRUTH, 2).item() == pytest.approx(0.582946, abs=1e-6)


def test_focal_loss_is_the_papers_formula_with_its_gradient() -> None:
    logits = (20 * torch.randn(3, 50, generator=torch.Generator().manual_seed(0), dtype=torch.float64)).requires_grad_()
    truth = torch.rand(3, 50, generator=torch.Generator().manual_seed(1), dtype=torch.float64) < 0.3
    p = torch.where(truth, logits.sigmoid(), (-logits).sigmoid())
    weight = torch.where(truth, 0.25, 0.75)
    expected = (-weight * (1 - p) ** 2 * p.clamp(min=1e-300).log()).mean(1)
    got = focal(logits, truth.double())
    torch.testing.assert_close(got, expected)
    for a, b in zip(*(torch.autograd.grad(x.sum(), logits, retain_graph=True) for x in (got, expected)), strict=True):
        torch.testing.assert_close(a, b)


def test_without_alpha_and_gamma_it_is_cross_entropy() -> None:
    expected = torch.nn.functional.binary_cross_entropy_with_logits(LOGITS, TRUTH.float(), reduction="none").mean(1)
    torch.testing.assert_close(focal(LOGITS, TRUTH.float(), alpha=-1, gamma=0), expected)


def test_a_perfect_mask_costs_nothing_and_an_empty_one_is_smoothed() -> None:
    perfect = torch.where(TRUTH, 50.0, -50.0)
    assert dice(perfect, TRUTH.float()).abs().max() < 1e-6 and focal(perfect, TRUTH.float()).abs().max() < 1e-6
    nothing = torch.full((1, 6), -50.0)
    assert dice(nothing, torch.zeros(1, 6)).item() == pytest.approx(0)  # the + 1: nothing there, nothing found


def test_masks_are_enlarged_bilinearly_to_the_objects() -> None:
    truth = torch.zeros(1, 8, 8, dtype=torch.bool)
    truth[:, :4] = True
    masks = torch.tensor([[[40.0, 40.0], [-40.0, -40.0]]])
    rows = torch.tensor([40.0, 40, 30, 10, -10, -30, -40, -40])  # half-pixel centres, edges repeated
    losses = mask_losses(masks, truth)
    expected = rows[:, None].expand(8, 8).reshape(1, 64)
    torch.testing.assert_close(losses[:, 0], focal(expected, truth.flatten(1).float()))
    torch.testing.assert_close(losses[:, 1], dice(expected, truth.flatten(1).float()))
