"""ReLU and dropout as one step: the bits of both, and less kept for the backward pass."""

import pytest
import torch
import torch.nn.functional as F

from models.fast.dropout import dropout
from models.fast.relu_dropout import relu_dropout
from models.layers import TransformerEncoderLayer
from util.profiling.step_counter import StepCounts, saved_for_backward


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("p", [0.1, 0.5])
def test_values_gradients_and_random_numbers_are_those_of_relu_and_then_dropout(dtype: torch.dtype, p: float) -> None:
    x = torch.randn(3, 50, dtype=dtype, requires_grad=True)
    direction = torch.randn(3, 50, dtype=dtype)
    found = []
    for function in (relu_dropout, lambda x, p: dropout(F.relu(x), p)):
        torch.manual_seed(1)
        out = function(x, p)
        found.append((out, torch.autograd.grad(out, x, direction)[0], torch.rand(1)))
    for ours, theirs in zip(*found):
        assert torch.equal(ours, theirs)


def test_a_layer_keeps_less_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    layer, x = TransformerEncoderLayer(8, 2, 64, batch_first=True), torch.randn(2, 30, 8)
    kept = []
    for function in (relu_dropout, lambda x, p: F.dropout(F.relu(x), p)):
        monkeypatch.setattr("models.layers.relu_dropout", function)
        counts = StepCounts()
        with saved_for_backward(counts, layer):
            out = layer(x)
        kept.append(counts.saved)
        assert out.requires_grad
    hidden = 2 * 30 * 64 * 4
    assert kept[1] - kept[0] == 2 * hidden, "the ReLU's output and the dropout's mask are not kept"
