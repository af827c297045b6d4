"""A run's console, command and machine in its folder, and what its GPU did."""

import sys
from pathlib import Path

import pytest
import torch

from tests.nvml_stand_in import NvmlStandIn
from util.errors import CheckpointError, UserError
from util.runs.checkpoint import find_resume, save_checkpoint
from util.runs.gpu_log import HEAD, gpu_logged
from util.runs.record import Record


def test_what_is_printed_is_kept_once_there_is_a_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", ["/somewhere/main.py", "--lr", "1"])
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("WANDB_API_KEY", "secret")
    before = sys.stdout
    with Record() as record:
        print("first")
        assert not list(tmp_path.iterdir())
        record.keep(tmp_path)
        print("second")
    print("third")
    assert sys.stdout is before and capsys.readouterr().out == "first\nsecond\nthird\n"
    assert (tmp_path / "console.log").read_text() == "$ main.py --lr 1\nfirst\nsecond\n"
    assert (tmp_path / "cmdline.txt").read_text() == "main.py --lr 1\n"
    environment = (tmp_path / "env.txt").read_text()
    assert "torch: " in environment and "OMP_NUM_THREADS: 1" in environment and "secret" not in environment


def test_an_error_is_the_last_line_and_a_second_run_adds_to_the_file(tmp_path: Path) -> None:
    for message in ("no such flag", "no such file"):
        with pytest.raises(UserError), Record() as record:
            record.keep(tmp_path)
            raise UserError(message)
    lines = (tmp_path / "console.log").read_text().splitlines()
    assert [line for line in lines if line.startswith("error")] == ["error: no such flag", "error: no such file"]
    assert len((tmp_path / "cmdline.txt").read_text().splitlines()) == 2


def test_a_refused_run_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(UserError), Record():
        raise UserError("refused")
    assert not list(tmp_path.iterdir())


def test_the_gpu_is_logged_from_beginning_to_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", library := NvmlStandIn())
    for _ in range(2):
        with gpu_logged(tmp_path / "gpu.csv", every=60):
            pass
    head, *rows = (line.split(",") for line in (tmp_path / "gpu.csv").read_text().splitlines())
    assert tuple(head) == HEAD and [row[1:] for row in rows] == [["87", "3072", "40960", "250.0"]] * 2
    assert library.opened == 0


def test_without_the_library_log_gpu_is_refused_in_a_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    with pytest.raises(UserError, match="--log_gpu: nvidia-ml-py is missing"), gpu_logged(tmp_path / "gpu.csv"):
        pass


def test_a_folder_to_resume_is_its_newest_whole_checkpoint(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(CheckpointError, match="no checkpoint.pth"):
        find_resume(str(tmp_path), "")
    save_checkpoint(tmp_path / "previous.pth", {"model": {"x": torch.zeros(1)}})
    (tmp_path / "checkpoint.pth").write_bytes(b"cut")
    assert find_resume(str(tmp_path), "") == str(tmp_path / "previous.pth")
    assert f"--resume {tmp_path}: passing over" in capsys.readouterr().out
