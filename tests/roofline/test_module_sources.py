"""The report by module from any source: a trace, a timeline, counters; several ranks in one table."""

import json
from pathlib import Path

import module_report
import pytest
from rooflines import RoofError
from rooflines.modules.ranks import compare_ranks
from rooflines.modules.run import read_run

from tests.roofline.ncu_files import CONV, Kernel, long_rows
from tests.roofline.nsys_files import Timeline
from tests.roofline.nsys_files import write as write_nsys
from tests.roofline.read.test_nsys import LAYER, step
from tests.roofline.read.test_torch_trace_reader import BACKWARD, FORWARD
from tests.roofline.read.test_torch_trace_reader import write as write_trace


def counters(folder: Path, section: str, *kernels: Kernel) -> None:
    """Write a report of Nsight Compute with collect.py's record of it."""
    for number, kernel in enumerate(kernels):
        kernel.id = number
    (folder / "reports").mkdir(parents=True, exist_ok=True)
    (folder / f"output_r50_{section}.csv").write_text("\n".join(long_rows(list(kernels))) + "\n")
    record = {"command": f"ncu --metrics x python main.py --profile_steps 2 --section {section}"}
    (folder / "reports" / f"output_r50_{section}.json").write_text(json.dumps(record))


def test_counters_are_a_source(tmp_path: Path) -> None:
    work = {"cycles": 2e5, "rate": 1e9, "dram": 2e6, "ffma": 1e6}
    counters(tmp_path, "forward", Kernel.counted(CONV, push_pop=("forward", LAYER), **work))
    nodes = [Kernel.counted("dgrad", start_end=("backward",), push_pop=(LAYER,), **work), Kernel.counted("add", **work)]
    counters(tmp_path, "backward", *nodes)
    run = read_run(tmp_path)
    parts = run.parts.set_index(["module", "direction"])
    assert run.step_s == pytest.approx(300e-6) and run.parts["time_s"].sum() == pytest.approx(300e-6)  # of two steps
    assert parts.loc[(LAYER, "forward"), "flop"] == pytest.approx(1e6)
    assert set(parts.index) == {(LAYER, "forward"), (LAYER, "backward"), ("outside any module", "backward")}
    assert run.roofs is not None and parts.loc[(LAYER, "forward"), "bound"]
    assert read_run(tmp_path, steps=1).step_s == pytest.approx(600e-6)


def test_a_timeline_is_a_source_and_the_sum_is_the_step(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    for rank in range(2):
        line = Timeline()
        step(line)
        line.kernel("conv_fprop", 30, 50, 50 + 5 * rank)  # the second rank computes longer
        write_nsys(tmp_path / f"timeline_r50_all_rank{rank}.sqlite", [line])
    run = read_run(tmp_path)
    assert run.parts["time_s"].sum() == pytest.approx(run.step_s) == pytest.approx(100e-6)
    ranks = compare_ranks(run.processes).set_index("rank") * 1e6
    assert ranks["compute"].round(3).to_dict() == {"0": 53, "1": 58}
    assert ranks["host bound"].round(3).to_dict() == {"0": 27, "1": 22} and ranks.loc["1", "communication"] == 10
    module_report.main([str(tmp_path), "-o", str(tmp_path / "page.html")])
    assert "rank 1 computes longest, 4.5% above the mean" in capsys.readouterr().out


def test_traces_of_several_ranks_are_compared(tmp_path: Path) -> None:
    for rank in (0, 1):
        write_trace(tmp_path / f"trace_rank{rank}.json.gz", FORWARD + BACKWARD)
    table = compare_ranks(read_run(tmp_path).processes)
    assert table["rank"].tolist() == ["0", "1"] and table["step_s"].tolist() == pytest.approx([100e-6] * 2)


def test_runs_that_are_mixed_are_refused(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / f"output_{name}_loss.csv").write_text("\n".join(long_rows([Kernel.counted(CONV)])) + "\n")
    with pytest.raises(RoofError, match="the runs a, b"):
        read_run(tmp_path)
