"""Going on with a run: the optimizer's state, the best AP, and the flags that give way."""

import math

import pytest
import torch

from util.errors import CheckpointError
from util.runs.resume import restore_optimizer

FLAGS = {"lr": 1e-4, "lr_backbone": 1e-5, "weight_decay": 1e-4, "epochs": 3}


def make_optimizer(count: int = 1) -> torch.optim.AdamW:
    return torch.optim.AdamW([torch.zeros(3, requires_grad=True) for _ in range(count)], lr=1e-4)


def make_checkpoint(**more: object) -> dict:
    return {"model": {}, "optimizer": make_optimizer().state_dict(), "lr_scheduler": {}, "epoch": 4} | more


@pytest.mark.parametrize("checkpoint", [None, {"model": {}}])
def test_a_new_run_has_no_best_ap(checkpoint: dict | None) -> None:
    assert restore_optimizer(make_optimizer(), checkpoint, flags=FLAGS) == -math.inf


def test_state_and_best_ap_of_the_checkpoint() -> None:
    saved, optimizer = make_optimizer(), make_optimizer()
    saved.param_groups[0]["lr"] = 0.25
    checkpoint = make_checkpoint(optimizer=saved.state_dict(), best_ap=0.3)
    assert restore_optimizer(optimizer, checkpoint, flags=FLAGS) == 0.3
    assert optimizer.param_groups[0]["lr"] == 0.25


def test_flags_that_the_checkpoint_overrules_are_said(capsys: pytest.CaptureFixture) -> None:
    restore_optimizer(make_optimizer(), make_checkpoint(args={"lr": 0.5, "epochs": 7}), flags=FLAGS)
    assert capsys.readouterr().out.count("--resume keeps") == 1
    restore_optimizer(make_optimizer(), make_checkpoint(args={"lr": 0.5}), flags=FLAGS)
    assert "--resume keeps --lr 0.5 of the checkpoint, not 0.0001" in capsys.readouterr().out


def test_an_optimizer_of_another_model_is_refused() -> None:
    with pytest.raises(CheckpointError, match="optimizer"):
        restore_optimizer(make_optimizer(2), make_checkpoint(), flags=FLAGS)
