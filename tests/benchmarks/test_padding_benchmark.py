"""The benchmark of --padding_invariant: its images, its four measurements, and its refusals."""

import json
from pathlib import Path

import pytest
import torch
from torch import nn

from benchmarks import padding
from datasets.shapes.dataset import ShapesDataset
from flags import get_args_parser
from models import build_model
from util.runs.checkpoint import save_checkpoint

SMALL = (
    "--dataset_file shapes --image_size 64 --backbone resnet18 --backbone_weights none --backbone_norm batch "
    "--device cpu --enc_layers 1 --dec_layers 1 --hidden_dim 16 --nheads 2 --dim_feedforward 16 "
    "--num_queries 4 --num_classes 5"
)


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """A model that was never trained, but whose norms are not the identity."""
    torch.manual_seed(0)
    flags = get_args_parser().parse_args(SMALL.split())
    model = build_model(flags)[0]
    for norm in model.modules():
        if isinstance(norm, nn.BatchNorm2d):
            nn.init.normal_(norm.bias, std=0.5)
    save_checkpoint(tmp_path / "best.pth", {"model": model.state_dict(), "args": flags})
    return tmp_path / "best.pth"


@pytest.fixture
def mixed() -> padding.MixedSizes:
    return padding.MixedSizes(ShapesDataset(image_set="test", size=8, image_size=64))


def test_images_differ_in_size_and_are_the_same_every_time(mixed: padding.MixedSizes) -> None:
    sizes = {tuple(mixed[i][0].shape[1:]) for i in range(len(mixed))}
    assert len(sizes) == 8 and all(36 <= side <= 80 for size in sizes for side in size)
    for (image, target), (again, _) in ((mixed[i], mixed[i]) for i in range(3)):
        assert torch.equal(image, again)
        assert target["orig_size"].tolist() == list(image.shape[1:])


def test_true_boxes_as_detections_are_perfect(mixed: padding.MixedSizes) -> None:
    truth = {}
    for index in range(len(mixed)):
        target = mixed.load(index)[1]
        truth[index] = {
            "scores": torch.ones(len(target["labels"])),
            "labels": target["labels"],
            "boxes": target["boxes"],
        }
    assert padding.average_precision(mixed, truth)["AP"] == pytest.approx(1)


@pytest.mark.slow
def test_four_rows_of_which_only_the_flagless_batch_differs(checkpoint: Path, tmp_path: Path, capsys) -> None:
    output = tmp_path / "report.json"
    command = ["--resume", str(checkpoint), "--images", "5", "--batch_size", "3", "--output", str(output)]
    assert padding.main(command) == 0
    report = json.loads(output.read_text())
    off_1, off_n, on_1, on_n = report["rows"]
    assert [(r["padding_invariant"], r["batch_size"]) for r in report["rows"]] == [
        (False, 1),
        (False, 3),
        (True, 1),
        (True, 3),
    ]
    assert off_1["AP"] == on_1["AP"] == pytest.approx(on_n["AP"]) and off_1["box_moves"] == on_1["box_moves"] == 0
    assert on_n["score_moves"] < 1e-4 < off_n["score_moves"] and on_n["box_moves"] < 1e-2 < off_n["box_moves"]
    assert report["machine"]["flags"]["images"] == 5 and len(report["medians"]) == 4
    assert "| on | 3 |" in capsys.readouterr().out


def test_mistakes_give_one_line(checkpoint: Path, tmp_path: Path, capsys) -> None:
    save_checkpoint(tmp_path / "coco.pth", {"model": {"x": torch.zeros(1)}, "args": {"dataset_file": "coco"}})
    for flags, complaint in (
        (["--resume", str(tmp_path / "gone.pth")], "gone.pth: no such file"),
        (["--resume", str(tmp_path / "coco.pth")], "--dataset_file coco, this needs shapes"),
        (["--resume", str(checkpoint), "--batch_size", "1"], "--batch_size 1: must be at least 2"),
        (["--resume", str(checkpoint), "--images", "0"], "--images 0"),
    ):
        assert padding.main(flags) == 2
        error = capsys.readouterr().err
        assert complaint in error and error.count("\n") == 1
