"""Backbones of other families: where they end, what of them is frozen, their norms and weights, and wrong names."""

import sys
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
import torchvision
from torch import nn

from models.backbone import BACKBONES, Backbone
from models.backbones.norms import groups_of
from models.checkpoint_config import architecture_of
from models.config import Architecture, build_detector
from tests.helpers import build
from util.errors import UserError
from util.nested_tensor import nested_tensor_from_tensor_list

#: A small network of each family that is a row of `features`.
ROWS = ("mobilenet_v3_small", "mobilenet_v3_large", "efficientnet_b0", "convnext_tiny")
SMALL = Architecture(
    enc_layers=1, dec_layers=1, dim_feedforward=24, hidden_dim=16, nheads=2, num_queries=5, num_classes=3
)


def backbone(name: str, **more) -> Backbone:
    return Backbone(name, weights="none", **more)


@pytest.mark.parametrize(("feature_map", "side"), [("c5", 2), ("c4", 4)])
@pytest.mark.parametrize("name", [*ROWS, "regnet_y_400mf"])
def test_the_map_has_the_stride_and_channels_that_it_says(name: str, feature_map: str, side: int) -> None:
    device = "cpu" if name.startswith("regnet") else "meta"  # torchvision computes a RegNet's widths
    with torch.device(device), torch.no_grad():
        network = backbone(name, feature_map=feature_map).eval()
        assert network.body(torch.zeros(1, 3, 64, 64))["0"].shape == (1, network.num_channels, side, side)
        assert network.body.state_dict().keys() <= network.layout.names


@pytest.mark.parametrize("name", ROWS)
def test_the_parts_up_to_stride_4_are_frozen(name: str) -> None:
    with torch.device("meta"):
        network = backbone(name).eval()
        frozen = network.layout.frozen
        x = network.body.features[:frozen](torch.zeros(1, 3, 64, 64))
        assert x.shape[-1] == 16 and network.body.features[frozen](x).shape[-1] == 8
    trains = {int(n.split(".")[1]) for n, p in network.body.named_parameters() if p.requires_grad}
    assert trains == set(range(frozen, len(network.layout.parts)))


def test_weights_of_a_file_give_the_features_of_torchvision(tmp_path: Path) -> None:
    theirs = torchvision.models.mobilenet_v3_small(weights=None)  # its norms add 0.001 to the variance, not 0.00001
    theirs.train()(torch.rand(2, 3, 64, 64))
    torch.save(theirs.state_dict(), tmp_path / "w.pth")
    ours = Backbone("mobilenet_v3_small", weights=str(tmp_path / "w.pth")).eval()
    images = nested_tensor_from_tensor_list(torch.rand(1, 3, 64, 64))
    torch.testing.assert_close(ours(images)["0"].tensors, theirs.eval().features(images.tensors), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("name", "flags", "words"),
    [
        ("resnet5", {}, "--backbone resnet5 is not known; did you mean resnet50"),
        ("efficentnet_b0", {}, "did you mean efficientnet_b0"),
        ("convnext_tiny", {"norm": "group"}, "--backbone_norm group: --backbone convnext_tiny has no batch norms"),
        ("mobilenet_v3_small", {"padding_invariant": True}, "--padding_invariant .* mixes all cells"),
        ("efficientnet_b0", {"return_interm_layers": True}, "--masks needs .* --backbone efficientnet_b0"),
        ("efficientnet_b0", {"dilation": True}, "--dilation does not work with --backbone efficientnet_b0"),
    ],
)
def test_what_cannot_be_is_one_line(name: str, flags: dict, words: str) -> None:
    with torch.device("meta"), pytest.raises(UserError, match=words) as error:
        backbone(name, **flags)
    assert "\n" not in str(error.value)


def test_every_name_is_one_of_torchvision() -> None:
    assert len(set(BACKBONES)) == len(BACKBONES) > 40
    assert all(callable(getattr(torchvision.models, name)) for name in BACKBONES)


# ---- norms and frozen parts


