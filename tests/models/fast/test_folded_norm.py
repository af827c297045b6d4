"""Frozen norms inside the convolutions before them: the same numbers, gradients and names, and nothing stale."""

import copy
from functools import partial

import pytest
import torch
import torchvision
from torch import Tensor, nn
from torchvision.models import MobileNetV2
from torchvision.models.resnet import Bottleneck, ResNet

from models import backbone as backbone_module
from models.backbone import Backbone
from models.fast.folded_norm import FrozenBatchNorm2d, NormedConv2d, fold_frozen_norms
from tests.small_runs import NarrowResNet18
from util.nested_tensor import NestedTensor


def shuffled(backbone: Backbone) -> Backbone:
    """With norms that change something, as those of ImageNet do."""
    generator = torch.Generator().manual_seed(0)
    for norm in backbone.modules():
        if isinstance(norm, FrozenBatchNorm2d):
            for buffer in norm.buffers():
                buffer.copy_(1 + 0.3 * torch.rand(buffer.shape, generator=generator))
    return backbone


def results(backbone: Backbone) -> dict[str, Tensor]:
    images = torch.rand(2, 3, 64, 48, generator=torch.Generator().manual_seed(1)).to(next(backbone.parameters()).dtype)
    features = backbone(NestedTensor(images, torch.zeros(2, 64, 48, dtype=torch.bool)))["0"].tensors
    features.square().mean().backward()
    gradients = {name: p.grad for name, p in backbone.named_parameters() if p.grad is not None}
    backbone.zero_grad()
    return {"features": features.detach()} | gradients


