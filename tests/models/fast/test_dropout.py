"""Dropout on the CPU: PyTorch's decisions, values, gradients and random numbers, to the bit."""

import pytest
import torch
import torch.nn.functional as F

from models.fast import dropout as module
from models.fast.dropout import as_mask, clear_dropped, draw_kept, dropout


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_values_gradients_and_random_numbers_are_pytorchs(
    dtype: torch.dtype, p: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CHUNK", 64)  # 3 * 50 numbers: two whole parts and a rest
    x, direction = torch.randn(3, 50, dtype=dtype, requires_grad=True), torch.randn(3, 50, dtype=dtype)
    found = []
    for function in (dropout, F.dropout):
        torch.manual_seed(1)
        out = function(x, p)
        found.append((out, torch.autograd.grad(out, x, direction)[0], torch.rand(1)))
    for ours, theirs in zip(*found):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("shape", [(0, 4), (1,), (2, 3, 5)])
def test_decisions_are_those_of_bernoulli(shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    expected = torch.empty(shape).bernoulli_(0.7)
    torch.manual_seed(0)
    assert torch.equal(-draw_kept(torch.Size(shape), 0.3).float(), expected)


def test_what_is_dropped_becomes_zero_whatever_it_was() -> None:
    """Also numbers that a product with 0 would not clear; the layout in memory may be any."""
    x = torch.tensor([[1.5, torch.nan, -torch.inf], [-2.0, torch.inf, -0.0]]).t()
    kept = torch.tensor([[-1, 0], [0, 0], [0, -1]], dtype=torch.int8)
    out = clear_dropped(x, as_mask(kept, x.dtype))
    assert torch.equal(out, torch.tensor([[1.5, 0], [0, 0], [0, -0.0]])) and torch.signbit(out).sum() == 1
