"""Seconds of a step's operators on this machine: each is called by itself, on tensors of the form it was counted with.

What an operator takes depends on shapes, strides, types, threads and caches in ways that no rate knows: the same
convolution reaches 300 GFLOP/s on a map of 50 x 66 and 150 on one of 4 x 4. So each distinct call is made.
"""

import math
import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

import torch

from .op_costs import OpCost
from .step_counter import CACHE_BYTES, Call, Spec

#: Calls of one kind stop after so many, or after so many seconds: short ones vary the most, long ones take the time.
REPEATS, ENOUGH_S = 5, 0.1
#: Bytes that a call moves at most, to be made: an optimizer over all weights would need memory for all of it.
MOST_BYTES = 2**29
#: Bytes of arguments from which on a call pushes its own out of the cache, so that copies would change nothing.
MOST_COPIED = 16 * CACHE_BYTES


def time_calls(
    calls: Mapping[tuple[Call, OpCost], int],
    bandwidth: float,
    *,
    clock: Callable[[], float] = time.perf_counter,
    computed_by: Mapping[Callable, Callable] | None = None,
) -> float:
    """Return the seconds of all calls of a step, of which each distinct one is made and timed a few times by `clock`.

    Larger ones than `MOST_BYTES` are given their bytes over `bandwidth`, bytes a second. `computed_by` has functions
    that compute in the place of operators: a model may compute in another way than it is counted in.
    """
    total = 0.0
    with torch.no_grad():
        for (call, cost), count in calls.items():
            call = call._replace(func=(computed_by or {}).get(call.func, call.func))
            # A product of that size is worth making whatever it moves; nothing else is limited by its work.
            seconds = cost.bytes / bandwidth if cost.bytes > MOST_BYTES and not cost.matrix else time_call(call, clock)
            total += count * seconds
    return total


def time_call(call: Call, clock: Callable[[], float] = time.perf_counter) -> float:
    """Return the median seconds of a few calls, after one that does not count.

    Results are held, as the backward pass does: a result in memory of its own costs the system pages, and the cache
    lacks it. Tensors that the step used long before (`Spec.far`) are others in every call, and none is in the cache.
    """
    sets = [_arguments(call)]
    if _has_far((call.args, call.kwargs)) and _bytes_of(call.args) < MOST_COPIED:
        sets += [_arguments(call, like=sets[0]) for _ in range(REPEATS)]
        # The last of them have just been written: what comes after them takes their place.
        torch.zeros(2 * CACHE_BYTES, dtype=torch.uint8).add_(1)
    held: list[Any] = []
    times: list[float] = []
    while len(times) <= REPEATS and sum(times[1:]) < ENOUGH_S:
        args, kwargs = sets[len(times) % len(sets)]
        began = clock()
        result = call.func(*args, **kwargs)
        times.append(clock() - began)
        held.append(result)
    return statistics.median(times[1:])


def _arguments(call: Call, like: Any = None) -> tuple[list, dict[str, Any]]:
    """Return arguments with tensors in the place of their forms: `like` another set's, but for those that are far."""
    args, kwargs = like or (None, None)
    named = {name: _made(value, kwargs and kwargs[name]) for name, value in call.kwargs}
    return _made(call.args, args), named


def _made(value: Any, like: Any = None) -> Any:
    """Return an argument with tensors in the place of their forms; those of `like` where they are not far."""
    if isinstance(value, Spec):
        if like is not None and not value.far:
            return like
        # As many numbers as the strides reach over: a tensor that is expanded has fewer than its shape says.
        reach = 1 + sum((n - 1) * stride for n, stride in zip(value.shape, value.strides))
        # Zeros are valid indices and labels, halves valid probabilities.
        filled = torch.full((reach if all(value.shape) else 0,), 0.5 if value.dtype.is_floating_point else 0)
        return filled.to(value.dtype).as_strided(value.shape, value.strides)
    if isinstance(value, tuple):
        return [_made(part, like and like[i]) for i, part in enumerate(value)]
    return value


def _has_far(value: Any) -> bool:
    if isinstance(value, Spec):
        return value.far
    return isinstance(value, tuple) and any(map(_has_far, value))


def _bytes_of(value: Any) -> int:
    if isinstance(value, Spec):
        return math.prod(value.shape) * value.dtype.itemsize
    return sum(map(_bytes_of, value)) if isinstance(value, tuple) else 0
