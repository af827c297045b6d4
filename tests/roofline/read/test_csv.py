"""Every shape, locale and encoding of Nsight Compute's CSVs gives the same launches."""

from collections.abc import Callable
from pathlib import Path

import pytest
from rooflines import RoofError
from rooflines.read.csv import read_ncu_csv
from rooflines.read.launches import Report

from tests.roofline.ncu_files import (
    CAT,
    CONV,
    Kernel,
    european,
    long_rows,
    number,
    oldest_rows,
    row,
    rule_rows,
    wide_rows,
)

KERNELS = [
    Kernel.counted(CONV, id=0, tensor=2_340_864, dram=8_964_352, cycles=97_895.48, rate=1_089_858_851.55),
    Kernel.counted(CAT, id=1, tensor=6_913, hfma=221_186),
]
LOG = [
    "==PROF== Connected to process 100 (/usr/bin/python3.11)",
    "| distributed init (rank 0): env://",
    'Epoch: [0]  [ 10/248]  eta: 0:02:31  loss: 12.03, "quoted" (13.1)',
    "",
    "ID of the run: 7",
]


def read(path: Path, lines: list[str], *, encoding: str = "utf-8", end: str = "\n") -> Report:
    path.write_bytes((end.join(lines) + end).encode(encoding))
    return read_ncu_csv(path)


def assert_kernels(report: Report) -> None:
    """The two kernels with exact values."""
    launches = report.launches
    assert [str(name) for name in launches["kernel"]] == [CONV, CAT]
    assert launches["sm__inst_executed_pipe_tensor.sum"].tolist() == [2_340_864, 6_913]
    assert launches["dram__bytes.sum"].tolist() == [8_964_352, 1000]
    assert launches["sm__cycles_elapsed.avg.per_second"].tolist() == [1_089_858_851.55, 1e9]
    assert launches["sm__cycles_elapsed.avg"].tolist() == [97_895.48, 1e5]


@pytest.mark.parametrize("make", [long_rows, oldest_rows, rule_rows, wide_rows, lambda k: long_rows(k, nvtx=False)])
def test_every_header_shape(tmp_path: Path, make: Callable[[list[Kernel]], list[str]]) -> None:
    assert_kernels(read(tmp_path / "output.csv", make(KERNELS)))


@pytest.mark.parametrize("make", [long_rows, wide_rows])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_every_encoding(tmp_path: Path, make: Callable[[list[Kernel]], list[str]], encoding: str, end: str) -> None:
    assert_kernels(read(tmp_path / "output.csv", make(KERNELS), encoding=encoding, end=end))


@pytest.mark.parametrize("make", [long_rows, wide_rows])
def test_european_numbers(tmp_path: Path, make: Callable) -> None:
    report = read(tmp_path / "output.csv", make(KERNELS, write=european))
    assert_kernels(report)
    assert any("decimal comma" in note for note in report.notes)


def test_a_log_before_between_and_after_the_rows(tmp_path: Path) -> None:
    lines = long_rows(KERNELS)
    mixed = [*LOG, *lines[:5], *LOG, "==WARNING== something", *lines[5:], *LOG]
    assert_kernels(read(tmp_path / "output.csv", mixed))


def test_two_processes_bring_a_header_each_and_interleave(tmp_path: Path) -> None:
    first = long_rows([Kernel.counted(CONV, id=0, process=1, dram=10), Kernel.counted(CONV, id=1, process=1, dram=20)])
    second = long_rows([Kernel.counted(CONV, id=0, process=2, dram=30)])
    lines = [*first[:10], *second[:4]]
    for a, b in zip(first[10:22], second[4:]):
        lines += [a, b]
    lines += first[22:]
    launches = read(tmp_path / "output.csv", lines).launches
    assert sorted(launches["dram__bytes.sum"]) == [10, 20, 30]
    assert not launches.isna().any(axis=None)


def test_units_that_vary_from_row_to_row(tmp_path: Path) -> None:
    kernels = [
        Kernel(id=0, metrics={"gpu__time_duration.sum": (1.5, "usecond"), "dram__bytes.sum": (2.5, "Mbyte")}),
        Kernel(id=1, metrics={"gpu__time_duration.sum": (900, "nsecond"), "dram__bytes.sum": (3, "Kbyte")}),
    ]
    launches = read(tmp_path / "output.csv", long_rows(kernels)).launches
    assert launches["gpu__time_duration.sum"].tolist() == pytest.approx([1.5e-6, 9e-7])
    assert launches["dram__bytes.sum"].tolist() == [2.5e6, 3e3]


