"""Traces with ranges of modules under --amp, --grad_checkpoint and --compile: what belongs to which module."""

from pathlib import Path

import pandas as pd
import pytest
import torch
from rooflines.read.trace_modules import by_module, read_modules

from tests.util.profiling.test_module_ranges import Loss, Net
from util import profiling
from util.profiling import Section
from util.profiling.from_flags import ProfilingOptions, build_phases

MODULES = {"one.a", "one.b", "two.a", "two.b"}


def trace(folder: Path, *, again: bool = False, amp: bool = False, compiled: bool = False) -> pd.DataFrame:
    """Return the tidy rows of the second of two steps; their times are checked to add up to it."""
    torch._dynamo.reset()
    net, loss = Net(again=again), Loss()
    if compiled:
        net.one.compile(backend="aot_eager")
    options = ProfilingOptions(torch_profile=str(folder), warmup=1, steps=1, module_ranges=2)
    phases = build_phases(options, device=torch.device("cpu"), total_steps=2, parts=(net, loss))
    for _ in range(2):
        with phases.step():
            with phases.phase(Section.FORWARD), torch.autocast("cpu", torch.bfloat16, enabled=amp):
                value = net(torch.ones(2, 3))
            with phases.phase(Section.LOSS):
                total = loss(value)["loss"]
            with phases.phase(Section.BACKWARD):
                total.backward()
    profiling.follow_ranges(None)
    modules = read_modules(folder / "trace_rank0.json.gz")
    assert by_module(modules)["time_s"].sum() == pytest.approx(modules.seconds, rel=0.01)
    return modules.rows


def places(rows: pd.DataFrame, *kernels: str) -> set[tuple[str, str]]:
    """Return the modules and directions in which some operators ran."""
    found = rows[rows["kernel"].isin([f"aten::{kernel}" for kernel in kernels])]
    return set(zip(found["module"].astype(str), found["direction"].astype(str)))


@pytest.mark.parametrize("amp", [False, True])
def test_products_belong_to_the_module_whose_forward_made_them(amp: bool, tmp_path: Path) -> None:
    rows = trace(tmp_path, amp=amp)
    assert places(rows, "addmm") == {(module, "forward") for module in MODULES}
    assert places(rows, "mm") == {(module, "backward") for module in MODULES}
    if amp:  # casts of weights and inputs are the module's, in both directions
        assert {(m, d) for m in MODULES for d in ("forward", "backward")} <= places(rows, "_to_copy", "copy_")


def test_what_is_computed_again_is_named_so(tmp_path: Path) -> None:
    rows = trace(tmp_path, again=True)
    # The last product begins again, for its input is saved, and is stopped there: nothing needs its result.
    again = {("two.a", "recompute"), ("two.b", "recompute")}
    assert places(rows, "addmm") == {(module, "forward") for module in MODULES} | again
    assert places(rows, "mm") == {(module, "backward") for module in MODULES}
    python = rows[(rows["direction"] == "recompute") & (rows["family"] == "python")]
    assert python["time_s"].sum() > 0 and set(python["module"]) <= {"two", "two.a", "two.b"}


@pytest.mark.slow
def test_a_compiled_part_is_one_module_in_both_directions(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    rows = trace(tmp_path, compiled=True)
    others = {(module, "forward") for module in ("two.a", "two.b")}
    assert places(rows, "addmm") == others | {("one", "forward")}
    assert places(rows, "mm") == {(module, "backward") for module in ("one", "two.a", "two.b")}
    assert "not told apart inside: one" in capsys.readouterr().out
