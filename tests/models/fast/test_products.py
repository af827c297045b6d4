"""Products of float32 by oneDNN: the numbers of PyTorch's own, and only where they are large and MKL is slow."""

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from models.fast import dropout_attention, products
from models.fast.products import linear, product, run_linear


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[int, ...]]]:
    """Sizes of the products that oneDNN computed, on a processor for which it is meant, whatever their size."""
    found: list[tuple[int, ...]] = []
    compute = products.multiply_onednn

    def counted(x: Tensor, weight: Tensor, bias: Tensor | None, **named: bool) -> Tensor:
        found.append((*x.shape, len(weight)))
        return compute(x, weight, bias, **named)

    monkeypatch.setattr(products, "multiply_onednn", counted)
    monkeypatch.setattr(products, "mkl_is_slow", lambda: True)
    monkeypatch.setattr(products, "LEAST", 0)
    yield found


def numbers(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def both_ways(monkeypatch: pytest.MonkeyPatch, compute) -> tuple[list[Tensor], list[Tensor]]:
    found = compute()
    with monkeypatch.context() as patch:
        patch.setattr(products, "mkl_is_slow", lambda: False)
        return found, compute()


@pytest.mark.parametrize("rows", [(3, 50), (150,)])
@pytest.mark.parametrize("with_bias", [True, False])
def test_values_and_gradients_of_a_linear_layer_are_pytorchs(calls, monkeypatch, rows, with_bias) -> None:
    x = numbers(*rows, 24).requires_grad_()
    weight = numbers(40, 24, seed=1).requires_grad_()
    inputs = [x, weight, numbers(40, seed=2).requires_grad_()] if with_bias else [x, weight]
    direction = numbers(*rows, 40, seed=3)

    def compute() -> list[Tensor]:
        out = linear(*inputs) if with_bias else linear(*inputs, None)
        return [out, *torch.autograd.grad((out * direction).sum(), inputs)]

    torch.testing.assert_close(*both_ways(monkeypatch, compute), rtol=1e-4, atol=1e-4)
    # Forward, the gradient of x, and that of the weight: of two ways to compute it, the one with less to copy.
    assert calls == [(*rows, 24, 40), (150, 40, 24), (24, 150, 40)]


def test_only_wanted_gradients_are_computed(calls) -> None:
    x, weight = numbers(30, 24), numbers(40, 24, seed=1).requires_grad_()
    linear(x, weight, None).sum().backward()
    assert weight.grad is not None and len(calls) == 2
    with torch.no_grad():
        linear(x, weight, None)
    assert len(calls) == 3


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("shape", [(5, 70, 9), (9, 70, 5)])
def test_products_of_matrices_in_rows_or_columns_are_pytorchs(calls, transposed, shape) -> None:
    rows, inner, columns = shape
    a = numbers(inner, rows).t() if transposed else numbers(rows, inner)
    b = numbers(inner, columns, seed=1)
    out = product(a, b)
    torch.testing.assert_close(out, a @ b, rtol=1e-4, atol=1e-4)
    assert out.is_contiguous() and len(calls) == 1


def test_small_products_other_types_and_hooked_layers_stay_with_pytorch(calls, monkeypatch) -> None:
    layer, x = nn.Linear(24, 40), numbers(30, 24)
    run_linear(layer, x)
    assert calls.pop() == (30, 24, 40)
    with torch.autocast("cpu", torch.bfloat16):
        assert run_linear(layer, x).dtype == torch.bfloat16
    assert product(x.double(), numbers(24, 3).double()).dtype == torch.float64
    seen = []
    layer.register_forward_hook(lambda *_: seen.append(1))
    run_linear(layer, x)
    assert seen
    monkeypatch.setattr(products, "LEAST", 30 * 24 * 40)
    product(x, numbers(24, 40))
    assert not calls


def test_a_compiler_is_given_pytorchs_layer(calls) -> None:
    layer, x = nn.Linear(24, 40), numbers(30, 24)
    compiled = torch.compile(lambda x: run_linear(layer, x), backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(x), layer(x))
    assert not calls


@pytest.mark.parametrize(
    ("maker", "capability", "slow"),
    [("AuthenticAMD", "AVX512", True), ("AuthenticAMD", "AVX2", False), ("GenuineIntel", "AVX512", False)],
)
def test_the_processor_decides(monkeypatch, tmp_path, maker, capability, slow) -> None:
    (tmp_path / "cpuinfo").write_text(f"processor : 0\nvendor_id : {maker}\n")
    monkeypatch.setattr(products, "Path", lambda _: tmp_path / "cpuinfo")
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    monkeypatch.setattr(torch.backends.mkl, "is_available", lambda: True)
    assert products.mkl_is_slow.__wrapped__() is slow


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("chunk", [1, 2**20])
def test_attention_with_dropout_drops_the_same_entries_with_both(calls, monkeypatch, chunk: int, masked: bool) -> None:
    monkeypatch.setattr(dropout_attention, "CHUNK", chunk)
    inputs = [numbers(2, 3, 30, 8, seed=i).requires_grad_() for i in range(3)]
    bias = torch.zeros(2, 1, 1, 30)
    bias[1, ..., 20:] = -torch.inf

    def compute() -> list[Tensor]:
        torch.manual_seed(0)
        out = dropout_attention.attend_with_dropout(*inputs, bias if masked else None, 0.25)
        return [out, *torch.autograd.grad(out.square().sum(), inputs)]

    torch.testing.assert_close(*both_ways(monkeypatch, compute), rtol=1e-4, atol=1e-4)
    # Of each head two products forward, and five backward, one of which is that of the forward pass again.
    assert len(calls) == 2 * 3 * 7


def test_rows_with_gaps_are_copied_first() -> None:
    """Passed on as they are, oneDNN takes a hundred times as long for them."""
    x, weight = numbers(30, 24), numbers(40, 48, seed=1)[:, :24]
    seen = []

    class Operators:
        @staticmethod
        def _linear_pointwise(x: Tensor, weight: Tensor, *rest) -> Tensor:
            seen.append(weight.is_contiguous())
            return x @ weight.t()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.ops, "mkldnn", Operators)
        torch.testing.assert_close(products.multiply_onednn(x, weight, None), x @ weight.t())
    assert seen == [True]