def test_labels_of_the_details_page(tmp_path: Path) -> None:
    kernel = Kernel(metrics={"Duration": (3, "usecond"), "SM Frequency": (1.2, "cycle/nsecond"), "Grid Size": (7, "")})
    launches = read(tmp_path / "output.csv", rule_rows([kernel])).launches
    assert launches["gpu__time_duration.sum"].tolist() == pytest.approx([3e-6])
    assert launches["sm__cycles_elapsed.avg.per_second"].tolist() == pytest.approx([1.2e9])


def test_nvtx_ranges_keep_their_order_and_names_with_colons(tmp_path: Path) -> None:
    kernel = Kernel.counted(push_pop=("forward", "aten::conv2d"), start_end=("training_loop",))
    launches = read(tmp_path / "output.csv", long_rows([kernel])).launches
    assert launches["ranges"].tolist() == ["training_loop > forward > aten::conv2d"]


def test_instances_and_values_that_are_missing(tmp_path: Path) -> None:
    kernel = Kernel(metrics={"dram__bytes.sum": ("12; 3; 9", "byte"), "lts__t_bytes.sum": ("(!) nan", "byte")})
    launches = read(tmp_path / "output.csv", long_rows([kernel])).launches
    assert launches["dram__bytes.sum"].tolist() == [12]
    assert launches["lts__t_bytes.sum"].isna().all()


def test_resaved_without_quotes_and_with_semicolons(tmp_path: Path) -> None:
    kernel = Kernel(name="ampere_sgemm_128x64_tn", metrics={"dram__bytes.sum": (81152, "byte")})
    lines = [
        ";".join(cell.strip('"') for cell in line.split('","')).strip('"')
        for line in long_rows([kernel], nvtx=False, write=str)
    ]
    launches = read(tmp_path / "output.csv", lines).launches
    assert launches["dram__bytes.sum"].tolist() == [81152]


def test_a_file_cut_off_in_a_row_keeps_what_came_before(tmp_path: Path) -> None:
    path = tmp_path / "output.csv"
    text = "\n".join(long_rows(KERNELS))
    path.write_text(text[: text.rindex('"') - 2])
    report = read_ncu_csv(path)
    assert len(report.launches) == 2
    assert report.notes == ["the last row is cut off: was the run stopped?"]
    assert report.launches["sm__inst_executed_pipe_tensor.sum"].tolist() == [2_340_864, 6_913]


def test_a_device_has_its_name_where_it_was_collected(tmp_path: Path) -> None:
    for kernel in (kernels := [Kernel.counted(id=n) for n in range(2)]):
        kernel.metrics["device__attribute_display_name"] = ("NVIDIA A100-SXM4-80GB", "")
    for make in (long_rows, wide_rows):
        launches = read(tmp_path / "output.csv", make(kernels)).launches
        assert set(launches["device"]) == {"NVIDIA A100-SXM4-80GB"}


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        (["hello", "world"], 'no header with "ID"'),
        (long_rows([])[:1], "no kernels below it"),
        ([*LOG, "==ERROR== ERR_NVGPUCTRPERM - The user does not have permission"], "not permitted"),
        (
            ["==ERROR== ERR_NVGPUCTRPERM - no permission", "==ERROR== The application returned an error code (9)."],
            "not permitted .*ask the administrator",
        ),
        (["==WARNING== No kernels were profiled."], "No kernels were profiled"),
        (["==PROF== Connected to process 9", "==PROF== Disconnected"], "no table: the run was stopped.*ncu --import"),
        (
            [line.replace('"Metric Value",', "").replace(',"Metric Value"', "") for line in long_rows([])],
            "no column Metric Value",
        ),
        ([line.replace('"Metric Name",', "") for line in long_rows([])], "no column Metric Name"),
        (
            [row(["ID", "Kernel Name", "Invocations", "Metric Name", "Minimum", "Maximum", "Average"])],
            "--print-summary",
        ),
    ],
)
def test_a_file_without_kernels_says_why(tmp_path: Path, lines: list[str], reason: str) -> None:
    with pytest.raises(RoofError, match="output.csv: .*" + reason):
        read(tmp_path / "output.csv", lines)


def test_numbers_are_written_as_ncu_writes_them() -> None:
    assert [number(1089858851.55), number(81152), european(27595520)] == ["1,089,858,851.55", "81,152", "27.595.520"]
