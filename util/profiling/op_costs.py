"""Costs of torch's operators by the shapes of their arguments: floating-point operations and bytes.

FLOPs: a multiply-add of a matrix product or convolution is 2, its bias is not counted apart (torch's FlopCounterMode
counts the same). Any other arithmetic is counted per element with the weights below: one for each add, subtract,
multiply, divide, root, exponential, logarithm or trigonometric function. Comparisons, selections, conversions, random
numbers, copies and all work on integers are none, as with a GPU's counters.

Bytes: each tensor read once and each tensor written once, as if an operator's own data met in a cache and no two
operators' did. Views, allocations and broadcast copies that exist only as strides are free.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from torch import Tensor

#: Families as the charts name them, and in each, by FLOPs per element of the (first) result, the operators.
_PER_OUTPUT: dict[str, dict[int, str]] = {
    "elementwise": {
        0: "sgn sign relu threshold_backward clamp clamp_min clamp_max maximum minimum where nan_to_num isnan isfinite "
        "eq ne lt le gt ge logical_not logical_and logical_or bitwise_not bitwise_and bitwise_or masked_fill "
        "floor ceil round",
        1: "add sub rsub mul div neg abs sqrt reciprocal exp expm1 log log1p log2 sin cos pow square tanh remainder "
        "floor_divide erf atan",
        2: "rsqrt softplus",
        3: "addcmul addcdiv lerp sigmoid sigmoid_backward tanh_backward logit",
        4: "silu",
        5: "gelu",
        6: "silu_backward",
        10: "gelu_backward",
    },
    "dropout": {0: "bernoulli", 1: "native_dropout native_dropout_backward"},
    "normalization": {8: "native_layer_norm native_group_norm"},
    "softmax": {4: "_softmax _safe_softmax _log_softmax _softmax_backward_data _log_softmax_backward_data"},
    "loss": {2: "mse_loss", 3: "smooth_l1_loss", 7: "binary_cross_entropy_with_logits"},
    "resize": {0: "upsample_nearest2d", 7: "upsample_bilinear2d", 35: "upsample_bicubic2d"},
    "pooling": {0: "max_pool2d_with_indices max_pool2d_with_indices_backward"},
    "copy": {0: "_to_copy copy clone cat stack constant_pad_nd flip repeat contiguous _pin_memory _local_scalar_dense"},
    "index and sort": {0: "sort topk argmax argmin nonzero max min amax amin any all"},
}
#: The same by FLOPs per element of the first tensor argument.
_PER_INPUT: dict[str, dict[int, str]] = {
    "reduction": {1: "sum mean prod cumsum cumprod", 2: "linalg_vector_norm norm", 4: "var var_mean std"},
    "normalization": {13: "native_layer_norm_backward native_group_norm_backward"},
    "loss": {0: "nll_loss_forward nll_loss_backward nll_loss2d_forward nll_loss2d_backward"},
    "resize": {1: "upsample_nearest2d_backward", 8: "upsample_bilinear2d_backward"},
    "pooling": {1: "avg_pool2d _adaptive_avg_pool2d"},
    "copy": {0: "slice_backward select_backward"},
    "optimizer": {1: "_amp_foreach_non_finite_check_and_unscale"},
}
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


@dataclass(frozen=True)
class _Call:
    """One call of an operator: its base name, the operator, its arguments and its result."""

    name: str
    func: Any
    args: tuple
    kwargs: Mapping[str, Any]
    result: Any


def op_cost(func: Any, args: tuple, kwargs: dict, result: Any) -> OpCost:
    """Return the cost of a call of an operator.

    Args:
        func: the operator, an OpOverload as a TorchDispatchMode sees it.
        args: its arguments.
        kwargs: its named arguments.
        result: the tensor, or the list or tuple of them, that it returned.
    """
    call = _Call(base_name(func), func, args, kwargs, result)
    if func.namespace not in ("aten", "prims", "torchvision"):
        return OpCost(0, 0, "other", known=func.namespace == "profiler")
    if call.name in _FREE or _is_view(func):
        return OpCost(0, 0, "view")
    # Fused attention has a name for each kernel and version of torch; all begin alike.
    formula = _attention if call.name.startswith(_SDPA) else _FORMULAS.get(call.name, _weighted)
    return formula(call)


def base_name(func: Any) -> str:
    """Return an operator's name without namespace, overload and in-place underscore: aten.add_.Tensor -> add."""
    return func._schema.name.partition("::")[2].removesuffix("_")


