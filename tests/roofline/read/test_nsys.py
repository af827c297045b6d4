"""Timelines of Nsight Systems: every microsecond of a GPU is booked once, to the module that launched the work."""

from pathlib import Path

import pytest
from rooflines import RoofError
from rooflines.read.inputs import load_runs
from rooflines.read.nsys_modules import read_nsys
from rooflines.read.trace_modules import Modules, by_module

from tests.roofline.nsys_files import Timeline, write

LAYER = "backbone.layer1"


def step(line: Timeline, at: float = 0, *, nodes: str = "ranges") -> None:
    """Add a step of 100 us: a copy, a convolution, its gradient on autograd's thread, NCCL, the optimizer."""
    line.range("iteration", at, at + 100)
    line.copy(at + 2, at + 5, at + 10)
    line.range("forward", at + 10, at + 40)
    line.range(LAYER, at + 12, at + 30)
    if nodes == "numbers":  # emit_nvtx
        line.range("aten::convolution, seq = 7, op_id = 1", at + 13, at + 25, inline=True)
        line.range("autograd::engine::evaluate_function: ConvolutionBackward0, seq = 7", at + 60, at + 70, tid=2)
    else:
        line.range(LAYER, at + 60, at + 70, tid=2)
        line.range(f"recompute {LAYER}", at + 60, at + 62, tid=2)
    line.kernel("conv_fprop", at + 16, at + 20, at + 50)
    line.range("backward", at + 50, at + 80, kind=60)
    line.kernel("relu_again", at + 61, at + 62, at + 65, tid=2)
    line.kernel("conv_dgrad", at + 63, at + 65, at + 80, tid=2)
    line.kernel("ncclDevKernel_AllReduce", at + 68, at + 70, at + 90, tid=2, stream=9)
    line.range("optimizer_step", at + 80, at + 95)
    line.kernel("adamw", at + 82, at + 90, at + 95)


def seconds(modules: Modules) -> dict[tuple[str, str, str], float]:
    """Microseconds by family, module and direction."""
    rows = modules.rows.assign(us=modules.rows["time_s"] * 1e6)
    found = rows.groupby(["family", "module", "direction"], observed=True)["us"].sum()
    return found.round(3).to_dict()


@pytest.mark.parametrize("nodes", ["ranges", "numbers"])
def test_a_step_is_the_sum_of_its_modules(nodes: str, tmp_path: Path) -> None:
    line = Timeline()
    step(line, nodes=nodes)
    (modules,) = read_nsys(write(tmp_path / "timeline_r50_all_rank3.sqlite", [line]))
    assert modules.steps == 1 and modules.seconds == pytest.approx(100e-6)
    assert seconds(modules) == {
        ("host bound", "", ""): 5,
        ("copy", "", ""): 5,
        ("host bound", LAYER, "forward"): 10,
        ("convolution", LAYER, "forward"): 30,
        ("host bound", LAYER, "recompute" if nodes == "ranges" else "backward"): 12,
        ("other", LAYER, "recompute" if nodes == "ranges" else "backward"): 3,
        ("convolution", LAYER, "backward"): 15,
        ("communication", "", "backward"): 10,  # what computing does not hide
        ("optimizer", "", "optimizer"): 5,
        ("idle", "", ""): 5,
    }
    table = by_module(modules).set_index(["module", "direction"])["time_s"]
    assert table.sum() == pytest.approx(100e-6) and table["outside any module", ""] == pytest.approx(15e-6)
    assert "communication 2e-05 s, of which 50% is not hidden" in modules.notes[1]
    row = modules.rows[modules.rows["kernel"] == "conv_fprop"].iloc[0]
    assert (row["run"], row["rank"], row["grid"], row["block"]) == ("r50", "3", "(4, 1, 1)", "(128, 1, 1)")
    assert (row["device"], row["compute_capability"]) == ("NVIDIA H100 80GB HBM3", "9.0")


def test_whole_runs_of_several_processes_in_one_file(tmp_path: Path) -> None:
    lines = [Timeline(), Timeline(pid=0x1000002000000, device=1)]
    for number, line in enumerate(lines):
        step(line)
        step(line, at=200 + 50 * number)  # the second waits longer for its data
        line.range("evaluation", 400, 450)
        line.kernel("conv_fprop", 401, 410, 430)
    first, second = read_nsys(write(tmp_path / "timeline_run_all.sqlite", lines))
    assert (first.steps, first.seconds, second.seconds) == (2, pytest.approx(295e-6), pytest.approx(345e-6))
    between = [m.rows.loc[m.rows["kernel"] == "(host bound between steps)", "time_s"].sum() for m in (first, second)]
    assert between == pytest.approx([105e-6, 155e-6])  # from the optimizer's end to the next step's begin
    assert first.beside is not None and set(first.beside["section"]) == {"evaluation"}
    loaded = load_runs([tmp_path])
    assert sorted(set(loaded.rows["rank"])) == ["0", "1"] and "evaluation" in set(loaded.rows["section"])
    assert any("sums over the ranks 0, 1" in line for line in loaded.warnings)


