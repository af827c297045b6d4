"""Sums from their other forms, and labels that count only with their unit."""

from pathlib import Path

import pytest
from rooflines.read.counters import tabulate
from rooflines.read.csv import read_ncu_csv
from rooflines.read.inputs import load_runs
from rooflines.read.metrics import column_of, factor_of

from tests.roofline.ncu_files import Kernel, long_rows, rule_rows, wide_rows

INST = "smsp__sass_thread_inst_executed_op"
FULL_SET = {  # as sections collect them: nothing but rates
    "gpu__time_duration.sum": (100_000, "ns"),
    "smsp__cycles_elapsed.avg.per_second": (1.25e9, "hz"),
    f"{INST}_fadd_pred_on.sum.per_cycle_elapsed": (8, "inst/cycle"),
    f"{INST}_fmul_pred_on.sum.per_cycle_elapsed": (4, "inst/cycle"),
    f"derived__{INST}_ffma_pred_on_x2": (2000, "inst/cycle"),
    "sm__ops_path_tensor_src_fp16_dst_fp32.sum.per_cycle_elapsed": (4096, "1/cycle"),
    "dram__bytes.sum.per_second": (2e11, "byte/s"),
    "lts__t_bytes.sum.per_second": (4e11, "byte/s"),
    "l1tex__t_bytes.sum.per_cycle_elapsed": (512, "byte/cycle"),
    "l1tex__cycles_elapsed.avg.per_second": (1.25e9, "hz"),
}


def test_the_unit_decides_what_a_label_means(tmp_path: Path) -> None:
    """The details page calls both a share and a rate "Memory Throughput", the share first."""
    kernel = Kernel(metrics={"Duration": (2, "ms"), "Memory Throughput": (61.84, "%")})
    path = tmp_path / "page.csv"
    rates = long_rows([Kernel(metrics={"Memory Throughput": (1.5, "Gbyte/s")})], nvtx=False)[1:]
    path.write_text("\n".join([*rule_rows([kernel]), *(line + "," for line in rates)]) + "\n")
    assert tabulate(read_ncu_csv(path))["bytes_hbm"].tolist() == pytest.approx([3e6])


def test_a_share_alone_is_no_number_of_bytes(tmp_path: Path) -> None:
    path = tmp_path / "page.csv"
    kernel = Kernel(metrics={"Duration": (2, "ms"), "Memory Throughput": (61.84, "%")})
    path.write_text("\n".join(rule_rows([kernel])) + "\n")
    assert tabulate(read_ncu_csv(path))["bytes_hbm"].isna().all()


@pytest.mark.parametrize("make", [wide_rows, long_rows])
def test_rates_of_sections_become_sums(make, tmp_path: Path) -> None:
    path = tmp_path / "full.csv"
    path.write_text("\n".join(make([Kernel("sgemm", FULL_SET)])) + "\n")
    row = tabulate(read_ncu_csv(path)).iloc[0]
    cycles = 125_000
    assert row["fp32_flop"] == pytest.approx((8 + 4 + 2000) * cycles)
    assert row["tensor_fp16_flop"] == pytest.approx(4096 * cycles)
    sizes = [row[f"bytes_{level}"] for level in ("hbm", "l2", "l1")]
    assert sizes == pytest.approx([2e11 * 1e-4, 4e11 * 1e-4, 512 * cycles])


@pytest.mark.parametrize("order", [1, -1])
@pytest.mark.parametrize("make", [long_rows, wide_rows])
def test_a_sum_per_cycle_is_per_mean_cycle(make, order: int, tmp_path: Path) -> None:
    """A T4's report of adding two matrices of a million: whole only by the mean, whatever comes first in the file."""
    metrics = {
        "smsp__cycles_elapsed.avg": (28_419.45625, "cycle"),
        "smsp__cycles_elapsed.max": (28_425.85625, "cycle"),
        f"{INST}_fadd_pred_on.sum.per_cycle_elapsed": (1e6 / 28_419.45625, "inst/cycle"),
        "gpu__time_duration.sum": (52_640, "ns"),
    }
    path = tmp_path / "output_x.csv"
    kernel = Kernel(metrics=dict(list(metrics.items())[::order]))
    path.write_text("\n".join(make([kernel], write=repr)) + "\n")
    assert tabulate(read_ncu_csv(path))["fp32_flop"].tolist() == [pytest.approx(1e6, rel=1e-9)]


def test_a_counted_sum_wins_over_its_rate(tmp_path: Path) -> None:
    metrics = FULL_SET | {"dram__bytes_read.sum": (7, "byte"), "dram__bytes_write.sum": (5, "byte")}
    path = tmp_path / "full.csv"
    path.write_text("\n".join(wide_rows([Kernel("sgemm", metrics)])) + "\n")
    assert tabulate(read_ncu_csv(path))["bytes_hbm"].tolist() == [12]


@pytest.mark.parametrize(
    ("metric", "column"),
    [
        ("smsp__inst_executed_pipe_tensor.sum", "sm__inst_executed_pipe_tensor.sum"),
        ("smsp__cycles_elapsed.avg", "sm__cycles_elapsed.avg"),
        ("smsp__cycles_elapsed.max", "sm__cycles_elapsed.max"),
        ("dram__bytes_op_read.sum", "dram__bytes_read.sum"),
        ("dram__bytes_op_write.sum.per_second", "dram__bytes_write.sum.per_second"),
        ("sm__throughput.avg.pct_of_peak_sustained_elapsed", None),
        ("dram__bytes.sum.pct_of_peak_sustained_elapsed", None),
    ],
)
def test_other_names_of_a_metric(metric: str, column: str | None) -> None:
    assert column_of(metric) == column


def test_a_derived_multiple_is_divided_again() -> None:
    assert factor_of(f"derived__{INST}_hfma_pred_on_x4") == 0.25 and factor_of(f"{INST}_hfma_pred_on.sum") == 1


def test_a_unit_that_nobody_knows_is_named(tmp_path: Path) -> None:
    path = tmp_path / "output_x.csv"
    kernel = Kernel.counted()
    kernel.metrics["dram__bytes.sum"] = (5, "furlong")
    path.write_text("\n".join(long_rows([kernel])) + "\n")
    report = read_ncu_csv(path)
    assert "dram__bytes.sum is given in 'furlong', a unit that is not known: it is left out" in report.notes
    assert "dram__bytes.sum" not in report.launches


def test_missing_counters_come_with_the_command_that_collects_them(tmp_path: Path) -> None:
    path = tmp_path / "output_x.csv"
    path.write_text("\n".join(long_rows([Kernel(metrics={"gpu__time_duration.sum": (5, "us")})])) + "\n")
    [note] = [line for line in load_runs([path], gpu="T4").warnings if "no FLOPs" in line]
    assert "no L1 bytes" in note and "collect.py" in note
