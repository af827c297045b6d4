"""Operators timed by themselves: weights, which have left the cache since the last step, are other memory each time."""

import torch

from util.profiling.call_times import REPEATS, time_call, time_calls
from util.profiling.step_counter import CACHE_BYTES, Call, Spec, StepCounter


def test_what_was_used_long_before_is_far() -> None:
    weight, other, x = torch.ones(64, 64), torch.ones(CACHE_BYTES // 4), torch.ones(2, 64)
    with StepCounter(with_calls=True) as counter:
        y = x @ weight
        y = y @ weight  # both have just been used
        other.add_(1)  # reads and writes a cache
        y @ weight
    products = [call for call, _ in counter.counts.calls if call.func is torch.ops.aten.mm.default]
    assert [tuple(form.far for form in call.args) for call in products] == [(True, True), (False, False)]
    # The third product is as far from both as the first.
    assert counter.counts.calls[next(item for item in counter.counts.calls if item[0] == products[0])] == 2


def test_every_call_gets_other_memory_in_the_place_of_what_is_far() -> None:
    seen: list[tuple[int, int]] = []

    def note(near: torch.Tensor, far: list[torch.Tensor], count: int) -> torch.Tensor:
        assert count == 3
        seen.append((near.data_ptr(), far[0].data_ptr()))
        return near

    near = Spec((4,), (1,), torch.float32)
    assert time_call(Call(note, (near, (near._replace(far=True),), 3), ())) >= 0
    places, others = zip(*seen)
    assert len(seen) == REPEATS + 1 == len(set(others)) and len(set(places)) == 1
    seen.clear()
    time_call(Call(note, (near, (near,), 3), ()))
    assert len(set(seen)) == 1


def test_what_a_model_computes_in_another_way_is_timed_that_way() -> None:
    seen = []
    with StepCounter(with_calls=True) as counter:
        torch.ones(4, 8) @ torch.ones(8, 2)

    def product(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        seen.append((a.shape, b.shape))
        return a @ b

    time_calls(counter.counts.calls, 1e9, computed_by={torch.ops.aten.mm.default: product})
    assert set(seen) == {((4, 8), (8, 2))} and len(seen) > 1
