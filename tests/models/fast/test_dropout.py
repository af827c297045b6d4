"""Dropout on the CPU: its share, its values by the formula, its gradients, and the same draws for the same seed."""

import pytest
import torch
from torch import Tensor

from models.fast import dropout as module
from models.fast.dropout import as_mask, clear_dropped, draw_kept, dropout, kept_share


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("shape", [(3, 50), (2, 3, 7), (1,), (0, 4)])
def test_values_and_gradients_are_the_formulas(
    dtype: torch.dtype, p: float, shape: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CHUNK", 64)  # of 3 * 50 numbers two whole parts and a rest
    x, direction = torch.randn(shape, dtype=dtype, requires_grad=True), torch.randn(shape, dtype=dtype)
    torch.manual_seed(1)
    kept = drawn(shape, p) != 0
    torch.manual_seed(1)
    out = dropout(x, p)
    scale = torch.tensor(1 / kept_share(p), dtype=dtype)
    torch.testing.assert_close(out, torch.where(kept, x * scale, 0))
    torch.testing.assert_close(torch.autograd.grad(out, x, direction)[0], torch.where(kept, direction * scale, 0))


def drawn(shape: tuple[int, ...], p: float) -> Tensor:
    """Draw for the current state of the generator."""
    return draw_kept(torch.empty(shape, dtype=torch.int8), p)


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_as_many_are_dropped_as_asked_and_the_mean_stays(p: float) -> None:
    torch.manual_seed(0)
    kept = drawn((1000, 1000), p)
    assert set(kept.unique().tolist()) == {-1, 0}, "all bits or none"
    # Four standard deviations of a mean of 10^6 decisions.
    assert (kept != 0).float().mean().item() == pytest.approx(1 - p, abs=4 * (p * (1 - p) / 1e6) ** 0.5)
    rows, columns = (kept != 0).float().mean(0), (kept != 0).float().mean(1)
    for share in (rows, columns):  # neighbours are independent: means of lines vary as much as they should
        assert share.var().item() == pytest.approx(p * (1 - p) / 1000, rel=0.2)
    out = dropout(torch.ones(1000, 1000), p)
    assert out.mean().item() == pytest.approx(1, abs=4 * (p / (1 - p) / 1e6) ** 0.5)


@pytest.mark.parametrize(("p", "dropped"), [(0.1, 6554), (0.5, 32768), (0.7, 45875), (3e-5, 2), (1 - 1e-9, 65535)])
def test_the_probability_is_the_nearest_multiple_of_a_65536th(
    monkeypatch: pytest.MonkeyPatch, p: float, dropped: int
) -> None:
    """Drawn are the numbers on both sides of the threshold; kept ones are scaled by exactly that share."""
    numbers = torch.tensor([dropped - 2, dropped - 1, dropped, 65535], dtype=torch.int64) - 2**15
    monkeypatch.setattr(module, "fill_randomly", lambda words: words.view(torch.int16).copy_(numbers))
    out = dropout(torch.ones(4, dtype=torch.float64), p)
    scale = 1 / (1 - dropped / 2**16)
    torch.testing.assert_close(out, torch.tensor([0, 0, scale, scale], dtype=torch.float64), rtol=1e-12, atol=0)


def test_a_seed_draws_the_same_again_whatever_the_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    for chunk in (2**20, 16, 2**20):
        monkeypatch.setattr(module, "CHUNK", chunk)
        torch.manual_seed(5)
        found.append(drawn((7, 9), 0.3))
    assert torch.equal(found[0], found[1]) and torch.equal(found[0], found[2])
    assert not torch.equal(drawn((7, 9), 0.3), found[0])


def test_what_is_dropped_becomes_zero_whatever_it_was() -> None:
    """Also numbers that a product with 0 would not clear; the layout in memory may be any."""
    x = torch.tensor([[1.5, torch.nan, -torch.inf], [-2.0, torch.inf, -0.0]]).t()
    kept = torch.tensor([[-1, 0], [0, 0], [0, -1]], dtype=torch.int8)
    out = clear_dropped(x, as_mask(kept, x.dtype))
    assert torch.equal(out, torch.tensor([[1.5, 0], [0, 0], [0, -0.0]])) and torch.signbit(out).sum() == 1
