"""The tidy table: sums over launches, and a file that comes back as it was written."""

import sys
from pathlib import Path

import pandas as pd
import pytest
from rooflines import RoofError
from rooflines.columns import COLUMNS
from rooflines.table import (
    is_table,
    main_unit,
    read_table,
    refuse,
    sum_rows,
    tidy,
    total_flop,
    write_parquet,
    write_table,
)


@pytest.fixture
def rows() -> pd.DataFrame:
    """Two launches of one kernel that differ in size, and a copy without FLOPs."""
    return tidy(
        pd.DataFrame(
            {
                "run": "r",
                "kernel": ["a", "a", "b"],
                "name": ["a", "a", "b"],
                "time_s": [1.0, 3.0, 2.0],
                "fp32_flop": [100.0, 900.0, 0.0],
                "tensor_tf32_flop": [0.0, 5000.0, 0.0],
                "bytes_hbm": [10.0, 10.0, 50.0],
                "clock_hz": [1e9, 2e9, 1e9],
                "first": [0, 1, 2],
                "flop_source": ["cores", "inst_x_shape", "cores"],
            }
        )
    )


def test_launches_are_summed_and_ratios_are_ratios_of_sums(rows: pd.DataFrame) -> None:
    total = sum_rows(rows, ("run", "name"))
    assert total["launches"].tolist() == [2, 1]
    assert (total_flop(total) / total["time_s"]).tolist() == [1500.0, 0.0]
    assert (total_flop(total) / total["bytes_hbm"]).tolist() == [300.0, 0.0]
    assert total["clock_hz"].tolist() == [1.75e9, 1e9]
    assert total["flop_source"].tolist() == ["cores+inst_x_shape", "cores"]


def test_bytes_that_nobody_counted_stay_unknown(rows: pd.DataFrame) -> None:
    assert sum_rows(rows)["bytes_l1"].isna().all()


def test_the_unit_is_the_one_with_most_flops(rows: pd.DataFrame) -> None:
    assert main_unit(rows).tolist() == ["fp32", "tensor_tf32", "none"]


def test_csv_and_parquet_come_back(rows: pd.DataFrame, tmp_path: Path) -> None:
    write_table(rows, tmp_path / "kernels.csv")
    assert is_table((tmp_path / "kernels.csv").read_text().splitlines()[0])
    pd.testing.assert_frame_equal(
        read_table(tmp_path / "kernels.csv").astype(object), rows.astype(object), check_dtype=False
    )
    pytest.importorskip("pyarrow", reason="Parquet needs pyarrow")
    assert write_parquet(rows, tmp_path / "kernels.parquet") is None
    assert read_table(tmp_path / "kernels.parquet")["time_s"].tolist() == [1.0, 3.0, 2.0]


def test_without_pyarrow_a_line_says_so(rows: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    assert "pip install pyarrow" in write_parquet(rows, tmp_path / "kernels.parquet")
    assert not (tmp_path / "kernels.parquet").exists()


def test_an_analytic_source_fills_the_same_table() -> None:
    rows = tidy(
        pd.DataFrame(
            {
                "run": ["cpu"],
                "section": ["forward"],
                "module": ["encoder.layers.0"],
                "kernel": ["aten::mm"],
                "time_s": [1e-3],
                "fp32_flop": [2e6],
                "bytes_hbm": [1e4],
                "flop_source": ["analytic"],
                "source": ["analytic"],
            }
        )
    )
    assert tuple(rows.columns) == COLUMNS
    assert rows["launches"].tolist() == [1]


def test_text_in_a_number_column_is_named(tmp_path: Path) -> None:
    path = tmp_path / "kernels.csv"
    path.write_text("kernel,time_s,flop_source\na,soon,cores\n")
    with pytest.raises(RoofError, match="kernels.csv: column time_s"):
        read_table(path)


def test_another_csv_is_no_table(tmp_path: Path) -> None:
    path = tmp_path / "kernels.csv"
    path.write_text("a,b\n1,2\n")
    with pytest.raises(RoofError, match="has no column kernel, time_s"):
        read_table(path)


def test_values_that_cannot_be_are_refused_by_name(rows: pd.DataFrame) -> None:
    for column, value in (("time_s", -1.0), ("time_s", 0.0), ("bytes_hbm", -5.0), ("fp32_flop", float("inf"))):
        wrong = rows.astype({column: float})
        wrong.loc[1, column] = value
        left, [note] = refuse(wrong)
        assert len(left) == 2 and f"1 row refused, values that cannot be: a ({column} {value:g})" in note
    unknown = rows.assign(time_s=float("nan"), bytes_hbm=float("nan"))
    assert refuse(unknown)[1] == [], "what is not known is not wrong"


def test_a_table_by_hand_needs_no_more_than_kernels_and_times(tmp_path: Path) -> None:
    path = tmp_path / "mine.csv"
    path.write_text("kernel,time_s,flop_source\nk,1e-3,cores\n")
    row = read_table(path).iloc[0]
    assert (row["run"], row["name"], row["launches"]) == ("mine", "k", 1)
    path.write_text("kernel,flop_source\nk,cores\n")
    assert is_table("kernel,flop_source")
    with pytest.raises(RoofError, match="mine.csv: not a tidy table, it has no column time_s"):
        read_table(path)
