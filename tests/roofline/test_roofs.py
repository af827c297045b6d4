"""Roofs: the table multiplies out to NVIDIA's figures, reports state their own, files are checked."""

from pathlib import Path

import pandas as pd
import pytest
from rooflines import RoofError
from rooflines.columns import UNITS
from rooflines.gpus import find_gpu, find_gpus, gpu_table, guess_gpu
from rooflines.roofs import Roofs, read_roofs, report_roofs, table_roofs, used, write_roofs
from rooflines.table import tidy

T, G = 1e12, 1e9


@pytest.mark.parametrize("row", gpu_table(), ids=lambda row: row["name"])
def test_a_row_multiplies_out_to_the_figures_of_its_source(row: dict) -> None:
    roofs = table_roofs(row)
    assert {"fp32", "hbm"} <= set(row["stated"])
    for name, value in row["stated"].items():
        found = roofs.bandwidth["HBM"] / G if name == "hbm" else roofs.peak[name] / T
        last_digit = 0.0 if isinstance(value, int) else 0.5 * 10.0 ** -len(str(value).partition(".")[2])
        assert found == pytest.approx(value, rel=0.015, abs=last_digit), name


def test_a_row_that_was_compared_with_nothing_is_marked() -> None:
    row = find_gpu("A100 SXM 40")
    assert "nothing" in table_roofs(row | {"checked": ""}).source and "nothing" not in table_roofs(row).source


def test_bandwidths_of_an_a100() -> None:
    bandwidth = table_roofs(find_gpu("A100 SXM 40")).bandwidth
    assert {level: round(rate / G) for level, rate in bandwidth.items()} == {"L1": 19492, "L2": 7219, "HBM": 1555}


def test_cores_scale_with_the_measured_clock_and_memory_does_not() -> None:
    nominal, measured = (table_roofs(find_gpu("A100 SXM 40"), clock) for clock in (None, 1.095e9))
    assert measured.peak["tensor_tf32"] / T == pytest.approx(121, rel=0.01)
    assert measured.peak["fp32"] / nominal.peak["fp32"] == pytest.approx(1.095 / 1.41)
    assert measured.bandwidth["HBM"] == nominal.bandwidth["HBM"]


def test_every_row_of_the_table_is_complete() -> None:
    names = [row["name"] for row in gpu_table()]
    assert len(names) == len(set(names))
    for row in gpu_table():
        assert row["source"] and row["sms"] > 0 and set(row["flop_per_clock_per_sm"]) <= set(UNITS), row["name"]
        assert isinstance(row["checked"], str), f"{row['name']}: what of it was compared, and with what"


def test_rates_per_clock_are_those_that_reports_of_the_cards_state() -> None:
    """Peaks per clock in public reports of these cards, over their SMs: tensor cores (dense), CUDA cores, L2."""
    for gpu, rates, l2 in (
        ("A100 SXM 40 GB", {"fp64": 2 * 3456, "tensor_tf32": 110_592, "tensor_fp16": 221_184}, 160 * 32),
        (
            "H100 PCIe",
            {"fp32": 2 * 14_592, "fp16": 4 * 14_592, "tensor_bf16": 466_944, "tensor_fp8": 933_888},
            160 * 32,
        ),
        ("GH200", {"fp64": 2 * 8448, "tensor_tf32": 270_336, "tensor_fp64": 33_792}, 192 * 32),
        ("T4", {"fp64": 2 * 80, "fp32": 2 * 2560}, None),
        ("RTX 3070", {"fp64": 2 * 92, "fp32": 2 * 5888}, None),
    ):
        row = find_gpu(gpu)
        assert row.get("l2_bytes_per_clock") == l2
        for unit, rate in rates.items():
            assert row["sms"] * row["flop_per_clock_per_sm"][unit] == rate, (gpu, unit)


