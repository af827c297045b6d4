"""Traces of torch.profiler: each microsecond is booked once, to the right module, direction and kind."""

import gzip
import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from rooflines import RoofError
from rooflines.read import trace_events
from rooflines.read.inputs import load_runs
from rooflines.read.trace_modules import by_module, read_modules


def event(category: str, name: str, begin: float, end: float, *, tid: int = 1, **args: Any) -> dict[str, Any]:
    return dict(ph="X", cat=category, name=name, pid=1, tid=tid, ts=1e12 + begin, dur=end - begin, args=args)


def op(name: str, begin: float, end: float, number: int = -1, tid: int = 1) -> dict[str, Any]:
    return event("cpu_op", name, begin, end, tid=tid, **({"Sequence number": number} if number >= 0 else {}))


def node(name: str, begin: float, end: float, number: int = 2**64 - 1, tid: int = 1) -> dict[str, Any]:
    return op(f"autograd::engine::evaluate_function: {name}", begin, end, number, tid)


def span(name: str, begin: float, end: float) -> dict[str, Any]:
    return event("user_annotation", name, begin, end)


FORWARD = [
    *(span("iteration", 0, 100), span("forward", 10, 40), span("backbone.layer1", 12, 30)),
    *(op("aten::conv2d", 14, 26, 7), op("aten::convolution", 15, 25, 7), op("aten::relu", 26, 28, 8)),
    *(span("loss", 40, 50), span("loss_boxes", 41, 49), op("aten::l1_loss", 42, 48, 9)),
]
BACKWARD = [
    *(span("backward", 50, 90), node("L1LossBackward0", 51, 56, 9), op("aten::sgn", 52, 55)),
    *(span("recompute backbone.layer1", 57, 62), op("aten::relu", 58, 61, 20)),
    *(node("ConvolutionBackward0", 63, 80, 7), op("ConvolutionBackward0", 64, 79), op("aten::sum", 65, 78)),
    *(node("torch::autograd::AccumulateGrad", 80, 84), op("aten::add_", 81, 83)),
    *(span("optimizer_step", 90, 99), op("aten::_fused_adamw_", 91, 98)),
]


def write(path: Path, events: list[dict[str, Any]]) -> Path:
    text = json.dumps({"schemaVersion": 1, "traceEvents": [{"ph": "M", "name": "process_name"}, *events], "x": [1]})
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


def seconds(table: pd.DataFrame) -> dict[tuple[str, str], float]:
    return {(row["module"], row["direction"]): round(1e6 * row["time_s"], 3) for _, row in table.iterrows()}


@pytest.mark.parametrize("chunk", [40, 1 << 20])
def test_a_step_on_the_cpu_is_the_sum_of_its_modules(
    chunk: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trace_events, "_CHUNK", chunk)
    modules = read_modules(write(tmp_path / "trace_rank0.json.gz", FORWARD + BACKWARD))
    assert modules.seconds == pytest.approx(100e-6) and modules.rows["time_s"].sum() == pytest.approx(100e-6)
    assert seconds(by_module(modules)) == {
        ("backbone.layer1", "forward"): 18,
        ("loss_boxes", "forward"): 8,
        ("loss_boxes", "backward"): 5,
        ("backbone.layer1", "recompute"): 5,
        ("backbone.layer1", "backward"): 17 + 4,  # with what adds to its weight's gradient
        ("outside any module", "forward"): 2 + 10 + 2,
        ("outside any module", "backward"): 40 - 5 - 5 - 21,
        ("outside any module", "optimizer"): 9,
        ("outside any module", ""): 10 + 1,
    }
    assert {"(Python between operators)", "convolution"} <= set(modules.rows["name"])
    convolution = modules.rows[modules.rows["kernel"] == "aten::convolution"].iloc[0]
    assert convolution["operator"] == "aten::conv2d" and convolution["family"] == "convolution"
    assert convolution["time_s"] == pytest.approx(10e-6)


def test_what_processes_exchange_is_apart_from_the_module_in_whose_backward_it_began(tmp_path: Path) -> None:
    gloo = event("user_annotation", "gloo:all_reduce", 69, 88, tid=9)
    calls = [op("c10d::allreduce_", 66, 68), gloo, span("DistributedDataParallel.forward", 11, 39)]
    modules = read_modules(write(tmp_path / "trace_rank1.json", FORWARD + BACKWARD + calls))
    found = modules.rows.groupby(["kernel", "module", "direction"], observed=True)["time_s"].sum() * 1e6
    assert modules.rows["time_s"].sum() == pytest.approx(100e-6) and set(modules.rows["rank"]) == {"1"}
    assert found["c10d::allreduce_", "", "backward"] == pytest.approx(2)
    assert found["(waiting for other processes)", "", "backward"] == pytest.approx(4)  # after the last node
    assert found["aten::sum", "backbone.layer1", "backward"] == pytest.approx(13 - 2)
    assert set(modules.rows.loc[modules.rows["module"] == "", "family"]) >= {"communication", "python"}
    assert not modules.rows["kernel"].astype(str).str.contains("Distributed").any()


