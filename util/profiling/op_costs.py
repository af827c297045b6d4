"""What an operator of torch costs by the shapes of its arguments: floating-point operations and bytes.

FLOPs: a multiply-add of a matrix product or convolution is 2, its bias is not counted apart (torch's FlopCounterMode
counts the same). Any other arithmetic is counted per element with the weights below: one for each add, subtract, multiply,
divide, root, exponential, logarithm or trigonometric function. Comparisons, selections, conversions, random numbers, copies and all
work on integers are none, as with a GPU's counters.

Bytes: each tensor read once and each tensor written once, as if an operator's own data met in a cache and no two operators'
did. Views, allocations and broadcast copies that exist only as strides are free.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from torch import Tensor

#: Families as the charts name them, with their operators: FLOPs per element of the result (of the first one).
_PER_OUTPUT = {
    "elementwise": {
        "add": 1,
        "sub": 1,
        "rsub": 1,
        "mul": 1,
        "div": 1,
        "neg": 1,
        "abs": 1,
        "sgn": 0,
        "sign": 0,
        "sqrt": 1,
        "rsqrt": 2,
        "reciprocal": 1,
        "exp": 1,
        "expm1": 1,
        "log": 1,
        "log1p": 1,
        "log2": 1,
        "sin": 1,
        "cos": 1,
        "pow": 1,
        "square": 1,
        "addcmul": 3,
        "addcdiv": 3,
        "lerp": 3,
        "sigmoid": 3,
        "sigmoid_backward": 3,
        "tanh": 1,
        "tanh_backward": 3,
        "gelu": 5,
        "gelu_backward": 10,
        "silu": 4,
        "silu_backward": 6,
        "relu": 0,
        "threshold_backward": 0,
        "clamp": 0,
        "clamp_min": 0,
        "clamp_max": 0,
        "maximum": 0,
        "minimum": 0,
        "where": 0,
        "nan_to_num": 0,
        "isnan": 0,
        "isfinite": 0,
        "eq": 0,
        "ne": 0,
        "lt": 0,
        "le": 0,
        "gt": 0,
        "ge": 0,
        "logical_not": 0,
        "logical_and": 0,
        "logical_or": 0,
        "bitwise_not": 0,
        "bitwise_and": 0,
        "bitwise_or": 0,
        "masked_fill": 0,
        "floor": 0,
        "ceil": 0,
        "round": 0,
        "remainder": 1,
        "floor_divide": 1,
        "erf": 1,
        "atan": 1,
    },
    "dropout": {"native_dropout": 1, "native_dropout_backward": 1, "bernoulli": 0},
    "normalization": {"native_layer_norm": 8, "native_group_norm": 8},
    "softmax": {
        "_softmax": 4,
        "_safe_softmax": 4,
        "_log_softmax": 4,
        "_softmax_backward_data": 4,
        "_log_softmax_backward_data": 4,
    },
    "loss": {"binary_cross_entropy_with_logits": 7, "smooth_l1_loss": 3, "mse_loss": 2},
    "resize": {"upsample_nearest2d": 0, "upsample_bilinear2d": 7, "upsample_bicubic2d": 35},
    "pooling": {"max_pool2d_with_indices": 0, "max_pool2d_with_indices_backward": 0},
    "copy": {
        "_to_copy": 0,
        "copy": 0,
        "clone": 0,
        "cat": 0,
        "stack": 0,
        "constant_pad_nd": 0,
        "flip": 0,
        "repeat": 0,
        "contiguous": 0,
        "_pin_memory": 0,
        "_local_scalar_dense": 0,
    },
    "index and sort": {
        "sort": 0,
        "topk": 0,
        "argmax": 0,
        "argmin": 0,
        "nonzero": 0,
        "max": 0,
        "min": 0,
        "amax": 0,
        "amin": 0,
        "any": 0,
        "all": 0,
    },
}
#: FLOPs per element of the first tensor argument.
_PER_INPUT = {
    "reduction": {
        "sum": 1,
        "mean": 1,
        "prod": 1,
        "var": 4,
        "var_mean": 4,
        "std": 4,
        "cumsum": 1,
        "cumprod": 1,
        "linalg_vector_norm": 2,
        "norm": 2,
    },
    "normalization": {"native_layer_norm_backward": 13, "native_group_norm_backward": 13},
    "loss": {"nll_loss_forward": 0, "nll_loss_backward": 0, "nll_loss2d_forward": 0, "nll_loss2d_backward": 0},
    "resize": {"upsample_nearest2d_backward": 1, "upsample_bilinear2d_backward": 8},
    "pooling": {"avg_pool2d": 1, "_adaptive_avg_pool2d": 1},
    "copy": {"slice_backward": 0, "select_backward": 0},
    "optimizer": {"_amp_foreach_non_finite_check_and_unscale": 1},
}
#: They write without reading what they write to, and their first argument is only a shape or a place.
_WRITE_ONLY = {
    "copy": (
        "fill",
        "zero",
        "zeros",
        "ones",
        "full",
        "zeros_like",
        "ones_like",
        "full_like",
        "new_zeros",
        "new_ones",
        "new_full",
        "arange",
        "scalar_tensor",
        "linspace",
        "eye",
    ),
    "dropout": ("bernoulli", "random", "randperm", "normal", "uniform", "rand", "rand_like"),
}
#: They read of their first argument, or write into it, only as much as the result or the values hold.
_GATHERS = ("index", "gather", "index_select", "embedding")
_SCATTERS = {"index_put": 0, "scatter": 0, "scatter_add": 1, "index_add": 1, "embedding_dense_backward": 1}
_FREE = {
    "empty",
    "empty_like",
    "empty_strided",
    "new_empty",
    "new_empty_strided",
    "_unsafe_view",
    "lift_fresh",
    "detach",
    "alias",
    "resize",
    "set",
    "is_same_size",
    "_amp_update_scale",
    "_has_compatible_shallow_copy_type",
}
#: AdamW per weight: decay 1, first moment 3, second moment 4, root divided and shifted 3, step 3.
_ADAMW = 14
#: Softmax of attention per score: scale, subtract, exponential, add, divide; backward: the exponential anew and 4.
_SCORES, _SCORES_BACKWARD = 5, 7
#: Normalisation over a batch, per element: by the batch's own statistics forward 8 and backward 13. With fixed statistics
#: it is one multiply-add; backward one multiply, and 4 where the scale and shift are learned.
_BATCH_NORMS = ("native_batch_norm", "cudnn_batch_norm", "miopen_batch_norm", "_batch_norm_with_update", "batch_norm")
_SDPA = "_scaled_dot_product_"

_WEIGHTS = {
    name: (family, weight, first_input)
    for table, first_input in ((_PER_OUTPUT, False), (_PER_INPUT, True))
    for family, weights in table.items()
    for name, weight in weights.items()
}
_WRITERS = {name: family for family, names in _WRITE_ONLY.items() for name in names}


@dataclass(frozen=True)
class OpCost:
    """One call: FLOPs; bytes read and written; family of the charts; whether the FLOPs are a matrix product's (or a
    convolution's); whether the operator is known. Of an unknown one the bytes are counted and the FLOPs are 0."""

    flops: int
    bytes: int
    family: str
    matrix: bool = False
    known: bool = True