def test_group_norms_take_the_scales_of_batch_norms_and_say_so(tmp_path: Path, capsys) -> None:
    theirs = torchvision.models.resnet18(weights=None)
    theirs.bn1.weight.data.fill_(3.0)
    torch.save(theirs.state_dict(), tmp_path / "w.pth")
    ours = Backbone("resnet18", norm="group", weights=str(tmp_path / "w.pth"))
    assert isinstance(ours.body.bn1, nn.GroupNorm) and ours.body.bn1.num_groups == 32
    assert (ours.body.bn1.weight == 3).all() and all(p.requires_grad for p in ours.parameters())
    assert not any("running" in name for name in ours.state_dict())
    assert "--backbone_norm group" in capsys.readouterr().out
    assert [groups_of(channels) for channels in (1, 16, 24, 64, 96, 144, 1280)] == [1, 8, 12, 32, 32, 24, 32]


def test_the_first_parts_stay_as_they_are_statistics_included() -> None:
    network = backbone("resnet18", norm="batch")
    network.freeze_first(3)
    trains = {name.split(".")[0] for name, p in network.body.named_parameters() if p.requires_grad}
    assert trains == {"layer3", "layer4"}
    before = {name: value.clone() for name, value in network.body.named_buffers()}
    network.train()(nested_tensor_from_tensor_list(torch.rand(2, 3, 32, 32)))
    moved = {name.split(".")[0] for name, value in network.body.named_buffers() if not torch.equal(value, before[name])}
    assert moved == {"layer3", "layer4"}
    with pytest.raises(UserError, match=r"--freeze_layers 6: --backbone resnet18 has 5 parts: conv1\+bn1, layer1"):
        network.freeze_first(6)


def test_the_flag_counts_from_the_front() -> None:
    with torch.device("meta"):
        model = build("--device meta --freeze_layers 0")[0]
        assert all(p.requires_grad for p in model.backbone.parameters())
        model = build("--device meta --freeze_layers 4")[0]
        assert {n.split(".")[2] for n, p in model.backbone.named_parameters() if p.requires_grad} == {"layer4"}
        assert not any(
            p.requires_grad for p in build("--device meta --freeze_layers 0 --lr_backbone 0")[0].backbone.parameters()
        )


# ---- checkpoints


@pytest.mark.parametrize(
    "changes",
    [
        {"backbone": "mobilenet_v3_small", "feature_map": "c4"},
        {"backbone": "convnext_tiny"},
        {"backbone": "efficientnet_b0", "backbone_norm": "batch"},
        {"backbone": "resnet18", "backbone_norm": "group"},
    ],
)
def test_a_run_of_the_family_is_recognised(changes: dict) -> None:
    architecture = replace(SMALL, **changes)
    with torch.device("meta"):
        checkpoint = {"model": build_detector(architecture).state_dict(), "args": asdict(architecture)}
    assert architecture_of(checkpoint, "own.pth")[0] == architecture
    with pytest.raises(UserError, match="own.pth: made with .*--backbone"):
        other = "frozen" if architecture.backbone_norm == "group" else architecture.backbone_norm
        architecture_of(checkpoint, "own.pth", given={"backbone": "resnet50", "backbone_norm": other})


# ---- timm


def test_a_missing_library_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(UserError, match="--backbone timm:resnet10t needs the library timm: pip install timm"):
        backbone("timm:resnet10t")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["timm:resnet10t", "timm:mobilenetv3_small_050"])
def test_networks_of_timm(name: str, tmp_path: Path) -> None:
    timm = pytest.importorskip("timm", reason="timm is optional: requirements-extra.txt")
    whole = timm.create_model(name.removeprefix("timm:")).eval()
    torch.save(whole.state_dict(), tmp_path / "w.pth")
    images = nested_tensor_from_tensor_list(torch.rand(1, 3, 64, 64))
    for feature_map, side in (("c5", 2), ("c4", 4)):
        ours = Backbone(name, feature_map=feature_map, weights=str(tmp_path / "w.pth")).eval()
        assert ours(images)["0"].tensors.shape == (1, ours.num_channels, side, side)
        assert {p.requires_grad for p in ours.parameters()} == {True, False}
        own = ours.body.state_dict()
        assert all(torch.equal(value, own[key]) for key, value in whole.state_dict().items() if key in own)
    with pytest.raises(UserError, match="did you mean timm:resnet10t"):
        backbone("timm:resnet10")
