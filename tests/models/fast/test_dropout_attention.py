"""Attention with dropout on the CPU: equal to the formula with the same entries dropped, in value and gradient."""

import math

import pytest
import torch
from torch import Tensor

from models.attention import MultiheadAttention
from models.fast import dropout as dropout_module
from models.fast import dropout_attention
from models.fast.dropout_attention import attend_with_dropout

B, HEADS, L, S, D = 2, 3, 5, 7, 4


def inputs(dtype: torch.dtype = torch.float64) -> tuple[list[Tensor], Tensor]:
    generator = torch.Generator().manual_seed(0)
    qkv = [torch.randn(B, n, HEADS, D, generator=generator, dtype=dtype).transpose(1, 2) for n in (L, S, S)]
    bias = torch.zeros(B, 1, 1, S, dtype=dtype)
    bias[1, ..., 5:] = -math.inf
    return [x.requires_grad_() for x in qkv], bias


def kept_entries(q: Tensor, k: Tensor, bias: Tensor | None, dropout: float) -> Tensor:
    """The entries (B, heads, L, S) that the current seed keeps: what comes out for values that are unit vectors."""
    unit = torch.eye(S, dtype=q.dtype).expand(B, HEADS, S, S)
    return attend_with_dropout_of_width(q, k, unit, bias, dropout) > 0


def attend_with_dropout_of_width(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, dropout: float) -> Tensor:
    """Values of another width than queries, column by column of the width there is."""
    columns = []
    state = torch.get_rng_state()
    for part in v.split(D, dim=-1):
        torch.set_rng_state(state)
        padded = torch.nn.functional.pad(part, (0, D - part.shape[-1]))
        columns.append(attend_with_dropout(q, k, padded, bias, dropout)[..., : part.shape[-1]])
    return torch.cat(columns, -1)


@pytest.mark.parametrize("chunk", [1, 80 * 8, 2**23])
@pytest.mark.parametrize("masked", [False, True])
def test_values_and_gradients_are_the_formulas(monkeypatch: pytest.MonkeyPatch, chunk: int, masked: bool) -> None:
    monkeypatch.setattr(dropout_attention, "CHUNK", chunk)
    (q, k, v), bias = inputs()
    bias = bias if masked else None
    with torch.no_grad():
        torch.manual_seed(3)
        kept = kept_entries(q, k, bias, 0.25)
    assert 0.5 < kept[0].double().mean() < 0.95
    torch.manual_seed(3)
    out = attend_with_dropout(q, k, v, bias, 0.25)
    weights = (q @ k.transpose(-2, -1) / math.sqrt(D) + (0 if bias is None else bias)).softmax(-1)
    expected = (weights * kept / 0.75) @ v
    torch.testing.assert_close(out, expected)
    direction = torch.randn(out.shape, dtype=out.dtype)
    got = torch.autograd.grad((out * direction).sum(), (q, k, v))
    torch.testing.assert_close(got, torch.autograd.grad((expected * direction).sum(), (q, k, v)))


@pytest.mark.parametrize("dropout", [0.1, 0.5, 0.9])
def test_as_many_are_dropped_as_asked_and_the_mean_stays(dropout: float) -> None:
    """Uniform attention over 400 keys with values 1: the mean of the output is 1, what it varies by tells the share."""
    torch.manual_seed(0)
    q, k = torch.zeros(1, 4, 300, D), torch.zeros(1, 4, 400, D)
    out = attend_with_dropout(q, k, torch.ones(1, 4, 400, D), None, dropout)[..., 0]
    assert out.mean().item() == pytest.approx(1, abs=0.01)
    assert out.var().item() == pytest.approx(dropout / (1 - dropout) / 400, rel=0.15)
    assert not torch.equal(out[0, 0], out[0, 1])


@pytest.mark.parametrize(("dropout", "dropped"), [(0.1, 6554), (0.5, 32768), (0.7, 45875), (3e-5, 2)])
def test_the_probability_is_the_nearest_multiple_of_a_65536th(
    monkeypatch: pytest.MonkeyPatch, dropout: float, dropped: int
) -> None:
    """Drawn are the numbers on both sides of the threshold; kept entries are scaled by exactly that share."""
    drawn = torch.tensor([dropped - 2, dropped - 1, dropped, dropped + 1], dtype=torch.int64) - 2**15
    monkeypatch.setattr(dropout_module, "fill_randomly", lambda words: words.view(torch.int16).copy_(drawn))
    one = torch.ones(1, 1, 4, D, dtype=torch.float64)  # four queries, one key: weights are 1
    out = attend_with_dropout(one, one[:, :, :1], one[:, :, :1], None, dropout)[0, 0, :, 0]
    kept = 1 / (1 - dropped / 2**16)
    torch.testing.assert_close(out, torch.tensor([0, 0, kept, kept], dtype=torch.float64), rtol=1e-12, atol=0)


def test_the_module_uses_it_in_training_only_and_repeats_with_the_seed() -> None:
    layer = MultiheadAttention(8, 2, dropout=0.5)
    x = torch.randn(2, 6, 8)
    outputs = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        outputs.append(layer(x, x, x)[0])
    assert outputs[0].grad_fn is not None and torch.equal(outputs[0], outputs[1])
    assert not torch.equal(outputs[0], outputs[2])
    layer.eval()
    assert torch.equal(layer(x, x, x)[0], layer(x, x, x)[0])


def test_half_precision_is_near_float32() -> None:
    (q, k, v), bias = inputs(torch.float32)
    gradients = []
    for dtype in (torch.float32, torch.bfloat16):
        torch.manual_seed(0)
        parts = [x.detach().to(dtype).requires_grad_() for x in (q, k, v)]
        out = attend_with_dropout(*parts, bias.to(dtype), 0.25)
        assert out.dtype == dtype
        out.float().square().sum().backward()
        gradients.append([x.grad.float() for x in parts])
    for exact, rounded in zip(*gradients):
        assert (exact - rounded).norm() < 0.03 * exact.norm()
