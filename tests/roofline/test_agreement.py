"""Summary, charts and page say the same, also where something was not measured."""

import json
import re
from pathlib import Path

import pandas as pd
import postprocess
import pytest
import roofline
from rooflines.analysis import analyse, by_name
from rooflines.charts.html import write_html
from rooflines.charts.style import intensity, level_name, save
from rooflines.checks import check_rows
from rooflines.read.inputs import Loaded
from rooflines.roofs import Roofs
from rooflines.summary import summarise
from rooflines.table import tidy, write_table

ROOFS = Roofs("x", {"HBM": 1e12}, {"fp32": 1e13}, source="by hand")


def table(rows: list[dict]) -> pd.DataFrame:
    return tidy(
        pd.DataFrame([{"run": "r", "bytes_hbm": 1e6, "flop_source": "cores", "source": "ncu"} | row for row in rows])
    )


def page(rows: pd.DataFrame, folder: Path) -> list[dict]:
    text = write_html(Loaded(rows, {"r": ROOFS}), folder / "roofline.html").read_text()
    return json.loads(re.search(r'id="data">(.*?)</script>', text, re.S)[1])["runs"][0]["kernels"]


def chart_text(rows: pd.DataFrame, folder: Path) -> str:
    return save(roofline.draw(rows, ROOFS), folder / "chart", ("svg",))[0].read_text()


MIXED = table(
    [
        {"kernel": "a<1>", "name": "a", "time_s": 3e-3, "fp32_flop": 1e9, "section": "forward"},
        {"kernel": "a<2>", "name": "a", "time_s": 1e-3, "section": "backward"},
    ]
)
UNMEASURED = table([{"kernel": "a", "name": "a", "time_s": 1e-3, "flop_source": "missing"}])
TIMELESS = table([{"kernel": "a", "name": "a", "fp32_flop": 1e9}])


@pytest.mark.slow
def test_one_name_with_and_without_flops_is_two_rows_everywhere(tmp_path: Path) -> None:
    rows = analyse(by_name(MIXED.assign(section="")), ROOFS)
    assert dict(zip(rows["unit"], rows["share"])) == {"fp32": 0.75, "none": 0.25}
    assert {k["unit"]: k["share"] for k in page(MIXED, tmp_path)} == {"fp32": 0.75, "none": 0.25}
    assert "time by unit: FP32 75 %, no FLOPs 25 %" in summarise(Loaded(MIXED, {"r": ROOFS}))
    text = chart_text(MIXED, tmp_path)
    assert "FP32: 75 % of the time" in text and "hatched: 1 kernels without FLOPs, 25 % of the time" in text


def test_flops_that_were_not_measured_are_not_zero(tmp_path: Path) -> None:
    text = summarise(Loaded(UNMEASURED, {"r": ROOFS}))
    assert "FLOPs not measured" in text and "tensor cores: not measured" in text and "no FLOPs" not in text
    drawn = chart_text(UNMEASURED, tmp_path)
    assert "not measured" in drawn and "no FLOPs" not in drawn
    assert page(UNMEASURED, tmp_path)[0]["unit"] == "unmeasured"
    assert analyse(by_name(UNMEASURED), ROOFS)["bound"].tolist() == [""], "it may wait for FLOPs that nobody counted"


def test_a_run_without_times_says_so(tmp_path: Path) -> None:
    assert "r: no times in 1 launches of 1 kernels, 1.00 GFLOP" in summarise(Loaded(TIMELESS, {"r": ROOFS}))
    [kernel] = page(TIMELESS, tmp_path)
    assert (kernel["launches"], kernel["time_s"], kernel["rate"]) == (1, None, None)
    text = (tmp_path / "roofline.html").read_text()
    assert '"no times"' in text and "there is no rate to draw" in text


@pytest.mark.parametrize(
    ("device", "name"),
    [("NVIDIA GeForce RTX 3090", "DRAM"), ("NVIDIA L4", "DRAM"), ("NVIDIA A100", "HBM"), ("0", "HBM")],
)
def test_memory_is_called_what_the_card_has(device: str, name: str) -> None:
    assert level_name("HBM", device) == name


def write(folder: Path) -> str:
    write_table(MIXED, folder / "kernels.csv")
    return str(folder / "kernels.csv")


