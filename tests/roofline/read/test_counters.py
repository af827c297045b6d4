"""Time, bytes, sections and modules of launches."""

from pathlib import Path

import pytest
from rooflines.read.counters import run_and_section, tabulate
from rooflines.read.csv import read_ncu_csv

from tests.roofline.ncu_files import CONV, Kernel, long_rows


@pytest.mark.parametrize(
    ("name", "run", "section"),
    [
        ("output_bs8_optimized_loss.csv", "bs8_optimized", "loss"),
        ("output_basic_optimizer_step.csv", "basic", "optimizer_step"),
        ("output_batch-size8.csv", "batch-size8", ""),
        ("output.csv", "output", ""),
        ("r50_all.csv", "r50", ""),
        ("lossless.csv", "lossless", ""),
    ],
)
def test_run_and_section_from_a_name(name: str, run: str, section: str) -> None:
    assert run_and_section(Path("x", name)) == (run, section)


def test_a_file_named_by_its_section_belongs_to_its_folder(tmp_path: Path) -> None:
    assert run_and_section(tmp_path / "seven" / "backward.csv") == ("seven", "backward")


def rows(tmp_path: Path, *kernels: Kernel, **options: bool):
    path = tmp_path / "output_r_loss.csv"
    for place, kernel in enumerate(kernels):
        kernel.id = place
    path.write_text("\n".join(long_rows(list(kernels))) + "\n")
    return tabulate(read_ncu_csv(path), **options)


def test_two_launches_of_different_sizes(tmp_path: Path) -> None:
    """Sums over sums: the mean of the two rates would be 1.5e9, half of it what the original's pivot gives."""
    small = Kernel.counted(CONV, cycles=1e6, rate=1e9, fadd=1e6, dram=1e6)
    large = Kernel.counted(CONV, cycles=3e6, rate=1e9, fadd=6e6, dram=1e6)
    row = rows(tmp_path, small, large).iloc[0]
    assert row["launches"] == 2
    assert row["time_s"] == pytest.approx(4e-3)
    assert row["fp32_flop"] / row["time_s"] == pytest.approx(7e6 / 4e-3)
    assert row["fp32_flop"] / row["bytes_hbm"] == pytest.approx(3.5)


def test_launches_of_other_shapes_stay_apart_and_per_launch_keeps_all(tmp_path: Path) -> None:
    kernels = [Kernel.counted(CONV), Kernel.counted(CONV, grid="(8, 1, 1)"), Kernel.counted(CONV)]
    assert rows(tmp_path, *kernels)["launches"].tolist() == [2, 1]
    assert rows(tmp_path, *kernels, per_launch=True)["launches"].tolist() == [1, 1, 1]


def test_time_is_cycles_over_clock_unless_the_duration_is_there(tmp_path: Path) -> None:
    kernel = Kernel.counted(CONV, cycles=97_895.48, rate=1_089_858_851.55)
    row = rows(tmp_path, kernel).iloc[0]
    assert row["time_s"] * 1e6 == pytest.approx(89.82, abs=0.01)
    assert row["clock_hz"] == 1_089_858_851.55
    kernel.metrics["gpu__time_duration.sum"] = (90, "usecond")
    assert rows(tmp_path, kernel)["time_s"].tolist() == pytest.approx([9e-5])


def test_bytes_from_reads_and_writes_from_sectors_and_the_tma(tmp_path: Path) -> None:
    kernel = Kernel(
        metrics={
            "gpu__time_duration.sum": (1, "us"),
            "dram__bytes_read.sum": (3, "Kbyte"),
            "dram__bytes_write.sum": (4, "Kbyte"),
            "lts__t_bytes.sum": (999, "byte"),
            "lts__t_sectors_srcunit_tex.sum": (10, "sector"),
            "l1tex__t_bytes.sum": (100, "byte"),
            "l1tex__m_xbar2l1tex_read_bytes_pipe_tma.sum": (20, "byte"),
        }
    )
    row = rows(tmp_path, kernel).iloc[0]
    assert (row["bytes_hbm"], row["bytes_l2"], row["bytes_l1"]) == (7000, 320, 120)


def test_nvtx_ranges_give_section_module_and_direction(tmp_path: Path) -> None:
    encoder, again = "transformer.encoder.layers.0", "recompute transformer.encoder.layers.0"
    kernels = [
        Kernel.counted("a", push_pop=("training_loop", "iteration", "forward", "encoder", encoder)),
        Kernel.counted("b", start_end=("backward",)),
        Kernel.counted("c", push_pop=("evaluation",)),
        Kernel.counted("d"),
        Kernel.counted("e", start_end=("backward",), push_pop=(encoder,)),  # a node's range, on autograd's thread
        Kernel.counted("f", start_end=("backward",), push_pop=(encoder, again)),
        Kernel.counted("g", push_pop=("forward", "decoder", "aten::linear, seq = 7, op_id = 3")),
        Kernel.counted("h", push_pop=("mine", "inner")),
    ]
    table = rows(tmp_path, *kernels)
    assert table["section"].tolist() == [*"forward backward evaluation loss backward backward forward mine".split()]
    assert table["module"].tolist() == [encoder, "", "", "", encoder, encoder, "transformer.decoder", "inner"]
    assert table["direction"].tolist() == [
        *("forward", "backward", "", "forward", "backward", "recompute", "forward", ""),
    ]
    assert table["operator"].tolist() == [""] * 6 + ["aten::linear", ""]
