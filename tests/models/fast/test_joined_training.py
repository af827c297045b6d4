"""Training through joined convolutions: the single layers' output and gradients, and nothing kept of a frozen stage."""

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode
from torchvision.models.resnet import BasicBlock, Bottleneck

from models.fast import joined_stage, joined_training
from models.fast.joined_stage import join_stages
from tests.models.fast.test_joined_stage import Network, maps, needs_operators


def step(network: nn.Module, x: Tensor, *, amp: bool) -> tuple[Tensor, dict[str, Tensor]]:
    """Output, and the gradients of the input and of all parameters that train."""
    # Numbers that bfloat16 has, as behind other layers: a stage rounds what it is given, single layers each for itself.
    x = x.bfloat16().float().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16, enabled=amp):
        out = network(x)
    direction = torch.rand(out.shape, generator=torch.Generator().manual_seed(2))
    parameters = {name: p for name, p in network.named_parameters() if p.requires_grad}
    found = torch.autograd.grad((out.float() * direction).sum(), [x, *parameters.values()])
    return out.detach(), dict(zip(["x", *parameters], found))


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Collect for each joined convolution with gradients if these are products."""
    seen: list[bool] = []
    forward = joined_training._Joined.forward
    spy = lambda ctx, *args: seen.append(args[-1]) or forward(ctx, *args)
    monkeypatch.setattr(joined_training._Joined, "forward", staticmethod(spy))
    return seen


@pytest.mark.parametrize("amp", [False, True])
@pytest.mark.parametrize("block", [BasicBlock, Bottleneck])
@pytest.mark.parametrize("size", [9, 2])  # the smaller maps have fewer numbers than some weights
def test_a_step_is_that_of_the_single_layers(
    block: type[BasicBlock], amp: bool, size: int, calls: list[bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    needs_operators(amp=amp)
    joined = Network(block)
    join_stages(joined)
    joined.layer1[0].conv1.weight.requires_grad_(False)  # one that does not train behind an input that does
    out, gradients = step(joined, maps(size), amp=amp)
    assert calls
    monkeypatch.setattr(joined_stage, "can_join", lambda *_: False)
    expected, wanted = step(joined, maps(size), amp=amp)
    assert out.dtype == expected.dtype and out.stride() == expected.stride()
    assert all(gradient.dtype == torch.float32 for gradient in gradients.values())
    if not amp:
        assert torch.equal(out, expected)
        assert all(torch.equal(gradient, wanted[name]) for name, gradient in gradients.items())
        return
    # Both are rounded to 8 bits at every layer: ours is about as near to float32 as the single layers are.
    _, exact = step(joined, maps(size), amp=False)
    apart, usual = (sum((g[name] - exact[name]).norm() / exact[name].norm() for name in g) for g in (gradients, wanted))
    assert apart < 1.5 * usual


def test_a_frozen_stage_keeps_nothing_and_counters_see_single_layers(calls: list[bool]) -> None:
    needs_operators()
    network = Network(Bottleneck)
    plain = copy.deepcopy(network)
    join_stages(network)
    network.layer1.requires_grad_(False)
    out = network.layer1(maps())
    assert not out.requires_grad and not calls
    assert torch.equal(out, plain.layer1(maps()))
    network.layer2(out).sum().backward()
    joined = len(calls)
    assert joined
    with FlopCounterMode(display=False) as flops:
        network(maps()).sum().backward()
    assert len(calls) == joined and flops.get_total_flops() > 0
