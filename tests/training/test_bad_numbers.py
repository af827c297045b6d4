"""--on_nan: a step that is not finite ends the run, is left out, or turns it back; its file makes the step again."""

import itertools
import math
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

import main
from engine import StepContext, optimizer_step
from tests.helpers import TINY, Run, assert_refused, rows
from tests.processes import start_two
from training import replay
from util.dist.precision import Precision
from util.runs.guard import StepGuard

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("narrow_resnet18", "undrawn_curves")]

#: Four steps of one epoch.
FLAGS = f"{TINY} --epochs 1 --batch_size 2 --print_freq 2"


def poison(patch: pytest.MonkeyPatch, *steps: int) -> None:
    """Make the box loss of these steps NaN."""
    calls, real = itertools.count(), F.l1_loss

    def l1_loss(boxes, *args, **more):
        bad = next(calls) in steps  # one call for all decoder layers
        return real(boxes, *args, **more) * (math.nan if bad else 1)

    patch.setattr("models.layer_losses.F.l1_loss", l1_loss)


def test_the_run_ends_and_its_file_makes_the_step_again(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    poison(monkeypatch, 1)
    flags = f"{FLAGS} --output_dir {tmp_path}"
    code, out, err = run(flags)
    file = tmp_path / "bad_step.pt"
    assert code == 3 and "Epoch: [0] step 1: " in err and f"python -m util.replay {file} makes it again" in out
    assert not (tmp_path / "checkpoint.pth").exists()

    poison(monkeypatch, 0)
    assert replay.main([str(file)]) == 0
    out = capsys.readouterr().out
    assert "all numbers are equal" in out and "loss_bbox" in out and "gradient_norm" in out and "nan" in out
    record = torch.load(file, weights_only=True)
    record["random"][2] = torch.Generator().manual_seed(5).get_state()  # PyTorch's, which dropout draws from
    torch.save(record, file)
    assert replay.main([str(file)]) == 1 and "differs: " in capsys.readouterr().out
    file.write_bytes(file.read_bytes()[:1000])
    assert replay.main([str(file)]) == 2 and "bad_step.pt: truncated" in capsys.readouterr().err


@pytest.mark.parametrize(("mode", "done"), [("skip", "left out"), ("rollback", "back to the weights 2 steps ago")])
def test_the_run_goes_on_without_the_step(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: str, done: str
) -> None:
    poison(monkeypatch, 1)
    flags = f"{FLAGS} --ema 0.9 --output_dir {tmp_path} --on_nan {mode}"
    code, out, _ = run(flags)
    (line,) = [line for line in out.splitlines() if "not finite" in line]
    assert code == 0 and "step 1: " in line and done in line
    (row,) = rows(tmp_path)
    assert row["train_bad_steps"] == 1 and math.isfinite(row["train_loss"]) and row["global_step"] == 4
    state = torch.load(tmp_path / "checkpoint.pth", weights_only=False)
    assert all(v.isfinite().all() for part in ("model", "ema") for v in state[part].values())
    made = {int(s["step"]) for s in state["optimizer"]["state"].values()}
    assert made == {3 if mode == "skip" else 2}


def test_a_run_that_is_never_finite_again_ends(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    poison(monkeypatch, *range(100))
    monkeypatch.setattr("util.runs.guard.MOST_ROLLBACKS", 1)
    monkeypatch.setattr("util.runs.guard.MOST_IN_A_ROW", 3)
    for mode, words in (("rollback", "going back 1 times"), ("skip", "4 steps one after the other")):
        poison(monkeypatch, *range(100))
        assert_refused(run(f"{FLAGS} --on_nan {mode}"), f"--on_nan {mode}", words, code=3)


def poisoned_rank(flags: str) -> int:
    """Run the command; the box loss of rank 1 is NaN in step 2."""
    import os

    if os.environ["RANK"] == "1":
        poison(pytest.MonkeyPatch(), 2)
    return main.cli(flags.split())


def test_processes_agree_on_a_step_that_is_bad_on_one(tmp_path: Path) -> None:
    flags = f"{TINY} --epochs 1 --batch_size 1 --print_freq 2 --on_nan skip --output_dir {tmp_path}"
    (code, out, err), (other_code, other_out, _) = start_two(poisoned_rank, flags)
    assert code == other_code == 0, err
    assert "Epoch: [0] step 2: " in out and rows(tmp_path)[0]["train_bad_steps"] == 1
    # The rank whose loss it was keeps the step.
    assert "makes it again" in other_out and "makes it again" not in out
    assert torch.load(tmp_path / "bad_step.pt", weights_only=True)["rank"] == 1


@pytest.mark.parametrize("kind", ["fused", "not fused", "scaled"])
def test_no_optimizer_makes_a_bad_step(kind: str) -> None:
    model = torch.nn.Linear(2, 1)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1, fused=kind == "fused")
    precision = Precision(torch.device("cpu"))
    if kind == "scaled":
        precision.scaler = torch.amp.GradScaler("cpu")
    guard = StepGuard(model, optimizer, mode="skip", device=torch.device("cpu"), scaled=kind == "scaled")
    context, changed = StepContext(precision, guard=guard), []
    for factor in (1.0, math.nan, 1.0):
        before = model.weight.detach().clone()
        guard.before([])
        loss = model(torch.ones(1, 2)).sum() * factor
        precision.scaler.scale(loss).backward()
        optimizer_step(model, optimizer, 0.1, context, losses={"loss": loss})
        changed.append(not torch.equal(before, model.weight))
    assert changed == [True, False, True] and bool(model.weight.isfinite().all())
    assert guard.settle() == [0, 2, 0]
