"""A run that stops in the middle of an epoch goes on with the very next step, as if it had not stopped."""

import os
import re
import shutil
import signal
from pathlib import Path

import pytest
import torch

from tests.helpers import TINY, Run, rows_without_measured
from tests.processes import command, start_two
from tests.signalled import signal_in, signalled_run
from util.runs.run_folder import RunFolder

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("narrow_resnet18", "undrawn_curves")]

#: 12 steps in two epochs of 6, of 2 x 2 images each; dropout, mirrors, crops of images, colours and an average.
FLAGS = (
    f"{TINY} --train_size 24 --val_size 2 --batch_size 2 --accumulate 2 --epochs 2 --print_freq 2 --ema 0.9 "
    "--color_jitter 0.3 --mosaic 0.5 --checkpoint_every 1"
)


class Killed(BaseException):
    """Stands for SIGKILL: nothing of the project catches it."""


def die_after(step: int, patch: pytest.MonkeyPatch) -> None:
    """Have the run die as soon as the checkpoint of a step is written."""
    save = RunFolder.save

    def save_and_die(self: RunFolder, state: dict, **more: bool) -> bool:
        saved = save(self, state, **more)
        if state["step"] == step:
            raise Killed
        return saved

    patch.setattr(RunFolder, "save", save_and_die)


def steps_in(out: str) -> list[str]:
    """Return the places of the lines of training steps."""
    return re.findall(r"Epoch: \[\d\]  \[\d/\d\]", out)


def assert_same(one: Path, other: Path) -> None:
    """Check that two folders hold the same weights, optimizer, average and log, to the last bit."""
    assert rows_without_measured(one) == rows_without_measured(other) and len(rows_without_measured(one)) == 2
    for name in ("checkpoint.pth", "best.pth"):
        mine, theirs = (torch.load(folder / name, weights_only=True) for folder in (one, other))
        for part in ("model", "ema"):
            assert all(torch.equal(mine[part][key], theirs[part][key]) for key in theirs[part]), (name, part)
        assert mine["step"] == theirs["step"] and mine["best_ap"] == theirs["best_ap"]
        for key, state in theirs["optimizer"]["state"].items():
            assert all(torch.equal(state[what], mine["optimizer"]["state"][key][what]) for what in state)


@pytest.mark.parametrize("workers", [0, 2])
def test_twelve_steps_equal_five_and_seven(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, workers: int
) -> None:
    straight, cut = (f"{FLAGS} --num_workers {workers} --output_dir {tmp_path / name}" for name in ("straight", "cut"))
    code, whole, err = run(straight)
    assert code == 0, err
    with monkeypatch.context() as patch, pytest.raises(Killed):
        die_after(5, patch)
        run(cut)
    first = capsys.readouterr().out
    with monkeypatch.context() as patch, pytest.raises(Killed):
        die_after(6, patch)  # the epoch is trained, and its evaluation still to be made
        run(f"{cut} --resume auto")
    second = capsys.readouterr().out
    code, third, err = run(f"{cut} --resume auto")
    assert code == 0 and "resuming at epoch 0, step 5" in second, err
    assert steps_in(first + second + third) == steps_in(whole) and len(steps_in(whole)) == 6
    assert_same(tmp_path / "cut", tmp_path / "straight")


def test_two_processes_stop_together_at_a_signal_to_one_and_go_on_exactly(run: Run, tmp_path: Path) -> None:
    flags = FLAGS.replace("--batch_size 2", "--batch_size 1 --num_workers 1").replace("--checkpoint_every 1", "")
    straight, cut = (f"{flags} --output_dir {tmp_path / name}" for name in ("straight", "cut"))
    assert [code for code, _, _ in start_two(command, straight)] == [0, 0]
    (code0, out0, err0), (code1, _, err1) = start_two(signalled_run, cut, 1, "SIGUSR1", 3)
    assert (code0, code1) == (75, 75), err0 + err1
    assert "SIGUSR1: the run ends after step 4 of 12, saved in" in out0  # they agree every --print_freq steps
    shutil.copytree(tmp_path / "cut", tmp_path / "one")
    ended = start_two(command, f"{cut} --resume auto")
    assert [code for code, _, _ in ended] == [0, 0], ended
    assert_same(tmp_path / "cut", tmp_path / "straight")
    code, out, err = run(f"{flags} --output_dir {tmp_path / 'one'} --epochs 1 --resume auto")
    assert code == 0 and "--resume: processes 2 -> 1: goes on at the same number of images, 8 steps" in out, err
    assert steps_in(out) == ["Epoch: [0]  [2/4]", "Epoch: [0]  [4/4]"]


@pytest.mark.parametrize("name", ["SIGTERM", "SIGUSR1"])
def test_a_signal_saves_and_ends_the_run_with_its_code(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    flags = f"{TINY} --epochs 2 --val_size 2 --output_dir {tmp_path / 'run'}"
    (tmp_path / "scontrol").write_text(f'#!/bin/sh\necho "$@" > {tmp_path / "asked"}\n')
    (tmp_path / "scontrol").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    with monkeypatch.context() as patch:
        signal_in(3, name, patch)
        before = signal.getsignal(getattr(signal, name))
        code, out, err = run(flags)
        assert signal.getsignal(getattr(signal, name)) == before
    assert code == 75 and f"{name}: the run ends after step 3 of 4, saved in {tmp_path / 'run'}" in out, err
    asked = (tmp_path / "asked").read_text() if (tmp_path / "asked").exists() else ""
    assert asked == ("requeue 7\n" if name == "SIGUSR1" else "")
    code, out, err = run(f"{flags} --resume auto")
    assert code == 0 and "resuming at epoch 1, step 3" in out and "Epoch: [1]  [2/2]" in out, err


def test_without_a_folder_there_is_nothing_to_save_and_ctrl_c_ends_at_once(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    signal_in(1, "SIGINT", monkeypatch)
    # As Python starts; a library that an earlier test has used may have left a handler of its own.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        assert run(f"{TINY} --epochs 1 --val_size 2")[0] == 130
    finally:
        signal.signal(signal.SIGINT, before)


def test_another_batch_size_goes_on_at_the_same_image(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    flags = f"{FLAGS} --output_dir {tmp_path}"
    with monkeypatch.context() as patch, pytest.raises(Killed):
        die_after(4, patch)  # 16 of 24 images
        run(flags)
    capsys.readouterr()
    code, out, err = run(f"{flags} --accumulate 1 --batch_size 4 --epochs 1 --resume auto --num_workers 1")
    assert code == 0, err
    assert "--resume: --batch_size 2 -> 4, --accumulate 2 -> 1: goes on at the same number of images, 4 steps" in out
    assert steps_in(out) == ["Epoch: [0]  [2/2]"]


def test_one_process_becomes_two_at_the_same_image(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    flags = f"{FLAGS} --epochs 1 --output_dir {tmp_path}"
    with monkeypatch.context() as patch, pytest.raises(Killed):
        die_after(4, patch)  # 16 of 24 images
        run(flags)
    capsys.readouterr()
    (code, out, err), (other, _, other_err) = start_two(command, f"{flags} --resume auto")
    assert (code, other) == (0, 0), err + other_err
    assert "--resume: processes 1 -> 2: goes on at the same number of images, 2 steps" in out
    assert steps_in(out) == ["Epoch: [0]  [1/1]"]  # the last of three
