"""Attention head by head: the numbers of PyTorch's, in float32 and in bfloat16."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from models.attention import MultiheadAttention
from models.fast import products
from models.fast.head_attention import attend_by_heads


def inputs(*, masked: bool) -> tuple[list[Tensor], Tensor | None]:
    generator = torch.Generator().manual_seed(0)
    bias = torch.zeros(2, 1, 1, 30)
    bias[1, ..., 20:] = -torch.inf
    # Heads are views with gaps between their rows, as a layer's are; 25 queries, 30 keys.
    qkv = [torch.randn(2, n, 3, 8, generator=generator).transpose(1, 2) for n in (25, 30, 30)]
    return qkv, bias if masked else None


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 2e-2)])
def test_it_is_pytorchs_attention(dtype: torch.dtype, tolerance: float, masked: bool) -> None:
    qkv, bias = inputs(masked=masked)
    q, k, v = (x.to(dtype) for x in qkv)
    bias = None if bias is None else bias.to(dtype)
    out = attend_by_heads(q, k, v, bias)
    assert out.dtype == dtype
    torch.testing.assert_close(
        out, F.scaled_dot_product_attention(q, k, v, attn_mask=bias), rtol=tolerance, atol=tolerance
    )


def test_a_layer_uses_it_without_gradients_where_products_are_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def counted(*heads: Tensor | None) -> Tensor:
        calls.append(heads[0].shape)
        return attend_by_heads(*heads)

    monkeypatch.setattr("models.attention.attend_by_heads", counted)
    monkeypatch.setattr(products, "mkl_is_slow", lambda: True)
    monkeypatch.setattr(products, "LEAST", 6 * 4 * 6 - 1)  # six queries of width 4, six keys
    layer, x = MultiheadAttention(8, 2).eval(), torch.randn(1, 6, 8)
    expected = layer(x, x, x)[0]
    assert not calls  # gradients may be wanted
    with torch.no_grad():
        torch.testing.assert_close(layer(x, x, x)[0], expected)
        layer(x[:, :5], x, x)
    assert calls == [(1, 2, 6, 4)]


def test_double_precision_stays_double_and_an_empty_batch_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(products, "mkl_is_slow", lambda: True)
    monkeypatch.setattr(products, "LEAST", 0)
    layer, x = MultiheadAttention(8, 2).eval(), torch.randn(1, 6, 8)
    with torch.no_grad():
        assert layer(x[:0], x[:0], x[:0])[0].shape == (0, 6, 8)
        double = MultiheadAttention(8, 2).eval().double()
        double.load_state_dict(layer.state_dict())
        weights = double(x.double(), x.double(), x.double(), need_weights=True)[0]
        torch.testing.assert_close(double(*[x.double()] * 3)[0], weights, rtol=1e-12, atol=1e-12)
