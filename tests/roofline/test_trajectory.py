"""Phases over epochs: times of --timing, costs that grow with the pixels, one page of several runs."""

import json
from pathlib import Path
from typing import Any

import module_report
import pytest
from rooflines.modules.trajectory import read_timed

COSTS = """section,kernel,grid,fp32_flop,bytes_hbm,time_s,launches,first
forward,aten.convolution.default,"2x3x8x8, 4x3x3x3",8000,100,1,1,0
forward,aten.relu.default,2x4x8x8,100,300,1,1,1
optimizer_step,aten._fused_adamw_.default,9,50,500,1,1,2
"""


def timed(folder: Path, flags: dict[str, Any], epochs: list[tuple[int, int, float]]) -> Path:
    """Write a run's timing: of each epoch its number, pixels a step, milliseconds a step."""

    def phases(ms: float) -> dict[str, Any]:
        shares = {"forward": 0.5, "optimizer_step": 0.1, "step": 1.0}
        return {name: {"median_ms": share * ms, "steps": 3} for name, share in shares.items()}

    folder.mkdir()
    rows = [{"epoch": epoch, "pixels": pixels, "phases": phases(ms)} for epoch, pixels, ms in epochs]
    (folder / "timing.json").write_text(json.dumps({"epochs": rows, "flags": flags}))
    (folder / "costs.csv").write_text(COSTS)
    (folder / "costs.roofs.toml").write_text("[bandwidth]\nHBM = 1e6\n[peak]\nfp32 = 1e7\n")
    return folder


def test_costs_grow_with_the_pixels_of_an_epoch(tmp_path: Path) -> None:
    run = read_timed(timed(tmp_path / "a", {"amp": "bf16", "accumulate": 1}, [(0, 128, 2.0), (1, 512, 6.0)]))
    assert run is not None and run.flags == "--amp bf16"
    points = run.points.set_index(["epoch", "phase"])
    assert points.loc[(0, "forward"), ["flop", "bytes", "time_s"]].tolist() == [8100, 400, pytest.approx(1e-3)]
    assert points.loc[(1, "forward"), ["flop", "bytes"]].tolist() == [4 * 8100, 1600]
    assert points.loc[(1, "optimizer_step"), "flop"] == 50
    assert read_timed(tmp_path) is None


@pytest.mark.slow
def test_a_browser_draws_runs_side_by_side(tmp_path: Path, browser_page: Any, capsys: pytest.CaptureFixture) -> None:
    a = timed(tmp_path / "small", {}, [(0, 128, 2.0), (1, 512, 6.0)])
    b = timed(tmp_path / "large", {"accumulate": 4}, [(0, 512, 4.0)])
    module_report.main(["--over_time", str(a), str(b), "-o", str(tmp_path / "page.html")])
    assert "small epoch 1: forward 0.00300 s, 10.8 MFLOP/s" in capsys.readouterr().out
    browser_page.goto((tmp_path / "page.html").as_uri())
    assert browser_page.locator("svg circle").count() == 3  # the forward of three epochs
    assert "large --accumulate 4" in browser_page.locator("svg").inner_html()
    assert browser_page.locator("table tr").count() == 4


def test_what_is_no_timing_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    (tmp_path / "timing.json").write_text('{"epochs": [{"epoch": 0}]}')
    for folder, words in ((tmp_path, "no timing of main.py"), (tmp_path / "gone", "main.py --timing --output_dir")):
        with pytest.raises(SystemExit) as ended:
            module_report.main(["--over_time", str(folder), "-o", str(tmp_path / "page.html")])
        err = capsys.readouterr().err
        assert ended.value.code == 2 and words in err and len(err.splitlines()) == 1
