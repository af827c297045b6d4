"""The command: CSVs in, table, summary, charts and page out; mistakes are one line."""

import subprocess
import sys
from pathlib import Path

import postprocess
import pytest
from postprocess import main

from tests.roofline.ncu_files import CAT, CONV, MUL, Kernel, long_rows

SCRIPTS = Path(postprocess.__file__).parent


def write(path: Path, *, factor: float = 1.0) -> Path:
    kernels = [
        Kernel.counted(
            CONV, id=0, tensor=2_340_864, cycles=1e5 * factor, dram=8e6, lts=1.6e8, l1tex=1.7e8, push_pop=("forward",)
        ),
        Kernel.counted(MUL, id=1, fmul=24_182_784, dram=1.8e8, lts=1.9e8, l1tex=2e8, push_pop=("backward",)),
        Kernel.counted(CAT, id=2, tensor=6_913, hfma=221_186, cycles=1e4),
    ]
    path.write_text("\n".join(long_rows(kernels)) + "\n")
    return path


@pytest.mark.slow
def test_everything_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    write(tmp_path / "output_a.csv")
    monkeypatch.chdir(tmp_path)
    main([])
    out = capsys.readouterr().out
    assert "tensor cores: 4.794 GFLOP in 1 of 3 kernels" in out
    names = {path.name for path in tmp_path.iterdir()}
    charts = {f"a_{kind}.{end}" for kind in ("all", "PU_HBM", "time", "sections") for end in ("png", "svg")}
    assert charts | {"kernels.csv", "kernels.roofs.toml", "summary.txt", "roofline.html"} <= names
    assert (tmp_path / "summary.txt").read_text() in out


def test_the_table_draws_the_same_again(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    main([str(write(tmp_path / "output_a.csv")), "-o", str(tmp_path / "one"), "--no_charts"])
    main([str(tmp_path / "one" / "kernels.csv"), "-o", str(tmp_path / "two"), "--no_charts"])
    capsys.readouterr()
    first, second = ((tmp_path / name / "kernels.csv").read_text() for name in ("one", "two"))
    assert first == second


@pytest.mark.slow
def test_compare(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    a, b = write(tmp_path / "output_a.csv"), write(tmp_path / "output_b.csv", factor=0.5)
    main(["--compare", str(a), str(b), "-o", str(tmp_path / "out"), "--formats", "png"])
    out = capsys.readouterr().out
    assert any(
        line.startswith("convolution") and "100 us ->   50.0 us" in line and "-50.0 us" in line
        for line in out.splitlines()
    )
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["compare.png"]


@pytest.mark.slow
def test_a_mistake_is_one_line_and_exit_code_2(tmp_path: Path) -> None:
    command = [sys.executable, str(SCRIPTS / "postprocess.py"), str(tmp_path / "nowhere.csv")]
    result = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert result.returncode == 2
    assert result.stderr.strip() == f"{tmp_path / 'nowhere.csv'}: no such file or folder"


@pytest.mark.slow
@pytest.mark.parametrize("script", ["roofline.py", "roofline_pu.py"])
def test_the_charts_are_commands_too(tmp_path: Path, script: str) -> None:
    path = write(tmp_path / "output_a.csv")
    result = subprocess.run(
        [sys.executable, str(SCRIPTS / script), str(path)], capture_output=True, text=True, cwd=tmp_path
    )
    assert result.returncode == 0, result.stderr
    assert len(list(tmp_path.glob("a_*.png"))) == 1


@pytest.mark.slow
def test_runs_of_one_name_are_compared_by_their_folders(tmp_path: Path) -> None:
    files = []
    for name in ("before", "after"):
        (tmp_path / name).mkdir()
        files.append(str(write(tmp_path / name / "ncu.csv")))
    main(["--compare", *files, "-o", str(tmp_path / "out"), "--formats", "svg"])
    text = (tmp_path / "out" / "compare.svg").read_text()
    assert "ncu (before)" in text and "ncu (after)" in text


def test_flops_by_unit_are_printed_on_demand(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    main([str(write(tmp_path / "output_a.csv")), "-o", str(tmp_path / "out"), "--no_charts", "--debug"])
    assert "TF32 tensor 4.79 GFLOP  (inst_x_shape)" in capsys.readouterr().out