def test_costs_beside_a_timeline_are_spread_over_its_kernels(tmp_path: Path) -> None:
    line = Timeline()
    step(line)
    (tmp_path / "costs.csv").write_text(
        "section,module,direction,kernel,fp32_flop,bytes_hbm,time_s\n"
        f"forward,{LAYER},forward,aten.convolution.default,900,30,1\n"
    )
    loaded = load_runs([write(tmp_path / "timeline_r50_all.sqlite", [line])])
    found = loaded.rows[loaded.rows["fp32_flop"] > 0]
    assert found["kernel"].tolist() == ["conv_fprop"] and found["fp32_flop"].tolist() == [900]


def test_files_that_are_no_timelines_are_named(tmp_path: Path) -> None:
    path = write(tmp_path / "empty.sqlite", [Timeline()])
    with pytest.raises(RoofError, match="without kernels"):
        read_nsys(path)
    (tmp_path / "cut.sqlite").write_bytes(path.read_bytes()[:3000])
    (tmp_path / "other.sqlite").write_bytes(b"SQLite format 3\0 and nothing else")
    for name in ("cut.sqlite", "other.sqlite"):
        with pytest.raises(RoofError, match=f"{name}.*(SQLite|read)"):
            read_nsys(tmp_path / name)


TRACE = """Start (ns),Duration (ns),CorrId,GrdX,GrdY,GrdZ,BlkX,BlkY,BlkZ,Bytes (MB),Device,Ctx,Strm,Name
1000000,30000,1,4,1,1,128,1,1,,NVIDIA A100-SXM4-40GB (0),1,7,conv_fprop
1040000,15000,2,4,1,1,128,1,1,,NVIDIA A100-SXM4-40GB (0),1,7,conv_dgrad
1060000,5000,3,,,,,,,0.004,NVIDIA A100-SXM4-40GB (0),1,7,[CUDA memcpy Host-to-Device]
"""
RANGES = f"""Name,Projected Start (ns),Projected Duration (ns),Orig Start (ns),Orig Duration (ns),Style,PID,TID
:iteration,1000000,55000,1,1,PushPop,9,9
:forward,1000000,30000,1,1,PushPop,9,9
:{LAYER},1000000,30000,1,1,PushPop,9,9
:backward,1040000,15000,1,1,StartEnd,9,9
:{LAYER},1040000,15000,1,1,PushPop,9,10
"""
SUMS = "Time (%),Total Time (ns),Instances,Avg (ns),Name\n60.0,30000,2,15000.0,conv_fprop\n"


def test_csv_reports_have_modules_where_the_ranges_lie_beside_the_kernels(tmp_path: Path) -> None:
    for name, text in (("cuda_gpu_trace", TRACE), ("nvtx_gpu_proj_trace", RANGES), ("cuda_gpu_kern_sum", SUMS)):
        (tmp_path / f"timeline_r50_all_{name}.csv").write_text(text)
    loaded = load_runs([tmp_path])  # the sums tell nothing more
    rows = loaded.rows.set_index("kernel")
    assert loaded.runs == ["r50"] and loaded.rows["time_s"].sum() == pytest.approx(65e-6)
    forward, backward = rows.loc["conv_fprop"], rows.loc["conv_dgrad"]
    assert (forward["module"], forward["direction"], forward["section"]) == (LAYER, "forward", "forward")
    assert (backward["module"], backward["direction"], backward["section"]) == (LAYER, "backward", "backward")
    (tmp_path / "timeline_r50_all_nvtx_gpu_proj_trace.csv").unlink()
    assert any("no modules" in line for line in load_runs([tmp_path]).warnings)


def test_a_report_of_sums_has_no_modules_and_one_of_ranges_no_kernels(tmp_path: Path) -> None:
    (tmp_path / "r50_cuda_gpu_kern_sum.csv").write_text(SUMS)
    row = load_runs([tmp_path]).rows.iloc[0]
    assert (row["run"], row["launches"], row["module"]) == ("r50", 2, "") and row["time_s"] == pytest.approx(30e-6)
    for name, text, words in (
        ("a_nvtx_gpu_proj_trace.csv", RANGES, "belongs beside it"),
        ("nvtx_kern_sum.csv", "NVTX Range,Style,PID,TID,Kern Inst,Total Time (ns)\n", "in every range around it"),
    ):
        (tmp_path / name).write_text(text)
        with pytest.raises(RoofError, match=f"{name}.*{words}"):
            load_runs([tmp_path / name])
