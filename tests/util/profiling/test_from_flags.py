"""Profiling flags to watchers: which, in which order, when the run ends, and what a short run is told."""

from pathlib import Path

import pytest
import torch

from util.errors import UserError
from util.profiling.from_flags import ProfilingOptions, build_phases
from util.profiling.nsight import CaptureWindow
from util.profiling.phases import StepPhases
from util.profiling.timing import PhaseTimer
from util.profiling.torch_trace import TorchTrace


def phases_of(*, total_steps: int = 13, **flags: object) -> StepPhases:
    """The phases of a run with the default capture window, 3 steps after 10, and no other flag but those given."""
    return build_phases(ProfilingOptions(**flags), device=torch.device("cpu"), total_steps=total_steps)


def test_nobody_watches_without_a_flag() -> None:
    phases = phases_of(total_steps=1)
    assert phases.watchers == [] and not phases.finished


def test_the_timer_is_the_innermost(tmp_path: Path) -> None:
    phases = phases_of(section="loss", timing=True, torch_profile=str(tmp_path))
    assert [type(watcher) for watcher in phases.watchers] == [TorchTrace, CaptureWindow, PhaseTimer]


@pytest.mark.parametrize(
    ("flags", "ends", "timed_until"),
    [
        (dict(timing=True), False, None),
        (dict(timing=True, section="all"), True, 13),
        (dict(timing=True, section="all", go_on=True), False, None),
    ],
)
def test_where_the_run_and_its_timing_end(flags: dict, ends: bool, timed_until: int | None) -> None:
    phases = phases_of(**flags)
    assert (phases.stop_when_done, phases.watchers[-1].end_at) == (ends, timed_until)


@pytest.mark.parametrize(("flags", "needed"), [(dict(section="all"), 13), (dict(timing=True), 11)])
def test_a_run_must_be_long_enough(flags: dict, needed: int) -> None:
    phases_of(**flags, total_steps=needed)
    with pytest.raises(UserError, match=f"need {needed} steps, and this run has {needed - 1}"):
        phases_of(**flags, total_steps=needed - 1)
