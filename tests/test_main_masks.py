"""Masks from the command line: training, a frozen detector, panoptic data, several processes, and mistakes."""

import json
from pathlib import Path

import pytest
import torch

import building
import main
from engine import train_one_epoch
from tests.helpers import CPU, Run, assert_refused, batch, build, rows
from tests.processes import command, start_two
from util.dist.distributed import init_distributed, shutdown
from util.runs.checkpoint import load_checkpoint

pytestmark = pytest.mark.usefixtures("narrow_resnet18")

MODEL = (
    "--device cpu --num_workers 0 --backbone resnet18 --backbone_weights none --backbone_norm batch --enc_layers 1 "
    "--dec_layers 2 --hidden_dim 16 --nheads 2 --dim_feedforward 16 --num_queries 5 --print_freq 1 --no_check"
)
SHAPES = f"{MODEL} --dataset_file shapes --image_size 64 --train_size 8 --val_size 4 --batch_size 4 --epochs 1"


@pytest.mark.slow
def test_masks_are_trained_evaluated_logged_written_and_drawn(run: Run, tmp_path: Path) -> None:
    code, out, err = run(f"{SHAPES} --masks --output_dir {tmp_path}")
    assert code == 0, err
    assert "loss_mask: " in out and "loss_dice: " in out
    assert out.count("IoU metric: bbox") == out.count("IoU metric: segm") == 1
    (row,) = rows(tmp_path)
    assert len(row["test_coco_eval_bbox"]) == len(row["test_coco_eval_masks"]) == 12
    assert {"train_loss_mask", "test_loss_dice", "train_loss_mask_unscaled"} <= row.keys()
    assert (tmp_path / "detections.png").is_file()
    code, out, err = run(f"{SHAPES} --masks --eval --resume {tmp_path / 'checkpoint.pth'} --output_dir {tmp_path}")
    assert code == 0 and "predictions_segm.json" in out, err
    first = json.loads((tmp_path / "predictions_segm.json").read_text())[0]
    assert first["segmentation"]["size"] == [64, 64] and "bbox" not in first


@pytest.mark.slow
def test_masks_without_coco_panoptic_have_no_panoptic_quality(run: Run, tmp_path: Path) -> None:
    assert run(f"{SHAPES} --masks --max_steps 1 --output_dir {tmp_path}")[0] == 0
    assert not [key for key in rows(tmp_path)[0] if "PQ" in key] and not (tmp_path / "panoptic_eval").exists()


@pytest.mark.slow
@pytest.mark.parametrize("masks_in_checkpoint", [False, True])
def test_a_frozen_detector_does_not_change(run: Run, tmp_path: Path, masks_in_checkpoint: bool) -> None:
    detector = f"{SHAPES} --output_dir {tmp_path / 'detector'}" + (" --masks" if masks_in_checkpoint else "")
    assert run(detector)[0] == 0
    file = tmp_path / "detector" / "checkpoint.pth"
    code, out, err = run(f"{SHAPES} --epochs 2 --masks --frozen_weights {file} --output_dir {tmp_path / 'head'}")
    assert code == 0, err
    assert f"--frozen_weights {file}:" in out and "tensors of the detector loaded and frozen" in out
    assert ("mask head were left there" in out) == masks_in_checkpoint
    before, after = (load_checkpoint(f)["model"] for f in (file, tmp_path / "head" / "checkpoint.pth"))
    prefix = "detr." if masks_in_checkpoint else ""
    for name, value in after.items():
        if name.startswith("detr."):
            assert torch.equal(value, before[prefix + name.removeprefix("detr.")]), name
    first, second = rows(tmp_path / "head")
    assert first["test_loss_bbox"] == second["test_loss_bbox"] and first["test_loss_dice"] != second["test_loss_dice"]
    assert first["n_parameters"] == sum(v.numel() for k, v in after.items() if not k.startswith("detr."))