def test_a_table_without_roofs_is_drawn_again(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    path = write(tmp_path)
    for out in ("one", "two"):
        postprocess.main([path, "-o", str(tmp_path / out), "--no_charts"])
        path = str(tmp_path / out / "kernels.csv")
    assert "roofs: none" in capsys.readouterr().out


def test_a_named_gpu_replaces_the_roofs_beside_a_table(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    path = write(tmp_path)
    (tmp_path / "kernels.roofs.toml").write_text('source = "old"\n[bandwidth]\nHBM = 1e9\n[peak]\nfp32 = 1e9\n')
    postprocess.main([path, "-o", str(tmp_path / "out"), "--no_charts", "--gpu", "H100 PCIe"])
    said = capsys.readouterr().out
    assert "roofs: table of H100 PCIe" in said
    assert "--gpu H100 PCIe takes the place of the roofs in kernels.roofs.toml" in said


def test_a_gpu_that_contradicts_the_report_is_said(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    write_table(MIXED.assign(compute_capability="9.0", device="NVIDIA H100 PCIe"), tmp_path / "kernels.csv")
    postprocess.main([str(tmp_path / "kernels.csv"), "-o", str(tmp_path / "o"), "--no_charts", "--gpu", "V100"])
    assert "--gpu V100 SXM2 has compute capability 7.0, but the data is of NVIDIA H100 PCIe" in capsys.readouterr().out


def test_a_backward_pass_too_short_to_be_true(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    postprocess.main([write(tmp_path), "-o", str(tmp_path / "o"), "--no_charts"])
    assert "section backward is too short to be true, 33% of forward" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.parametrize(("flags", "there"), [(["--kernel", "a<1>"], True), (["--section", "backward"], False)])
def test_charts_of_some_kernels_or_sections(flags: list[str], there: bool, tmp_path: Path) -> None:
    postprocess.main([write(tmp_path), "-o", str(tmp_path / "o"), "--formats", "svg", *flags])
    assert ("FP32: 100 %" in (tmp_path / "o" / "r_all.svg").read_text()) is there
    assert len((tmp_path / "o" / "kernels.csv").read_text().splitlines()) == 3, "the table holds everything"


@pytest.mark.parametrize(
    "flags", [["--kernel", "nothing"], ["--section", "loss"], ["--kernel", "("], ["--fail_below", "x"]]
)
def test_filters_that_find_nothing_are_one_line(
    flags: list[str], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    with pytest.raises(SystemExit) as end:
        postprocess.main([write(tmp_path), "-o", str(tmp_path / "o"), *flags])
    assert end.value.code == 2 and len(capsys.readouterr().err.splitlines()) == 1


@pytest.mark.parametrize(("least", "code"), [("60%", 1), ("1%", None)])
def test_a_slow_run_fails_where_it_is_asked_to(
    least: str, code: int | None, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    roofs = tmp_path / "r.toml"
    roofs.write_text("[bandwidth]\nHBM = 1e10\n[peak]\nfp32 = 1e12\n")
    flags = [write(tmp_path), "-o", str(tmp_path / "o"), "--no_charts", "--roofs", str(roofs), "--fail_below", least]
    if code is None:
        postprocess.main(flags)
        return
    with pytest.raises(SystemExit) as end:
        postprocess.main(flags)
    assert end.value.code == code and "28 % of the roof" in capsys.readouterr().err


@pytest.mark.parametrize("value", [0.0123, 123456.7, 9.87e8, float("inf"), float("nan")])
def test_an_intensity_stays_in_its_column(value: float) -> None:
    assert len(intensity(value)) <= 7


def test_the_page_calls_memory_what_the_card_has(tmp_path: Path) -> None:
    card = Roofs("NVIDIA L4", {"HBM": 1e10}, {"fp32": 1e13})
    text = write_html(Loaded(MIXED, {"r": card}), tmp_path / "roofline.html").read_text()
    run = json.loads(re.search(r'id="data">(.*?)</script>', text, re.S)[1])["runs"][0]
    assert run["levelNames"] == {"L1": "L1", "L2": "L2", "HBM": "DRAM"}
    assert "HBM" not in {kernel["bound"] for kernel in run["kernels"]}


def test_long_names_and_huge_numbers_stay_in_their_columns() -> None:
    rows = table(
        [
            {"kernel": "x", "name": "PersistentVariableLengthMergeStatesOfAttention bf16", "time_s": 2e7},
            {"kernel": "y", "name": "y", "time_s": 3e-9, "launches": 12_345_678_901, "fp32_flop": 1e25},
        ]
    )
    header, *lines = summarise(Loaded(rows, {"r": ROOFS})).splitlines()[-3:]
    assert "PersistentVariableLeng..tention bf16 " in lines[0]
    ends = [header.index(title) + len(title) for title in ("time", "share", "launches", "rate", "of roof")]
    assert all(line[end : end + 1] == " " and line[end - 1] != " " for line in (header, *lines) for end in ends)


def test_the_summary_calls_memory_what_the_card_has() -> None:
    t4 = Roofs("T4", {"L2": 1e12, "HBM": 1e9}, {"fp32": 1e13}, source="by hand")
    text = summarise(Loaded(table([{"kernel": "a", "name": "a", "time_s": 1e-3, "flop_source": "cores"}]), {"r": t4}))
    assert "HBM" not in text and "DRAM 1.000 GB/s" in text and text.rstrip().endswith("DRAM")
    [note] = check_rows(table([{"kernel": "a", "name": "a", "time_s": 1e-5, "bytes_l2": 1.0}]), t4)
    assert note == "1 of 1 kernels move more bytes at DRAM than at L2"
