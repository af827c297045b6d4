"""Clocks, temperature and throttling while a GPU is profiled, with a stand-in for NVML and the profiler."""

import sys
import time
from pathlib import Path

import collect
import pytest
from rooflines.collect.gpu_state import gpu_of_process, open_gpu_state, wait_until_free, watched
from rooflines.read.inputs import load_runs

from tests.nvml_stand_in import NvmlStandIn
from tests.roofline.test_collect import NCU
from tests.stand_ins import StandIns

HEAT = 0x40


class Clock:
    """A clock that moves when somebody sleeps."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def nvml(monkeypatch: pytest.MonkeyPatch) -> NvmlStandIn:
    stand_in = NvmlStandIn()
    monkeypatch.setitem(sys.modules, "pynvml", stand_in)
    return stand_in


@pytest.mark.parametrize(
    ("reasons", "free", "line"),
    [
        ([0x1 | 0x4], True, ""),  # idle, at its power cap: as it should be
        (
            [HEAT, HEAT, HEAT | 0x8, 0],
            True,
            "note: waited 3 s until the GPU was not throttled any more (heat, by hardware)",
        ),
        ([HEAT], False, "note: the GPU is throttled (heat, by hardware), still after 5 s: its times are too long"),
    ],
)
def test_a_throttled_gpu_is_waited_for_no_longer_than_allowed(
    nvml: NvmlStandIn, reasons: list[int], free: bool, line: str
) -> None:
    nvml.reasons, said = reasons, []
    gpu, _ = open_gpu_state(0)
    assert gpu is not None and wait_until_free(gpu, 5, say=said.append, clock=Clock()) is free
    assert said == ([line] if line else [])


def test_clocks_are_means_and_the_temperature_is_the_highest(nvml: NvmlStandIn) -> None:
    gpu, _ = open_gpu_state(0)
    nvml.reasons = [0, HEAT, 0]
    with watched(gpu, every_s=0.002) as state:
        while len(nvml.reasons) > 1:
            time.sleep(0.002)
    assert (state["nvml_clock_hz"], state["memory_clock_hz"]) == (1.41e9, 1.215e9)
    assert state["temperature_c"] > 60 and state["throttled"] == ["heat, by hardware"]


def test_nothing_is_noted_without_nvml_and_a_line_says_so(nvml: NvmlStandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    nvml.refuses = "nvmlInit"
    assert open_gpu_state(0) == (
        None,
        "clocks, temperature and throttling are not noted: NVML says Not Supported",
    )
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert open_gpu_state(0)[1].endswith("pip install nvidia-ml-py")
    with watched(None) as state:
        assert state == {}


@pytest.mark.parametrize(
    ("environ", "name"),
    [
        ({}, 0),
        ({"LOCAL_RANK": "3"}, 3),
        ({"CUDA_VISIBLE_DEVICES": "2,5", "LOCAL_RANK": "1"}, 5),
        ({"CUDA_VISIBLE_DEVICES": "4", "SLURM_LOCALID": "2"}, 4),  # each process sees its own alone
        ({"CUDA_VISIBLE_DEVICES": "GPU-77"}, "GPU-77"),
    ],
)
def test_the_gpu_of_a_process(environ: dict[str, str], name: int | str) -> None:
    assert gpu_of_process(environ) == name


def test_the_table_has_clocks_and_temperature(
    nvml: NvmlStandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture
) -> None:
    stand_ins = StandIns(tmp_path)
    for name, body in (("ncu", NCU), ("train", ""), ("nvidia-smi", "print('8.0, NVIDIA A100-SXM4-40GB')")):
        stand_ins.add(name, body)
    monkeypatch.setenv("PATH", stand_ins.environ()["PATH"])
    monkeypatch.delenv("RANK", raising=False)
    assert collect.main(["loss", "-o", str(tmp_path / "out"), "--module", "layer4", "--", "train"]) == 0
    assert stand_ins.calls("train")[0] == ["--module_ranges", "4", "--section", "loss"]
    profile = next(call for call in stand_ins.calls("ncu") if "--export" in call)
    assert profile[profile.index("--nvtx-include") + 1] == "regex:.*(layer4).*/"
    rows = load_runs([tmp_path / "out"]).rows
    assert rows["nvml_clock_hz"].tolist() == [1.41e9] and rows["temperature_c"].min() >= 60
    assert nvml.asked == [0]
