"""Detectors with research switches, whole: they train, ignore padding, and are known from a checkpoint alone."""

import ast
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.testing import assert_close

import main
import models
from inference.export.formats import trace
from inference.export.wrapper import Canvas
from models import build_model
from models.config import Architecture, build_detector
from tests.helpers import SMALL, TINY, Run, rows
from util.nested_tensor import NestedTensor

pytestmark = pytest.mark.usefixtures("narrow_resnet18")

VARIANTS = (
    "--queries dab",
    "--queries dab --local_attention --focal",
    "--queries encoder --focal",
    "--queries encoder --focal --local_attention --no_aux_loss",
    "--local_attention",
    "--focal",
    "--queries encoder --focal --masks",
)
IMAGES = [torch.randn(3, 96, 128, generator=torch.Generator().manual_seed(s)) for s in (0, 1)]


def built(flags: str) -> tuple[Any, Any, dict[str, Any]]:
    """Model, criterion and postprocessors of a small detector with these flags."""
    torch.manual_seed(0)
    return build_model(main.parse_flags(f"{SMALL} --padding_invariant {flags}".split()))


def targets() -> list[dict[str, torch.Tensor]]:
    """Two objects in the first image, none in the second."""
    masks = torch.zeros(2, 96, 128, dtype=torch.bool)
    boxes = torch.tensor([[0.5, 0.5, 0.2, 0.2], [0.2, 0.3, 0.1, 0.1]])
    none = {"labels": torch.tensor([], dtype=torch.int64), "boxes": torch.zeros(0, 4), "masks": masks[:0]}
    return [{"labels": torch.tensor([1, 2]), "boxes": boxes, "masks": masks}, none]


@pytest.mark.parametrize("flags", VARIANTS)
def test_every_parameter_learns_and_every_loss_counts(flags: str) -> None:
    model, criterion, postprocessors = built(flags)
    outputs = model(IMAGES)
    losses = criterion(outputs, targets())
    criterion.total(losses).backward()
    assert not [name for name, p in model.named_parameters() if p.requires_grad and p.grad is None]
    assert set(criterion.weight_dict) <= set(losses)
    assert ("loss_ce_enc" in losses) == ("encoder" in flags)
    detections = postprocessors["bbox"](outputs, torch.tensor([[96, 128], [96, 128]]))
    assert all(len(d["scores"]) == len(d["labels"]) == len(d["boxes"]) > 0 for d in detections)


@pytest.mark.parametrize("flags", VARIANTS[:-1])
def test_detections_do_not_depend_on_padding(flags: str) -> None:
    model = built(flags)[0].eval()
    with torch.no_grad():
        alone = model(IMAGES[:1])
        beside = model([IMAGES[0], torch.randn(3, 200, 170)])
    assert_close(beside["pred_logits"][:1], alone["pred_logits"], atol=1e-4, rtol=1e-4)
    assert_close(beside["pred_boxes"][:1], alone["pred_boxes"], atol=1e-5, rtol=0)


def test_an_image_with_fewer_cells_than_queries_or_objects_answers_with_its_cells() -> None:
    model, criterion, _ = built("--queries encoder --focal --num_queries 9")
    small, large = torch.randn(3, 64, 64), torch.randn(3, 160, 160)  # 4 cells and 25
    crowd = {"labels": torch.ones(6, dtype=torch.int64), "boxes": torch.rand(6, 4) * 0.3 + 0.2}
    outputs = model([small, large])
    assert outputs["hidden"].sum(1).tolist() == [5, 0]
    losses = criterion(outputs, [crowd, targets()[0]])
    assert all(value < 1000 for value in losses.values()), "no object is matched to padding"


def test_layers_refine_boxes_and_attention_is_given_on_demand() -> None:
    model = built("--queries dab")[0].eval()
    maps = models.attention.AttentionMaps()
    with torch.no_grad():
        torch.nn.init.normal_(model.bbox_embed.layers[-1].weight, std=0.1)
        outputs, plain = model(IMAGES, attention=maps), model(IMAGES)
    assert_close(outputs["pred_boxes"], plain["pred_boxes"], atol=1e-5, rtol=0)
    assert not torch.equal(outputs["aux_outputs"][0]["pred_boxes"], outputs["pred_boxes"])
    assert len(maps.decoder) == 2 and maps.decoder[0].shape == (2, 4, 5, 12)
    assert_close(maps.decoder[0].sum(-1), torch.ones(2, 4, 5))


