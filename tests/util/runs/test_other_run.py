"""A folder with checkpoints of another run is not written over without --overwrite."""

import argparse
import json
from pathlib import Path

import pytest
import torch

from util.errors import UserError
from util.runs.checkpoint import save_checkpoint
from util.runs.other_run import refuse_other_run

FLAGS = {"lr": 0.1, "data_path": "x", "betas": (1, 2), "num_workers": 2, "eval": False, "overwrite": False}
FLAGS |= {"section": None, "torch_profile": None, "count_costs": None, "profile_continue": False, "overfit": 0}


def check(folder: Path, resumed: str | None = None, **changed: object) -> None:
    refuse_other_run(folder, argparse.Namespace(**FLAGS | changed), resumed=resumed)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    args = {**FLAGS, "gone": 1}
    save_checkpoint(tmp_path / "checkpoint.pth", {"model": {"w": torch.ones(1)}, "args": args})
    (tmp_path / "run.json").write_text(json.dumps({"flags": args}))
    return tmp_path


def test_other_flags_or_data_are_refused(folder: Path) -> None:
    with pytest.raises(UserError, match=r"holds another run \(--lr 0.1 there, 0.2 here\).*--overwrite"):
        check(folder, lr=0.2)
    with pytest.raises(UserError, match="--data_path x there, y here"):
        check(folder, data_path="y")
    (folder / "run.json").unlink()  # as DETR itself leaves a folder
    with pytest.raises(UserError, match="--lr 0.1 there, 0.2 here"):
        check(folder, lr=0.2)
    (folder / "checkpoint.pth").write_bytes(b"something")
    with pytest.raises(UserError, match=r"holds checkpoint.pth of an unknown run"):
        check(folder)


def test_the_same_run_and_whatever_writes_over_nothing_may_go_on(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    check(folder, num_workers=0)
    assert "holds a run of the same flags; it is started anew" in capsys.readouterr().out
    for harmless in ({"overwrite": True}, {"eval": True}, {"section": "forward"}):
        check(folder, lr=0.2, **harmless)
    check(folder, resumed=str(folder / "checkpoint.pth"), lr=0.2)
    check(tmp_path / "new", lr=0.2)
    assert capsys.readouterr().out == ""
