"""Profiles to runs: appended, exported twice, of several folders, in several passes, of several GPUs."""

import sys
from pathlib import Path

import pytest
from rooflines.read.inputs import load_runs

from tests.roofline.ncu_files import CONV, MUL, Kernel, long_rows, oldest_rows, wide_rows
from tests.roofline.read.test_rep import Action, stand_in

TIMES = {"gpu__time_duration.sum": (50, "usecond")}
FLOPS = {"sm__sass_thread_inst_executed_op_fadd_pred_on.sum": (700, "inst")}


def write(path: Path, *tables: list[Kernel], make=long_rows) -> Path:
    """Write tables below one another, each with its header, as `ncu ... >> file` does."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(line for table in tables for line in make(table)) + "\n")
    return path


def two(dram: float, process: int = 1, **more: object) -> list[Kernel]:
    return [Kernel.counted(name, id=n, process=process, dram=dram, **more) for n, name in enumerate((CONV, MUL))]


@pytest.mark.parametrize("make", [long_rows, wide_rows])
@pytest.mark.parametrize("process", [1, 2])
def test_a_run_appended_to_a_file_is_a_run_of_its_own(make, process: int, tmp_path: Path) -> None:
    path = write(tmp_path / "output_a.csv", two(10), two(20, process), make=make)
    rows = load_runs([path]).rows
    assert rows.groupby("run", observed=True)["bytes_hbm"].sum().to_dict() == {"a": 20, "a (2)": 40}
    assert set(rows["launches"]) == {1}


def test_one_launch_appended_is_a_run_of_its_own(tmp_path: Path) -> None:
    path = write(tmp_path / "output_a.csv", two(10)[:1], two(20)[:1], two(30)[:1])
    assert load_runs([path]).rows["bytes_hbm"].tolist() == [10, 20, 30]


def test_ids_that_begin_anew_without_a_header_start_a_run(tmp_path: Path) -> None:
    path = tmp_path / "output_a.csv"
    path.write_text("\n".join(long_rows(two(10)) + long_rows(two(20))[1:]) + "\n")
    assert load_runs([path]).runs == ["a", "a (2)"]


def test_gpus_of_one_process_are_told_apart(tmp_path: Path) -> None:
    kernels = two(10)[:1] + two(20, cc="9.0")[:1]
    for kernel, name in zip(kernels, ("NVIDIA A100-SXM4-40GB", "NVIDIA H100 PCIe")):
        kernel.metrics["device__attribute_display_name"] = (name, "")
    loaded = load_runs([write(tmp_path / "output_a.csv", kernels, make=wide_rows)])
    assert dict(zip(loaded.rows["device"], loaded.rows["bytes_hbm"])) == {
        "NVIDIA A100-SXM4-40GB": 10,
        "NVIDIA H100 PCIe": 20,
    }
    assert any("several devices in one run" in line for line in loaded.warnings)


def test_times_and_flops_of_two_passes_are_one_run(tmp_path: Path) -> None:
    passes = [[Kernel(MUL, metrics, id=n, process=p) for n in range(3)] for p, metrics in enumerate((TIMES, FLOPS))]
    rows = load_runs([write(tmp_path / "output_a.csv", *passes)]).rows
    assert rows["launches"].sum() == 3 and rows["fp32_flop"].sum() == 2100
    assert rows["time_s"].sum() == pytest.approx(150e-6)
    files = [write(tmp_path / name / "output_b.csv", kernels) for name, kernels in zip("xy", passes)]
    loaded = load_runs(files)
    assert loaded.runs == ["b"] and loaded.rows["launches"].sum() == 3
    assert any("joined" in line for line in loaded.warnings)


def test_a_report_and_its_export_are_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    metrics = {name: values for name, values in two(10)[0].metrics.items()}
    monkeypatch.setitem(sys.modules, "ncu_report", stand_in([Action(CONV, metrics)]))
    write(tmp_path / "output_a_loss.csv", two(10)[:1])
    (tmp_path / "output_a_loss.ncu-rep").write_bytes(b"NVR")
    loaded = load_runs([tmp_path])
    assert loaded.rows["bytes_hbm"].tolist() == [10] and loaded.rows["launches"].tolist() == [1]
    assert any("the report is used" in line for line in loaded.warnings)
    monkeypatch.setitem(sys.modules, "ncu_report", None)  # without the package, the export is
    assert load_runs([tmp_path]).rows["bytes_hbm"].tolist() == [10]


def test_a_copy_of_a_file_counts_once(tmp_path: Path) -> None:
    files = [write(tmp_path / name / "output_a_loss.csv", two(10)) for name in ("x", "y")]
    loaded = load_runs(files)
    assert loaded.rows["bytes_hbm"].sum() == 20 and any("counted once" in line for line in loaded.warnings)


def test_files_of_one_name_in_two_folders_are_two_runs(tmp_path: Path) -> None:
    files = [write(tmp_path / name / "ncu.csv", two(size)) for name, size in (("before", 10), ("after", 20))]
    loaded = load_runs(files)
    assert loaded.runs == ["before", "after"]
    assert any("several folders" in line for line in loaded.warnings)
    files = [
        write(tmp_path / name / f"output_r50_{section}.csv", two(size))
        for name, size in (("before", 10), ("after", 20))
        for section in ("forward", "loss")
    ]
    assert load_runs(files).rows.groupby("run", observed=True).size().to_dict() == {"before": 4, "after": 4}


def test_sections_in_several_folders_stay_one_run(tmp_path: Path) -> None:
    files = [write(tmp_path / section / f"output_r_{section}.csv", two(10)) for section in ("forward", "loss")]
    assert load_runs(files).runs == ["r"]


@pytest.mark.parametrize(
    ("kernel", "gpu", "capability", "origin"),
    [
        ("s1688gemm", "A100 SXM 40", "8.0", "--gpu"),
        ("cutlass_80_tensorop_s1688gemm_64x64", None, "8.0", "the kernels' names"),
        ("turing_fp16_s1688gemm_fp16", None, "7.5", "the kernels' names"),
    ],
)
def test_a_capability_that_the_report_lacks(
    kernel: str, gpu: str | None, capability: str, origin: str, tmp_path: Path
) -> None:
    path = write(tmp_path / "output_a.csv", [Kernel.counted(kernel, tensor=5)], make=oldest_rows)
    loaded = load_runs([path], gpu=gpu)
    assert loaded.rows["compute_capability"].tolist() == [capability]
    column = "tensor_tf32_flop" if capability == "8.0" else "tensor_fp16_flop"
    assert loaded.rows[column].tolist() == [5 * 2048]
    assert any(f"{capability} is taken, from {origin}" in line for line in loaded.warnings)


def test_no_capability_at_all_is_said(tmp_path: Path) -> None:
    path = write(tmp_path / "output_a.csv", [Kernel.counted("k")], make=oldest_rows)
    assert any("no compute capability" in line for line in load_runs([path]).warnings)
