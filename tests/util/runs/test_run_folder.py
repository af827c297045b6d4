"""The files of a run's folder."""

import json
from pathlib import Path

import pytest
import torch

from util.errors import CheckpointError
from util.runs import run_folder
from util.runs.checkpoint import load_checkpoint, save_checkpoint
from util.runs.run_folder import RunFolder, write_predictions, write_results


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
    assert {path.name for path in tmp_path.iterdir()} == {
        "checkpoint.pth",
        "previous.pth",
        "best.pth",
        "checkpoint0199.pth",
    }


def test_equal_checkpoints_are_packed_once_and_stay_files_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, packed = RunFolder(tmp_path, first_epoch=0), list[str]()

    def save_and_note(path: Path, state: dict, **more: Path) -> None:
        packed.append(path.name)
        save_checkpoint(path, state, **more)

    def save(value: float, **more: bool) -> list[str]:
        raw = {"model": {"w": torch.full((1,), value)}, "ema": {"w": torch.full((1,), -value)}, "epoch": int(value)}
        packed.clear()
        folder.save(raw | {"best_weights": "ema" if more.pop("averaged", False) else "raw"}, **more)
        return packed

    def value(name: str) -> float:
        return load_checkpoint(tmp_path / f"{name}.pth")["model"]["w"].item()

    monkeypatch.setattr(run_folder, "save_checkpoint", save_and_note)
    assert save(1, is_best=True, keep=True) == ["best.pth"]
    assert value("checkpoint") == value("best") == value("checkpoint0001") == 1
    assert save(2) == ["checkpoint.pth"]
    assert (value("checkpoint"), value("best"), value("checkpoint0001"), value("previous")) == (2, 1, 1, 1)
    # best.pth has other weights: nothing to copy.
    assert save(3, is_best=True, averaged=True) == ["best.pth", "checkpoint.pth"]
    assert (value("checkpoint"), value("best")) == (3, -3)
    assert save(4, is_best=True) == ["best.pth"]
    assert (value("checkpoint"), value("best"), value("previous")) == (4, 4, 3)
    assert not list(tmp_path.glob(".*"))


def test_evaluations_are_kept_under_detrs_names(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path, first_epoch=0)
    for epoch in (0, 1, 50, 51):
        folder.keep_evaluation(FakeEvaluator("bbox", precision=float(epoch)), epoch=epoch)
    folder.keep_evaluation(FakeEvaluator("bbox", measured=False), epoch=52)
    kept = {path.name: torch.load(path)["precision"].item() for path in (tmp_path / "eval").iterdir()}
    assert kept == {"000.pth": 0, "050.pth": 50, "latest.pth": 51}
    assert torch.load(tmp_path / "eval.pth")["precision"].item() == 51


class FakeEvaluator:
    """Holds the same box or mask for every kind."""

    def __init__(self, *iou_types: str, precision: float | torch.Tensor = 0.5, measured: bool = True) -> None:
        self.iou_types, self.precision, self.measured = iou_types, precision, measured

    def precision_recall(self, iou_type: str) -> dict:
        return {"precision": torch.as_tensor(self.precision).reshape(-1)}

    def results(self, iou_type: str) -> list[dict]:
        return [{"image_id": 1, "category_id": 2, iou_type: [0.0, 1.0, 2.0, 3.0], "score": 0.25}]


def test_an_evaluation_leaves_predictions_and_precision(tmp_path: Path) -> None:
    assert [path.name for path in write_results(tmp_path, FakeEvaluator("bbox"))] == ["predictions.json", "eval.pth"]
    assert torch.load(tmp_path / "eval.pth")["precision"].item() == 0.5
    other = tmp_path / "other"
    assert [path.name for path in write_results(other, FakeEvaluator("bbox", measured=False))] == ["predictions.json"]


def test_predictions_are_json_with_masks_in_a_file_of_their_own(tmp_path: Path) -> None:
    (path,) = write_predictions(tmp_path / "boxes", FakeEvaluator("bbox"))
    assert path.name == "predictions.json" and json.loads(path.read_text()) == FakeEvaluator("bbox").results("bbox")
    paths = write_predictions(tmp_path / "both", FakeEvaluator("bbox", "segm"))
    assert [path.name for path in paths] == ["predictions.json", "predictions_segm.json"]
    assert [list(json.loads(path.read_text())[0])[2] for path in paths] == ["bbox", "segm"]


def test_a_full_disk_is_a_line_and_the_run_goes_on(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """A limit of 20 kB a file stands for the disk."""
    resource = pytest.importorskip("resource", reason="file size limits are POSIX's")
    folder = RunFolder(tmp_path, first_epoch=0)
    small, large = ({"model": {"w": torch.ones(n)}, "epoch": 0} for n in (1, 100_000))
    row = {"epoch": 0, "train_loss": 1.0, "test_coco_eval_bbox": [0.0] * 12}
    folder.log(row)
    assert folder.save(small, is_best=True, keep=True)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
    try:
        assert not folder.save(large, is_best=True)
        folder.keep_evaluation(FakeEvaluator("bbox", precision=torch.zeros(100_000)), epoch=1)
        folder.log(row | {"epoch": 1, "long": "x" * 30_000})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    out = capsys.readouterr().out
    assert out.count("warning: ") == len(out.splitlines()) == 5 and "checkpoint.pth: cannot be written (" in out, out
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()} == before
    with pytest.raises(CheckpointError, match="is the disk full"):
        folder.finish()
    folder.log(row | {"epoch": 2})  # there is room again
    assert folder.save(small, is_best=True)
    folder.finish()
    assert [json.loads(line)["epoch"] for line in (tmp_path / "log.txt").read_text().splitlines()] == [0, 1, 2]


def test_rows_of_many_epochs_that_leave_the_log_are_kept_beside_it(tmp_path: Path) -> None:
    rows = "".join(json.dumps({"epoch": epoch}) + "\n" for epoch in range(5))
    (tmp_path / "log.txt").write_text(rows)
    RunFolder(tmp_path, first_epoch=2)
    kept = [json.loads(line)["epoch"] for line in (tmp_path / "log.old.txt").read_text().splitlines()]
    assert kept == [2, 3, 4] and len((tmp_path / "log.txt").read_text().splitlines()) == 2
