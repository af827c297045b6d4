"""Operators, FLOPs and bytes of a step, and what it keeps for the backward pass: counted, not measured."""

from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from ..dist.accelerator import accelerator
from .cost_counter import compute_unit
from .op_calls import base_name
from .op_costs import OpCost, op_cost

#: Of a core's own cache (L2): 1 to 2 MiB in server processors of these years.
CACHE_BYTES = 2**21


@dataclass(frozen=True)
class Op:
    """One call of an operator that does work: its name, cost, and the unit that does its FLOPs.

    `tensors` is the length of the list that it is given, 1 without one; `numbers` are those of its first result.
    """

    section: str
    name: str
    cost: OpCost
    unit: str
    tensors: int
    numbers: int


class Spec(NamedTuple):
    """The form of a tensor, which holds no numbers; `far`: so much was moved since it was used that no cache has it."""

    shape: tuple[int, ...]
    strides: tuple[int, ...]
    dtype: torch.dtype
    far: bool = False


class Call(NamedTuple):
    """One call of an operator by the forms of its tensors: calls that cost the same are equal."""

    func: Any
    args: tuple
    kwargs: tuple[tuple[str, Any], ...]


@dataclass
class StepCounts:
    """Counts of one step.

    Attributes:
        ops: the calls that do work, in their order.
        operators: calls of every operator by name, views included, handles left out.
        sections: calls of operators by the section of the step.
        overloads: full names of the operators, for the dispatcher's tables.
        reads: copies from the device to the host.
        saved: bytes that the forward pass keeps for the backward pass, each memory once, parameters left out.
        optimizer: for each call of the fused optimizer, the tensors and the numbers that it changes.
        calls: how often each call that does work was made, and its cost.
    """

    ops: list[Op] = field(default_factory=list)
    calls: Counter[tuple[Call, OpCost]] = field(default_factory=Counter)
    operators: Counter[str] = field(default_factory=Counter)
    sections: Counter[str] = field(default_factory=Counter)
    overloads: set[str] = field(default_factory=set)
    reads: int = 0
    saved: int = 0
    optimizer: list[tuple[int, int]] = field(default_factory=list)

    @property
    def products(self) -> int:
        """FLOPs of matrix products, convolutions and attention."""
        return sum(op.cost.flops for op in self.ops if op.cost.matrix)

    @property
    def bytes(self) -> int:
        """Bytes that the operators read and write."""
        return sum(op.cost.bytes for op in self.ops)


class _LastUses:
    """The bytes that operators had moved when each memory was last used: what is far back has left the cache."""

    def __init__(self) -> None:
        self._moved = 0
        self._at: dict[int, int] = {}  # by storage

    def is_far(self, tensor: Tensor) -> bool:
        """Return True for what was not used since more than a cache's bytes, such as weights since the last step."""
        at = self._at.get(tensor.untyped_storage()._cdata)
        return at is None or self._moved - at > CACHE_BYTES

    def note(self, tensors: Iterable[Tensor], moved: int) -> None:
        """Note an operator, which used these and moved as many bytes."""
        self._moved += moved
        for tensor in tensors:
            self._at[tensor.untyped_storage()._cdata] = self._moved


class StepCounter(TorchDispatchMode):
    """Counts the operators of what is run in its context; `section` is the name of what runs now.

    Args:
        with_calls: count equal calls, too.
    """

    def __init__(self, *, with_calls: bool = False) -> None:
        super().__init__()
        self.counts = StepCounts()
        self.section = ""
        self.with_calls = with_calls
        self._uses = _LastUses()

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        if func.namespace == "prim" or func is torch.ops.aten.detach.default:  # questions and handles, no operators
            return result
        counts, name = self.counts, base_name(func)
        counts.operators[name] += 1
        counts.sections[self.section] += 1
        counts.overloads.add(func.name())
        cost = op_cost(func, args, kwargs, result)
        if name == "_fused_adamw":
            # Tensors decide on how many kernels, numbers on how long they take.
            counts.optimizer.append((len(args[0]), sum(p.numel() for p in args[0])))
        # Each is a place where the host waits for the device.
        if name in ("_to_copy", "copy") and _to_host(name, args, result):
            counts.reads += 1
        if cost.family != "view" and (cost.bytes or cost.flops):
            tensors = len(args[0]) if args and isinstance(args[0], (list, tuple)) else 1
            numbers = result.numel() if isinstance(result, Tensor) else 0
            counts.ops.append(Op(self.section, name, cost, compute_unit(args, cost), tensors, numbers))
            if self.with_calls:
                named = tuple((name, self._form(value)) for name, value in kwargs.items())
                counts.calls[Call(func, self._form(args), named), cost] += 1
                self._uses.note(_tensors([args, list(kwargs.values()), result]), cost.bytes)
        return result

    def _form(self, value: Any) -> Any:
        """Return an argument with tensors replaced by their forms and lists by tuples, which can be compared."""
        if isinstance(value, Tensor):
            return Spec(tuple(value.shape), value.stride(), value.dtype, self._uses.is_far(value))
        return tuple(map(self._form, value)) if isinstance(value, (list, tuple)) else value


def _tensors(value: Any) -> Iterator[Tensor]:
    """Yield the tensors in nested lists."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, (list, tuple)):
        for part in value:
            yield from _tensors(part)


def _to_host(name: str, args: tuple, result: Tensor) -> bool:
    source = args[1] if name == "copy" else args[0]
    return accelerator(result.device).host and not accelerator(source.device).host


@contextmanager
def saved_for_backward(counts: StepCounts, model: torch.nn.Module) -> Iterator[None]:
    """Count into `counts.saved` what is kept for the backward pass while the context is open.

    Memory that several operators keep counts once; parameters and buffers of the model, which are there anyway, do not.
    """
    own = {tensor.untyped_storage()._cdata for tensor in [*model.parameters(), *model.buffers()]}
    kept: dict[int, torch.UntypedStorage] = {}  # held, so that no address is used twice

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in own:
            kept[storage._cdata] = storage
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        yield
    counts.saved += sum(storage.nbytes() for storage in kept.values())