def shapes(args: tuple) -> str:
    """Return the shapes of a call's tensors: "2x3x800x800, 64x3x7x7"; of long lists the first and how many."""
    found = list(_tensors(args))
    texts = ["x".join(map(str, tensor.shape)) or "scalar" for tensor in found]
    return ", ".join(texts) if len(texts) <= 6 else f"{texts[0]} and {len(texts) - 1} others"


# ---- operators by their elements


def _weighted(call: _Call) -> OpCost:
    """An operator of the tables; `_foreach_NAME` is NAME on each of a list."""
    moved = _moved(call)
    single = call.name.removeprefix("_foreach_")
    if single not in _WEIGHTS:
        return OpCost(0, moved, "other", known=False)
    family, weight, first_input = _WEIGHTS[single]
    foreach = single != call.name
    if foreach:
        family = "optimizer"
    results = list(_tensors(call.result))
    measured = list(_tensors(call.args[0])) if first_input or foreach else results[:1]
    # Work on integers is no FLOP; comparisons give bools, and have weight 0 anyway.
    floating = bool(results or measured) and (results or measured)[0].is_floating_point()
    return OpCost(weight * sum(tensor.numel() for tensor in measured) if floating else 0, moved, family)


def _writer(family: str) -> "_Formula":
    return lambda call: OpCost(0, _moved(call, reads=False), family)


def _copy(call: _Call) -> OpCost:
    """A copy into a tensor, which is written and not read."""
    # By the dispatcher's schema the target is an argument that changes: `_moved` would count it as read, too.
    return OpCost(0, _size(call.args[1]) + _size(call.args[0]), "copy")


def _gather(call: _Call) -> OpCost:
    rows = sum(map(_size, _tensors(call.result)))
    # Rows are read and written; the indices are read.
    return OpCost(0, 2 * rows + sum(map(_size, _tensors(call.args[1:]))), "index and sort")


def _scatter(call: _Call) -> OpCost:
    """Values put in place: read and written, and their place read too if they are added to it.

    An out-of-place form copies its target first.
    """
    tensors = list(_tensors(call.args))
    # Its first argument is the gradient of the rows that were looked up; of the others the values come last.
    values = tensors[0] if call.name == "embedding_dense_backward" else tensors[-1]
    accumulates = call.name == "index_put" and len(call.args) > 3 and bool(call.args[3])
    adds = _SCATTERS[call.name] or accumulates
    moved = sum(map(_size, tensors[1:])) + _size(values) * (2 if adds else 1)
    if not any(tensor is tensors[0] for tensor in _tensors(call.result)):
        # Read and written.
        moved += 2 * _size(tensors[0])
    return OpCost(values.numel() if adds and values.is_floating_point() else 0, moved, "index and sort")


def _adam(call: _Call) -> OpCost:
    moved = _moved(call)
    if call.kwargs.get("grad_scale") is None:  # its schema says that gradients are written; only unscaling does so
        moved -= sum(map(_size, call.args[1]))
    return OpCost(_ADAMW * sum(tensor.numel() for tensor in call.args[0]), moved, "optimizer")


def _cdist(call: _Call) -> OpCost:
    """Distances (N, M) between vectors of width W: subtract, absolute value and add for each of N M W differences."""
    distances = next(_tensors(call.result)).numel()
    return OpCost(3 * distances * call.args[0].shape[-1], _moved(call), "matcher cost")


def _batch_norm(call: _Call) -> OpCost:
    name, args = call.name, call.args
    if not name.endswith("_backward"):
        weight = 8 if name.startswith("_") or args[5] else 2  # args[5]: by the batch's own statistics
    elif name.startswith("native") and not args[7]:  # backward through fixed statistics
        weight = 1 + 4 * any(args[9][1:])  # args[9]: which of input, scale and shift want a gradient
    else:
        weight = 13
    return OpCost(weight * args[0].numel(), _moved(call), "normalization")


