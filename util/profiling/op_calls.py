"""One call of a torch operator: its name, its tensors and their shapes, and the bytes that it reads and writes.

Bytes: each tensor read once and each tensor written once, as if an operator's own data met in a cache and no two
operators' did. Broadcast copies that exist only as strides are free.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class Call:
    """One call of an operator: its base name, the operator, its arguments and its result."""

    name: str
    func: Any
    args: tuple
    kwargs: Mapping[str, Any]
    result: Any


def base_name(func: Any) -> str:
    """Return an operator's name without namespace, overload and in-place underscore: aten.add_.Tensor -> add."""
    return func._schema.name.partition("::")[2].removesuffix("_")


def shapes(args: tuple) -> str:
    """Return the shapes of a call's tensors: "2x3x800x800, 64x3x7x7"; of long lists the first and how many."""
    found = list(tensors_in(args))
    texts = ["x".join(map(str, tensor.shape)) or "scalar" for tensor in found]
    return ", ".join(texts) if len(texts) <= 6 else f"{texts[0]} and {len(texts) - 1} others"


def is_view(func: Any) -> bool:
    """Tell by the schema: everything it returns is an argument in another form, and none is written."""
    returns = func._schema.returns
    return bool(returns) and all(r.alias_info is not None and not r.alias_info.is_write for r in returns)


def moved_bytes(call: Call, *, reads: bool = True) -> int:
    """Return the bytes of all tensors read and written, each once a direction."""
    # By identity: a tensor that is given twice is read once.
    read: dict[int, int] = {}
    written: dict[int, int] = {}
    arguments = call.func._schema.arguments
    # The schema knows which arguments are written; those given by position come in its order.
    named = [(argument, call.args[i]) for i, argument in enumerate(arguments[: len(call.args)])]
    named += [(a, call.kwargs[a.name]) for a in arguments[len(call.args) :] if a.name in call.kwargs]
    for argument, value in named:
        changed = argument.alias_info is not None and argument.alias_info.is_write
        for tensor in tensors_in(value):
            # `out=` is written without being looked at; what changes in place is read first.
            if reads and not (changed and argument.is_out):
                read[id(tensor)] = tensor_bytes(tensor)
            if changed:
                written[id(tensor)] = tensor_bytes(tensor)
    # By identity again: in place, the result is an argument that was noted above.
    for tensor in tensors_in(call.result):
        written[id(tensor)] = tensor_bytes(tensor)
    return sum(read.values()) + sum(written.values())


def tensors_in(value: Any) -> Iterator[Tensor]:
    """Yield the tensors in an argument or a result: itself, or those of a list, also if some are None."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, (list, tuple)):
        for part in value:
            yield from tensors_in(part)


def _elements(tensor: Tensor) -> int:
    """Elements that exist in memory: a broadcast dimension (stride 0) is one."""
    if tensor.layout is not torch.strided:
        return tensor.numel()
    # A mask that is expanded to all heads is read from memory once.
    return prod(size if stride else min(size, 1) for size, stride in zip(tensor.shape, tensor.stride()))


def tensor_bytes(tensor: Tensor) -> int:
    """Return the bytes of a tensor that exist in memory."""
    return _elements(tensor) * tensor.element_size()
