"""Curves of several seeds: one picture, and a table with their mean and range."""

import json
import sys
from pathlib import Path

import pytest

from benchmarks.convergence import (
    VARIANTS,
    curves_by_variant,
    draw,
    main,
    parse_args,
    read_known,
    table,
    with_step_times,
    write_points,
)
from flags import get_args_parser


def points(*scores: float) -> list[dict[str, float]]:
    return [{"steps": 60 * (i + 1), "minutes": float(i + 1), "AP": ap, "AP50": 2 * ap} for i, ap in enumerate(scores)]


def test_flags_after_two_dashes_are_those_of_the_runs() -> None:
    args = parse_args("folder --data_path bccd --folder runs --seeds 42 43 -- --epochs 6 --eval_every 2".split())
    assert args.main_flags == ["--epochs", "6", "--eval_every", "2"] and args.seeds == [42, 43]
    assert parse_args("shapes --folder runs".split()).main_flags == []


def test_seeds_of_a_variant_are_drawn_and_tabulated_together(tmp_path: Path) -> None:
    curves = curves_by_variant({("plain", 1): points(0.1, 0.2), ("plain", 2): points(0.1, 0.4)})
    assert curves["plain"].shape == (2, 2, 4)
    assert "| plain | 2 | 120 | 2.0 | 0.300 (0.200 to 0.400) | 0.600 (0.400 to 0.800) |" in table(curves)
    draw(curves, tmp_path / "curves.png")
    assert (tmp_path / "curves.png").stat().st_size > 1000


def test_seeds_made_with_other_flags_are_not_averaged() -> None:
    with pytest.raises(SystemExit, match=r"plain, seed 2 was evaluated after other steps than seed 1"):
        curves_by_variant({("plain", 1): points(0.1, 0.2), ("plain", 2): points(0.1, 0.2, 0.3)})


def test_minutes_are_steps_times_the_time_of_one_where_that_was_measured() -> None:
    runs = with_step_times({("plain", 1): points(0.1, 0.2), ("focal", 1): points(0.1, 0.2)}, {"focal": 0.5})
    assert [p["minutes"] for p in runs["plain", 1]] == [1.0, 2.0]
    assert [p["minutes"] for p in runs["focal", 1]] == [0.5, 1.0]


def test_written_evaluations_are_known_to_a_later_call_and_not_made_again(tmp_path: Path, capsys, monkeypatch) -> None:
    write_points({("plain", 1): points(0.1, 0.2), ("focal", 1): points(0.3, 0.4)}, tmp_path / "known.csv")
    folder = tmp_path / "runs"
    flags = f"shapes --folder {folder} --known {tmp_path / 'known.csv'} --only plain focal --seeds 1 --draw"
    monkeypatch.setattr(sys, "argv", ["convergence.py", *flags.split()])
    main()
    assert "| plain | 1 | 120 | 2.0 | 0.200" in capsys.readouterr().out
    assert (folder / "convergence.csv").read_text() == (tmp_path / "known.csv").read_text()


def test_a_file_that_holds_no_evaluations_ends_with_one_line(tmp_path: Path) -> None:
    (tmp_path / "other.csv").write_text("name,AP\nplain,0.1\n")
    with pytest.raises(SystemExit, match=r"--known .*other.csv: not a convergence.csv"):
        read_known(tmp_path / "other.csv")
    with pytest.raises(SystemExit, match=r"--known .*none.csv: No such file"):
        read_known(tmp_path / "none.csv")


def test_variants_are_flags_that_main_knows() -> None:
    parsed = {name: get_args_parser().parse_args(flags.split()) for name, flags in VARIANTS.items()}
    assert parsed["plain"] == get_args_parser().parse_args([])
    assert all(flags != parsed["plain"] for name, flags in parsed.items() if name != "plain")


def test_a_whole_run_in_the_folder_is_read_from_its_log(tmp_path: Path, capsys, monkeypatch) -> None:
    run = tmp_path / "runs" / "plain_c4" / "7"
    run.mkdir(parents=True)
    scores = [0.25, 0.5, *[0.0] * 10]
    rows = [{"global_step": 60 * i, "train_step_time": 1.0, "test_coco_eval_bbox": scores} for i in (1, 2)]
    (run / "log.txt").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (run / "detections.png").touch()
    flags = f"shapes --folder {tmp_path / 'runs'} --draw --seeds 7".split()
    monkeypatch.setattr(sys, "argv", ["convergence.py", *flags])
    main()
    assert "| plain c4 | 1 | 120 | 2.0 | 0.250 (0.250 to 0.250) |" in capsys.readouterr().out
