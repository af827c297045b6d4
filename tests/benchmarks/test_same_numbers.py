"""Two logs are the same where every computed number is; measured ones may differ."""

import json
import math
from pathlib import Path
from typing import Any

import pytest

from benchmarks.same_numbers import main

ROW = {"train_loss": 0.1 + 0.2, "train_step_time": 0.5, "train_max_memory": 100.0, "test_coco_eval_bbox": [0.5, -1.0]}


def write(path: Path, *rows: dict[str, Any]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


@pytest.mark.parametrize(
    "change", [{}, {"train_step_time": 9.0}, {"train_max_memory": 1.0}, {"train_data_time": 0.1}, {"train_new": 1}]
)
def test_time_memory_and_new_quantities_make_no_difference(change: dict[str, Any], tmp_path: Path) -> None:
    assert main([write(tmp_path / "a.txt", ROW, ROW), write(tmp_path / "b.txt", ROW, ROW | change)]) == 0


@pytest.mark.parametrize(
    "change", [{"train_loss": 0.3}, {"test_coco_eval_bbox": [0.5, -1.0, 0.0]}, {"train_loss": math.nan}]
)
def test_the_last_digit_makes_a_difference(change: dict[str, Any], tmp_path: Path, capsys) -> None:
    assert main([write(tmp_path / "a.txt", ROW, ROW), write(tmp_path / "b.txt", ROW, ROW | change)]) == 1
    assert f"epoch 1, {next(iter(change))}: " in capsys.readouterr().out


def test_nan_is_equal_to_itself(tmp_path: Path) -> None:
    rows = [ROW | {"train_loss": math.nan}]
    assert main([write(tmp_path / "a.txt", *rows), write(tmp_path / "b.txt", *rows)]) == 0


def test_lost_quantities_and_epochs_make_a_difference(tmp_path: Path, capsys) -> None:
    before = write(tmp_path / "a.txt", ROW, ROW)
    assert main([before, write(tmp_path / "b.txt", ROW)]) == 1
    assert "2 epochs before, 1 after" in capsys.readouterr().out
    assert main([before, write(tmp_path / "c.txt", ROW, {"train_loss": ROW["train_loss"]})]) == 1
    assert "test_coco_eval_bbox: [0.5, -1.0] before, nothing after" in capsys.readouterr().out


def test_a_file_that_is_no_log_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "torn.txt").write_text("{")
    (tmp_path / "empty.txt").write_text("")
    good = write(tmp_path / "a.txt", ROW)
    for name in ("torn.txt", "empty.txt", "gone.txt"):
        with pytest.raises(SystemExit, match=f"{name}: not a run's log.txt"):
            main([good, str(tmp_path / name)])
