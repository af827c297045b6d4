"""The mask head: the original's parameters, its formulas, every ResNet, and memory that does not change numbers."""

import argparse
import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import main
from building import count_trainable
from models import build_model
from models.segmentation import DETRsegm, MaskHeadSmallConv, MHAttentionMap
from tests.models.official import official_shapes
from util.nested_tensor import nested_tensor_from_tensor_list

SMALL = (
    "--device cpu --backbone_weights none --enc_layers 1 --dec_layers 2 --hidden_dim 32 --nheads 4 "
    "--dim_feedforward 32 --num_queries 6 --num_classes 4 --dropout 0 --masks"
)


def build(flags: str = "--backbone resnet18") -> tuple:
    torch.manual_seed(0)
    parser = argparse.ArgumentParser(parents=[main.get_args_parser()])
    return build_model(parser.parse_args(f"{SMALL} {flags}".split()))


def batch() -> tuple[list, list]:
    """Two images of different sizes, one with two objects, one with one; masks of each image's size."""
    generator = torch.Generator().manual_seed(1)
    images, targets = [], []
    for (h, w), labels in (((64, 96), [1, 3]), ((70, 50), [0])):
        images.append(torch.randn(3, h, w, generator=generator))
        boxes = torch.rand(len(labels), 4, generator=generator) * 0.3 + 0.3
        masks = torch.rand(len(labels), h, w, generator=generator) < 0.4
        targets.append({"labels": torch.tensor(labels), "boxes": boxes, "masks": masks})
    return images, targets