@pytest.mark.parametrize(
    ("device", "capability", "rate", "name"),
    [
        ("NVIDIA H100 80GB HBM3", "9.0", 0, "H100 SXM5 80 GB"),
        ("NVIDIA A100-SXM4-80GB", "8.0", 0, "A100 SXM 80 GB"),
        ("0", "8.0", 1.2e12, "A100 SXM 40 GB"),
        ("0", "8.0", 1.9e12, "A100 SXM 80 GB"),
        ("", "7.0", 0, "V100 SXM2"),
        ("Tesla T4", "7.5", 0, "T4"),
        ("NVIDIA A10", "8.6", 0, "A10"),
        ("NVIDIA A10G", "8.6", 0, "A10G"),
        ("NVIDIA A30", "8.0", 0, "A30"),
        ("NVIDIA A40", "8.6", 0, "A40"),
        ("NVIDIA RTX A6000", "8.6", 0, "RTX A6000"),
        ("NVIDIA L40S", "8.9", 0, "L40S"),
        ("NVIDIA H100 NVL", "9.0", 0, "H100 NVL"),
        ("Tesla V100-SXM2-32GB", "7.0", 0, "V100 SXM2"),
        ("Tesla V100-PCIE-16GB", "7.0", 0, "V100 PCIe"),
        ("NVIDIA GH200 480GB", "9.0", 0, "GH200"),
        ("NVIDIA H200", "9.0", 0, "H200 SXM"),
        ("NVIDIA GeForce RTX 2080 Ti", "7.5", 0, "RTX 2080 Ti"),
        ("NVIDIA GeForce RTX 2060 SUPER", "7.5", 0, "RTX 2060 SUPER"),
        ("NVIDIA GeForce RTX 3080", "8.6", 0, "RTX 3080"),
        ("NVIDIA GeForce RTX 4070 Ti SUPER", "8.9", 0, "RTX 4070 Ti SUPER"),
        ("NVIDIA GeForce RTX 5090", "12.0", 0, "RTX 5090"),
        ("NVIDIA B300 SXM6 AC", "10.3", 0, "B300 SXM"),
    ],
)
def test_a_gpu_is_found_by_name_or_by_capability_and_rate(device: str, capability: str, rate: float, name: str) -> None:
    row, note = guess_gpu(device, capability, rate)
    assert row["name"] == name
    assert bool(note) == (not device or device.isdigit())


def test_unknown_gpus_are_said() -> None:
    assert guess_gpu("0", "12.9")[0] is None
    for device, capability in (
        ("NVIDIA GeForce RTX 4090 D", "8.9"),
        ("NVIDIA GeForce RTX 3060 Laptop GPU", "8.6"),
        ("NVIDIA GB200", "10.0"),
        ("NVIDIA GB300", "10.3"),
        ("NVIDIA H200 NVL", "9.0"),
        ("NVIDIA GH200 144G HBM3e", "9.0"),
        ("Tesla V100-DGXS-32GB", "7.0"),
    ):
        row, note = guess_gpu(device, capability)
        assert row is None and device in note, "roofs of another card would be wrong"
    with pytest.raises(RoofError, match="--gpu Voodoo: not in gpus.toml, which has A100"):
        find_gpu("Voodoo")


def test_a_report_states_its_own_peaks() -> None:
    clock = 1.98e9
    launches = pd.DataFrame(
        {
            "sm__cycles_elapsed.avg.per_second": [clock],
            "l1tex__cycles_elapsed.avg.per_second": [clock],
            "lts__cycles_elapsed.avg.per_second": [1.6e9],
            "dram__cycles_elapsed.avg.per_second": [2.6e9],
            "sm__sass_thread_inst_executed_op_ffma_pred_on.sum.peak_sustained": [16_896.0],
            "sm__sass_thread_inst_executed_op_hfma_pred_on.sum.peak_sustained": [16_896.0],
            "l1tex__lsu_writeback_active_mem_lgds.sum.peak_sustained": [132.0],
            "lts__lts2xbar_cycles_active.sum.peak_sustained": [160.0],
            "dram__bytes.sum.peak_sustained": [1280.0],
            "sm__ops_path_tensor_src_bf16_dst_fp32.sum.peak_sustained_elapsed.per_second": [1.0e15],
        }
    )
    roofs = report_roofs(launches)
    assert roofs.peak["fp32"] / T == pytest.approx(66.9, rel=1e-3)  # 33,792 a clock
    assert roofs.peak["fp16"] == 67_584 * clock
    assert roofs.peak["tensor_bf16"] == 1.0e15
    assert roofs.bandwidth["L1"] / T == pytest.approx(33.45, rel=1e-3)  # 16,896 bytes a clock
    assert roofs.bandwidth["L2"] == 5120 * 1.6e9
    assert roofs.bandwidth["HBM"] == 1280 * 2.6e9


