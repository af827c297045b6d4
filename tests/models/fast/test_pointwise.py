"""Gradients of 1 x 1 convolutions as products: those of PyTorch's convolution, and used where it pays."""

import pytest
import torch
from torch import Tensor, nn

from models.fast import folded_norm
from models.fast.folded_norm import FrozenBatchNorm2d, NormedConv2d
from models.fast.pointwise import pointwise_conv


@pytest.mark.parametrize("stride", [(1, 1), (2, 2), (1, 3)])
def test_outputs_and_gradients_are_those_of_a_convolution(stride: tuple[int, int]) -> None:
    generator = torch.Generator().manual_seed(0)
    shapes = [(2, 6, 5, 7), (4, 6, 1, 1), (4,)]
    x, weight, bias = (torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes)
    x = x.contiguous(memory_format=torch.channels_last).requires_grad_()
    weight.requires_grad_()
    expected = torch.conv2d(x, weight, bias, stride)
    out = pointwise_conv(x, weight, bias, stride=stride)
    assert torch.equal(out, expected)
    # Not channels last, as a gradient may come.
    gradient = torch.randn(out.shape, generator=generator, dtype=torch.float64)
    for got, wanted in zip(
        torch.autograd.grad(out, (x, weight), gradient), torch.autograd.grad(expected, (x, weight), gradient)
    ):
        torch.testing.assert_close(got, wanted, rtol=1e-12, atol=1e-12)


def test_convolutions_of_one_pixel_are_products_where_that_is_faster(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def counted(*tensors: Tensor, stride: tuple[int, int]) -> Tensor:
        calls.append(tensors[0].dtype)
        return pointwise_conv(*tensors, stride=stride)

    monkeypatch.setattr(folded_norm, "pointwise_conv", counted)
    bf16 = torch.bfloat16
    cases = [
        (1, 1, 16, bf16, [bf16]),
        (3, 1, 16, bf16, []),
        (1, 1, 16, None, []),
        (1, 2, 16, None, [torch.float32]),
        (3, 2, 16, None, []),
        (1, 1, 4, None, [torch.float32]),  # 1,024 numbers of the weight for 2 * 16 pixels
    ]
    for kernel, stride, size, dtype, wanted in cases:
        calls.clear()
        x = torch.rand(2, 32, size, size).contiguous(memory_format=torch.channels_last).requires_grad_()
        layer = NormedConv2d(nn.Conv2d(32, 32, kernel, stride, kernel // 2, bias=False), FrozenBatchNorm2d(32))
        with torch.autocast("cpu", dtype, enabled=dtype is not None):
            out = layer(x)
        out.float().square().mean().backward()
        assert calls == wanted
        # Weights train in float32, whatever the products are computed in.
        assert layer.weight.grad is not None and layer.weight.grad.dtype == torch.float32
