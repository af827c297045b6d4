"""The place of a moment in a training step, by the named ranges around it: section, module, direction, operator.

All sources share it: torch.profiler's traces, Nsight Compute's reports, Nsight Systems' timelines.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import reduce

from ..columns import DIRECTIONS

STEP = "iteration"
#: Before the name of a module that main.py --module_ranges sees run again in the backward pass.
AGAIN = "recompute "
#: What autograd's own range around a node of the backward pass begins with.
NODE = "autograd::engine::evaluate_function: "
PYTHON = "(Python between operators)"
EXCHANGE = "(waiting for other processes)"
#: Ranges around modules that are no module.
_LOOP = {"training_loop", "training_epoch", "DistributedDataParallel.forward"}
_EVALUATION = "evaluation"
#: Ranges that main.py has without --module_ranges, as that names them.
_SHORT = {"encoder": "transformer.encoder", "decoder": "transformer.decoder"}
_COMMUNICATION = ("nccl", "gloo:", "c10d::", "torch::distributed::")
#: torch.autograd.profiler.emit_nvtx: `aten::conv2d, seq = 7, op_id = 3`; older versions write `stashed seq=7`.
_NUMBERED = re.compile(r"(?P<name>.*?), (?:stashed )?seq ?= ?(?P<number>\d+)\b.*", re.DOTALL)
_UNNUMBERED = re.compile(r"(?P<name>.*?), op_id ?= ?\d+\b.*", re.DOTALL)


@dataclass(frozen=True)
class Place:
    """The owner of a moment; `kernel` is the innermost operator, or PYTHON."""

    section: str = ""
    module: str = ""
    direction: str = ""
    operator: str = ""
    kernel: str = PYTHON
    in_step: bool = False


def is_communication(name: str) -> bool:
    """Say whether a range, an operator or a kernel exchanges data with other processes."""
    return name == EXCHANGE or name.startswith(_COMMUNICATION) or "ncclDevKernel" in name or "ncclKernel" in name


def enter(around: Place, name: str) -> Place:
    """Return the place inside the range `name`, which lies in the place `around`. The innermost module counts."""
    if name == STEP:
        return replace(around, in_step=True)
    if name in DIRECTIONS:
        return replace(around, section=name, direction=DIRECTIONS[name])
    if name == _EVALUATION:
        return replace(around, section=name, direction="")
    if name in _LOOP:
        return around
    # A module that is run again lies inside a node's function: time in none of its operators is Python's again.
    if name.startswith(AGAIN):
        module = name.removeprefix(AGAIN)
        return replace(around, module=module, direction="recompute", operator="", kernel=PYTHON)
    if "#" in name or is_communication(name):  # torch's own: Optimizer.step#AdamW.step, nccl:all_reduce
        return replace(around, operator=name, kernel=name)
    return replace(around, module=_SHORT.get(name, name))


def enter_all(around: Place, names: Iterable[str]) -> Place:
    """Return the place inside ranges, the outermost first; operators of emit_nvtx may be among them."""
    return reduce(lambda place, name: _enter_nvtx(place, name), names, around)


def _enter_nvtx(around: Place, text: str) -> Place:
    name, _ = numbered(text)
    return enter_operator(around, name) if "::" in name else enter(around, name)


def enter_operator(around: Place, name: str, counted: frozenset[str] = frozenset()) -> Place:
    """Return the place inside an operator: the outermost names it, or the outermost of those that were counted."""
    # aten::linear calls aten::addmm: the outer one is what the program asked for, unless only the inner one was
    # counted.
    first = not around.operator or (name in counted and around.operator not in counted)
    return replace(around, operator=name if first else around.operator, kernel=name)


def numbered(text: str) -> tuple[str, int]:
    """Return the name and autograd's number in a range of emit_nvtx; any other text as it is, with -1."""
    if ", " not in text:
        return text, -1
    if match := _NUMBERED.fullmatch(text):
        return match["name"], int(match["number"])
    match = _UNNUMBERED.fullmatch(text)
    return (match["name"] if match else text), -1
