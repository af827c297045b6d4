"""A run's folder and where a resumed run starts."""

import json
from argparse import Namespace
from pathlib import Path

import pytest
import torch

from util.errors import CheckpointError
from util.runs.run_folder import RunFolder, Start, restore_training, write_predictions

ARGS = Namespace(lr=1e-4, lr_backbone=1e-5, weight_decay=1e-4, start_epoch=0)


def make_optimizer(width: int = 3) -> torch.optim.AdamW:
    optimizer = torch.optim.AdamW([torch.zeros(width, requires_grad=True)], lr=1e-4)
    optimizer.param_groups[0]["initial_lr"] = 1e-4
    return optimizer


def make_checkpoint(**more: object) -> dict:
    return {"model": {}, "optimizer": make_optimizer().state_dict(), "lr_scheduler": {}, "epoch": 4} | more


def test_rows_that_will_be_written_again_and_half_a_line_are_dropped(tmp_path: Path) -> None:
    rows = [{"epoch": epoch, "train_loss": 1.0, "test_coco_eval_bbox": [0.0] * 12} for epoch in range(4)]
    (tmp_path / "log.txt").write_text("".join(json.dumps(row) + "\n" for row in rows) + '{"epoch": ')
    RunFolder(tmp_path, first_epoch=2).log(rows[2])
    assert [json.loads(line)["epoch"] for line in (tmp_path / "log.txt").read_text().splitlines()] == [0, 1, 2]
    assert (tmp_path / "curves.png").stat().st_size > 1000


def test_which_files_a_save_writes(tmp_path: Path) -> None:
    folder, state = RunFolder(tmp_path, first_epoch=0), {"model": {"w": torch.ones(1)}, "epoch": 199}
    folder.save(state, is_best=False, keep=False)
    assert {path.name for path in tmp_path.iterdir()} == {"checkpoint.pth"}
    folder.save(state, is_best=True, keep=True)
    assert {path.name for path in tmp_path.iterdir()} == {"checkpoint.pth", "best.pth", "checkpoint0199.pth"}


class FakeEvaluator:
    """Holds the same box or mask for every kind."""

    def __init__(self, *iou_types: str) -> None:
        self.iou_types = iou_types

    def results(self, iou_type: str) -> list[dict]:
        return [{"image_id": 1, "category_id": 2, iou_type: [0.0, 1.0, 2.0, 3.0], "score": 0.25}]


def test_predictions_are_json_with_masks_in_a_file_of_their_own(tmp_path: Path) -> None:
    (path,) = write_predictions(tmp_path / "boxes", FakeEvaluator("bbox"))
    assert path.name == "predictions.json" and json.loads(path.read_text()) == FakeEvaluator("bbox").results("bbox")
    paths = write_predictions(tmp_path / "both", FakeEvaluator("bbox", "segm"))
    assert [path.name for path in paths] == ["predictions.json", "predictions_segm.json"]
    assert [list(json.loads(path.read_text())[0])[2] for path in paths] == ["bbox", "segm"]


def test_a_new_run_starts_where_start_epoch_says() -> None:
    args = Namespace(**vars(ARGS) | {"start_epoch": 3})
    assert restore_training(None, make_optimizer(), args, steps_per_epoch=10) == Start(epoch=3, step=30)
    weights_only = {"model": {}}
    assert restore_training(weights_only, make_optimizer(), ARGS, steps_per_epoch=10) == Start()


def test_a_resumed_run_goes_on_after_the_epoch_saved(capsys: pytest.CaptureFixture) -> None:
    start = restore_training(make_checkpoint(best_ap=0.3), make_optimizer(), ARGS, steps_per_epoch=10)
    assert start == Start(epoch=5, step=50, best_ap=0.3)
    assert capsys.readouterr().out == "resuming at epoch 5, step 50\n"


def test_steps_are_counted_anew_with_another_batch_size() -> None:
    checkpoint = make_checkpoint(step=50, steps_per_epoch=10)
    assert restore_training(checkpoint, make_optimizer(), ARGS, steps_per_epoch=4).step == 20


def test_flags_that_the_checkpoint_overrules_are_said(capsys: pytest.CaptureFixture) -> None:
    restore_training(make_checkpoint(args={"lr": 0.5, "epochs": 7}), make_optimizer(), ARGS, steps_per_epoch=10)
    assert "--resume keeps --lr 0.5 of the checkpoint, not 0.0001" in capsys.readouterr().out


def test_an_optimizer_of_another_model_is_refused() -> None:
    other = torch.optim.AdamW([torch.zeros(3, requires_grad=True), torch.zeros(3, requires_grad=True)])
    with pytest.raises(CheckpointError, match="optimizer"):
        restore_training(make_checkpoint(optimizer=other.state_dict()), make_optimizer(), ARGS, steps_per_epoch=10)
