"""The wrapper on Detectron2 itself: losses, detections in image pixels, masks, and weights converted for it."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

pytest.importorskip("detectron2", reason="Detectron2 is not installed; docs/export.md says how to get it")

from detectron2.checkpoint import DetectionCheckpointer
from detectron2.config import get_cfg
from detectron2.modeling import build_model
from detectron2.structures import BitMasks, Boxes, BoxMode, Instances, PolygonMasks

from d2.detr import DetrDatasetMapper, add_detr_config
from d2.train_net import Trainer
from models.config import Architecture, build_detector
from models.postprocess import PostProcess, PostProcessSegm
from util.convert.__main__ import cli
from util.convert.detectron2 import settings_of
from util.nested_tensor import nested_tensor_from_tensor_list
from util.runs.checkpoint import load_checkpoint, save_checkpoint

CONFIGS = Path(__file__).resolve().parents[2] / "d2" / "configs"
ARCHITECTURE = {
    "backbone": "resnet18", "enc_layers": 1, "dec_layers": 2, "dim_feedforward": 16, "hidden_dim": 32, "nheads": 4,
    "num_queries": 7,
}  # fmt: skip
BOTH = pytest.mark.parametrize("masks", [False, True], ids=["boxes", "masks"])


def config(masks: bool, *more: Any) -> Any:
    """Return the settings of a shipped config for a small model on the CPU."""
    cfg = get_cfg()
    add_detr_config(cfg)
    cfg.merge_from_file(str(CONFIGS / f"detr_{'segm_' if masks else ''}256_6_6_torchvision.yaml"))
    settings = settings_of(vars(Architecture(**ARCHITECTURE, masks=masks)), Path("x"))[0]
    cfg.merge_from_list([x for pair in settings.items() for x in pair])
    cfg.merge_from_list(["MODEL.DEVICE", "cpu", "MODEL.DETR.DROPOUT", 0.0, *more])
    return cfg


def images(*sizes: tuple[int, int]) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randint(0, 256, (3, *size), dtype=torch.uint8, generator=generator) for size in sizes]


def objects(size: tuple[int, int], *, polygons: bool) -> Any:
    """Return two boxes with their masks in an image of (height, width)."""
    found = Instances(size)
    found.gt_boxes = Boxes(torch.tensor([[4.0, 8.0, 40.0, 30.0], [20.0, 10.0, 50.0, 60.0]]))
    found.gt_classes = torch.tensor([0, 79])
    corners = [[np.array([x, y, X, y, X, Y, x, Y])] for x, y, X, Y in found.gt_boxes.tensor.tolist()]
    masks = PolygonMasks(corners)
    found.gt_masks = masks if polygons else BitMasks.from_polygon_masks(masks, *size)
    return found


@BOTH
def test_a_training_step_lowers_the_loss_and_moves_what_trains(masks: bool) -> None:
    torch.manual_seed(0)
    cfg = config(masks, "SOLVER.BASE_LR", 0.001)
    model = build_model(cfg).train()
    sizes = [(64, 96), (80, 64), (64, 64)]
    batch = [{"image": image} for image in images(*sizes)]
    for i, (entry, size) in enumerate(zip(batch[:2], sizes)):
        entry["instances"] = objects(size, polygons=i == 0)
    batch[2]["instances"] = objects(sizes[2], polygons=False)[torch.tensor([False, False])]
    batch[2]["instances"].remove("gt_masks")  # the mapper gives none for an image without objects
    names = {"loss_ce", "loss_bbox", "loss_giou"}
    names = names | {f"{name}_0" for name in names} | ({"loss_mask", "loss_dice"} if masks else set())
    optimizer = Trainer.build_optimizer(cfg, model)
    totals = []
    for _ in range(4):
        losses = model(batch)
        assert losses.keys() == names
        totals.append(sum(losses.values()))
        optimizer.zero_grad()
        totals[-1].backward()
        optimizer.step()
        # Clipped to 0.01 by the hook, all parameters together.
        norms = [p.grad.norm() for p in model.parameters() if p.grad is not None]
        assert torch.stack(norms).norm() < 0.0101
    assert totals[-1] < totals[0]
    still = {name for name, p in model.named_parameters() if not p.requires_grad}
    assert still and all(".stem." in name or ".res2." in name for name in still)
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([0.0001, 0.001])


@BOTH
def test_converted_weights_give_the_results_of_the_model(masks: bool, tmp_path: Path) -> None:
    """Beside padding, too; boxes cut at the border, all in the pixels of the image before resizing."""
    torch.manual_seed(0)
    ours = build_detector(Architecture(**ARCHITECTURE, masks=masks)).eval()
    torch.nn.init.normal_((ours.detr if masks else ours).class_embed.weight, std=1.0)
    save_checkpoint(tmp_path / "ours.pth", {"model": ours.state_dict(), "args": ARCHITECTURE | {"masks": masks}})
    assert cli(["d2", str(tmp_path / "ours.pth"), str(tmp_path / "theirs.pth")]) == 0
    # The rows that the wrapper does not have take part in our softmax: compare with a model that never finds them.
    assert cli(["d2", str(tmp_path / "theirs.pth"), str(tmp_path / "back.pth")]) == 0
    ours.load_state_dict(load_checkpoint(tmp_path / "back.pth")["model"])
    theirs = build_model(config(masks)).eval()
    loaded = DetectionCheckpointer(theirs)._load_model(load_checkpoint(tmp_path / "theirs.pth"))
    assert loaded.missing_keys == ["criterion.empty_weight"] and not loaded.unexpected_keys

    seen, wanted = [(70, 101), (90, 64)], [(140, 202), (45, 32)]
    batch = [{"image": i, "height": h, "width": w} for i, (h, w) in zip(images(*seen), wanted)]
    with torch.no_grad():
        found = [entry["instances"] for entry in theirs(batch)]
        outputs = ours(nested_tensor_from_tensor_list(images(*seen)))
    expected = PostProcess()(outputs, torch.tensor(wanted))
    if masks:
        expected = PostProcessSegm()(expected, outputs, torch.tensor(wanted), torch.tensor(seen))
    ids = sorted(i for i in range(91) if (ours.detr if masks else ours).class_embed.bias[i] > -100)
    for got, result, (height, width) in zip(found, expected, wanted):
        assert got.image_size == (height, width) and len(got) == 7
        torch.testing.assert_close(got.scores, result["scores"], rtol=0, atol=1e-5)
        assert [ids[i] for i in got.pred_classes] == result["labels"].tolist()
        limit = torch.tensor([width, height, width, height])
        boxes = result["boxes"].minimum(limit).clamp(min=0)
        torch.testing.assert_close(got.pred_boxes.tensor, boxes, rtol=0, atol=1e-2)
        if masks:
            assert got.pred_masks.shape == (7, height, width) and got.pred_masks.dtype == torch.bool
            assert (got.pred_masks != result["masks"][:, 0].bool()).float().mean() < 1e-3


def test_a_frozen_detector_is_loaded_under_the_mask_head(tmp_path: Path) -> None:
    detector = build_model(config(False))
    save_checkpoint(tmp_path / "boxes.pth", {"model": detector.state_dict()})
    cfg = config(True, "MODEL.DETR.FROZEN_WEIGHTS", str(tmp_path / "boxes.pth"))
    model = build_model(cfg)
    for name, weight in detector.detr.state_dict().items():
        assert torch.equal(model.detr.detr.state_dict()[name], weight), name
    trained = {name.split(".")[1] for name, p in model.named_parameters() if p.requires_grad}
    assert trained == {"mask_head", "bbox_attention"} and len(Trainer.build_optimizer(cfg, model).param_groups) == 1


def test_the_mapper_reads_an_image_and_its_objects(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.new("RGB", (120, 80), (255, 0, 0)).save(tmp_path / "a.png")
    square = {"bbox": [10, 20, 30, 40], "bbox_mode": BoxMode.XYWH_ABS, "category_id": 3}
    polygon = {"segmentation": [[10.0, 20.0, 40.0, 20.0, 40.0, 60.0, 10.0, 60.0]]}
    entry = {
        "file_name": str(tmp_path / "a.png"), "height": 80, "width": 120,
        "annotations": [square | polygon, square | {"iscrowd": 1, "segmentation": {}}],
    }  # fmt: skip
    cfg = config(True, "INPUT.MIN_SIZE_TRAIN", (160,), "INPUT.CROP.ENABLED", False)
    mapped = DetrDatasetMapper(cfg, True)(entry)
    found = mapped["instances"]
    assert mapped["image"].shape == (3, 160, 240) and mapped["image"][0].min() == 255 and "annotations" in entry
    assert len(found) == 1 and found.gt_classes.tolist() == [3] and found.has("gt_masks")
    assert found.gt_boxes.tensor.tolist()[0][1::2] == [40.0, 120.0]  # y, whether flipped or not
    assert "instances" not in DetrDatasetMapper(cfg, False)(entry)
    boxes_only = DetrDatasetMapper(config(False, "INPUT.MIN_SIZE_TRAIN", (160,)), True)
    sizes = {tuple(boxes_only(entry)["image"].shape) for _ in range(12)}
    assert len(sizes) > 1, "no crop in 12 images"
    assert not boxes_only(entry)["instances"].has("gt_masks")


def test_settings_are_the_originals() -> None:
    boxes, masks = config(False), config(True)
    assert (boxes.SOLVER.MAX_ITER, masks.SOLVER.MAX_ITER, masks.SOLVER.STEPS) == (554400, 92400, (55440,))
    assert boxes.MODEL.WEIGHTS.endswith("R-50.pkl") and masks.MODEL.WEIGHTS == ""