@pytest.mark.slow
def test_the_best_epoch_is_that_of_the_best_masks_if_masks_are_trained(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    figures = iter([(0.5, 0.1), (0.2, 0.3), (0.9, 0.2)])

    evaluate = main.evaluate

    def evaluated(*args, **more):
        box, mask = next(figures)
        return {"coco_eval_bbox": [box] * 12, "coco_eval_masks": [mask] * 12}, evaluate(*args, **more)[1]

    monkeypatch.setattr(main, "evaluate", evaluated)
    assert run(f"{SHAPES} --masks --epochs 3 --max_steps 6 --output_dir {tmp_path}")[0] == 0
    assert load_checkpoint(tmp_path / "best.pth")["epoch"] == 1


@pytest.mark.slow
def test_panoptic_images_are_trained_evaluated_and_written(run: Run, tmp_path: Path, panoptic_folder: Path) -> None:
    flags = (
        f"{MODEL} --dataset_file coco_panoptic --coco_path {panoptic_folder} --coco_panoptic_path {panoptic_folder} "
        f"--image_size 64 --batch_size 2 --epochs 1 --masks --output_dir {tmp_path / 'run'}"
    )
    code, out, err = run(flags)
    assert code == 0, err
    assert "Panoptic quality, images: 2" in out
    (row,) = rows(tmp_path / "run")
    for key in ("test_PQ_all", "test_PQ_th", "test_PQ_st"):
        assert row[key].keys() == {"pq", "sq", "rq", "n"}
    assert row["test_PQ_all"]["n"] == 2 and len(row["test_coco_eval_masks"]) == 12
    folder = tmp_path / "run" / "panoptic_eval"
    assert sorted(p.name for p in folder.iterdir()) == ["000000000002.png", "000000000009.png", "predictions.json"]
    code, _, err = run(f"{flags} --original_panoptic --eval --resume {tmp_path / 'run' / 'checkpoint.pth'}")
    assert code == 0, err


# ---- several processes


def train_masks(folder: Path) -> None:
    """Train three steps, in whose second one the second process has images without objects; save the weights."""
    torch.manual_seed(0)
    launch = init_distributed(device="cpu")
    model, criterion, _ = build("--masks --mask_chunk 1")
    model = building.wrap_model(model, launch)

    def with_masks(objects: int) -> tuple:
        samples, targets = batch(2)
        for target in targets:
            target["masks"] = torch.rand(1, 64, 64) < 0.3
            for name in ("labels", "boxes", "masks"):
                target[name] = target[name][:objects]
        return samples, targets

    batches = [with_masks(1), with_masks(1 - launch.rank), with_masks(1)]
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    train_one_epoch(model, criterion, batches, optimizer, CPU, 0)
    torch.save(dict(building.without_wrapper(model).named_parameters()), folder / f"{launch.rank}.pth")
    shutdown()


@pytest.mark.slow
def test_two_processes_train_masks_also_if_one_has_no_object(tmp_path: Path) -> None:
    for code, _, err in start_two(train_masks, tmp_path):
        assert code == 0, err
    first, second = (torch.load(tmp_path / f"{rank}.pth", weights_only=True) for rank in (0, 1))
    assert first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.slow
def test_two_processes_write_one_panoptic_folder(tmp_path: Path, panoptic_folder: Path) -> None:
    flags = (
        f"{MODEL} --dataset_file coco_panoptic --coco_path {panoptic_folder} --coco_panoptic_path {panoptic_folder} "
        f"--image_size 64 --batch_size 1 --epochs 1 --masks --output_dir {tmp_path / 'a' / 'run'}"
    )
    (code0, out0, err0), (code1, out1, err1) = start_two(command, flags)
    assert (code0, code1) == (0, 0), err0 + err1
    assert out0.count("Panoptic quality, images: 2") == 1 and out1 == ""
    written = json.loads((tmp_path / "a" / "run" / "panoptic_eval" / "predictions.json").read_text())
    assert [row["image_id"] for row in written["annotations"]] == [2, 9]


# ---- mistakes


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ("--frozen_weights x.pth", ["--frozen_weights x.pth", "--masks"]),
        ("--masks --frozen_weights /nowhere.pth", ["/nowhere.pth", "no such file"]),
        ("--masks --frozen_weights x.pth --init_from y.pth", ["--frozen_weights", "--init_from"]),
        ("--masks --mask_chunk -1", ["--mask_chunk -1"]),
        ("--masks --original_panoptic", ["--original_panoptic", "coco_panoptic"]),
        ("--masks --hidden_dim 8", ["--hidden_dim 8", "--masks"]),
        ("--masks --backbone mobilenet_v2 --backbone_norm frozen", ["--masks", "mobilenet_v2"]),
    ],
)
def test_mistakes_in_flags_are_refused_in_one_line(run: Run, flags: str, words: list[str]) -> None:
    assert_refused(run(f"{SHAPES} {flags}"), *words)


@pytest.mark.slow
def test_a_frozen_detector_of_another_width_is_refused(run: Run, tmp_path: Path) -> None:
    assert run(f"{SHAPES} --max_steps 1 --output_dir {tmp_path}")[0] == 0
    file = tmp_path / "checkpoint.pth"
    assert_refused(
        run(f"{SHAPES} --masks --hidden_dim 32 --frozen_weights {file}"),
        "checkpoint.pth",
        "--hidden_dim 16",
        "--hidden_dim 32",
    )