# ---- matrix products


def _product(count: Callable[[tuple], int]) -> "_Formula":
    return lambda call: OpCost(count(call.args), _moved(call), "matrix product", matrix=True)


def _mm(a: Tensor, b: Tensor) -> int:
    """2 M N K, times the batch."""
    # a is (M, K) or (B, M, K): its numbers times N.
    return 2 * a.numel() * b.shape[-1]


def _mv(a: Tensor) -> int:
    return 2 * a.numel()


def _convolution(call: _Call) -> OpCost:
    """2 MACs: each weight meets each place of the output (of the input, if transposed) of each image."""
    x, weight, transposed = call.args[0], call.args[1], call.args[6]
    # (B, C, H, W): places are H * W, of every image.
    places = prod((x if transposed else call.result).shape[2:])
    return OpCost(2 * x.shape[0] * places * weight.numel(), _moved(call), "convolution", matrix=True)


def _convolution_backward(call: _Call) -> OpCost:
    """Gradients of input and weight: each costs as much as the forward, if it is asked for."""
    grad, x, weight, transposed, mask = (call.args[i] for i in (0, 1, 2, 7, 10))
    places = prod((x if transposed else grad).shape[2:])
    # mask[2], the bias, is a sum of the gradient: it is not counted, as in the forward.
    flops = 2 * x.shape[0] * places * weight.numel() * (bool(mask[0]) + bool(mask[1]))
    return OpCost(flops, _moved(call), "convolution", matrix=True)


def _attention(call: _Call) -> OpCost:
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
    return OpCost(flops, _moved(call), "attention", matrix=True)


# ---- bytes


def _is_view(func: Any) -> bool:
    """Tell by the schema: everything it returns is an argument in another form, and none is written."""
    returns = func._schema.returns
    return bool(returns) and all(r.alias_info is not None and not r.alias_info.is_write for r in returns)


def _moved(call: _Call, *, reads: bool = True) -> int:
    """Return the bytes of all tensors read and written, each once a direction."""
    # By identity: a tensor that is given twice is read once.
    read: dict[int, int] = {}
    written: dict[int, int] = {}
    arguments = call.func._schema.arguments
    named = [(argument, call.args[i]) for i, argument in enumerate(arguments[: len(call.args)])]
    named += [(a, call.kwargs[a.name]) for a in arguments[len(call.args) :] if a.name in call.kwargs]
    for argument, value in named:
        changed = argument.alias_info is not None and argument.alias_info.is_write
        for tensor in _tensors(value):
            if reads and not (changed and argument.is_out):
                read[id(tensor)] = _size(tensor)
            if changed:
                written[id(tensor)] = _size(tensor)
    for tensor in _tensors(call.result):
        written[id(tensor)] = _size(tensor)
    return sum(read.values()) + sum(written.values())


def _tensors(value: Any) -> Iterator[Tensor]:
    """Yield the tensors in an argument or a result: itself, or those of a list, also if some are None."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, (list, tuple)):
        for part in value:
            yield from _tensors(part)


def _elements(tensor: Tensor) -> int:
    """Elements that exist in memory: a broadcast dimension (stride 0) is one."""
    if tensor.layout is not torch.strided:
        return tensor.numel()
    # A mask that is expanded to all heads is read from memory once.
    return prod(size if stride else min(size, 1) for size, stride in zip(tensor.shape, tensor.stride()))


def _size(tensor: Tensor) -> int:
    return _elements(tensor) * tensor.element_size()


# ---- the tables, by the name of an operator

_Formula = Callable[[_Call], OpCost]

#: Family, FLOPs per element, and if those are the elements of the first argument.
_WEIGHTS: dict[str, tuple[str, int, bool]] = {
    name: (family, weight, first_input)
    for table, first_input in ((_PER_OUTPUT, False), (_PER_INPUT, True))
    for family, weights in table.items()
    for weight, names in weights.items()
    for name in names.split()
}
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