def test_counted_costs_are_spread_over_an_operators_time(tmp_path: Path) -> None:
    counted = {
        "section": ["forward", "backward", "backward"],
        "module": ["backbone.layer1", "backbone.layer1", "gone"],
        "direction": ["forward", "backward", "backward"],
        "kernel": ["aten.convolution.default", "aten.convolution_backward.default", "aten.mul.Tensor"],
        "fp32_flop": [800.0, 1600.0, 800.0],
        "bytes_hbm": [80.0, 160.0, 0.0],
        "time_s": [1.0, 1.0, 1.0],
        "source": ["analytic"] * 3,
    }
    pd.DataFrame(counted).to_csv(tmp_path / "costs.csv", index=False)
    (tmp_path / "costs.roofs.toml").write_text("[bandwidth]\nHBM = 1e8\n[peak]\nfp32 = 1e9\n")
    path = write(tmp_path / "trace_rank0.json", FORWARD + BACKWARD)
    modules = read_modules(path, tmp_path / "costs.csv")
    rows = modules.rows.groupby(["module", "direction", "operator"], observed=True)["fp32_flop"].sum()
    assert rows["backbone.layer1", "forward", "aten::convolution"] == 800
    assert rows["backbone.layer1", "backward"].sum() == pytest.approx(1600)  # the trace calls it by another name
    assert "25.0% of the counted" in modules.notes[1]
    loaded = load_runs([tmp_path])
    assert loaded.runs == [tmp_path.name] and loaded.roofs[tmp_path.name].peak == {"fp32": 1e9}


def test_a_gpus_time_is_booked_to_the_module_that_launched_it(tmp_path: Path) -> None:
    def launch(number: int, begin: float, tid: int = 1) -> dict[str, Any]:
        return event("cuda_runtime", "cudaLaunchKernel", begin, begin + 1, tid=tid, correlation=number)

    def kernel(number: int, name: str, begin: float, end: float, kind: str = "kernel") -> dict[str, Any]:
        return event(kind, name, begin, end, tid=7, correlation=number)

    backward = [  # autograd's own thread
        *(node("ConvolutionBackward0", 60, 70, 7, tid=2), op("aten::convolution_backward", 61, 69, tid=2)),
        *(launch(2, 62, 2), launch(3, 66, 2), launch(4, 68, 2)),
    ]
    device = [
        *(
            kernel(1, "conv_fprop", 20, 50),
            kernel(2, "conv_dgrad", 65, 90),
            kernel(3, "ncclDevKernel_AllReduce", 80, 110),
        ),
        kernel(4, "Memcpy HtoD", 85, 95, "gpu_memcpy"),
    ]
    steps = [
        span("iteration", 0, 100),
        span("forward", 10, 40),
        span("backbone.layer1", 12, 30),
        span("backward", 50, 90),
    ]
    forward = [op("aten::convolution", 14, 25, 7), launch(1, 16)]
    modules = read_modules(write(tmp_path / "trace_rank0.json", steps + forward + backward + device))
    found = modules.rows.groupby(["family", "module"], observed=True)["time_s"].sum() * 1e6
    assert modules.seconds == pytest.approx(110e-6)
    assert found.round(3).to_dict() == {
        ("convolution", "backbone.layer1"): 30 + 25,
        ("copy", "backbone.layer1"): 5,  # what computing does not hide
        ("communication", ""): 15,
        ("host bound", "backbone.layer1"): 20 + 15,
    }


def test_files_that_are_no_whole_traces_are_named(tmp_path: Path) -> None:
    text = json.dumps({"traceEvents": FORWARD})
    for name, content, words in (
        ("cut.json", text[: len(text) // 2], "ends in the middle"),
        ("other.json", "{}", "no trace of torch.profiler"),
        ("empty.json", '{"traceEvents": []}', "no operators"),
    ):
        (tmp_path / name).write_text(content)
        with pytest.raises(RoofError, match=f"{name}.*{words}"):
            read_modules(tmp_path / name)
    (tmp_path / "cut.json.gz").write_bytes(gzip.compress(text.encode())[:-40])
    with pytest.raises(RoofError, match="cut.json.gz.*no readable trace"):
        read_modules(tmp_path / "cut.json.gz")