def losses_and_gradients(flags: str, *, train: bool) -> tuple[dict, dict]:
    model, criterion, _ = build(flags)
    model.train(train)
    images, targets = batch()
    losses = criterion(model(images), targets)
    criterion.total(losses).backward()
    return losses, {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


# ---- parameters


def head_shapes(hidden: int, heads: int, channels: int) -> dict[str, tuple]:
    """Names and shapes of the original's mask head, from the documentation of its layers."""
    shapes = {}
    for name in ("q_linear", "k_linear"):
        shapes |= {f"bbox_attention.{name}.weight": (hidden, hidden), f"bbox_attention.{name}.bias": (hidden,)}
    widths = [hidden + heads, hidden + heads, hidden // 2, hidden // 4, hidden // 8, hidden // 16]
    for i in range(1, 6):
        n, m = widths[i - 1 : i + 1]
        shapes |= {f"mask_head.lay{i}.weight": (m, n, 3, 3), f"mask_head.lay{i}.bias": (m,)}
        shapes |= {f"mask_head.gn{i}.weight": (m,), f"mask_head.gn{i}.bias": (m,)}
    shapes |= {"mask_head.out_lay.weight": (1, widths[-1], 3, 3), "mask_head.out_lay.bias": (1,)}
    for i in range(1, 4):
        shapes |= {f"mask_head.adapter{i}.weight": (hidden >> i, channels >> i, 1, 1)}
        shapes |= {f"mask_head.adapter{i}.bias": (hidden >> i,)}
    return shapes


def test_names_and_shapes_are_those_of_the_published_panoptic_model() -> None:
    parser = argparse.ArgumentParser(parents=[main.get_args_parser()])
    flags = "--masks --dataset_file coco_panoptic --device meta --backbone_weights none"
    with torch.device("meta"):
        model = build_model(parser.parse_args(flags.split()))[0]
        frozen = build_model(parser.parse_args(f"{flags} --frozen_weights x".split()))[0]
    detector = {f"detr.{name}": shape for name, shape in official_shapes(num_classes=250).items()}
    assert {name: tuple(t.shape) for name, t in model.state_dict().items()} == detector | head_shapes(256, 8, 2048)
    assert len(model.state_dict()) == 490
    assert sum(p.numel() for p in model.parameters()) == 42_899_288
    assert count_trainable(model) == 42_676_888 and count_trainable(frozen) == 1_333_657


@pytest.mark.parametrize(("backbone", "channels"), [("resnet18", 512), ("resnet34", 512), ("resnet50", 2048)])
def test_every_resnet_segments(backbone: str, channels: int) -> None:
    model = build(f"--backbone {backbone}")[0].eval()
    head = {name: tuple(t.shape) for name, t in model.state_dict().items() if not name.startswith("detr.")}
    assert head == head_shapes(32, 4, channels)
    with torch.no_grad():
        outputs = model([torch.rand(3, 64, 96), torch.rand(3, 70, 50)])
    assert outputs["pred_masks"].shape == (2, 6, 18, 24) and outputs["canvas"].tolist() == [70, 96]
    assert outputs["pred_logits"].shape == (2, 6, 5) and outputs["pred_boxes"].shape == (2, 6, 4)


def test_initial_weights_follow_the_original() -> None:
    head = MaskHeadSmallConv(264, [1024, 512, 256], 256)
    assert all(m.bias.eq(0).all() for m in head.modules() if isinstance(m, nn.Conv2d))
    bound = math.sqrt(3 / (264 * 9))  # kaiming_uniform with a = 1: gain 1, bound sqrt(3 / fan_in)
    assert 0.99 * bound < head.lay1.weight.abs().max() <= bound
    assert [norm.num_groups for norm in (head.gn1, head.gn2, head.gn3, head.gn4, head.gn5)] == [8] * 5
    attention = MHAttentionMap(256, 256, 8)
    assert attention.q_linear.bias.eq(0).all() and attention.k_linear.bias.eq(0).all()
    assert attention.q_linear.weight.abs().max() <= math.sqrt(6 / 512)


# ---- formulas


def test_attention_is_one_softmax_over_heads_and_cells_that_are_no_padding() -> None:
    torch.manual_seed(0)
    layer, q, k = MHAttentionMap(8, 8, 2), torch.randn(2, 3, 8), torch.randn(2, 8, 4, 5)
    mask = torch.zeros(2, 4, 5, dtype=torch.bool)
    mask[1, :, 3:] = True
    maps = layer(q, k, mask=mask)
    assert maps.shape == (2, 3, 2, 4, 5) and maps[1, ..., 3:].eq(0).all()
    torch.testing.assert_close(maps.sum((2, 3, 4)), torch.ones(2, 3))
    query, key = layer.q_linear(q)[1, 2], layer.k_linear(k[1].flatten(1).T).T.view(8, 4, 5)
    score = [torch.einsum("c,chw->hw", query[s], key[s])[:, :3] / 2 for s in (slice(0, 4), slice(4, 8))]
    expected = torch.stack(score).flatten().softmax(0).view(2, 4, 3)
    torch.testing.assert_close(maps[1, 2, ..., :3], expected)
    assert not torch.allclose(maps.sum((3, 4)), torch.full((2, 3, 2), 0.5), atol=1e-3)  # not a softmax for each head


def test_the_head_is_the_convolution_of_features_and_attention_together() -> None:
    """Layer by layer, with the features repeated for every query as the paper's figure has it."""
    torch.manual_seed(0)
    head = MaskHeadSmallConv(32 + 4, [16, 8, 4], 32)
    for p in head.parameters():
        nn.init.normal_(p, std=0.3)
    src, attention = torch.randn(2, 32, 3, 4), torch.rand(2, 5, 4, 3, 4)
    fpns = [torch.randn(2, 16, 6, 7), torch.randn(2, 8, 11, 14), torch.randn(2, 4, 22, 27)]
    x = torch.cat([src[:, None].expand(-1, 5, -1, -1, -1), attention], 2).flatten(0, 1)
    x = head.gn1(head.lay1(x)).relu()
    x = head.gn2(head.lay2(x)).relu()
    for adapter, layer, norm, fpn in zip(
        (head.adapter1, head.adapter2, head.adapter3),
        (head.lay3, head.lay4, head.lay5),
        (head.gn3, head.gn4, head.gn5),
        fpns,
    ):
        x = F.interpolate(x, size=fpn.shape[-2:], mode="nearest") + adapter(fpn).repeat_interleave(5, 0)
        x = norm(layer(x)).relu()
    expected = head.out_lay(x).view(2, 5, 22, 27)
    image, query = torch.tensor([0, 1, 1, 0]), torch.tensor([4, 0, 3, 0])
    got = head.decode(head.guide(src, fpns), attention[image, query], image)
    torch.testing.assert_close(got, expected[image, query], rtol=1e-4, atol=1e-4)
    got = head(src, attention, fpns)  # the arguments of the original's head
    torch.testing.assert_close(got.view(2, 5, 22, 27), expected, rtol=1e-4, atol=1e-4)


# ---- memory


def test_training_computes_matched_queries_only(monkeypatch: pytest.MonkeyPatch) -> None:
    model, criterion, _ = build()
    computed = []
    decode = model.mask_head.decode
    monkeypatch.setattr(model.mask_head, "decode", lambda g, a, i: computed.append(len(i)) or decode(g, a, i))
    images, targets = batch()
    criterion(model.train()(images), targets)
    assert computed == [3]
    model.eval()(images)
    assert computed == [3, 12]


@pytest.mark.slow
@pytest.mark.usefixtures("narrow_resnet18")
@pytest.mark.parametrize(
    ("flags", "train"),
    [
        ("--mask_chunk 0", True),
        ("--mask_chunk 1", True),
        ("--mask_chunk 2", True),
        ("--mask_chunk 5", False),
    ],
)
def test_losses_and_gradients_do_not_depend_on_what_is_computed_when(flags: str, train: bool) -> None:
    """All masks at once, in evaluation mode (dropout is 0, norms are frozen), is the plain way."""
    losses, gradients = losses_and_gradients("--backbone resnet18 --mask_chunk 0", train=False)
    other_losses, other_gradients = losses_and_gradients(f"--backbone resnet18 {flags}", train=train)
    assert losses["loss_mask"] > 0 and losses["loss_dice"] > 0 and losses.keys() == other_losses.keys()
    for name, value in losses.items():
        torch.testing.assert_close(other_losses[name], value, rtol=1e-5, atol=1e-5, msg=name)
    assert gradients.keys() == other_gradients.keys() and "mask_head.lay5.weight" in gradients
    for name, value in gradients.items():
        torch.testing.assert_close(
            other_gradients[name], value, rtol=1e-4, atol=1e-5 * max(1, value.abs().max()), msg=name
        )


def test_masks_are_compared_on_the_canvas_with_padding_as_background() -> None:
    model, criterion, _ = build()
    images, targets = batch()
    outputs = model.eval()(images)
    losses = criterion(outputs, targets)
    (pairs,) = criterion.matcher.match_layers([outputs], targets)
    total = 0.0
    for masks, target, (query, obj) in zip(outputs["pred_masks"], targets, pairs):
        logits = F.interpolate(masks[query][None], size=(70, 96), mode="bilinear")[0]
        truth = torch.zeros(len(obj), 70, 96)
        truth[:, : target["masks"].shape[1], : target["masks"].shape[2]] = target["masks"][obj].float()
        p = logits.sigmoid().flatten(1)
        t = truth.flatten(1)
        total += (1 - (2 * (p * t).sum(1) + 1) / (p.sum(1) + t.sum(1) + 1)).sum()
    torch.testing.assert_close(losses["loss_dice"], total / 3)
    doubled = criterion(outputs, targets, num_boxes=6.0)
    torch.testing.assert_close(doubled["loss_mask"], losses["loss_mask"] / 2)
    assert "loss_mask_0" not in losses and criterion.weight_dict["loss_mask"] == criterion.weight_dict["loss_dice"] == 1


def test_a_canvas_larger_than_every_image_moves_no_object() -> None:
    """As with --pad: the loss enlarges masks to the canvas that the model saw, not to the largest image."""
    model, criterion, _ = build()
    images, targets = batch()
    outputs = model.eval()(nested_tensor_from_tensor_list(images, canvas=(128, 160)))
    assert outputs["canvas"].tolist() == [128, 160]
    padded = [
        t | {"masks": F.pad(t["masks"], (0, 160 - t["masks"].shape[2], 0, 128 - t["masks"].shape[1]))} for t in targets
    ]
    expected = criterion({k: v for k, v in outputs.items() if k != "canvas"}, padded)
    torch.testing.assert_close(criterion(outputs, targets), expected)


def test_a_batch_without_objects_gives_the_head_a_gradient_of_zero() -> None:
    """A gradient, not None: with several processes every parameter must have one in every step."""
    model, criterion, _ = build()
    targets = [
        {
            "labels": torch.zeros(0, dtype=torch.int64),
            "boxes": torch.zeros(0, 4),
            "masks": torch.zeros(0, 64, 64, dtype=torch.bool),
        }
    ]
    losses = criterion(model.train()(torch.rand(1, 3, 64, 64)), targets)
    assert losses["loss_mask"] == losses["loss_dice"] == 0
    criterion.total(losses).backward()
    assert all(p.grad is not None and p.grad.eq(0).all() for p in model.mask_head.parameters())


# ---- a frozen detector


def test_a_frozen_detector_only_drops_out() -> None:
    model, criterion, _ = build("--backbone resnet18 --backbone_norm batch --frozen_weights x.pth --dropout 0.5")
    before = {name: value.clone() for name, value in model.detr.state_dict().items()}
    images, targets = batch()
    first, second = (criterion(model.train()(images), targets) for _ in range(2))
    assert first["loss_ce"] != second["loss_ce"] and not first["loss_ce"].requires_grad
    criterion.total(first).backward()
    assert all(p.grad is None for p in model.detr.parameters())
    assert all(p.grad is not None for p in [*model.mask_head.parameters(), *model.bbox_attention.parameters()])
    assert all(torch.equal(value, before[name]) for name, value in model.detr.state_dict().items())  # batch norms too


def test_an_unfrozen_one_trains_all() -> None:
    model, criterion, _ = build("--backbone resnet18 --backbone_norm batch")
    images, targets = batch()
    criterion.total(criterion(model.train()(images), targets)).backward()
    assert isinstance(model, DETRsegm) and all(p.grad is not None for p in model.parameters())
    assert any(m.training for m in model.detr.modules() if isinstance(m, nn.BatchNorm2d))