def op_cost(func: Any, args: tuple, kwargs: dict, result: Any) -> OpCost:
    """The cost of a call of the operator `func` (an OpOverload, as a TorchDispatchMode sees it) that returned `result`."""
    name = base_name(func)
    if func.namespace not in ("aten", "prims", "torchvision"):
        return OpCost(0, 0, "other", known=func.namespace == "profiler")
    if name in _FREE or _is_view(func):
        return OpCost(0, 0, "view")
    if name in _GATHERS:
        return OpCost(0, _gather_bytes(args, result), "index and sort")
    if name in _SCATTERS:
        return OpCost(*_scatter_cost(name, args, result), "index and sort")
    moved = _moved(func, args, kwargs, result, reads=name not in _WRITERS)
    if name in _WRITERS:
        return OpCost(0, moved, _WRITERS[name])
    if name == "copy":  # its target is written, not read
        return OpCost(0, _size(args[1]) + _size(args[0]), "copy")
    if name in _MATRIX:
        family, count = _MATRIX[name]
        return OpCost(count(args, result), moved, family, matrix=True)
    if name.startswith(_SDPA):
        return OpCost(_attention(args, "backward" in name), moved, "attention", matrix=True)
    if name in ("_fused_adamw", "_fused_adam"):
        if kwargs.get("grad_scale") is None:  # its schema says that gradients are written; only unscaling does so
            moved -= sum(map(_size, args[1]))
        return OpCost(_ADAMW * sum(tensor.numel() for tensor in args[0]), moved, "optimizer")
    if name == "_cdist_forward":
        return OpCost(3 * next(_tensors(result)).numel() * args[0].shape[-1], moved, "matcher cost")
    if name.removesuffix("_backward") in _BATCH_NORMS:
        return OpCost(_batch_norm(name, args), moved, "normalization")
    return _weighted(name, args, result, moved)


