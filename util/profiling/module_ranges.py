"""Ranges of the model's modules, in forward and in backward (`--module_ranges`).

Forward: hooks of the modules open and close them. Backward: autograd numbers its nodes in the order in which the
forward makes them, so a node belongs to the module whose range was open when its number was given. torch.profiler's
trace has these numbers, and its reader needs no more; for NVTX, hooks of the nodes open the same ranges.
"""

import threading
from bisect import bisect_right
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from ..dist.distributed import print_once
from . import SECTIONS, Section, annotate, follow_ranges, nvtx_range
from .module_names import range_name

#: Before the name of a module that is run again in the backward pass (`--grad_checkpoint`).
AGAIN = "recompute "
#: Ranges around a step, which are no part of the model.
_LOOP = {"training_loop", "training_epoch", "iteration", "evaluation", *SECTIONS}
#: Nodes that only add a gradient to a weight's have the largest number there is.
_NO_NUMBER = 2**63


class ModuleRanges:
    """A watcher (`util/profiling/phases.py`) that opens a range for each module; it is never waited for.

    Every module has hooks, but a range begins only where the name, cut to `depth` levels, changes: a layer that is
    computed again is named even if its insides are not.

    Args:
        model: the detector, inside DistributedDataParallel or not.
        criterion: the loss; after it the whole graph of the backward pass is there.
        depth: levels of a module's name.
        nvtx_in_backward: also open NVTX ranges around the nodes of the backward pass.
    """

    def __init__(self, model: nn.Module, criterion: nn.Module, *, depth: int, nvtx_in_backward: bool) -> None:
        self._open = threading.local()  # autograd computes layers again in a thread of its own
        self._numbers: list[int] = [0]
        self._names: list[str] = [""]
        self._last = ""
        #: Hooks on nodes that outlive a step: DistributedDataParallel holds those that add to the weights' gradients.
        self._lasting: list[RemovableHandle] = []
        whole = _attach(model, depth, self._enter)
        if whole:
            print_once(f"--module_ranges: compiled as a whole, not told apart inside: {', '.join(whole)}")
        if nvtx_in_backward:
            criterion.register_forward_hook(lambda module, inputs, losses: self._mark_nodes(losses))
        follow_ranges(self._follow)

    def here(self) -> tuple[str, str]:
        """Return the module at work in this thread, "" for none, and the direction: forward, backward or recompute."""
        name = self._current()
        node = torch._C._current_autograd_node()
        if node is None:
            return name, "forward"
        if name.startswith(AGAIN):
            return name.removeprefix(AGAIN), "recompute"
        return self.module_of(node._sequence_nr()), "backward"

    def module_of(self, number: int) -> str:
        """Return the module whose forward made the node with this number, of this step.

        A node that adds to a weight's gradient runs at once after the node that made it, and gets its module.
        """
        if 0 <= number < _NO_NUMBER:
            # Numbers rise, so the last range that began at or before this one is the node's.
            self._last = self._names[bisect_right(self._numbers, number) - 1]
        return self._last

    def begin_wait(self) -> None:
        """Waiting for data is in no module."""

    def begin_step(self, step: int) -> None:
        """Forget the last step: its graph is gone."""
        for handle in self._lasting:
            handle.remove()
        self._lasting.clear()
        # Node numbers go on rising from step to step; what lies below the first range belongs to no module.
        self._numbers, self._names, self._last = [0], [""], ""

    def begin(self, section: Section) -> None:
        """Phases have ranges of their own."""

    def end(self, section: Section) -> None:
        """Phases have ranges of their own."""

    def end_step(self) -> None:
        """Nothing: all ranges are closed."""

    @property
    def done(self) -> bool:
        """True: no step is waited for."""
        return True

    def _current(self) -> str:
        names = getattr(self._open, "names", None)
        return names[-1] if names else ""

    def _enter(self, name: str) -> AbstractContextManager | None:
        """Return a module's range; None where that of its parent, which has the same name, is open."""
        if torch._C._current_graph_task_id() != -1:  # within a backward pass: this is run again for its gradients
            name = AGAIN + name
        return None if self._current() == name else annotate(name)

    @contextmanager
    def _follow(self, name: str) -> Iterator[None]:
        """Note a range of the model or the loss while it is open."""
        if name in _LOOP:
            yield
            return
        if not hasattr(self._open, "names"):
            self._open.names = []
        self._open.names.append(name)
        self._note()
        try:
            yield
        finally:
            self._open.names.pop()
            self._note()

    def _note(self) -> None:
        """Note from which number on nodes belong to the module that is open now; the backward pass uses none."""
        if torch._C._current_graph_task_id() == -1:
            self._numbers.append(torch._C._autograd._get_sequence_nr())
            self._names.append(self._current())

    def _mark_nodes(self, losses: Any) -> None:
        """Give each node that leads to the losses an NVTX range of its module's name."""
        values = losses.values() if isinstance(losses, dict) else [losses]
        left = [(value.grad_fn, "") for value in values if isinstance(value, Tensor) and value.grad_fn is not None]
        seen = {node for node, _ in left}
        while left:
            node, self._last = left.pop()  # what adds to a weight's gradient belongs to the module that led here
            if name := self.module_of(node._sequence_nr()):
                handles = _mark(node, name)
                self._lasting += handles if hasattr(node, "variable") else ()
            found = {parent for parent, _ in node.next_functions if parent is not None} - seen
            seen |= found
            # From the loss backwards along the graph, each node once.
            left += [(parent, name) for parent in found]
        self._last = ""


