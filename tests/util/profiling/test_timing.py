"""Timing of phases: which steps count, what is a wait, and that nothing waits for the device meanwhile."""

import argparse
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from util.profiling import Section, timing
from util.profiling.phases import StepPhases
from util.profiling.timing import PhaseTimer, summarise, timing_table, write_timing

CPU = torch.device("cpu")


class Clock:
    """A clock that only goes on when it is told to."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 100.0
        monkeypatch.setattr(timing.time, "perf_counter", lambda: self.now)

    def wait(self, milliseconds: float) -> None:
        self.now += milliseconds / 1000


def run_steps(timer: PhaseTimer, clock: Clock, count: int) -> None:
    """Steps of 40 + 10 + 60 + 20 ms and 5 ms between phases, each a tenth longer than the last; 30 ms of loading."""
    phases = StepPhases([timer])

    def load() -> Iterator[int]:
        for step in range(count):
            clock.wait(30)
            yield step

    for step in phases.batches(load()):
        with phases.step():
            for section, milliseconds in zip(Section, (40, 10, 60, 20)):
                with phases.phase(section):
                    clock.wait(milliseconds * (1 + step / 10))
                clock.wait(5)
        clock.wait(1000)  # the log, an evaluation


def test_steps_after_the_warm_up_count_and_the_wait_for_data_stands_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    timer = PhaseTimer(warmup=2, steps=None, device=CPU)
    run_steps(timer, clock, 5)
    summary = summarise(timer.milliseconds())
    assert list(summary) == ["data_wait", "forward", "loss", "backward", "optimizer_step", "step"]
    assert summary["forward"] == pytest.approx({"median_ms": 52, "q1_ms": 50, "q3_ms": 54, "steps": 3})
    assert summary["step"]["median_ms"] == pytest.approx(130 * 1.3 + 20)
    assert summary["data_wait"]["median_ms"] == pytest.approx(30)


def test_a_number_of_steps_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    timer = PhaseTimer(warmup=1, steps=2, device=CPU)
    run_steps(timer, clock, 2)
    assert not timer.done
    run_steps_more = PhaseTimer(warmup=1, steps=2, device=CPU)
    run_steps(run_steps_more, clock, 6)
    assert run_steps_more.done and len(run_steps_more.milliseconds()["loss"]) == 2


def test_table_has_medians_quartiles_and_shares() -> None:
    row = {"median_ms": 20.0, "q1_ms": 19.0, "q3_ms": 22.5, "steps": 7}
    table = timing_table({"data_wait": row, "forward": row, "step": row | {"median_ms": 80.0}})
    lines = [line.split() for line in table.splitlines()]
    assert lines[1][:2] == ["data_wait", "20.00"] and lines[1][-2:] == ["beside", "it"]
    assert lines[2] == ["forward", "20.00", "19.00", "-", "22.50", "25%"]
    assert lines[-1] == ["7", "steps"]


def test_events_are_read_once_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []

    class Event:
        def __init__(self, enable_timing: bool) -> None:
            assert enable_timing

        def record(self, stream: str) -> None:
            calls.append(stream)

        def elapsed_time(self, other: "Event") -> float:
            return 4.0

    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: f"on {device}")
    monkeypatch.setattr(torch.cuda, "synchronize", lambda device: calls.append(f"wait for {device}"))
    timer = PhaseTimer(warmup=0, steps=None, device=torch.device("cuda:1"))
    phases = StepPhases([timer])
    with phases.step(), phases.phase(Section.FORWARD):
        pass
    assert calls == ["on cuda:1"] * 4
    assert timer.milliseconds()["forward"] == [4.0]
    assert calls == ["on cuda:1"] * 4 + ["wait for cuda:1"]


def test_parts_of_a_step_add_up(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    timer = PhaseTimer(warmup=0, steps=None, device=CPU)
    phases = StepPhases([timer])
    for _ in range(2):
        with phases.step():
            for milliseconds in (10, 30):
                with phases.phase(Section.FORWARD):
                    clock.wait(milliseconds)
    assert timer.milliseconds()["forward"] == pytest.approx([40, 40])


def test_the_file_has_flags_machine_and_driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing, "gpu_driver", lambda: "570.1")
    args = argparse.Namespace(device="cpu", batch_size=3)
    path = write_timing(str(tmp_path), args, summarise({"step": [1.0]}), warmup=10)
    written = json.loads(path.read_text())
    assert path.name == "timing.json"
    assert written["phases"] == {"step": {"median_ms": 1.0, "q1_ms": 1.0, "q3_ms": 1.0, "steps": 1}}
    assert written["flags"]["batch_size"] == 3 and written["driver"] == "570.1" and written["warmup_steps"] == 10
    assert {"git", "machine", "versions", "clock"} <= written.keys()


def test_the_driver_is_what_nvidia_smi_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert timing.gpu_driver() is None
    tool = tmp_path / "nvidia-smi"
    tool.write_text("#!/bin/sh\necho 570.124.06\necho 570.124.06\n")
    tool.chmod(0o755)
    assert timing.gpu_driver() == "570.124.06"
