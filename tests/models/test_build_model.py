"""The whole model: the original's parameters and keys, its inputs and outputs, and class counts."""

import argparse
import sys
from pathlib import Path

import pytest
import torch

import main
from building import count_trainable
from models import build_model
from models.empty_weights import EmptyWeights
from models.joiner import Joiner
from tests.models.official import official_checkpoint, official_shapes
from tests.processes import run_python
from util.errors import UserError
from util.nested_tensor import nested_tensor_from_tensor_list
from util.runs.checkpoint import load_model

SMALL = (
    "--backbone resnet18 --enc_layers 1 --dec_layers 2 --hidden_dim 16 --nheads 2 --dim_feedforward 16 --num_queries 5"
)


def build(flags: str = "") -> tuple:
    parser = argparse.ArgumentParser(parents=[main.get_args_parser()])
    return build_model(parser.parse_args(f"--device cpu --backbone_weights none {flags}".split()))


@pytest.mark.parametrize(
    ("backbone", "keys", "total", "trainable", "buffers"),
    [
        ("resnet50", 458, 41_524_768, 41_302_368, 106_240),
        ("resnet101", 713, 60_464_672, 60_242_272, 210_688),
        ("resnet18", 293, 28_843_552, 28_686_688, 19_200),
    ],
)
def test_parameters_of_the_published_models(backbone: str, keys: int, total: int, trainable: int, buffers: int) -> None:
    with torch.device("meta"):
        model = build(f"--backbone {backbone} --device meta")[0]
    assert len(model.state_dict()) == keys
    assert sum(p.numel() for p in model.parameters()) == total
    assert count_trainable(model) == trainable
    assert sum(b.numel() for b in model.buffers()) == buffers


@pytest.mark.parametrize(
    ("flags", "sizes"), [("", {}), ("--backbone resnet101", {"backbone": "resnet101"}), ("--dilation", {})]
)
def test_names_and_shapes_are_the_originals(flags: str, sizes: dict) -> None:
    with torch.device("meta"):
        model = build(f"{flags} --device meta")[0]
    assert {name: tuple(t.shape) for name, t in model.state_dict().items()} == official_shapes(**sizes)


@pytest.mark.slow
def test_an_official_style_state_dict_loads_strictly() -> None:
    with EmptyWeights():  # the weights of the file fill them
        model = build()[0]
    state = official_checkpoint()
    load_model(model, {"model": state}, "detr-r50.pth")
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())


def test_every_kind_of_input_gives_the_same_detections() -> None:
    model = build(SMALL)[0].eval()
    images = torch.rand(2, 3, 64, 96)
    kinds = [images, list(images), nested_tensor_from_tensor_list(images)]
    first, *others = [model(kind) for kind in kinds]
    assert first["pred_logits"].shape == (2, 5, 92) and first["pred_boxes"].shape == (2, 5, 4)
    assert [set(a) for a in first["aux_outputs"]] == [{"pred_logits", "pred_boxes"}]
    for other in others:
        torch.testing.assert_close(other["pred_logits"], first["pred_logits"])


def test_images_of_different_sizes_are_one_batch() -> None:
    outputs = build(SMALL)[0]([torch.rand(3, 64, 96), torch.rand(3, 70, 50)])
    assert outputs["pred_boxes"].shape == (2, 5, 4)
    assert ((outputs["pred_boxes"] >= 0) & (outputs["pred_boxes"] <= 1)).all()


@pytest.mark.parametrize(
    ("flags", "classes"),
    [("", 91), ("--dataset_file coco_panoptic", 250), ("--num_classes 7", 7), ("--dataset_file shapes", 20)],
)
def test_class_counts_without_data(flags: str, classes: int) -> None:
    model, criterion, _ = build(f"{SMALL} {flags}")
    assert model.class_embed.out_features == classes + 1 and criterion.num_classes == classes


def test_weights_of_the_losses_cover_every_decoder_layer() -> None:
    _, criterion, post = build(f"{SMALL} --dec_layers 3 --giou_loss_coef 7")
    assert criterion.weight_dict == {
        f"{n}{i}": w for i in ("", "_0", "_1") for n, w in (("loss_ce", 1), ("loss_bbox", 5), ("loss_giou", 7))
    }
    assert set(post) == {"bbox"}
    model, criterion, _ = build(f"{SMALL} --no_aux_loss")
    assert set(criterion.weight_dict) == {"loss_ce", "loss_bbox", "loss_giou"}
    assert "aux_outputs" not in model(torch.rand(1, 3, 64, 64))


def test_lr_backbone_zero_freezes_the_backbone() -> None:
    model = build(f"{SMALL} --lr_backbone 0")[0]
    assert isinstance(model.backbone, Joiner)
    assert not any(p.requires_grad for p in model.backbone.parameters())
    assert all(p.requires_grad for n, p in model.named_parameters() if not n.startswith("backbone"))


@pytest.mark.parametrize("flags", ["--masks --backbone mobilenet_v2", "--backbone resnet18 --dilation"])
def test_what_cannot_be_built_is_one_line(flags: str) -> None:
    with pytest.raises(UserError, match="--"):
        build(f"{SMALL} {flags}")


def test_masks_bring_their_losses_and_postprocessors() -> None:
    _, criterion, post = build(f"{SMALL} --masks --mask_loss_coef 3 --dice_loss_coef 4 --mask_chunk 5")
    assert criterion.weight_dict["loss_mask"] == 3 and criterion.weight_dict["loss_dice"] == 4
    assert criterion.mask_chunk == 5 and set(post) == {"bbox", "segm"}
    assert not {"loss_mask_0", "loss_dice_0"} & criterion.weight_dict.keys()


@pytest.mark.slow
def test_things_are_what_the_annotations_say_and_without_them_cocos() -> None:
    parser = argparse.ArgumentParser(parents=[main.get_args_parser()])
    flags = f"--device cpu --backbone_weights none {SMALL} --masks --dataset_file coco_panoptic"
    own = build_model(parser.parse_args(flags.split()), is_thing_map={3: True, 240: False})[2]["panoptic"]
    assert own.is_thing_map == {3: True, 240: False} and own.threshold == 0.85 and not own.original
    cocos = build(f"{SMALL} --masks --dataset_file coco_panoptic")[2]["panoptic"].is_thing_map
    assert len(cocos) == 250 and cocos[90] and not cocos[91] and not cocos[249]
    original = build_model(parser.parse_args([*flags.split(), "--original_panoptic"]), is_thing_map={3: True})[2][
        "panoptic"
    ]
    assert original.original and len(original.is_thing_map) == 201 and 240 not in original.is_thing_map
    assert set(build(f"{SMALL} --dataset_file coco_panoptic")[2]) == {"bbox"}


@pytest.mark.slow
@pytest.mark.parametrize("case", ["tiny", "learned", "masks"])
def test_the_reference_comparison_agrees(shared_dir: Path, case: str) -> None:
    root = Path(main.__file__).parent
    command = [sys.executable, "reference.py", "compare", str(root), case, f"{case}.npz"]
    result = run_python(command, cwd=shared_dir / "reference")
    assert result.returncode == 0, result.stdout + result.stderr
