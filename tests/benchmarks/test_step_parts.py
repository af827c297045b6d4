"""Counts and times of the step benchmark, on a model small enough to count by hand."""

from collections.abc import Callable
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

from benchmarks import step_parts
from benchmarks.step_parts import StepParts, best_rate, counted, counted_kernels, is_kernel
from engine import train_one_epoch
from tests.helpers import CPU, batch, build


class Reader(nn.Module):
    """Reads the device five times in a forward pass: two numbers, a branch, a mask and a copy to the host."""

    def forward(self, x: Tensor) -> Tensor:
        x.sum().item()
        float(x.mean())
        if x.max() > 100:
            return x
        x[x > 0].cpu()
        return x @ x


def test_reads_from_the_forward_pass_on_and_operations_are_counted() -> None:
    model, found = Reader(), {}
    optimizer = torch.optim.AdamW([nn.Parameter(torch.zeros(1))], foreach=True)
    x = torch.randn(4, 4)
    with counted(model, optimizer, found):
        int(x[0, 0])  # before the forward pass: the host's
        model(x)
        optimizer.step()
    assert (found["reads"], found["flops"]) == (5, 2 * 4**3) and found["operators"] > 5
    assert Tensor.cpu(x) is x and not model._forward_pre_hooks


def test_a_step_of_ours_reads_the_device_twice() -> None:
    model, criterion, _ = build()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
    found: dict[str, int] = {}
    with counted(model, optimizer, found):
        train_one_epoch(model, criterion, [batch()], optimizer, CPU, 0, 0.1)
    assert found["reads"] == 2, "the matcher's costs, and the log"


def test_parts_add_up_to_the_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Tensor, "backward", Tensor.backward)  # put back what is wrapped
    model, criterion, _ = build()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    parts = StepParts(model, criterion, optimizer, cuda=False)
    train_one_epoch(model, criterion, [batch()], optimizer, CPU, 0, 0.1)
    taken = parts.take(100.0)
    assert sum(taken.values()) == pytest.approx(100) and taken["rest"] > 50
    assert all(taken[name] > 0 for name in ("forward", "matcher", "loss", "backward", "optimizer"))
    assert parts.seconds == {}


@pytest.mark.parametrize("product, convolution, rate", [(1e9, 2.0, 512 * 16 * 9), (2.0, 2.0, 256**3)])
def test_the_rate_is_of_the_faster_of_products_and_convolutions(
    product: float, convolution: float, rate: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A product of matrices of 256, or a convolution of 16 channels of 512 numbers: each a multiply and an add."""
    times = iter([product] * 2 + [convolution] * 2)

    def seconds(work: Callable[[], Tensor], _device: torch.device) -> float:
        assert work().shape in ((256, 256), (2, 16, 4, 4))
        return next(times)

    monkeypatch.setattr(step_parts, "_seconds", seconds)
    assert best_rate(CPU, torch.float32, size=256, repeats=1) == rate


def test_kernels_are_counted_without_copies_fills_and_ranges() -> None:
    def event(name: str, device: str = "CUDA", named: bool = False) -> SimpleNamespace:
        return SimpleNamespace(
            name=name, device_type=getattr(torch.autograd.DeviceType, device), is_user_annotation=named
        )

    events = [event("gemm"), event("Memcpy HtoD"), event("Memset"), event("aten::mm", "CPU"), event("step", named=True)]
    assert [is_kernel(e) for e in events] == [True, False, False, False, False]
    found: dict[str, int] = {}
    with counted_kernels(CPU, found):
        pass
    assert found == {}