def shortened(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Make a network narrow, and leave a ResNet its two kinds of blocks, one of them only in the first stage."""
    bottlenecks = partial(ResNet, Bottleneck, [2, 2, 1, 1])
    build = {
        "resnet18": partial(NarrowResNet18, blocks=[2, 2, 1, 1]),
        "resnet50": partial(bottlenecks, width_per_group=16),
        "resnext50_32x4d": partial(bottlenecks, groups=4, width_per_group=4),
        "mobilenet_v2": partial(MobileNetV2, width_mult=0.25),
    }[name]
    monkeypatch.setattr(torchvision.models, name, lambda weights, **given: build(**given))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["resnet18", "resnet50", "resnext50_32x4d", "mobilenet_v2"])
@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("map_size", [None, 0, 10**9], ids=["as it pays", "never folded", "always folded"])
def test_features_and_gradients_are_those_of_two_layers(
    monkeypatch: pytest.MonkeyPatch, name: str, channels_last: bool, map_size: int | None
) -> None:
    shortened(monkeypatch, name)
    if map_size is not None:
        monkeypatch.setattr(NormedConv2d, "_map_size", lambda self, x: map_size)
    folded = shuffled(Backbone(weights="none", name=name, channels_last=channels_last))
    monkeypatch.setattr(backbone_module, "fold_frozen_norms", lambda network: 0)
    plain = shuffled(Backbone(weights="none", name=name, channels_last=False))
    assert not any(isinstance(layer, NormedConv2d) for layer in plain.modules())
    assert list(folded.state_dict()) == list(plain.state_dict())
    assert [n for n, _ in folded.named_parameters()] == [n for n, _ in plain.named_parameters()]
    plain.load_state_dict(folded.state_dict())
    expected, got = results(plain)["features"], results(folded)["features"]
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-5 * expected.max().item())
    expected, got = results(plain.double()), results(folded.double())
    assert expected.keys() == got.keys() and len(got) > 10
    for key, value in expected.items():  # in float32 a rounding can switch a ReLU
        assert (got[key] - value).abs().max() < 1e-10 * value.abs().max(), key


def test_every_norm_of_every_backbone_is_folded() -> None:
    for name in ("resnet34", "resnet101", "wide_resnet50_2", "mobilenet_v2"):
        with torch.device("meta"):
            norms = [m for m in Backbone(weights="none", name=name).modules() if isinstance(m, FrozenBatchNorm2d)]
        assert norms and all(norm.folded for norm in norms)


def test_trainable_norms_and_convolutions_with_bias_are_left_alone() -> None:
    assert not any(
        isinstance(m, NormedConv2d) for m in Backbone(weights="none", name="resnet18", norm="batch").modules()
    )
    with_bias = nn.Sequential(nn.Conv2d(1, 2, 1), FrozenBatchNorm2d(2))
    assert fold_frozen_norms(with_bias) == 0 and not with_bias[1].folded


def pair() -> nn.Sequential:
    network = nn.Sequential(nn.Conv2d(1, 1, 1, bias=False), FrozenBatchNorm2d(1))
    nn.init.ones_(network[0].weight)
    network[1].eps = 0.0
    assert fold_frozen_norms(network) == 1
    return network.eval()


@torch.no_grad()
def value(network: nn.Module) -> float:
    return network(torch.ones(1, 1, 1, 1)).item()


def test_what_is_kept_for_evaluation_is_never_stale() -> None:
    network = pair()
    assert value(network) == 1 and network[0]._kept is not None
    network(torch.ones(1, 1, 1, 1)).sum().backward()
    assert value(network) == 1
    optimizer = torch.optim.AdamW(network.parameters(), lr=0.5, weight_decay=0, fused=True)
    optimizer.step()
    assert value(network) == pytest.approx(0.5)
    optimizer.zero_grad()
    assert value(network) == pytest.approx(0.5) and network[0]._kept is not None
    network[1].bias.add_(1)
    assert value(network) == pytest.approx(1.5)
    network.load_state_dict({name: torch.full_like(t, 4.0) for name, t in network.state_dict().items()}, assign=True)
    assert value(network) == pytest.approx(4 * 4 / 2 - 4 * 4 / 2 + 4)
    network[0].weight.data.zero_()  # the one change that tensors do not count
    assert value(network.train().eval()) == pytest.approx(4 - 4 * 4 / 2)


def test_half_precision_keeps_its_own_product_and_a_copy_is_one_of_its_own() -> None:
    network = pair()
    network[0].weight.data.fill_(1.001)
    with torch.autocast("cpu", torch.bfloat16):
        assert value(network) == 1
    assert value(network) == pytest.approx(1.001)
    twin = copy.deepcopy(network)
    twin[1].bias.add_(1)
    assert value(twin) == pytest.approx(2.001) and value(network) == pytest.approx(1.001)
    assert value(network.double().float()) == pytest.approx(1.001)


def test_inference_mode_computes_what_no_grad_does() -> None:
    with torch.inference_mode():
        made_here = pair()
        assert made_here(torch.ones(1, 1, 1, 1)).item() == 1
        made_here[1].bias.add_(1)
        assert made_here(torch.ones(1, 1, 1, 1)).item() == 2


@pytest.mark.slow
def test_channels_last_is_the_layout_of_features_and_not_of_parameters(monkeypatch: pytest.MonkeyPatch) -> None:
    shortened(monkeypatch, "resnet18")
    images = NestedTensor(torch.rand(2, 3, 64, 96), torch.zeros(2, 64, 96, dtype=torch.bool))
    for asked, expected in ((None, False), (True, True), (False, False)):
        backbone = Backbone(weights="none", name="resnet18", channels_last=asked)
        features = backbone(images)["0"].tensors
        assert features.is_contiguous(memory_format=torch.channels_last) == expected
        features.sum().backward()
        assert all(p.is_contiguous() and (p.grad is None or p.grad.is_contiguous()) for p in backbone.parameters())


def test_large_maps_and_inference_fold_small_maps_in_training_do_not() -> None:
    convolution = NormedConv2d(nn.Conv2d(2, 3, 3, stride=2, bias=False), FrozenBatchNorm2d(3))
    folds = []
    convolution._fold = lambda: folds.append(1) or (convolution.weight, torch.zeros(3))  # type: ignore[method-assign]
    convolution(torch.rand(1, 2, 8, 10))  # a map of about 3 * 4 * 5 numbers, a weight of 3 * 2 * 9
    assert len(folds) == 1
    convolution(torch.rand(1, 2, 8, 8))
    assert len(folds) == 1
    with torch.no_grad():
        convolution(torch.rand(1, 2, 8, 8))
    assert len(folds) == 2


def test_the_layout_of_a_batch_on_the_cpu_depends_on_its_pixels() -> None:
    assert not backbone_module._prefers_channels_last(torch.empty(1, 3, 511, 513))  # one pixel less
    assert backbone_module._prefers_channels_last(torch.empty(2, 3, 512, 256))  # exactly FEW_PIXELS
