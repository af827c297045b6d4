"""FLOPs and bytes of one training step, operator by operator, from torch's dispatcher: no GPU or counters needed.

Every operator that reaches a kernel is seen, with its shapes: those of the forward, the loss, autograd's backward and
the optimizer. `util/profiling/op_costs.py` has the formulas, `util/profiling/cost_table.py` the file.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.module_tracker import ModuleTracker

from ..dist.accelerator import accelerator
from . import Section
from .module_ranges import ModuleRanges
from .op_calls import base_name, shapes
from .op_costs import OpCost, op_cost
from .timing import Mark, marker, milliseconds_between

#: What DistributedDataParallel and the mask head's model call the detector inside them.
_WRAPPED = ("module", "detr")
#: Direction by section; what --grad_checkpoint computes again in the backward is "recompute".
_DIRECTIONS = {"forward": "forward", "loss": "forward", "backward": "backward", "optimizer_step": "optimizer"}


@dataclass
class OpRow:
    """Costs and times of one operator in one section, module and shape, summed over its calls."""

    section: str
    module: str
    direction: str
    kernel: str
    label: str
    shapes: str
    unit: str
    family: str
    known: bool
    first: int
    calls: int = 0
    flops: int = 0
    bytes: int = 0
    seconds: float = 0.0


class CostCounter:
    """A watcher (`util/profiling/phases.py`) that counts the step after `warmup` others, and times its operators.

    The time of an operator is that of its call below the dispatcher: on the CPU by the clock; on a GPU between two
    events around it, so that a kernel that is shorter than its launch counts as long as the launch. Counting happens
    between the operators, so the step as a whole is slower, the operators are not. After the step `rows` holds the
    result. With `ranges` modules are named as those are, instead of by two levels, and what is computed again is told
    apart.
    """

    def __init__(self, *, warmup: int, device: torch.device, ranges: ModuleRanges | None = None) -> None:
        self.warmup = warmup
        self.ranges = ranges
        self.device = device
        self.rows: list[OpRow] = []
        self.current = -1
        self._found: dict[tuple, OpRow] = {}
        self._spans: list[tuple[OpRow, Mark, Mark]] = []
        self._tracker: ModuleTracker | None = None
        self._mode: _Dispatch | None = None
        self._section = ""

    def begin_wait(self) -> None:
        """Waiting costs no operators."""

    def begin_step(self, step: int) -> None:
        """Follow the modules from the step after the warm-up on."""
        self.current = step
        # Earlier steps make what is made once: the optimizer's state, cuDNN's choices, caches.
        if step == self.warmup:
            self._tracker = ModuleTracker()
            self._tracker.__enter__()

    def begin(self, section: Section) -> None:
        """Listen to the dispatcher."""
        if self._tracker is None:  # not the step that is counted
            return
        self._section = str(section)
        self._tracker.parents = _InOrder()  # type: ignore[assignment]  # it only adds, removes and looks up
        self._mode = _Dispatch(self._add, mark=marker(self.device))
        self._mode.__enter__()

    def end(self, section: Section) -> None:
        """Stop listening."""
        if self._mode is not None:
            self._mode.__exit__(None, None, None)
            self._mode = None

    def end_step(self) -> None:
        """Bring the times to their rows."""
        if self._tracker is None:
            return
        self._tracker.__exit__(None, None, None)
        self._tracker = None
        accelerator(self.device).synchronise(self.device)  # events have no time before the GPU has reached them
        for row, begin, end in self._spans:
            row.seconds += milliseconds_between(begin, end) / 1e3
        self.rows = list(self._found.values())
        self._spans.clear()

    @property
    def done(self) -> bool:
        """True once the step is counted."""
        return self.current >= self.warmup and self._tracker is None

    @property
    def unknown(self) -> list[str]:
        """Sorted names of the operators that have no formula: their bytes are counted, their FLOPs are not."""
        return sorted({row.kernel for row in self.rows if not row.known})

    def _add(self, func: Any, args: tuple, kwargs: dict, result: Any, begin: Mark, end: Mark) -> None:
        assert self._tracker is not None  # the mode is on only between `begin` and `end` of a step that is followed
        cost = op_cost(func, args, kwargs, result)
        # Views and allocations cost nothing; an unknown operator stays, so that `unknown` names it.
        if cost.family == "view" or (cost.known and not cost.bytes and not cost.flops):
            return
        module, direction = self._place(self._tracker)
        unit, text = compute_unit(args, cost), shapes(args)
        # Equal operators on equal shapes in one module are one row: a step has thousands of calls and hundreds of rows.
        key = (self._section, module, direction, str(func), text, unit)
        if key not in self._found:
            self._found[key] = OpRow(
                section=self._section,
                module=module,
                direction=direction,
                kernel=str(func),
                label=op_label(func, args),
                shapes=text,
                unit=unit,
                family=cost.family,
                known=cost.known,
                first=len(self._found),
            )
        row = self._found[key]
        row.calls += 1
        row.flops += cost.flops
        row.bytes += cost.bytes
        # Read after the step: reading an event now would make the host wait for the GPU.
        self._spans.append((row, begin, end))

    def _place(self, tracker: ModuleTracker) -> tuple[str, str]:
        """Return the module and the direction of the operator at work."""
        direction = _DIRECTIONS[self._section]
        if self.ranges is None:
            return module_label(tracker.parents), direction
        module, own = self.ranges.here()
        return module, own if own == "recompute" else direction


class _Dispatch(TorchDispatchMode):
    """Times each operator and hands it to `add`."""

    def __init__(self, add: Callable[..., None], *, mark: Callable[[], Mark]) -> None:
        super().__init__()
        self._add = add
        self._mark = mark

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        kwargs = kwargs or {}
        begin = self._mark()
        result = func(*args, **kwargs)
        self._add(func, args, kwargs, result, begin, self._mark())  # the mark is taken before the counting begins
        return result


class _InOrder(dict):
    """A ModuleTracker's set of modules at work, in the order they were entered.

    In backward several are open at once: a module ends there with the last gradient of its inputs, which may be a
    tensor that others also got. Of the innermost, the one entered last is at work.
    """

    def add(self, name: str) -> None:
        """Enter."""
        self[name] = None

    def remove(self, name: str) -> None:
        """Leave."""
        del self[name]


def module_label(at_work: Iterable[str]) -> str:
    """Return the part of the model at work as two levels, e.g. transformer.encoder; "" outside all modules.

    `at_work` are the names of all modules at work, the last entered last. Containers are left out: of
    backbone.0.body.conv1 remains backbone, of transformer.encoder.layers.3 transformer.encoder.
    """
    names = [name for name in at_work if name != "Global"]
    # A module is at work together with those around it: only the innermost say which part it is.
    innermost = [name for name in names if not any(other.startswith(f"{name}.") for other in names)]
    last = innermost[-1] if innermost else ""
    root, *inner = last.split(".")
    parts = []
    for part in inner:
        if part.isdigit() or part == "layers":
            break
        if part not in _WRAPPED:
            parts.append(part)
    return ".".join(parts[:2]) or root


def op_label(func: Any, args: tuple) -> str:
    """Return a readable name: convolution 3x3, convolution 3x3 backward, addmm, layer_norm backward."""
    name = base_name(func)
    label = (
        name.strip("_").removeprefix("native_").replace("_backward_data", "_backward").replace("_backward", " backward")
    )
    if name in ("convolution", "convolution_backward"):
        weight = args[2 if name.endswith("backward") else 1]
        label = label.replace("convolution", f"convolution {'x'.join(map(str, weight.shape[2:]))}")
    return label


def compute_unit(args: tuple, cost: OpCost) -> str:
    """Return the unit of the charts that does the work: fp64, fp32, or a GPU's tensor cores.

    Tensor cores do matrix products whose type, or a setting for float32, lets them. Elementwise work on half precision
    is done in float32 and counted there; a CPU has one unit for all but float64 and products of bfloat16, for which
    many have instructions of their own (AMX, AVX-512 BF16).
    """
    tensor = next((part for part in _flat(args) if part.is_floating_point()), None)
    if tensor is None:
        return "fp32"
    if tensor.dtype is torch.float64:
        return "fp64"
    # Before the question for a GPU: CPUs have units for bfloat16 products, too.
    if cost.matrix and tensor.dtype is torch.bfloat16:
        return "tensor_bf16"
    if not (cost.matrix and accelerator(tensor.device).cuda):
        return "fp32"
    if tensor.dtype is torch.float16:
        return "tensor_fp16"
    # float32: on tensor cores if its rounding to TF32 is allowed, a setting apart for convolutions and products.
    allowed = torch.backends.cudnn.allow_tf32 if cost.family == "convolution" else torch.backends.cuda.matmul.allow_tf32
    return "tensor_tf32" if allowed else "fp32"


def _flat(value: Any) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value]
    return [tensor for part in value for tensor in _flat(part)] if isinstance(value, (list, tuple)) else []
