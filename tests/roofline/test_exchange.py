"""Gradients between processes: what a bucket is, how much of it computing hides, and the bus it is compared with."""

import json
from pathlib import Path
from typing import Any

import module_report
import pytest
from rooflines import RoofError, bus
from rooflines.modules.buckets import read_exchange

from tests.roofline.read.test_torch_trace_reader import BACKWARD, FORWARD, event

HEAD = {"distributedInfo": {"backend": "gloo", "rank": 0, "world_size": 4}}


def reduce(begin: float, end: float, numbers: int, kind: str = "float") -> dict[str, Any]:
    shape = {"Input type": [kind], "Input Dims": [[numbers]]}
    return event("user_annotation", "gloo:all_reduce", begin, end, tid=9, **shape)


def write(path: Path, events: list[dict[str, Any]], head: dict[str, Any] | None = None) -> Path:
    path.write_text(json.dumps((HEAD if head is None else head) | {"traceEvents": events}))
    return path


#: 4,000 bytes while the nodes of 63..84 compute, then 2,000 after them; a loss before, which is no gradient.
BUCKETS = [reduce(45, 47, 1), reduce(70, 80, 1000), reduce(82, 90, 1000, "c10::BFloat16")]


def test_buckets_of_gloo_and_what_the_backward_hides(tmp_path: Path) -> None:
    exchange = read_exchange(write(tmp_path / "trace_rank0.json", FORWARD + BACKWARD + BUCKETS))
    assert exchange is not None and (exchange.ranks, exchange.steps) == (4, 1)
    first, second = exchange.buckets
    assert (first.size, second.size) == (4000, 2000)
    assert first.hidden == pytest.approx(first.seconds) == pytest.approx(10e-6)
    assert second.hidden == pytest.approx(2e-6) and exchange.hidden_share == pytest.approx(12 / 18)
    assert first.bus_rate(4) == pytest.approx(4000 * 1.5 / 10e-6)


def test_buckets_of_nccl_are_hidden_by_other_kernels(tmp_path: Path) -> None:
    told = {"Collective name": "allreduce", "In msg nelems": 1000, "dtype": "BFloat16"}
    kernels = [
        event("kernel", "ncclDevKernel_AllReduce_Sum_bf16_RING_LL", 70, 80, tid=7, **told),
        event("kernel", "conv_dgrad", 60, 76, tid=8),
    ]
    exchange = read_exchange(write(tmp_path / "trace_rank0.json", FORWARD + BACKWARD + kernels))
    assert exchange is not None
    assert exchange.buckets[0].size == 2000 and exchange.hidden_share == pytest.approx(0.6)


def test_one_process_exchanges_nothing(tmp_path: Path) -> None:
    assert read_exchange(write(tmp_path / "trace_rank0.json", FORWARD, head={})) is None
    assert read_exchange(write(tmp_path / "trace_rank0.json", FORWARD)) is None


def test_the_report_compares_buckets_with_the_measured_bus(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    write(tmp_path / "trace_rank0.json", FORWARD + BACKWARD + BUCKETS)
    bus.write_bus(bus.Bus(4, "gloo", {1 << 10: 1e9, 1 << 20: 5e9}), tmp_path / "bus.toml")
    module_report.main([str(tmp_path), "-o", str(tmp_path / "page.html")])
    out, page = capsys.readouterr().out, (tmp_path / "page.html").read_text()
    assert "2 all-reduces a step among 4 processes, 6.00 kB" in out and "67% of that beside computing" in out
    row = page.partition("<td>4.00 kB</td>")[2].partition("</tr>")[0]
    assert "1.00 GB/s</td><td>60%</td><td>100%" in row  # 600 MB/s of the rate at 1 KiB, the nearest
    (tmp_path / "bus.toml").write_text("ranks = 2")
    with pytest.raises(SystemExit):
        module_report.main([str(tmp_path), "-o", str(tmp_path / "page.html")])
    assert "bus.toml: no readable bus" in capsys.readouterr().err


def test_all_reduces_are_timed_and_gpus_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bus._member(0, 1, "gloo", str(tmp_path), (64, 4096))
    assert [float(line) > 0 for line in (tmp_path / "results").read_text().splitlines()] == [True, True]
    monkeypatch.setattr("torch.cuda.device_count", lambda: 1)
    with pytest.raises(RoofError, match="--ranks 2: there are 1 GPUs"):
        bus.measure_bus(2, "cuda")
