"""Costs of torch's operators by the shapes of their arguments: floating-point operations and bytes.

FLOPs: a multiply-add of a matrix product or convolution is 2, its bias is not counted apart (torch's FlopCounterMode
counts the same). Any other arithmetic is counted per element by `op_weights`, or by the formulas below.

Bytes are those of `op_calls`. Views and allocations are free.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from typing import Any

from torch import Tensor

from .op_calls import Call, base_name, is_view, moved_bytes, tensor_bytes, tensors_in
from .op_weights import WEIGHTS

#: They write without reading what they write to, and their first argument is only a shape or a place.
_WRITE_ONLY = {
    "copy": "fill zero zeros ones full zeros_like ones_like full_like new_zeros new_ones new_full arange scalar_tensor "
    "linspace eye",
    "dropout": "bernoulli random randperm normal uniform rand rand_like",
}
#: They read of their first argument only as much as the result holds.
_GATHERS = ("index", "gather", "index_select", "embedding")
#: They write into their first argument only as much as the values hold; FLOPs per value.
_SCATTERS = {"index_put": 0, "scatter": 0, "scatter_add": 1, "index_add": 1, "embedding_dense_backward": 1}
_FREE = frozenset(
    "empty empty_like empty_strided new_empty new_empty_strided _unsafe_view lift_fresh detach alias resize set "
    "is_same_size _amp_update_scale _has_compatible_shallow_copy_type".split()
)
#: AdamW per weight: decay 1, first moment 3, second moment 4, root divided and shifted 3, step 3.
_ADAMW = 14
#: Softmax of attention per score: scale, subtract, exponential, add, divide; backward: the exponential anew and 4.
_SCORES, _SCORES_BACKWARD = 5, 7
#: Normalisation over a batch, per element: by the batch's own statistics forward 8 and backward 13. With fixed
#: statistics it is one multiply-add; backward one multiply, and 4 where the scale and shift are learned.
_BATCH_NORMS = ("native_batch_norm", "cudnn_batch_norm", "miopen_batch_norm", "_batch_norm_with_update", "batch_norm")
_SDPA = "_scaled_dot_product_"


@dataclass(frozen=True)
class OpCost:
    """FLOPs and bytes of one call.

    `family` is that of the charts. `matrix`: the FLOPs are a matrix product's or a convolution's. Of an operator that
    is not `known` the bytes are counted and the FLOPs are 0.
    """

    flops: int
    bytes: int
    family: str
    matrix: bool = False
    known: bool = True


def op_cost(func: Any, args: tuple, kwargs: dict, result: Any) -> OpCost:
    """Return the cost of a call of an operator.

    Args:
        func: the operator, an OpOverload as a TorchDispatchMode sees it.
        args: its arguments.
        kwargs: its named arguments.
        result: the tensor, or the list or tuple of them, that it returned.
    """
    call = Call(base_name(func), func, args, kwargs, result)
    if func.namespace not in ("aten", "prims", "torchvision"):
        return OpCost(0, 0, "other", known=func.namespace == "profiler")
    if call.name in _FREE or is_view(func):
        return OpCost(0, 0, "view")
    # Fused attention has a name for each kernel and version of torch; all begin alike.
    formula = _attention if call.name.startswith(_SDPA) else _FORMULAS.get(call.name, _weighted)
    return formula(call)


# ---- operators by their elements


def _weighted(call: Call) -> OpCost:
    """An operator of the tables; `_foreach_NAME` is NAME on each of a list."""
    moved = moved_bytes(call)
    single = call.name.removeprefix("_foreach_")
    if single not in WEIGHTS:
        return OpCost(0, moved, "other", known=False)
    family, weight, first_input = WEIGHTS[single]
    foreach = single != call.name
    if foreach:
        family = "optimizer"
    results = list(tensors_in(call.result))
    measured = list(tensors_in(call.args[0])) if first_input or foreach else results[:1]
    # Work on integers is no FLOP; comparisons give bools, and have weight 0 anyway.
    floating = bool(results or measured) and (results or measured)[0].is_floating_point()
    return OpCost(weight * sum(tensor.numel() for tensor in measured) if floating else 0, moved, family)


def _writer(family: str) -> "_Formula":
    return lambda call: OpCost(0, moved_bytes(call, reads=False), family)


def _copy(call: Call) -> OpCost:
    """A copy into a tensor, which is written and not read."""
    # By the dispatcher's schema the target is an argument that changes: `moved_bytes` would count it as read, too.
    return OpCost(0, tensor_bytes(call.args[1]) + tensor_bytes(call.args[0]), "copy")


def _gather(call: Call) -> OpCost:
    rows = sum(map(tensor_bytes, tensors_in(call.result)))
    # Rows are read and written; the indices are read.
    return OpCost(0, 2 * rows + sum(map(tensor_bytes, tensors_in(call.args[1:]))), "index and sort")


def _scatter(call: Call) -> OpCost:
    """Values put in place: read and written, and their place read too if they are added to it.

    An out-of-place form copies its target first.
    """
    tensors = list(tensors_in(call.args))
    # Its first argument is the gradient of the rows that were looked up; of the others the values come last.
    values = tensors[0] if call.name == "embedding_dense_backward" else tensors[-1]
    accumulates = call.name == "index_put" and len(call.args) > 3 and bool(call.args[3])
    adds = _SCATTERS[call.name] or accumulates
    moved = sum(map(tensor_bytes, tensors[1:])) + tensor_bytes(values) * (2 if adds else 1)
    if not any(tensor is tensors[0] for tensor in tensors_in(call.result)):
        # Read and written.
        moved += 2 * tensor_bytes(tensors[0])
    return OpCost(values.numel() if adds and values.is_floating_point() else 0, moved, "index and sort")


def _adam(call: Call) -> OpCost:
    moved = moved_bytes(call)
    if call.kwargs.get("grad_scale") is None:  # its schema says that gradients are written; only unscaling does so
        moved -= sum(map(tensor_bytes, call.args[1]))
    return OpCost(_ADAMW * sum(tensor.numel() for tensor in call.args[0]), moved, "optimizer")


def _cdist(call: Call) -> OpCost:
    """Distances (N, M) between vectors of width W: subtract, absolute value and add for each of N M W differences."""
    distances = next(tensors_in(call.result)).numel()
    return OpCost(3 * distances * call.args[0].shape[-1], moved_bytes(call), "matcher cost")


def _batch_norm(call: Call) -> OpCost:
    name, args = call.name, call.args
    if not name.endswith("_backward"):
        weight = 8 if name.startswith("_") or args[5] else 2  # args[5]: by the batch's own statistics
    elif name.startswith("native") and not args[7]:  # backward through fixed statistics
        weight = 1 + 4 * any(args[9][1:])  # args[9]: which of input, scale and shift want a gradient
    else:
        weight = 13
    return OpCost(weight * args[0].numel(), moved_bytes(call), "normalization")


# ---- matrix products


def _product(count: Callable[[tuple], int]) -> "_Formula":
    return lambda call: OpCost(count(call.args), moved_bytes(call), "matrix product", matrix=True)


def _mm(a: Tensor, b: Tensor) -> int:
    """2 M N K, times the batch."""
    # a is (M, K) or (B, M, K): its numbers times N.
    return 2 * a.numel() * b.shape[-1]


def _mv(a: Tensor) -> int:
    return 2 * a.numel()


def _convolution(call: Call) -> OpCost:
    """2 MACs: each weight meets each place of the output (of the input, if transposed) of each image."""
    x, weight, transposed = call.args[0], call.args[1], call.args[6]
    # (B, C, H, W): places are H * W, of every image.
    places = prod((x if transposed else call.result).shape[2:])
    return OpCost(2 * x.shape[0] * places * weight.numel(), moved_bytes(call), "convolution", matrix=True)


def _convolution_backward(call: Call) -> OpCost:
    """Gradients of input and weight: each costs as much as the forward, if it is asked for."""
    grad, x, weight, transposed, mask = (call.args[i] for i in (0, 1, 2, 7, 10))
    places = prod((x if transposed else grad).shape[2:])
    # mask[2], the bias, is a sum of the gradient: it is not counted, as in the forward.
    flops = 2 * x.shape[0] * places * weight.numel() * (bool(mask[0]) + bool(mask[1]))
    return OpCost(flops, moved_bytes(call), "convolution", matrix=True)


def _attention(call: Call) -> OpCost:
    """Two matrix products forward; backward five, the scores being computed anew (as fused kernels do)."""
    backward = "backward" in call.name
    query, key, value = call.args[1:4] if backward else call.args[:3]
    batch, queries, width = prod(query.shape[:-2]), query.shape[-2], query.shape[-1]
    # B * heads * L * S; scores that a mask hides count, too.
    scores = batch * queries * key.shape[-2]
    # Forward q k^T and p v; backward q k^T again, g v^T, p^T g, and the gradients of q and k.
    products = (3 * width + 2 * value.shape[-1]) if backward else width + value.shape[-1]
    # `products` are multiply-adds for each score, so 2 FLOPs each.
    flops = scores * (2 * products + (_SCORES_BACKWARD if backward else _SCORES))
    return OpCost(flops, moved_bytes(call), "attention", matrix=True)


# ---- the tables, by the name of an operator

_Formula = Callable[[Call], OpCost]

#: Operators whose cost is not a weight per element.
_FORMULAS: dict[str, _Formula] = {
    **{name: _writer(family) for family, names in _WRITE_ONLY.items() for name in names.split()},
    **dict.fromkeys(_GATHERS, _gather),
    **dict.fromkeys(_SCATTERS, _scatter),
    **dict.fromkeys((*_BATCH_NORMS, *(f"{name}_backward" for name in _BATCH_NORMS)), _batch_norm),
    **dict.fromkeys(("_fused_adamw", "_fused_adam"), _adam),
    "copy": _copy,
    "_cdist_forward": _cdist,
    "mm": _product(lambda args: _mm(args[0], args[1])),
    "bmm": _product(lambda args: _mm(args[0], args[1])),
    "addmm": _product(lambda args: _mm(args[1], args[2])),
    "baddbmm": _product(lambda args: _mm(args[1], args[2])),
    "mv": _product(lambda args: _mv(args[0])),
    "dot": _product(lambda args: _mv(args[0])),
    "addmv": _product(lambda args: _mv(args[1])),
    "convolution": _convolution,
    "convolution_backward": _convolution_backward,
}