def base_name(func: Any) -> str:
    """An operator's name without namespace, overload and the underscore of its in-place form: aten.add_.Tensor -> add."""
    return func._schema.name.partition("::")[2].removesuffix("_")


def shapes(args: tuple) -> str:
    """The shapes of a call's tensors: "2x3x800x800, 64x3x7x7"; of long lists the first and how many."""
    found = list(_tensors(args))
    texts = ["x".join(map(str, tensor.shape)) or "scalar" for tensor in found]
    return ", ".join(texts) if len(texts) <= 6 else f"{texts[0]} and {len(texts) - 1} others"


def _weighted(name: str, args: tuple, result: Any, moved: int) -> OpCost:
    """An operator of the tables; `_foreach_NAME` is NAME on each of a list."""
    single = name.removeprefix("_foreach_")
    if single not in _WEIGHTS:
        return OpCost(0, moved, "other", known=False)
    family, weight, first_input = _WEIGHTS[single]
    foreach = single != name
    if foreach:
        family = "optimizer"
    results = list(_tensors(result))
    measured = list(_tensors(args[0])) if first_input or foreach else results[:1]
    floating = bool(results or measured) and (results or measured)[0].is_floating_point()
    return OpCost(weight * sum(tensor.numel() for tensor in measured) if floating else 0, moved, family)


def _is_view(func: Any) -> bool:
    returns = func._schema.returns
    return bool(returns) and all(r.alias_info is not None and not r.alias_info.is_write for r in returns)


def _moved(func: Any, args: tuple, kwargs: dict, result: Any, *, reads: bool) -> int:
    """Bytes of all tensors read and written, each once a direction."""
    read, written = {}, {}
    arguments = func._schema.arguments
    named = [(argument, args[i]) for i, argument in enumerate(arguments[: len(args)])]
    named += [(argument, kwargs[argument.name]) for argument in arguments[len(args) :] if argument.name in kwargs]
    for argument, value in named:
        changed = argument.alias_info is not None and argument.alias_info.is_write
        for tensor in _tensors(value):
            if reads and not (changed and argument.is_out):
                read[id(tensor)] = _size(tensor)
            if changed:
                written[id(tensor)] = _size(tensor)
    for tensor in _tensors(result):
        written[id(tensor)] = _size(tensor)
    return sum(read.values()) + sum(written.values())


def _gather_bytes(args: tuple, result: Any) -> int:
    rows = sum(map(_size, _tensors(result)))
    return 2 * rows + sum(map(_size, _tensors(args[1:])))


