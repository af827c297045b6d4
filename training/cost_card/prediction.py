"""From a step's counts and a device's rates to seconds, and from its operators to a GPU's kernels."""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from models.fast.products import COMPUTED_BY
from util.profiling.call_times import time_calls
from util.profiling.step_counter import Op, StepCounts

from .rates import KERNEL_S, Rates

#: Share of a roof that a kernel reaches, as an assumption where nobody has measured: 60 %.
REACHED = 0.6
#: Kernels of an operator on a GPU where they are more than one: gradients of input and of weight are two products, and
#: a norm's scale and shift are summed apart.
KERNELS = {
    "convolution_backward": 2,
    "native_layer_norm_backward": 2,
    "native_batch_norm_backward": 2,
    "_scaled_dot_product_efficient_attention_backward": 2,
    "index_put": 4,
    "sort": 4,
    "topk": 2,
}
#: Tensors that one kernel of a fused optimizer, and of an operator over a list, takes: the room for its arguments.
_OF_OPTIMIZER, _OF_LIST = 36, 64


@dataclass(frozen=True)
class Prediction:
    """Seconds of a step, and what they consist of: of the device's work and of the host's; kernels of a GPU."""

    device: float
    host: float
    kernels: int

    @property
    def seconds(self) -> float:
        """The step: a GPU works while the host launches, so the longer of the two counts."""
        return max(self.device, self.host)


def predict_cpu(counts: StepCounts, rates: Rates, *, clock: Callable[[], float] = time.perf_counter) -> Prediction:
    """Predict a step on this CPU: its operators one after the other, each timed, and what calls them.

    Args:
        counts: of a step, with its calls.
        rates: of this CPU, measured.
        clock: by which the operators are timed.
    """
    with torch.random.fork_rng(devices=[]):  # dropout draws numbers, which are none of the run's
        seconds = time_calls(counts.calls, rates.bandwidth, clock=clock, computed_by=COMPUTED_BY)
    # Modules and autograd handle every operator, views too: about as long as a call of one.
    return Prediction(seconds + sum(counts.operators.values()) * rates.launch, 0.0, 0)


def predict_gpu(ops: Sequence[Op], rates: Rates, calls: int) -> Prediction:
    """Predict a step on a GPU from its datasheet; `calls` operators are launched, views among them."""
    device = 0.0
    for op in ops:
        # A GPU without this unit (tf32 before Ampere) does the work in plain float32.
        peak = rates.flops.get(op.unit) or rates.flops["fp32"]
        roof = max(op.cost.flops / peak, op.cost.bytes / rates.bandwidth)
        # A tiny kernel takes its 2 µs whatever it computes, a large one its share of the roof.
        device += max(roof / REACHED, kernels_of(op) * KERNEL_S)
    return Prediction(device, calls * rates.launch, sum(map(kernels_of, ops)))


def kernels_of(op: Op) -> int:
    """Return the kernels that a GPU is given for an operator."""
    if op.name.startswith(("_fused", "_foreach", "_amp_foreach")):
        # The list is cut into as many kernels as its addresses need.
        return max(1, math.ceil(op.tensors / (_OF_OPTIMIZER if op.name.startswith("_fused") else _OF_LIST)))
    return KERNELS.get(op.name, 1)
