"""Kernels of a step: joined where a compiler could, and what a graph would save, in exact small numbers."""

import pytest

from benchmarks.kernels import joined, saved_by_graph
from training.cost_card.prediction import Prediction, kernels_of, predict_gpu
from training.cost_card.rates import Rates
from util.profiling.op_costs import OpCost
from util.profiling.step_counter import Op

RATES = Rates("a GPU", {"fp32": 1e12, "tensor_tf32": 4e12}, 1e11, 8e-6, measured=False)


def op(name: str, family: str, *, flops: int = 0, bytes_: int = 8, section: str = "forward", tensors: int = 1) -> Op:
    unit = "tensor_tf32" if family == "convolution" else "fp32"
    return Op(section, name, OpCost(flops, bytes_, family, matrix=family == "convolution"), unit, tensors, 1)


def test_neighbours_without_products_become_one_kernel() -> None:
    ops = [
        op("add", "elementwise"),
        op("relu", "elementwise"),
        op("_to_copy", "copy"),  # one so far
        op("convolution_backward", "convolution"),  # two kernels: gradients of input and weight
        op("mul", "elementwise"),
        op("mul", "elementwise", section="backward"),  # another section: another kernel
        op("_fused_adamw", "optimizer", tensors=73),  # 36 tensors a kernel
    ]
    assert [kernels_of(each) for each in ops] == [1, 1, 1, 2, 1, 1, 3]
    assert joined(ops) == 1 + 2 + 1 + 1 + 3 and joined([]) == 0


def test_a_graph_saves_what_the_host_takes_longer() -> None:
    ops = [
        op("convolution", "convolution", flops=24_000_000),
        op("add", "elementwise", bytes_=300_000),
        op("add", "elementwise"),
    ]
    prediction = predict_gpu(ops, RATES, calls=5)
    # 6 us of work and 3 us of memory at 60 % of the roofs, and the shortest kernel, 2 us.
    assert prediction.device == pytest.approx(10e-6 + 5e-6 + 2e-6) and prediction.kernels == 3
    assert prediction.host == pytest.approx(40e-6) and prediction.seconds == prediction.host
    assert saved_by_graph(prediction) == pytest.approx(1 - 17 / 40)
    assert saved_by_graph(Prediction(2.0, 1.0, 1)) == 0