def _scatter_cost(name: str, args: tuple, result: Any) -> tuple[int, int]:
    """What is put in place is read and written, and read there when it is added to; an out-of-place form copies its target first."""
    tensors = list(_tensors(args))
    values = tensors[0] if name == "embedding_dense_backward" else tensors[-1]
    adds = _SCATTERS[name] or (name == "index_put" and len(args) > 3 and bool(args[3]))
    moved = sum(map(_size, tensors[1:])) + _size(values) * (2 if adds else 1)
    if not any(tensor is tensors[0] for tensor in _tensors(result)):
        moved += 2 * _size(tensors[0])
    return (values.numel() if adds and values.is_floating_point() else 0), moved


def _tensors(value: Any) -> Iterator[Tensor]:
    """The tensors in an argument or a result: itself, or those of a list, also where some are None."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, (list, tuple)):
        for part in value:
            yield from _tensors(part)


def _elements(tensor: Tensor) -> int:
    """Elements that exist in memory: a broadcast dimension (stride 0) is one."""
    if tensor.layout is not torch.strided:
        return tensor.numel()
    return prod(size if stride else min(size, 1) for size, stride in zip(tensor.shape, tensor.stride()))


def _size(tensor: Tensor) -> int:
    return _elements(tensor) * tensor.element_size()


def _mm(a: Tensor, b: Tensor) -> int:
    """2 M N K, times the batch."""
    return 2 * a.numel() * b.shape[-1]


def _mv(a: Tensor) -> int:
    return 2 * a.numel()


def _convolution(args: tuple, result: Tensor) -> int:
    """2 MACs: each weight meets each place of the output (of the input, if transposed) of each image."""
    x, weight, transposed = args[0], args[1], args[6]
    return 2 * x.shape[0] * prod((x if transposed else result).shape[2:]) * weight.numel()


def _convolution_backward(args: tuple, result: Any) -> int:
    """The gradients of input and weight cost what the forward costs, each where it is asked for."""
    grad, x, weight, transposed, mask = args[0], args[1], args[2], args[7], args[10]
    places = prod((x if transposed else grad).shape[2:])
    return 2 * x.shape[0] * places * weight.numel() * (bool(mask[0]) + bool(mask[1]))


def _batch_norm(name: str, args: tuple) -> int:
    x = args[0]
    if not name.endswith("_backward"):
        return (8 if name.startswith("_") or args[5] else 2) * x.numel()
    if name.startswith("native") and not args[7]:
        return (1 + 4 * any(args[9][1:])) * x.numel()
    return 13 * x.numel()


def _attention(args: tuple, backward: bool) -> int:
    """Two matrix products forward; backward five, the scores being computed anew (as fused kernels do)."""
    query, key, value = args[1:4] if backward else args[:3]
    batch, queries, width = prod(query.shape[:-2]), query.shape[-2], query.shape[-1]
    scores = batch * queries * key.shape[-2]
    products = (3 * width + 2 * value.shape[-1]) if backward else width + value.shape[-1]
    return scores * (2 * products + (_SCORES_BACKWARD if backward else _SCORES))


_MATRIX: dict[str, tuple[str, Callable[[tuple, Any], int]]] = {
    "mm": ("matrix product", lambda args, _: _mm(args[0], args[1])),
    "bmm": ("matrix product", lambda args, _: _mm(args[0], args[1])),
    "addmm": ("matrix product", lambda args, _: _mm(args[1], args[2])),
    "baddbmm": ("matrix product", lambda args, _: _mm(args[1], args[2])),
    "mv": ("matrix product", lambda args, _: _mv(args[0])),
    "dot": ("matrix product", lambda args, _: _mv(args[0])),
    "addmv": ("matrix product", lambda args, _: _mv(args[1])),
    "convolution": ("convolution", _convolution),
    "convolution_backward": ("convolution", _convolution_backward),
}
