"""Layers computed again in the backward pass: the same losses and gradients, less that is kept."""

import pytest
import torch

from engine import compute_losses
from tests.helpers import batch, build

pytestmark = pytest.mark.usefixtures("narrow_resnet18")


def losses_gradients_and_memory(flags: str) -> tuple[dict, dict, int]:
    torch.manual_seed(0)
    model, criterion, _ = build(f"--dropout 0.3 {flags}")
    model.train()
    kept: dict[int, int] = {}

    def note(tensor: torch.Tensor) -> torch.Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    samples, targets = batch()
    targets = [t | {"masks": torch.ones(1, 64, 64, dtype=torch.bool)} for t in targets]
    torch.manual_seed(1)
    with torch.autograd.graph.saved_tensors_hooks(note, lambda t: t):
        _, losses = compute_losses(model, criterion, samples, targets)
        bytes_kept = sum(kept.values()) - sum(p.untyped_storage().nbytes() for p in model.parameters())
    criterion.total(losses).backward()
    gradients = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    return {name: loss.item() for name, loss in losses.items()}, gradients, bytes_kept


@pytest.mark.parametrize("flags", ["", "--masks", "--backbone_norm batch", "--padding_invariant"])
def test_losses_and_gradients_are_the_same(capsys: pytest.CaptureFixture, flags: str) -> None:
    expected, got = losses_gradients_and_memory(flags), losses_gradients_and_memory(f"{flags} --grad_checkpoint")
    assert got[0] == pytest.approx(expected[0], rel=1e-6) and got[1].keys() == expected[1].keys()
    for name, value in expected[1].items():
        torch.testing.assert_close(got[1][name], value, rtol=1e-5, atol=1e-7, msg=name)
    assert got[2] < expected[2]
    assert ("cannot be run twice" in capsys.readouterr().out) == ("batch" in flags or "invariant" in flags)
