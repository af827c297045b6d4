"""Stages that join a convolution with what follows it: the numbers of the single layers, and only where they may."""

import copy

import pytest
import torch
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock, Bottleneck, ResNet

from models.fast import joined_stage
from models.fast.checkpointing import recompute_stages
from models.fast.folded_norm import FrozenBatchNorm2d, fold_frozen_norms
from models.fast.joined_conv import can_join
from models.fast.joined_stage import JoinedNetwork, JoinedStage, join_stages
from tests.small_runs import NarrowResNet18

AMP = [pytest.param(False, id="float32"), pytest.param(True, id="bfloat16")]


class Network(nn.Sequential):
    """The first two stages of a narrow ResNet with frozen norms that change something: blocks with and without a
    shortcut of their own, with and without stride."""

    def __init__(self, block: type[BasicBlock] | type[Bottleneck]) -> None:
        width = 64 if block is BasicBlock else 16
        torch.manual_seed(0)
        network = ResNet(block, [2, 2, 1, 1], width_per_group=width, norm_layer=FrozenBatchNorm2d)
        super().__init__()
        self.layer1, self.layer2 = network.layer1, network.layer2
        for norm in self.modules():
            if isinstance(norm, FrozenBatchNorm2d):
                for buffer in norm.buffers():
                    buffer.copy_(0.5 + 0.3 * torch.rand(buffer.shape))
        self.eval()
        fold_frozen_norms(self)


def maps(size: int = 9) -> Tensor:
    # For fewer than 16 images and one thread PyTorch computes 1 x 1 convolutions in another way, rounded differently.
    x = torch.rand(16, 64, size, size, generator=torch.Generator().manual_seed(1))
    return x.contiguous(memory_format=torch.channels_last)


def run(network: nn.Module, x: Tensor, *, amp: bool = False) -> Tensor:
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=amp):
        return network(x)


def joins(monkeypatch: pytest.MonkeyPatch) -> list[nn.Module]:
    """Return a list that collects the blocks that are run joined."""
    blocks: list[nn.Module] = []
    original = joined_stage._run_block

    def spy(block: nn.Module, *args: Tensor, **kwargs: bool) -> Tensor:
        blocks.append(block)
        return original(block, *args, **kwargs)

    monkeypatch.setattr(joined_stage, "_run_block", spy)
    return blocks


def needs_operators(*, amp: bool = False) -> None:
    with torch.no_grad():
        if not can_join(maps(), torch.bfloat16 if amp else torch.float32):
            pytest.skip("this PyTorch or processor has no joined convolutions")


@pytest.mark.parametrize("amp", AMP)
@pytest.mark.parametrize("block", [BasicBlock, Bottleneck])
def test_numbers_are_those_of_the_single_layers(
    monkeypatch: pytest.MonkeyPatch, block: type[BasicBlock], amp: bool
) -> None:
    needs_operators(amp=amp)
    plain = Network(block)
    joined = copy.deepcopy(plain)
    assert join_stages(joined) == 2
    assert list(joined.state_dict()) == list(plain.state_dict())
    blocks = joins(monkeypatch)
    for size in (9, 9, 14):  # the second time with what was kept, the third with a weight packed for another size
        x = maps(size)
        exact, expected, got = run(plain, x), run(plain, x, amp=amp), run(joined, x, amp=amp)
        assert got.dtype == expected.dtype and got.stride() == expected.stride()
        if amp:  # one rounding less
            assert (got - exact).abs().mean() <= (expected - exact).abs().mean()
        else:
            assert torch.equal(got, expected)
        assert torch.equal(x, maps(size))  # the first block's input is not written to
    assert len(blocks) == 12


def test_changed_weights_and_copies_are_followed() -> None:
    needs_operators()
    plain = Network(Bottleneck)
    joined = copy.deepcopy(plain)
    join_stages(joined)
    first = run(joined, maps())
    for network in (plain, joined, again := copy.deepcopy(joined)):
        with torch.no_grad():
            network.layer1[0].conv2.weight.mul_(1.5)
            network.layer2[0].downsample[1].bias.add_(0.25)
    assert torch.equal(run(joined, maps()), run(plain, maps()))
    assert torch.equal(run(again, maps()), run(plain, maps()))
    assert not torch.equal(run(joined, maps()), first)


def test_stages_run_layer_by_layer_where_somebody_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    needs_operators()
    network = Network(Bottleneck)
    join_stages(network)
    expected, blocks = run(network, maps()), joins(monkeypatch)
    seen: list[Tensor] = []
    # Of the first stage's output: nothing may write to it later.
    network.layer1.register_forward_hook(lambda _m, _i, output: seen.append(output))
    network.layer2[1].relu.register_forward_hook(lambda _m, _i, output: seen.append(output.clone()))
    assert torch.equal(run(network, maps()), expected)
    assert len(seen) == 1 + 3 and blocks == list(network.layer1)
    assert torch.equal(run(network.layer2, seen[0]), expected)
    network.layer1[0].relu = nn.SiLU()
    blocks.clear()
    assert not torch.equal(run(network, maps()), expected) and not blocks


def test_hooks_before_convolutions_take_part(monkeypatch: pytest.MonkeyPatch) -> None:
    needs_operators()
    network, blocks = Network(BasicBlock), joins(monkeypatch)
    join_stages(network)
    network.layer1[1].conv2.register_forward_pre_hook(lambda _m, inputs: 0 * inputs[0])
    joined = run(network, maps())
    assert len(blocks) == 4
    monkeypatch.setattr(joined_stage, "can_join", lambda *_: False)
    assert torch.equal(run(network, maps()), joined)


def test_training_goes_layer_by_layer_also_where_stages_are_recomputed(monkeypatch: pytest.MonkeyPatch) -> None:
    needs_operators()
    network, blocks = Network(Bottleneck), joins(monkeypatch)
    join_stages(network)
    expected = run(network, maps())
    assert recompute_stages(network) == 2 and isinstance(network.layer1, JoinedStage)
    assert torch.equal(run(network, maps()), expected) and len(blocks) == 8
    network(maps()).sum().backward()
    assert network.layer1[0].conv1.weight.grad is not None and len(blocks) == 8


@pytest.mark.parametrize("amp", AMP)
def test_the_stem_takes_its_relu_and_maps_have_their_names(monkeypatch: pytest.MonkeyPatch, amp: bool) -> None:
    needs_operators(amp=amp)
    network = JoinedNetwork(NarrowResNet18(norm_layer=FrozenBatchNorm2d), {"layer1": "fine", "layer3": "coarse"}).eval()
    fold_frozen_norms(network)
    images = torch.rand(16, 3, 32, 32).contiguous(memory_format=torch.channels_last)
    with monkeypatch.context() as patch:
        patch.setattr(joined_stage, "can_join", lambda *_: False)
        expected = run(network, images, amp=amp)
    network["relu"].forward = None  # it is not asked any more
    found = run(network, images, amp=amp)
    assert list(found) == list(expected) == ["fine", "coarse"]
    assert all(torch.equal(found[name], expected[name]) for name in found)
