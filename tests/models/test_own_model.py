"""A model put together, called, changed and exported as scripts for the original do it."""

from argparse import Namespace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from inference.export.formats import without_cache
from models import build_model
from models.backbone import Backbone, BackboneBase, Joiner
from models.config import Architecture, build_detector
from models.detr import DETR, MLP, SetCriterion, build
from models.detr import build_backbone as build_backbone_of_detr
from models.matcher import HungarianMatcher
from models.position_encoding import PositionEmbeddingLearned, PositionEmbeddingSine
from models.segmentation import DETRsegm, PostProcessPanoptic
from models.transformer import Transformer
from tests.original_flags import DEFAULTS
from util.nested_tensor import NestedTensor, nested_tensor_from_tensor_list

#: The original's flags and no others, as its parser and `init_distributed_mode` leave them; small where that is enough.
FLAGS = DEFAULTS | dict(
    backbone="resnet18",
    enc_layers=1,
    dec_layers=2,
    dim_feedforward=16,
    hidden_dim=16,
    nheads=2,
    num_queries=5,
    device="cpu",
    distributed=False,
)
SMALL = Architecture(
    backbone="resnet18", enc_layers=1, dec_layers=2, dim_feedforward=16, hidden_dim=16, nheads=2, num_queries=5
)


@pytest.fixture(autouse=True)
def imagenet(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Random weights in place of ImageNet's; the list is of the networks that asked for them."""
    asked: list[str] = []

    def load(body: nn.Module, name: str, **_) -> None:
        asked.append(name)

    monkeypatch.setattr("models.backbone.load_imagenet_weights", load)
    monkeypatch.setattr("models.backbone_weights.load_imagenet_weights", load)
    return asked


class WithClassAttributes:
    pass


for _name, _value in FLAGS.items():
    setattr(WithClassAttributes, _name, _value)


# ---- flags


@pytest.mark.parametrize("builder", [build_model, build])
@pytest.mark.parametrize("args", [Namespace(**FLAGS), SimpleNamespace(**FLAGS), WithClassAttributes(), FLAGS])
def test_the_originals_flags_alone_build_a_model(builder: Any, args: Any, imagenet: list[str]) -> None:
    model, criterion, postprocessors = builder(args)
    assert isinstance(model, DETR) and isinstance(criterion, SetCriterion) and set(postprocessors) == {"bbox"}
    assert model.class_embed.out_features == 92 and criterion.losses == ["labels", "boxes", "cardinality"]
    assert imagenet == ["resnet18"]


def test_flags_are_read_and_not_changed() -> None:
    args = Namespace(**FLAGS | {"num_classes": 3, "masks": True, "frozen_weights": "detr.pth"})
    before = dict(vars(args))
    model, criterion, postprocessors = build_model(args)
    assert vars(args) == before
    assert isinstance(model, DETRsegm) and model.freeze_detr and model.detr.class_embed.out_features == 4
    assert criterion.losses == ["labels", "boxes", "cardinality", "masks"] and set(postprocessors) == {"bbox", "segm"}


@pytest.mark.parametrize(("name", "classes"), [("coco_panoptic", 250), ("coco", 91), ("custom", 20)])
def test_without_a_count_classes_are_the_originals(capsys: pytest.CaptureFixture, name: str, classes: int) -> None:
    assert build_model(FLAGS | {"dataset_file": name})[1].num_classes == classes
    assert ("--dataset_file custom: 20 classes" in capsys.readouterr().out) == (name == "custom")


# ---- batches


class Batch:
    """A batch class of somebody else, for example the original's under another name of the module."""

    def __init__(self, tensors: Tensor, mask: Tensor | None) -> None:
        self.tensors, self.mask = tensors, mask

    def decompose(self) -> tuple[Tensor, Tensor | None]:
        return self.tensors, self.mask


def test_a_batch_of_any_class_is_taken() -> None:
    model = build_detector(SMALL).eval()
    images = [torch.rand(3, 64, 96), torch.rand(3, 70, 50)]
    ours = nested_tensor_from_tensor_list(images)
    expected = model(ours)["pred_logits"]
    for samples in (images, tuple(images), Batch(*ours.decompose())):
        assert torch.equal(model(samples)["pred_logits"], expected)
    whole = torch.rand(2, 3, 64, 64)
    for samples in (NestedTensor(whole, None), Batch(whole, None)):  # type: ignore[arg-type]
        assert torch.equal(model(samples)["pred_logits"], model(whole)["pred_logits"])


def test_bytes_are_normalised_and_floats_taken_as_they_are() -> None:
    model = build_detector(SMALL).eval()
    pixels = [torch.randint(0, 256, (3, h, w), dtype=torch.uint8) for h, w in ((64, 96), (70, 50))]
    batch = nested_tensor_from_tensor_list(pixels)
    floats = batch.normalized()
    for samples in (pixels, batch, Batch(*batch.decompose())):
        torch.testing.assert_close(model(samples)["pred_boxes"], model(floats)["pred_boxes"])
    assert not torch.allclose(model(floats.tensors * 2)["pred_boxes"], model(floats.tensors)["pred_boxes"])


@pytest.mark.parametrize("training", [False, True])
def test_outputs_can_be_moved_and_masks_computed_with(training: bool) -> None:
    model = build_detector(Architecture(**vars(SMALL) | {"masks": True})).train(training)
    outputs = model([torch.rand(3, 64, 96), torch.rand(3, 70, 50)])
    moved = {name: value.to("cpu") for name, value in outputs.items()}
    assert moved["canvas"].tolist() == [70, 96] and isinstance(moved["pred_masks"], Tensor)
    assert torch.sigmoid(outputs["pred_masks"]).shape == moved["pred_masks"].shape == (2, 5, 18, 24)
    enlarged = nn.functional.interpolate(outputs["pred_masks"], size=(70, 96))
    assert enlarged.shape == (2, 5, 70, 96)


# ---- parts


def make_detr(masks: bool = False) -> DETR | DETRsegm:
    """The lines of hub files and of notebooks, in the place of one long function call."""
    backbone = Backbone("resnet50", train_backbone=True, return_interm_layers=masks, dilation=False)
    joined = Joiner(backbone, PositionEmbeddingSine(8, normalize=True))
    joined.num_channels = backbone.num_channels
    transformer = Transformer(d_model=16, nhead=2, dim_feedforward=8, return_intermediate_dec=True)
    detr = DETR(joined, transformer, num_classes=91, num_queries=5)
    return DETRsegm(detr) if masks else detr


def test_hub_files_put_a_model_together(imagenet: list[str]) -> None:
    model = make_detr(masks=True).eval()
    outputs = model(torch.rand(1, 3, 64, 64))
    assert outputs["pred_masks"].shape == (1, 5, 16, 16) and imagenet == ["resnet50"]
    panoptic = PostProcessPanoptic({i: i <= 90 for i in range(250)}, threshold=0.85)
    assert panoptic(outputs, torch.tensor([[64, 64]]))[0]["segments_info"] is not None


def test_a_fine_tuner_replaces_heads_and_queries() -> None:
    model = build_detector(SMALL).eval()
    model.class_embed = nn.Linear(model.transformer.d_model, 3)
    model.query_embed = nn.Embedding(9, 16)
    model.num_queries = 9
    assert model.bbox_embed.layers[-1].out_features == 4 and model.backbone[0].body.layer4 is not None
    assert model(torch.rand(1, 3, 64, 64))["pred_logits"].shape == (1, 9, 3)


def test_a_transformer_may_return_more_than_two_results() -> None:
    class Deformed(Transformer):
        def forward(self, *inputs: Any) -> Any:
            return *super().forward(*inputs), "reference points"

    model = build_detector(SMALL).eval()
    expected = model(torch.rand(1, 3, 64, 64).fill_(0.5))["pred_boxes"]
    model.transformer.__class__ = Deformed
    assert torch.equal(model(torch.full((1, 3, 64, 64), 0.5))["pred_boxes"], expected)


def test_the_backbone_gives_as_many_encodings_as_maps_and_computes_those_asked_for() -> None:
    calls = []
    backbone = Backbone("resnet18", True, True, False, weights="none")
    joined = Joiner(backbone, PositionEmbeddingLearned(8))
    joined[1].register_forward_hook(lambda *_: calls.append(1))
    features, pos = joined(nested_tensor_from_tensor_list([torch.rand(3, 64, 96), torch.rand(3, 40, 50)]))
    assert len(features) == len(pos) == 4 and calls == []
    assert pos[-1].shape == (2, 16, 2, 3) and len(calls) == 1
    assert [(f.tensors.shape[-2:], p.shape[-2:]) for f, p in zip(features, pos)] == [
        (size, size) for size in ((16, 24), (8, 12), (4, 6), (2, 3))
    ]
    assert [p.shape[-1] for p in pos[1:3]] == [12, 6]


def test_another_network_is_a_backbone() -> None:
    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem = nn.Conv2d(3, 4, 4, stride=4)
            for i, channels in enumerate((4, 8, 16, 32), start=1):
                setattr(self, f"layer{i}", nn.Conv2d(max(4, channels // 2), channels, 1 if i == 1 else 2, min(i, 2)))
            self.fc = nn.Linear(32, 10)

    backbone = BackboneBase(Network(), True, 32, True)
    maps = backbone(nested_tensor_from_tensor_list([torch.rand(3, 64, 96), torch.rand(3, 40, 50)]))
    assert [tuple(m.tensors.shape) for m in maps.values()] == [
        (2, c, 64 // s, 96 // s) for c, s in zip((4, 8, 16, 32), (4, 8, 16, 32))
    ]
    assert maps["3"].mask.tolist() == [[[False] * 3] * 2, [[False, False, True]] * 2]
    trained = {name.split(".")[1] for name, parameter in backbone.named_parameters() if parameter.requires_grad}
    assert trained == {"layer2", "layer3", "layer4"}
    assert list(dict(BackboneBase(Network(), False, 32, False).body.named_children())) == [
        "stem",
        "layer1",
        "layer2",
        "layer3",
        "layer4",
    ]


def test_a_detectron2_wrapper_brings_its_own_batches() -> None:
    """The shape of its code: a batch without `tensors`, a backbone of its own that returns masks, our other parts."""

    class ImageList:
        def __init__(self, tensor: Tensor, image_sizes: list[tuple[int, int]]) -> None:
            self.tensor, self.image_sizes = tensor, image_sizes

    class MaskedBackbone(nn.Module):
        num_channels = 8

        def __init__(self) -> None:
            super().__init__()
            self.convolution = nn.Conv2d(3, 8, 32, stride=32)

        def forward(self, images: ImageList) -> dict[str, NestedTensor]:
            features = self.convolution(images.tensor)
            masks = torch.ones(len(features), *features.shape[-2:], dtype=torch.bool)
            for mask, (height, width) in zip(masks, images.image_sizes):
                mask[: -(-height // 32), : -(-width // 32)] = False
            return {"res5": NestedTensor(features, masks)}

    joined = Joiner(MaskedBackbone(), PositionEmbeddingSine(8, normalize=True))
    joined.num_channels = joined[0].num_channels
    transformer = Transformer(
        d_model=16, dropout=0.1, nhead=2, dim_feedforward=8, num_encoder_layers=1, num_decoder_layers=2,
        normalize_before=False, return_intermediate_dec=True,
    )  # fmt: skip
    detr = DETR(joined, transformer, num_classes=80, num_queries=6, aux_loss=True)
    matcher = HungarianMatcher(cost_class=1, cost_bbox=5, cost_giou=2)
    weights = {"loss_ce": 1, "loss_bbox": 5, "loss_giou": 2}
    losses = ["labels", "boxes", "cardinality"]
    criterion = SetCriterion(80, matcher=matcher, weight_dict=weights, eos_coef=0.1, losses=losses)
    outputs = detr(ImageList(torch.rand(2, 3, 64, 96), [(64, 96), (40, 50)]))
    target = {"labels": torch.tensor([3]), "boxes": torch.tensor([[0.5, 0.5, 0.2, 0.2]])}
    losses = criterion(outputs, [target, target])
    sum(losses[k] * weights[k] for k in losses if k in weights).backward()
    assert joined[0].convolution.weight.grad.abs().sum() > 0 and "loss_ce_0" in losses


def test_positions_of_arguments_are_the_originals() -> None:
    assert [layer.out_features for layer in MLP(16, 8, 4, 3).layers] == [8, 8, 4] and MLP(16, 8, 4, 3).num_layers == 3
    matcher = HungarianMatcher(1, 5, 2)
    assert (matcher.cost_class, matcher.cost_bbox, matcher.cost_giou) == (1, 5, 2)
    sine = PositionEmbeddingSine(8, 20, True, 3.0)
    assert (sine.num_pos_feats, sine.temperature, sine.normalize, sine.scale) == (8, 20, True, 3.0)
    learned = PositionEmbeddingLearned(4)
    before = learned.row_embed.weight.clone()
    learned.reset_parameters()
    assert not torch.equal(before, learned.row_embed.weight) and 0 <= learned.row_embed.weight.min()
    joined = build_backbone_of_detr(Namespace(**FLAGS))
    assert joined.num_channels == 512 and joined[1].num_pos_feats == 8
    assert any(p.requires_grad for p in joined.parameters())
    frozen = build_backbone_of_detr(Namespace(**FLAGS | {"lr_backbone": 0}))
    assert not any(p.requires_grad for p in frozen.parameters())


def test_a_backbone_without_weights_to_be_had_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    from util.errors import DownloadError

    def offline(body: nn.Module, name: str, **_) -> None:
        raise DownloadError(f"cannot download the ImageNet weights of {name}")

    monkeypatch.setattr("models.backbone.load_imagenet_weights", offline)
    Backbone("resnet18", True, False, False)
    printed = capsys.readouterr().out
    assert printed == (
        "Backbone(resnet18): cannot download the ImageNet weights of resnet18; its backbone starts random as well\n"
    )
    monkeypatch.setattr("models.backbone.is_main_process", lambda: False)
    Backbone("resnet18", True, False, False)
    assert capsys.readouterr().out == ""


# ---- exports


@pytest.mark.slow
@pytest.mark.usefixtures("narrow_resnet18")
@pytest.mark.parametrize("masks", [False, True])
def test_export_takes_the_place_of_script(masks: bool) -> None:
    model = build_detector(Architecture(**vars(SMALL) | {"masks": masks, "dec_layers": 1})).eval()
    with pytest.raises(NotImplementedError, match=r"torch\.jit\.script cannot.*torch\.export\.export"):
        torch.jit.script(nn.Sequential(model))
    images, other = torch.rand(2, 3, 64, 96), torch.rand(3, 3, 80, 64)
    sizes = {axis: torch.export.Dim.AUTO for axis in (0, 2, 3)}
    with torch.no_grad(), without_cache():  # which takes more time here than it saves
        exported = torch.export.export(model, (images,), dynamic_shapes=(sizes,)).module()
        for batch in (images, other):
            got, expected = exported(batch), model(batch)
            assert got.keys() == expected.keys()
            for name, value in expected.items():
                torch.testing.assert_close(got[name], value)
