"""The file of --count_costs: what is refused before a run, and the table per section."""

from pathlib import Path

import pytest

from util.errors import UserError
from util.profiling import cost_file
from util.profiling.cost_counter import OpRow
from util.profiling.cost_file import check_cost_file
from util.profiling.cost_table import section_table


def row(section: str, flops: int, size: int, seconds: float) -> OpRow:
    return OpRow(
        section=section,
        module="",
        direction="",
        kernel="k",
        label="k",
        shapes="",
        unit="fp32",
        family="copy",
        known=True,
        first=0,
        calls=1,
        flops=flops,
        bytes=size,
        seconds=seconds,
    )


def test_sections_and_the_step() -> None:
    lines = section_table([row("forward", 3 * 10**9, 10**9, 0.3), row("backward", 10**9, 10**9, 0.1)]).splitlines()
    assert [line.split()[0] for line in lines] == ["section", "forward", "loss", "backward", "optimizer_step", "step"]
    assert lines[1].split()[1:] == ["3.000", "1.000", "3.00", "75.0%", "50.0%", "75.0%"]
    assert lines[5].split()[1:] == ["4.000", "2.000", "2.00", "100.0%", "100.0%", "100.0%"]


def test_files_that_could_not_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for path, said in (
        (tmp_path / "x" / "costs.csv", "folder .*x does not exist"),
        (tmp_path / "costs.txt", ".csv or .parquet"),
    ):
        with pytest.raises(UserError, match=f"--count_costs .*{said}"):
            check_cost_file(str(path))
    (tmp_path / "a.csv").mkdir()
    with pytest.raises(UserError, match="is a folder"):
        check_cost_file(str(tmp_path / "a.csv"))
    monkeypatch.setattr(cost_file, "find_spec", lambda name: None)
    with pytest.raises(UserError, match="pip install pyarrow"):
        check_cost_file(str(tmp_path / "costs.parquet"))
    check_cost_file(str(tmp_path / "costs.csv"))