@pytest.mark.parametrize(
    ("capability", "peaks", "dense"),
    [
        # An H100 PCIe's report of `--set full`: totals, and parts by instruction.
        (
            "9.0",
            {
                "src_bf16_dst_fp32": 933_888,
                "op_hgmma_src_bf16_dst_fp32_sparsity_off": 466_944,
                "op_hgmma_src_bf16_dst_fp32_sparsity_on": 933_888,
                "op_hmma_src_bf16_dst_fp32_sparsity_off": 311_296,
                "src_fp8_sparsity_off": 933_888,
                "src_fp8_sparsity_on": 1_867_776,
                "src_fp64": 29_184,
            },
            {"tensor_bf16": 114 * 4096, "tensor_fp8": 114 * 8192, "tensor_fp64": 114 * 256},
        ),
        # An A100's.
        (
            "8.0",
            {"src_tf32_dst_fp32_sparsity_off": 110_592, "src_tf32_dst_fp32_sparsity_on": 221_184, "src_fp64": 13_824},
            {"tensor_tf32": 108 * 1024, "tensor_fp64": 108 * 128},
        ),
        ("9.0", {"src_bf16_dst_fp32": 933_888}, {"tensor_bf16": 114 * 4096}),
        ("7.5", {"src_fp16_bf16_tf32_dst_fp32": 40_960}, {"tensor_fp16": 40 * 1024}),
        # GeForce: FP16 accumulation is twice as fast, and no kernel used it.
        ("8.6", {"src_fp16_dst_fp16": 2 * 1024, "src_fp16_dst_fp32": 2 * 512}, {"tensor_fp16": 512}),
    ],
)
def test_tensor_roofs_are_those_of_dense_matrices(capability: str, peaks: dict, dense: dict) -> None:
    columns = {f"sm__ops_path_tensor_{name}.sum.peak_sustained": [float(value)] for name, value in peaks.items()}
    launches = pd.DataFrame({"compute_capability": [capability], "sm__cycles_elapsed.avg.per_second": [1e9]} | columns)
    assert report_roofs(launches).peak == {unit: pytest.approx(value * 1e9) for unit, value in dense.items()}


def test_what_a_report_lacks_comes_from_the_table() -> None:
    roofs = Roofs("NVIDIA X", {"HBM": 1.0}, {}, source="report").merged(
        Roofs("X", {"HBM": 2.0, "L2": 3.0}, {"fp32": 4.0}, source="table")
    )
    assert roofs.bandwidth == {"HBM": 1.0, "L2": 3.0}
    assert roofs.peak == {"fp32": 4.0}
    assert roofs.source == "report; what it lacks from table"


def test_only_units_in_use_are_drawn() -> None:
    rows = tidy(pd.DataFrame({"kernel": ["a"], "time_s": [1.0], "fp32_flop": [1e6], "fp64_flop": [10.0]}))
    assert set(used(table_roofs(find_gpu("A100")), rows).peak) == {"fp32"}


def test_a_roofs_file_comes_back_and_scales(tmp_path: Path) -> None:
    path = tmp_path / "roofs.toml"
    write_roofs(Roofs('a "GPU"', {"L2": 2.0e12, "HBM": 1e12}, {"fp32": 1e13}, 1.0e9, "by hand"), path)
    assert read_roofs(path) == Roofs('a "GPU"', {"L2": 2.0e12, "HBM": 1e12}, {"fp32": 1e13}, 1.0e9, "by hand")
    scaled = read_roofs(path, 0.5e9)
    assert (scaled.peak["fp32"], scaled.bandwidth) == (5e12, {"L2": 1e12, "HBM": 1e12})


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("a = ", "no readable roofs file"),
        ("[peak]\nfp32 = 1", r"needs a table \[bandwidth\]"),
        ("[bandwidth]\nDRAM = 1", "has DRAM; known are L1, L2, HBM"),
        ("[bandwidth]\nHBM = 'x'", "HBM must be a positive number"),
        ("[bandwidth]\nHBM = -1", "HBM must be a positive number"),
        ("clock_hz = 0\n[bandwidth]\nHBM = 1", "clock_hz must be"),
        ("[bandwidth]\nHBM = 1\n[peak]\nfp31 = 1", "has fp31; known are fp64"),
    ],
)
def test_a_bad_roofs_file_is_one_line(tmp_path: Path, text: str, reason: str) -> None:
    path = tmp_path / "roofs.toml"
    path.write_text(text)
    with pytest.raises(RoofError, match="roofs.toml: .*" + reason):
        read_roofs(path)


def test_a_name_that_fits_several_gpus_finds_them_all() -> None:
    assert [row["name"] for row in find_gpus("A100")] == ["A100 SXM 40 GB", "A100 SXM 80 GB", "A100 PCIe 80 GB"]
    assert [row["name"] for row in find_gpus("L4")] == ["L4"]
    assert [row["name"] for row in find_gpus("rtx 3080")] == ["RTX 3080"]


def test_a_level_without_data_has_no_roof() -> None:
    rows = tidy(pd.DataFrame({"kernel": ["a"], "time_s": [1.0], "fp32_flop": [1e6], "bytes_l2": [5.0]}))
    assert set(used(table_roofs(find_gpu("A100 SXM 40")), rows).bandwidth) == {"L2", "HBM"}
