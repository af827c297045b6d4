"""The table that main.py --count_costs writes is a tidy table, and postprocess.py draws it."""

from pathlib import Path

import ceilings
import pandas as pd
import postprocess
import pytest
import roofline
import roofline_pu
import torch
from matplotlib.text import Text
from rooflines.charts import sections as sections_chart
from rooflines.charts import time as time_chart
from rooflines.columns import COLUMNS, FLOP_COLUMNS
from rooflines.roofs import Roofs
from rooflines.table import read_table, tidy, total_flop

from tests.processes import run_python
from util.profiling import cost_table
from util.profiling.cost_counter import OpRow
from util.profiling.cost_file import SUFFIXES, check_cost_file
from util.profiling.cost_table import measure_ceilings, table_rows, write_costs

CPU = torch.device("cpu")
CEILINGS = Path(ceilings.__file__)


def counted() -> list[OpRow]:
    """A convolution and a copy forward, an operator nobody knows backward."""
    common = {"module": "detr.backbone", "unit": "fp32", "calls": 2}
    return [
        OpRow(
            section="forward",
            direction="forward",
            kernel="aten.convolution.default",
            label="convolution 3x3",
            shapes="2x3x8x8, 4x3x3x3",
            family="convolution",
            known=True,
            first=0,
            flops=4000,
            bytes=800,
            seconds=1e-3,
            **common,
        ),
        OpRow(
            section="forward",
            direction="forward",
            kernel="aten.clone.default",
            label="clone",
            shapes="2x3",
            family="copy",
            known=True,
            first=1,
            bytes=80,
            seconds=1e-4,
            **common,
        ),
        OpRow(
            section="backward",
            direction="backward",
            kernel="aten.lgamma.default",
            label="lgamma",
            shapes="9",
            family="other",
            known=False,
            first=2,
            bytes=40,
            seconds=1e-5,
            **common,
        ),
    ]


def test_a_count_writes_columns_that_the_tidy_table_knows(tmp_path: Path) -> None:
    write_costs(table_rows(counted(), run="costs", device=CPU), tmp_path / "costs.csv")
    assert set(pd.read_csv(tmp_path / "costs.csv").columns) <= set(COLUMNS)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_written_rows_are_read_back(suffix: str, tmp_path: Path) -> None:
    if suffix == ".parquet":
        pytest.importorskip("pyarrow")
    path = tmp_path / f"costs{suffix}"
    check_cost_file(str(path))
    write_costs(table_rows(counted(), run="costs", device=CPU), path)
    rows = read_table(path)
    assert total_flop(rows).tolist() == [4000, 0, 0] and rows["bytes_hbm"].tolist() == [800, 80, 40]
    assert rows["name"].tolist() == ["convolution 3x3 backbone", "clone backbone", "lgamma backbone"]
    assert rows["flop_source"].tolist() == ["analytic", "analytic", "analytic_bytes_only"]
    assert (
        set(rows["source"]) == {"analytic"} and rows["bytes_l1"].isna().all() and rows["launches"].tolist() == [2] * 3
    )
    assert not rows[list(FLOP_COLUMNS.values())].isna().any(axis=None)


@pytest.fixture
def forked(monkeypatch: pytest.MonkeyPatch) -> None:
    """The script that measures ceilings runs in a fork, which has imported torch already."""
    monkeypatch.setattr(cost_table.subprocess, "run", run_python)


@pytest.mark.slow
@pytest.mark.usefixtures("forked")
def test_the_charts_are_drawn_under_the_measured_ceilings(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    path = tmp_path / "costs.csv"
    write_costs(table_rows(counted(), run="costs", device=CPU), path)
    roofs, missing = measure_ceilings(CEILINGS, path, CPU, size=64)
    assert missing is None and roofs == tmp_path / "costs.roofs.toml"
    postprocess.main([str(path), "-o", str(tmp_path / "out"), "--formats", "png"])
    names = {file.name for file in (tmp_path / "out").iterdir()}
    assert {"costs_all.png", "costs_PU_HBM.png", "costs_time.png", "costs_sections.png", "roofline.html"} <= names
    said = capsys.readouterr().out
    assert "measured on this CPU" in said and "profile-from-start" not in said
    assert pd.read_csv(tmp_path / "out" / "kernels.csv")["source"].eq("analytic").all()


@pytest.mark.slow
@pytest.mark.parametrize(("device", "name"), [("CPU, 2 threads", "memory"), ("NVIDIA A100", "HBM")])
def test_the_memory_of_a_cpu_is_not_called_hbm(device: str, name: str) -> None:
    rows = tidy(pd.DataFrame(table_rows(counted(), run="r", device=CPU)))
    roofs = Roofs(device, {"HBM": 1e10}, {"fp32": 1e11})
    for module in (roofline, roofline_pu, sections_chart, time_chart):
        text = " ".join(part.get_text() for part in module.draw(rows, roofs).findobj(Text))
        assert name in text and ("HBM" in text) == (name == "HBM"), module.__name__


@pytest.mark.slow
@pytest.mark.usefixtures("forked")
def test_ceilings_that_cannot_be_measured_are_one_line(tmp_path: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU to measure")
    _, missing = measure_ceilings(CEILINGS, tmp_path / "costs.csv", torch.device("cuda"))
    assert "torch sees no GPU" in missing and "--roofs FILE" in missing
