"""Costs of operators: closed forms, torch's own counter where both count, and nothing silently for free."""

from collections import defaultdict
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from util.profiling.op_calls import base_name, shapes
from util.profiling.op_costs import OpCost, op_cost


class Costs(TorchDispatchMode):
    """Costs of all operators, by name."""

    def __init__(self) -> None:
        super().__init__()
        self.found: dict[str, list[OpCost]] = defaultdict(list)

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        result = func(*args, **(kwargs or {}))
        self.found[base_name(func)].append(op_cost(func, args, kwargs or {}, result))
        return result


def costs(call: Callable[[], Any]) -> dict[str, list[OpCost]]:
    with Costs() as mode:
        call()
    return mode.found


def one(call: Callable[[], Any], name: str) -> OpCost:
    [cost] = costs(call)[name]
    return cost


def test_matrix_products() -> None:
    a, b, bias = torch.rand(3, 4), torch.rand(4, 5), torch.rand(5)
    assert one(lambda: a @ b, "mm") == OpCost(2 * 3 * 4 * 5, 4 * (12 + 20 + 15), "matrix product", matrix=True)
    assert one(lambda: torch.addmm(bias, a, b), "addmm").flops == 2 * 3 * 4 * 5
    assert one(lambda: torch.bmm(a.expand(7, 3, 4), b.expand(7, 4, 5)), "bmm").flops == 7 * 2 * 3 * 4 * 5


