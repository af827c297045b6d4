"""Two results of a benchmark side by side: worse, better, or noise."""

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.compare import main
from benchmarks.report import ROOT


def write(path: Path, **report: Any) -> str:
    path.write_text(json.dumps(report))
    return str(path)


@pytest.fixture
def files(tmp_path: Path):
    def make(before: dict, after: dict, **both: Any) -> list[str]:
        return [write(tmp_path / f"{n}.json", medians=m, **both) for n, m in (("a", before), ("b", after))]

    return make


def test_slower_quantities_come_first_and_give_exit_code_1(files, capsys: pytest.CaptureFixture[str]) -> None:
    code = main(
        files(
            {"x": {"ours": 1.0}, "y": {"ours": 1.0}, "z": {"ours": 1.0}},
            {"x": {"ours": 1.05}, "y": {"ours": 1.5}, "z": {"ours": 0.5}},
        )
    )
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert code == 1
    assert rows == [
        ["y/ours", "1", "1.5", "x1.500", "WORSE"],
        ["x/ours", "1", "1.05", "x1.050", "same"],
        ["z/ours", "1", "0.5", "x0.500", "better"],
        "3 quantities: 1 WORSE, 1 same, 1 better".split(),
    ]


def test_nothing_worse_is_exit_code_0_and_the_tolerance_counts(files) -> None:
    pair = files({"ours": 1.0}, {"ours": 1.09})
    assert main(pair) == 0
    assert main([*pair, "--tolerance", "0.05"]) == 1


def test_where_more_is_better(files, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(files({"ours": 50.0}, {"ours": 30.0}, better="higher")) == 1
    assert "WORSE" in capsys.readouterr().out
    assert main(files({"ours": 30.0}, {"ours": 50.0}, better="higher")) == 0


def test_a_slower_machine_is_no_regression_beside_the_original(files, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(files({"ours": 1.0, "original": 1.5}, {"ours": 2.0, "original": 3.0})) == 0
    assert capsys.readouterr().out.startswith("ours over original")
    assert main(files({"ours": 1.0, "original": 1.5}, {"ours": 1.0, "original": 1.0})) == 1


def test_other_differences_are_printed_first(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    info = {
        "machine": {"cpu": "A", "cpus": 2},
        "flags": {"batch_size": 2, "output": "x"},
        "git": {"sha": "1", "branch": "m"},
    }
    other = {
        "machine": {"cpu": "B", "cpus": 2},
        "flags": {"batch_size": 4, "output": "y"},
        "git": {"sha": "2", "branch": "n"},
    }
    a = write(tmp_path / "a.json", medians={"ours": 1.0}, machine=info)
    b = write(tmp_path / "b.json", medians={"ours": 1.0}, machine=other)
    assert main([a, b]) == 0
    assert capsys.readouterr().out.splitlines()[:3] == [
        "machine cpu: A in A, B in B",
        "git sha: 1 in A, 2 in B",
        "flags batch_size: 2 in A, 4 in B",
    ]


def test_files_that_cannot_be_compared_give_one_line(tmp_path: Path, files) -> None:
    (tmp_path / "torn.json").write_text("{")
    pair = files({"ours": 1.0}, {"theirs": 1.0})
    for first, complaint in (
        (str(tmp_path / "none.json"), "none.json: not a benchmark's JSON"),
        (str(tmp_path / "torn.json"), "torn.json: not a benchmark's JSON"),
        (write(tmp_path / "other.json", date="x"), "holds no medians"),
        (pair[0], "hold no quantity of the same name"),
    ):
        with pytest.raises(SystemExit, match=complaint):
            main([first, pair[1]])


def test_every_result_that_is_kept_compares_with_itself() -> None:
    kept = list(ROOT.glob("benchmarks/*-20*.json"))
    assert kept
    for path in kept:
        assert main([str(path), str(path)]) == 0
