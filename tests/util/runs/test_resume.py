"""Going on with a run: the optimizer's state, the flags that give way, and files that a killed run did not write."""

import math
import os
from pathlib import Path

import pytest
import torch

from util.errors import CheckpointError
from util.runs.checkpoint import load_checkpoint, save_checkpoint
from util.runs.resume import repair_files, restore_optimizer

FLAGS = {"lr": 1e-4, "lr_backbone": 1e-5, "weight_decay": 1e-4, "epochs": 3}


def make_optimizer(count: int = 1) -> torch.optim.AdamW:
    return torch.optim.AdamW([torch.zeros(3, requires_grad=True) for _ in range(count)], lr=1e-4)


def make_checkpoint(**more: object) -> dict:
    return {"model": {}, "optimizer": make_optimizer().state_dict(), "lr_scheduler": {}, "epoch": 4} | more


@pytest.mark.parametrize("checkpoint", [None, {"model": {}}])
def test_a_new_run_has_no_best_ap_and_nothing_to_repair(tmp_path: Path, checkpoint: dict | None) -> None:
    optimizer = make_optimizer()
    restore_optimizer(optimizer, checkpoint, flags=FLAGS)
    assert optimizer.param_groups[0]["lr"] == 1e-4
    assert repair_files(tmp_path, checkpoint, "x.pth") == -math.inf and not list(tmp_path.iterdir())


def test_state_of_the_checkpoint() -> None:
    saved, optimizer = make_optimizer(), make_optimizer()
    saved.param_groups[0]["lr"] = 0.25
    restore_optimizer(optimizer, make_checkpoint(optimizer=saved.state_dict()), flags=FLAGS)
    assert optimizer.param_groups[0]["lr"] == 0.25


def test_flags_that_the_checkpoint_overrules_are_said(capsys: pytest.CaptureFixture) -> None:
    restore_optimizer(make_optimizer(), make_checkpoint(args={"lr": 0.5, "epochs": 7}), flags=FLAGS)
    assert capsys.readouterr().out.count("--resume keeps") == 1
    restore_optimizer(make_optimizer(), make_checkpoint(args={"lr": 0.5}), flags=FLAGS)
    assert "--resume keeps --lr 0.5 of the checkpoint, not 0.0001" in capsys.readouterr().out


def test_an_optimizer_of_another_model_is_refused() -> None:
    with pytest.raises(CheckpointError, match="optimizer"):
        restore_optimizer(make_optimizer(2), make_checkpoint(), flags=FLAGS)


def write_epoch(folder: Path, name: str, *, epoch: int, best_ap: float, **more: float) -> dict:
    """Write a checkpoint under a name, and return what `load_checkpoint` reads."""
    weights = {"w": torch.full((1,), float(epoch))}
    save_checkpoint(folder / name, make_checkpoint(model=weights, epoch=epoch, best_ap=best_ap, **more))
    return load_checkpoint(folder / name)


def test_a_missing_best_is_written_from_the_checkpoint_that_is_resumed(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    write_epoch(tmp_path, "checkpoint0003.pth", epoch=3, ap=0.2, best_ap=0.2)
    last = write_epoch(tmp_path, "checkpoint.pth", epoch=4, ap=0.3, best_ap=0.3)
    assert repair_files(tmp_path, last, str(tmp_path / "checkpoint.pth")) == 0.3
    assert load_checkpoint(tmp_path / "best.pth")["epoch"] == 4
    assert capsys.readouterr().out.endswith("now it is that of epoch 4, the best that is there\n")


def test_a_missing_best_is_found_among_kept_checkpoints(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    write_epoch(tmp_path, "checkpoint0001.pth", epoch=1, ap=0.5, best_ap=0.5)
    write_epoch(tmp_path, "checkpoint0009.pth", epoch=9, ap=0.9, best_ap=0.9)  # of a later, given up part of the run
    (tmp_path / "checkpoint0002.pth").write_bytes(b"broken")
    last = write_epoch(tmp_path, "checkpoint.pth", epoch=4, ap=0.3, best_ap=0.6)
    assert repair_files(tmp_path, last, str(tmp_path / "checkpoint.pth")) == 0.5, "0.6 could not be beaten by 0.55"
    assert load_checkpoint(tmp_path / "best.pth")["epoch"] == 1
    assert "that of AP 0.600 is lost" in capsys.readouterr().out


def test_a_run_that_goes_on_in_another_folder_takes_its_best_along(tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    write_epoch(old, "best.pth", epoch=2, best_ap=0.7)  # without `ap`, as before there was one
    last = write_epoch(old, "checkpoint.pth", epoch=4, best_ap=0.7)
    assert repair_files(new, last, str(old / "checkpoint.pth")) == 0.7
    assert load_checkpoint(new / "best.pth")["epoch"] == 2 and [path.name for path in new.iterdir()] == ["best.pth"]


def test_a_best_that_is_there_and_a_process_without_a_folder_repair_nothing(tmp_path: Path) -> None:
    last = write_epoch(tmp_path, "checkpoint.pth", epoch=4, ap=0.3, best_ap=0.6)
    (tmp_path / "best.pth").write_bytes(b"best")
    assert repair_files(tmp_path, last, str(tmp_path / "checkpoint.pth")) == 0.6
    assert (tmp_path / "best.pth").read_bytes() == b"best"
    assert repair_files(None, last, str(tmp_path / "checkpoint.pth")) == 0.6


def test_a_kept_checkpoint_that_is_newer_becomes_the_last(tmp_path: Path) -> None:
    write_epoch(tmp_path, "checkpoint.pth", epoch=3, ap=0.1, best_ap=0.1)
    kept = write_epoch(tmp_path, "checkpoint0004.pth", epoch=4, ap=0.2, best_ap=0.2)
    os.utime(tmp_path / "checkpoint.pth", (0, 0))
    repair_files(tmp_path, kept, str(tmp_path / "checkpoint0004.pth"))
    assert load_checkpoint(tmp_path / "checkpoint.pth")["epoch"] == 4
    older = write_epoch(tmp_path, "checkpoint0001.pth", epoch=1, ap=0.1, best_ap=0.1)
    os.utime(tmp_path / "checkpoint0001.pth", (0, 0))
    repair_files(tmp_path, older, str(tmp_path / "checkpoint0001.pth"))
    assert load_checkpoint(tmp_path / "checkpoint.pth")["epoch"] == 4, "one goes back to an older on purpose"