@pytest.mark.parametrize("options", [{}, {"stride": 2, "padding": 1}, {"dilation": 2}, {"groups": 2}], ids=str)
def test_convolution_and_both_its_gradients(options: dict) -> None:
    x = torch.rand(2, 4, 9, 11, requires_grad=True)
    layer = nn.Conv2d(4, 6, 3, **options)
    found = costs(lambda: layer(x).sum().backward())
    _, _, height, width = layer(x).shape
    macs = 2 * height * width * 6 * (4 // options.get("groups", 1)) * 9
    assert found["convolution"][0].flops == 2 * macs
    assert found["convolution_backward"][0].flops == 4 * macs


def test_gradients_nobody_asks_for_are_not_counted() -> None:
    layer = nn.Conv2d(4, 6, 3)
    found = costs(lambda: layer(torch.rand(2, 4, 9, 11)).sum().backward())
    assert found["convolution_backward"][0].flops == found["convolution"][0].flops


def matrix_work() -> None:
    x = torch.rand(2, 3, 16, 16, requires_grad=True)
    y = nn.ConvTranspose2d(6, 4, 3, stride=2)(nn.Conv2d(3, 6, 3, padding=1)(x))
    z = nn.Linear(y.shape[-1], 8)(y)
    torch.einsum("bchw,bchv->bcwv", z, z).sum().backward()


def test_as_torch_counts_products_and_convolutions() -> None:
    counter = FlopCounterMode(display=False)
    with counter:
        matrix_work()
    theirs = {op.__name__.removesuffix("_"): flops for op, flops in counter.get_flop_counts()["Global"].items()}
    ours = {name: sum(cost.flops for cost in found) for name, found in costs(matrix_work).items() if name in theirs}
    assert ours == theirs and len(ours) >= 4


def attention(queries: Tensor, keys: Tensor) -> None:
    F.scaled_dot_product_attention(queries, keys, keys).sum().backward()


def test_attention_of_a_cpu_forward_and_backward() -> None:
    queries, keys = torch.rand(2, 8, 10, 16, requires_grad=True), torch.rand(2, 8, 20, 16, requires_grad=True)
    found = costs(lambda: attention(queries, keys))
    scores = 2 * 8 * 10 * 20
    name = "_scaled_dot_product_flash_attention_for_cpu"
    assert found[name][0].flops == scores * (2 * 2 * 16 + 5) and found[name][0].family == "attention"
    assert found[f"{name}_backward"][0].flops == scores * (5 * 2 * 16 + 7)


def test_elementwise_work_by_its_outputs() -> None:
    x, half = torch.rand(6, 5), torch.rand(5)
    assert one(lambda: x + half, "add") == OpCost(30, 4 * (30 + 5 + 30), "elementwise")
    assert one(lambda: torch.sigmoid(x), "sigmoid").flops == 90
    assert one(lambda: torch.logit(x, eps=1e-5), "logit").flops == 90 and one(lambda: F.softplus(x), "softplus").known
    assert one(lambda: x > 0.5, "gt") == OpCost(0, 4 * 30 + 30, "elementwise")
    assert one(lambda: torch.arange(5) + 1, "add").flops == 0, "integers are no floating-point work"
    assert one(lambda: x.clone().mul_(2), "mul") == OpCost(30, 4 * 60, "elementwise")
    assert one(lambda: x * x, "mul").bytes == 4 * 60, "one tensor is read once"
    assert one(lambda: half.expand(6, 5) + 1, "add").bytes == 4 * (5 + 30), "a broadcast exists once"


def test_reductions_norms_and_softmax() -> None:
    x = torch.rand(6, 5, requires_grad=True)
    assert one(lambda: x.sum(dim=1), "sum").flops == 30
    assert one(lambda: x.softmax(-1), "_softmax").flops == 120
    found = costs(lambda: F.layer_norm(x, (5,), torch.ones(5), torch.zeros(5)).sum().backward())
    assert found["native_layer_norm"][0].flops == 8 * 30
    assert found["native_layer_norm_backward"][0].flops == 13 * 30


def test_a_batch_norm_with_fixed_statistics_is_one_multiply_add() -> None:
    x, layer = torch.rand(2, 3, 4, 4, requires_grad=True), nn.BatchNorm2d(3)
    assert costs(lambda: layer(x).sum().backward())["native_batch_norm_backward"][0].flops == 13 * 96
    found = costs(lambda: layer.eval().requires_grad_(False)(x).sum().backward())
    assert found["native_batch_norm"][0].flops == 2 * 96
    assert found["native_batch_norm_backward"][0].flops == 96


def test_views_and_allocations_are_free_and_copies_move_bytes() -> None:
    x = torch.rand(6, 5)
    found = costs(lambda: (x.view(30), x[1:], x.t(), x.expand(2, 6, 5), x.detach(), torch.empty(9), x.unbind()))
    assert sum(cost.bytes + cost.flops for part in found.values() for cost in part) == 0
    assert one(lambda: x.clone(), "clone") == OpCost(0, 240, "copy")
    assert one(lambda: x.copy_(torch.ones(5)), "copy") == OpCost(0, 20 + 120, "copy")
    assert one(lambda: x.zero_(), "zero") == OpCost(0, 120, "copy")
    assert one(lambda: torch.zeros_like(x), "zeros_like") == OpCost(0, 120, "copy")


def test_gathers_and_scatters_touch_only_what_they_take() -> None:
    x, where = torch.rand(100, 5), torch.tensor([1, 2])
    assert one(lambda: x[where], "index") == OpCost(0, 2 * 40 + 16, "index and sort")
    assert one(lambda: x.index_put_((where,), torch.ones(2, 5)), "index_put").bytes == 40 + 16 + 40
    assert one(lambda: x.index_add_(0, where, torch.ones(2, 5)), "index_add") == OpCost(
        10, 2 * 40 + 16 + 40, "index and sort"
    )


def test_an_adamw_step_per_weight() -> None:
    weight = nn.Parameter(torch.rand(10, 10))
    weight.grad = torch.ones(10, 10)
    optimizer = torch.optim.AdamW([weight], fused=True)
    optimizer.step()  # makes the moments
    cost = one(optimizer.step, "_fused_adamw")
    assert cost.flops == 14 * 100 and cost.family == "optimizer"
    # Weight, gradient and two moments are read, all but the gradient written; a count of steps is read and written.
    assert cost.bytes == pytest.approx(7 * 400, abs=8)


def test_clipping_is_counted_over_all_gradients() -> None:
    weights = [nn.Parameter(torch.rand(size)) for size in (3, 4)]
    for weight in weights:
        weight.grad = torch.ones_like(weight)
    found = costs(lambda: nn.utils.clip_grad_norm_(weights, 0.1))
    assert found["_foreach_norm"][0].flops == 2 * 7 and found["_foreach_mul"][0].flops == 7
    assert found["_foreach_mul"][0].bytes == 4 * 2 * 7 + 4


def test_an_operator_without_a_formula_is_known_by_its_bytes() -> None:
    x = torch.rand(6)
    assert one(lambda: torch.special.bessel_j0(x), "special_bessel_j0") == OpCost(0, 48, "other", known=False)


def test_shapes_as_text() -> None:
    assert shapes((torch.rand(2, 3), [torch.rand(4), None], torch.tensor(1.0))) == "2x3, 4, scalar"
    assert shapes(([torch.rand(4)] * 9,)) == "4 and 8 others"
