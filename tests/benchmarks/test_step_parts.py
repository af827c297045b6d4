"""What the step benchmark counts and times, on a model small enough to count by hand."""

import pytest
import torch
from torch import Tensor, nn

from benchmarks.step_parts import StepParts, counted, matrix_rate
from engine import train_one_epoch
from tests.test_engine import CPU, batch, build


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
    assert found == {"reads": 5, "flops": 2 * 4**3}
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


def test_the_rate_of_matrix_products_is_a_rate() -> None:
    assert matrix_rate(CPU, torch.float32, size=64, repeats=1) > 1e6
