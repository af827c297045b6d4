"""Backbones: frozen norms, keys, what trains, masks of features, and weights from files."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from models.backbone import RESNETS, Backbone, FrozenBatchNorm2d, resize_mask
from models.backbone_weights import load_backbone_weights
from models.empty_weights import EmptyWeights
from tests.small_runs import narrow
from util.errors import CheckpointError, UserError
from util.nested_tensor import NestedTensor, nested_tensor_from_tensor_list


def test_frozen_norm_equals_the_original() -> None:
    norm = FrozenBatchNorm2d(1)
    for name, value in dict(weight=2, bias=0.1, running_mean=0.3, running_var=0.5).items():
        getattr(norm, name).fill_(value)
    torch.testing.assert_close(norm(torch.full((1, 1, 1, 1), 1.7)).item(), 4.0597587, rtol=1e-6, atol=0)
    assert not list(norm.parameters())


def test_frozen_norm_loads_an_ordinary_norms_state() -> None:
    ordinary, frozen = nn.BatchNorm2d(3).eval(), FrozenBatchNorm2d(3)
    ordinary.running_mean.normal_()
    frozen.load_state_dict(ordinary.state_dict())  # strict; the count of batches is dropped
    x = torch.randn(2, 3, 4, 4)
    torch.testing.assert_close(frozen(x), ordinary(x))


def test_features_and_their_mask_by_floor_indexing() -> None:
    backbone = Backbone(weights="none", name="resnet18")
    images = nested_tensor_from_tensor_list([torch.rand(3, 64, 128), torch.rand(3, 96, 100)])
    (features,) = backbone(images).values()
    assert features.tensors.shape == (2, 512, 3, 4)
    assert features.mask[0].tolist() == [[False] * 4, [False] * 4, [True] * 4]
    assert features.mask[1].tolist() == [[False] * 4] * 3  # column 3 starts at pixel 96 of 100


@pytest.mark.parametrize(
    ("size", "expected"),
    [((2, 2), [[False, False]] * 2), ((3, 4), [[False, False, False, True]] * 2 + [[True] * 4])],
)
def test_mask_of_37_by_50_equals_the_original(size: tuple[int, int], expected: list) -> None:
    mask = torch.zeros(1, 37, 50, dtype=torch.bool)
    mask[:, 20:] = True
    mask[:, :, 33:] = True
    assert resize_mask(mask, torch.Size(size))[0].tolist() == expected


def test_stem_and_first_stage_are_frozen_as_in_detr() -> None:
    trains = {
        n.split(".")[0] for n, p in Backbone(weights="none", name="resnet18").body.named_parameters() if p.requires_grad
    }
    assert trains == {"layer2", "layer3", "layer4"}
    assert not any(
        p.requires_grad for p in Backbone(weights="none", name="resnet18", train_backbone=False).parameters()
    )


def test_trainable_norms_train_everything_and_move_in_training() -> None:
    backbone = Backbone(weights="none", name="resnet18", norm="batch")
    assert all(p.requires_grad for p in backbone.parameters())
    before = backbone.body.bn1.running_mean.clone()
    backbone.train()(nested_tensor_from_tensor_list(torch.rand(2, 3, 32, 32)))
    assert not torch.equal(backbone.body.bn1.running_mean, before)


@pytest.mark.parametrize("name", [*RESNETS, "mobilenet_v2"])
@pytest.mark.parametrize(("feature_map", "side"), [("c5", 2), ("c4", 4)])
def test_every_name_builds_and_says_its_width(name: str, feature_map: str, side: int) -> None:
    with torch.device("meta"), EmptyWeights():
        backbone = Backbone(weights="none", name=name, feature_map=feature_map)
        batch = NestedTensor(torch.zeros(1, 3, 64, 64), torch.zeros(1, 64, 64, dtype=torch.bool))
        features = backbone.body(batch.tensors)["0"]
    assert features.shape == (1, backbone.num_channels, side, side)
    # Counters of batch norms are ignored, too.
    ignored = [key for key in backbone.ignored_in_files() if key.endswith(".weight")]
    assert any(key.startswith(("layer4", "features.14")) for key in ignored) == (feature_map == "c4")


def test_dilation_keeps_stride_16_with_the_originals_dilations() -> None:
    with torch.device("meta"):
        layer4 = Backbone(weights="none", name="resnet50", dilation=True).body.layer4
    assert [block.conv2.dilation for block in layer4] == [(1, 1), (2, 2), (2, 2)]
    assert all(block.conv2.stride == (1, 1) for block in layer4)


@pytest.mark.parametrize(
    "flags",
    [
        dict(name="resnet5"),
        dict(name="resnet18", dilation=True),
        dict(name="mobilenet_v2", dilation=True),
        dict(name="mobilenet_v2", return_interm_layers=True),
        dict(name="resnet50", feature_map="c4", dilation=True),
        dict(name="resnet50", feature_map="c4", return_interm_layers=True),
        dict(name="resnet50", feature_map="c3"),
    ],
)
def test_what_cannot_be_built_is_refused_in_one_line(flags: dict) -> None:
    with pytest.raises(UserError) as error:
        Backbone(weights="none", **flags)
    flag = "--feature_map" if "feature_map" in flags else "--backbone"
    assert "\n" not in str(error.value) and flag in str(error.value)


def test_the_map_of_stride_16_is_the_one_that_a_mask_head_sees() -> None:
    images = nested_tensor_from_tensor_list([torch.rand(3, 64, 96), torch.rand(3, 80, 64)])
    whole = Backbone("resnet18", return_interm_layers=True, weights="none").eval()
    cut = Backbone("resnet18", feature_map="c4", weights="none").eval()
    cut.load_state_dict({k: v for k, v in whole.state_dict().items() if "layer4" not in k})
    (features,) = cut(images).values()
    assert torch.equal(features.tensors, whole(images)["2"].tensors)


@pytest.mark.parametrize("feature_map", ["c5", "c4"])
@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v2"])
def test_weights_from_a_file_classifier_and_half_precision_included(
    tmp_path, monkeypatch: pytest.MonkeyPatch, name: str, feature_map: str
) -> None:
    import torchvision

    narrow(monkeypatch)

    theirs = getattr(torchvision.models, name)(weights=None).half()
    torch.save(theirs.state_dict(), tmp_path / "w.pth")
    backbone = Backbone(weights=str(tmp_path / "w.pth"), name=name, feature_map=feature_map)
    own = backbone.body.state_dict()
    assert all(torch.equal(v, theirs.state_dict()[k].float()) for k, v in own.items())
    with EmptyWeights(), pytest.raises(CheckpointError, match="does not fit --backbone resnet34"):
        Backbone("resnet34", weights=str(tmp_path / "w.pth"))


def test_files_that_are_missing_or_not_weights(tmp_path) -> None:
    (tmp_path / "text.pth").write_text("no weights")
    torch.save([1, 2], tmp_path / "list.pth")
    backbone = Backbone(weights="none", name="resnet18")
    for name, complaint in (
        ("gone.pth", "no such file"),
        ("text.pth", "not a file of weights"),
        ("list.pth", "state dict"),
    ):
        with pytest.raises(CheckpointError, match=complaint):
            load_backbone_weights(backbone.body, backbone.name, str(tmp_path / name))


def test_no_network_is_one_clear_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*args, **kwargs):
        raise OSError("Name or service not known")

    monkeypatch.setattr("torch.hub.load_state_dict_from_url", offline)
    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", offline)
    with pytest.raises(
        UserError, match="cannot download the ImageNet weights of resnet18.*--backbone_weights FILE.*none"
    ):
        load_backbone_weights(Backbone(weights="none", name="resnet18").body, "resnet18", "imagenet")


@pytest.mark.parametrize(
    ("count", "height", "width", "expected"), [(1, 512, 512, True), (1, 512, 511, False), (4, 256, 256, True)]
)
def test_channels_lie_side_by_side_from_a_quarter_million_pixels_on(
    count: int, height: int, width: int, expected: bool
) -> None:
    backbone, seen = Backbone("resnet18", weights="none"), []
    backbone.body.conv1.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    backbone.body.conv1.register_forward_hook(lambda *_: torch.zeros(1, 64, 8, 8))  # the rest is quick
    images = torch.zeros(count, 3, height, width)
    backbone(NestedTensor(images, torch.zeros(count, height, width, dtype=torch.bool)))
    assert seen[0].is_contiguous(memory_format=torch.channels_last) == expected


def test_masks_are_resized_as_by_interpolation() -> None:
    """For every ratio that a stride gives, to the last cell."""
    for stride in (4, 8, 16, 32):
        for height in range(1, 1400, 7):
            rows = torch.arange(height) % 3 == 0
            size = torch.Size((-(-height // stride), 2))
            expected = F.interpolate(rows.float()[None, None, :, None].expand(1, 1, -1, 5), size=size).bool()[0]
            assert torch.equal(resize_mask(rows[None, :, None].expand(1, -1, 5), size), expected)