def _attach(model: nn.Module, depth: int, enter: Callable[[str], AbstractContextManager | None]) -> list[str]:
    """Have every module open its range; return the names of those that a compiler made one piece of."""
    whole: list[str] = []
    pieces: list[str] = []
    for path, module in model.named_modules():
        name = range_name(path, depth=depth)
        # Inside a compiled module hooks would be compiled too, and break its graph.
        if not name or any(path.startswith(f"{piece}.") for piece in pieces):
            continue
        if module._compiled_call_impl is not None:
            pieces.append(path)
            whole.append(name)
            module._compiled_call_impl = _inside(module._compiled_call_impl, name, enter)
        else:
            _hook(module, name, enter)
    return list(dict.fromkeys(whole))


def _inside(call: Callable, name: str, enter: Callable[[str], AbstractContextManager | None]) -> Callable:
    """Return a compiled module's call, in the module's range."""

    def run(*args: Any, **kwargs: Any) -> Any:
        context = enter(name)
        if context is None:
            return call(*args, **kwargs)
        with context:
            return call(*args, **kwargs)

    return run


def _hook(module: nn.Module, name: str, enter: Callable[[str], AbstractContextManager | None]) -> None:
    """Open the range before a module's forward and close it after, also when it fails.

    Layers that are computed again fail on purpose: torch stops them once the last tensor that is needed is there.
    """
    opened: list[AbstractContextManager | None] = []  # several where a module calls itself

    def before(*_: Any) -> None:
        context = enter(name)
        if context is not None:
            context.__enter__()
        opened.append(context)

    def after(*_: Any) -> None:
        context = opened.pop()
        if context is not None:
            context.__exit__(None, None, None)

    module.register_forward_pre_hook(before, prepend=True)
    # Not the module's own method: our attention takes a hook there as a wish for its weights, and computes otherwise.
    nn.Module.register_forward_hook(module, after, always_call=True)


def _mark(node: Any, name: str) -> tuple[RemovableHandle, RemovableHandle]:
    """Have a node of the graph open an NVTX range while it computes; return what ends that."""
    opened: list[AbstractContextManager] = []

    def before(*_: Any) -> None:
        opened.append(nvtx_range(name))
        opened[-1].__enter__()

    def after(*_: Any) -> None:
        if opened:  # torch runs the hooks after a node even if one before it failed
            opened.pop().__exit__(None, None, None)

    return node.register_prehook(before), node.register_hook(after)
