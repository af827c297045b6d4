"""Curves of several seeds: one picture, and a table with their mean and range."""

import json
from pathlib import Path

import pytest

from benchmarks.convergence import VARIANTS, curves_by_variant, draw, parse_args, table
from flags import get_args_parser


def write_log(path: Path, scores: list[float]) -> Path:
    rows = [
        {"global_step": 60 * (i + 1), "train_step_time": 1.0, "test_coco_eval_bbox": [ap, 2 * ap, *[0.0] * 10]}
        for i, ap in enumerate(scores)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_flags_after_two_dashes_are_those_of_the_runs() -> None:
    args = parse_args("folder --data_path bccd --folder runs --seeds 42 43 -- --epochs 6 --eval_every 2".split())
    assert args.main_flags == ["--epochs", "6", "--eval_every", "2"] and args.seeds == [42, 43]
    assert parse_args("shapes --folder runs".split()).main_flags == []


def test_seeds_of_a_variant_are_drawn_and_tabulated_together(tmp_path: Path) -> None:
    logs = [write_log(tmp_path / f"{seed}.txt", [0.1, ap]) for seed, ap in ((1, 0.2), (2, 0.4))]
    curves = curves_by_variant({"plain": logs}, {})
    assert curves["plain"].shape == (2, 2, 4)
    assert "| plain | 2 | 120 | 2.0 | 0.300 (0.200 to 0.400) | 0.600 (0.400 to 0.800) |" in table(curves)
    draw(curves, tmp_path / "curves.png")
    assert (tmp_path / "curves.png").stat().st_size > 1000


def test_seeds_made_with_other_flags_are_not_averaged(tmp_path: Path) -> None:
    logs = [write_log(tmp_path / f"{seed}.txt", scores) for seed, scores in ((1, [0.1, 0.2]), (2, [0.1, 0.2, 0.3]))]
    with pytest.raises(SystemExit, match=r"2\.txt was evaluated after other steps than .*1\.txt"):
        curves_by_variant({"plain": logs}, {})


def test_minutes_are_steps_times_the_time_of_one_where_that_was_measured(tmp_path: Path) -> None:
    log = write_log(tmp_path / "log.txt", [0.1, 0.2])
    curves = curves_by_variant({"plain": [log], "focal": [log]}, {"focal": 0.5})
    assert curves["plain"][0, :, 1].tolist() == [1.0, 2.0]
    assert curves["focal"][0, :, 1].tolist() == [0.5, 1.0]


def test_variants_are_flags_that_main_knows() -> None:
    parsed = {name: get_args_parser().parse_args(flags.split()) for name, flags in VARIANTS.items()}
    assert parsed["plain"] == get_args_parser().parse_args([])
    assert all(flags != parsed["plain"] for name, flags in parsed.items() if name != "plain")
