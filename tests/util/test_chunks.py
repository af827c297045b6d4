"""A few rows at a time: the same results and gradients, one call per part, and parts computed again instead of kept."""

import pytest
import torch
from torch import Tensor

from util.chunks import in_chunks


@pytest.mark.parametrize(("chunk", "calls"), [(0, 1), (7, 1), (3, 3), (1, 7)])
def test_results_and_gradients_do_not_depend_on_the_chunk(chunk: int, calls: int) -> None:
    generator = torch.Generator().manual_seed(0)
    x, y, w = (torch.randn(size, generator=generator, requires_grad=True) for size in ((7, 4), (7, 4), (4, 5)))
    seen = []

    def function(a: Tensor, b: Tensor) -> Tensor:
        seen.append(len(a))
        return ((a * b.sin()) @ w).tanh()

    got = torch.autograd.grad(in_chunks(function, x, y, chunk=chunk).square().sum(), (x, y, w))
    expected = torch.autograd.grad(((x * y.sin()) @ w).tanh().square().sum(), (x, y, w))
    for a, b in zip(got, expected, strict=True):
        torch.testing.assert_close(a, b)
    assert sum(seen) == 7 * (1 if calls == 1 else 2) and len(seen) == (1 if calls == 1 else 2 * calls)


@pytest.mark.parametrize("chunk", [0, 3])
def test_no_rows_are_one_call_and_a_gradient_of_zero(chunk: int) -> None:
    w = torch.ones(4, 5, requires_grad=True)
    result = in_chunks(lambda x: x @ w, torch.zeros(0, 4), chunk=chunk)
    assert result.shape == (0, 5)
    result.sum().backward()
    assert w.grad.eq(0).all()