def test_local_attention_leaves_nothing_outside_the_box() -> None:
    model = built("--queries dab --local_attention")[0].eval()
    maps = models.attention.AttentionMaps()
    with torch.no_grad():
        model([torch.randn(3, 320, 320)], attention=maps)  # 10 x 10 cells, boxes of 0.15
    assert bool(((maps.decoder[0] > 0).sum(-1) <= 9).all())


@pytest.mark.slow
def test_it_is_exported_with_free_sizes() -> None:
    model = built("--queries encoder --focal --local_attention --dec_layers 1")[0].eval()
    canvas = Canvas()
    exported = trace(model, canvas).module()
    for count, height, width in ((1, 96, 64), (3, 64, 128)):
        images, mask = torch.randn(count, 3, height, width), torch.zeros(count, height, width, dtype=torch.bool)
        with torch.no_grad():
            expected = model(NestedTensor(images, mask))
        for found, name in zip(exported(images, mask), ("pred_logits", "pred_boxes"), strict=True):
            assert_close(found, expected[name], atol=1e-4, rtol=1e-4)


def test_without_switches_the_detector_is_plain() -> None:
    assert type(build_detector(Architecture(backbone="resnet18"))) is models.detector.DETR


def test_the_default_path_imports_no_variant() -> None:
    folder = Path(models.__file__).parent
    for path in [*folder.glob("*.py"), *folder.glob("fast/*.py")]:
        imports = [node for node in ast.parse(path.read_text()).body if isinstance(node, ast.ImportFrom)]
        assert not [node for node in imports if node.module and "variants" in node.module], path.name


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        ("--queries encoder", "--focal"),
        ("--queries dab --position_embedding learned", "--position_embedding"),
        ("--focal --masks --dataset_file coco_panoptic", "--focal"),
        ("--queries anchors", "--queries"),
    ],
)
def test_flags_that_cannot_work_are_one_line(run: Run, flags: str, named: str) -> None:
    code, _, error = run(f"{TINY} --print_shapes {flags}")
    assert code == 2 and named in error and len(error.strip().splitlines()) == 1


@pytest.mark.slow
@pytest.mark.usefixtures("undrawn_curves")
def test_a_run_is_evaluated_resumed_and_used_from_its_checkpoint_alone(run: Run, tmp_path: Path) -> None:
    from inference.detector import Detector

    flags = f"{TINY} --queries encoder --focal --local_attention --num_queries 3 --output_dir {tmp_path}"
    assert run(f"{flags} --epochs 1")[0] == 0
    code, out, _ = run(f"{flags} --epochs 2 --resume auto")
    assert code == 0 and "resuming at epoch 1" in out
    assert "train_loss_ce_enc" in rows(tmp_path)[-1]
    data = "--device cpu --dataset_file shapes --val_size 4 --num_workers 0"
    code, out, _ = run(f"{data} --eval --resume {tmp_path}/checkpoint.pth --output_dir {tmp_path}/eval")
    assert code == 0 and "--queries encoder" in out
    detector = Detector(tmp_path / "checkpoint.pth", device="cpu", threshold=0)
    assert detector(torch.zeros(64, 64, 3, dtype=torch.uint8).numpy()).queries.max() < 3
    code, _, error = run(f"{TINY} --num_queries 3 --resume {tmp_path}/checkpoint.pth --epochs 3")
    assert code == 2 and "--queries encoder" in error, "a plain run does not go on from it"


def test_everything_of_a_plain_checkpoint_has_its_place_in_a_variant() -> None:
    small = {"backbone": "resnet18", "hidden_dim": 16, "nheads": 2, "enc_layers": 1, "dec_layers": 2}
    plain, boxes = (build_detector(Architecture(**small, queries=kind)).state_dict() for kind in ("learned", "dab"))
    assert set(plain) <= set(boxes)
    assert {name.split(".")[0] for name in set(boxes) - set(plain)} == {"transformer", "anchor_embed"}
