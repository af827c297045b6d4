"""Reports through the ncu-report package, by a stand-in with its interface; the real package where it is installed."""

import re
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rooflines import RoofError
from rooflines.read.counters import tabulate
from rooflines.read.rep import read_ncu_rep

from tests.roofline.ncu_files import CONV


class Metric:
    """A metric as ncu_report hands it out."""

    def __init__(self, value: Any, unit: str) -> None:
        self._value, self._unit = value, unit

    def as_double(self) -> float:
        return float(self._value)

    def as_uint64(self) -> int:
        return int(self._value)

    def as_string(self) -> str:
        return str(self._value)

    def unit(self) -> str:
        return self._unit

    def has_value(self) -> bool:
        return self._value is not None


class Action:
    """A launch with a few metrics and NVTX ranges; its name is the bare function's unless another base is asked for."""

    NameBase_FUNCTION, NameBase_DEMANGLED, NameBase_MANGLED = range(3)

    def __init__(self, name: str, metrics: dict[str, tuple[Any, str]]) -> None:
        self._name = name
        self._metrics = {key: Metric(*value) for key, value in metrics.items()}

    def name(self, base: int = NameBase_FUNCTION) -> str:
        bare = re.split(r"[<(]", self._name.removeprefix("void "), maxsplit=1)[0].rpartition("::")[2]
        return self._name if base == self.NameBase_DEMANGLED else bare

    def metric_names(self) -> tuple[str, ...]:
        return tuple(self._metrics)

    def metric_by_name(self, name: str) -> Metric:
        return self._metrics[name]

    def nvtx_state(self) -> Any:
        domain = SimpleNamespace(push_pop_ranges=lambda: ("forward", "backbone"), start_end_ranges=lambda: ())
        return SimpleNamespace(domains=lambda: (0,), domain_by_id=lambda _: domain)


def stand_in(actions: list[Action]) -> SimpleNamespace:
    """A module with load_report."""
    part = SimpleNamespace(num_actions=lambda: len(actions), action_by_idx=lambda n: actions[n])
    return SimpleNamespace(load_report=lambda _: SimpleNamespace(num_ranges=lambda: 1, range_by_idx=lambda _: part))


METRICS = {
    "gpu__time_duration.sum": (90, "usecond"),
    "dram__bytes.sum": (9, "Mbyte"),
    "sm__inst_executed_pipe_tensor.sum": (2_340_864, "inst"),
    "launch__grid_dim_x": (1, ""),
    "launch__grid_dim_y": (127, ""),
    "launch__grid_dim_z": (1, ""),
    "device__attribute_compute_capability_major": (8, ""),
    "device__attribute_compute_capability_minor": (0, ""),
    "device__attribute_display_name": ("NVIDIA A100-SXM4-40GB", ""),
    "lts__t_bytes.sum": (None, "byte"),
}


def test_a_report_becomes_the_same_table(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ncu_report", stand_in([Action(CONV, METRICS)]))
    row = tabulate(read_ncu_rep(Path("r50_forward.ncu-rep"))).iloc[0]
    assert row["tensor_tf32_flop"] == 4_794_089_472
    assert (row["time_s"], row["bytes_hbm"]) == (pytest.approx(9e-5), 9e6)
    assert (row["device"], row["compute_capability"], row["grid"]) == ("NVIDIA A100-SXM4-40GB", "8.0", "(1, 127, 1)")
    assert (row["section"], row["module"]) == ("forward", "backbone")


def test_template_arguments_stay_in_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without them a tensor kernel loses the shape of its matrix instruction, and its FLOPs."""
    name = "void cutlass::Kernel<cutlass_80_tensorop_f16_s16816gemm_f16_128x128>(T1::Params)"
    monkeypatch.setitem(sys.modules, "ncu_report", stand_in([Action(name, METRICS)]))
    row = tabulate(read_ncu_rep(Path("r50_forward.ncu-rep"))).iloc[0]
    assert row["kernel"] == name and row["tensor_fp16_flop"] == 2_340_864 * 2 * 16 * 8 * 16


def test_a_unit_that_nobody_knows_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(
        sys.modules, "ncu_report", stand_in([Action(CONV, METRICS | {"dram__bytes.sum": (5, "furlong")})])
    )
    report = read_ncu_rep(Path("x.ncu-rep"))
    assert report.notes == ["dram__bytes.sum is given in 'furlong', a unit that is not known: it is left out"]
    assert "dram__bytes.sum" not in report.launches


def test_without_the_package_a_line_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ncu_report", None)
    with pytest.raises(RoofError, match="x.ncu-rep: .*pip install ncu-report.*ncu --import x.ncu-rep --csv --page raw"):
        read_ncu_rep(Path("x.ncu-rep"))


def test_the_real_package_refuses_what_is_no_report(tmp_path: Path) -> None:
    pytest.importorskip("ncu_report", reason="ncu-report is not installed")
    path = tmp_path / "x.ncu-rep"
    path.write_bytes(b"not a report")
    with pytest.raises(RoofError, match="x.ncu-rep"):
        read_ncu_rep(path)
