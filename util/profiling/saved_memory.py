"""Memory by module when the backward pass begins: what the forward kept for it, weights, gradients, moments.

Counted from the tensors themselves by hooks of autograd (`torch.autograd.graph.saved_tensors_hooks`), so on any device.
"""

import csv
import io
from collections import Counter
from pathlib import Path

from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

from ..runs.atomic import atomic_file
from . import Section
from .module_names import range_name
from .module_ranges import ModuleRanges

COLUMNS = ("module", "saved_bytes", "weight_bytes", "gradient_bytes", "optimizer_bytes")
#: AdamW keeps two moments of each weight that is trained.
_MOMENTS = 2


class SavedMemory:
    """A watcher (`util/profiling/phases.py`) that notes in one step what each module keeps for its backward pass.

    A tensor counts once, for the module that kept it first, with the whole of its storage. Inputs that
    --grad_checkpoint keeps are held by a closure that no hook sees: they are missing.

    Args:
        model: whose weights count.
        ranges: says which module is at work.
        depth: levels of the weights' modules' names.
        step: the one to look at.
    """

    def __init__(self, model: nn.Module, ranges: ModuleRanges, *, depth: int, step: int) -> None:
        self.model = model
        self.ranges = ranges
        self.depth = depth
        self.step = step
        self.current = -1
        self._saved: Counter[str] = Counter()
        self._seen: set[int] = set()
        self._hooks: saved_tensors_hooks | None = None

    def begin_wait(self) -> None:
        """Waiting keeps nothing."""

    def begin_step(self, step: int) -> None:
        """Look at one step alone."""
        self.current = step
        # Weights have a column of their own.
        self._seen = {weight.untyped_storage().data_ptr() for weight in self.model.parameters()}

    def begin(self, section: Section) -> None:
        """Listen while the forward and the loss keep tensors."""
        if self.current == self.step and section in (Section.FORWARD, Section.LOSS):
            self._hooks = saved_tensors_hooks(self._pack, lambda tensor: tensor)
            self._hooks.__enter__()

    def end(self, section: Section) -> None:
        """Stop listening."""
        if self._hooks is not None:
            self._hooks.__exit__(None, None, None)
            self._hooks = None

    def end_step(self) -> None:
        """Nothing more: storages of the next step may lie where those of this one were."""

    @property
    def done(self) -> bool:
        """True once its step is over."""
        return self.current >= self.step and self._hooks is None

    def rows(self) -> list[dict[str, str | int]]:
        """Return COLUMNS for each module, the one with most memory first."""
        weights: Counter[str] = Counter()
        trained: Counter[str] = Counter()
        for path, weight in self.model.named_parameters():
            name = range_name(path.rpartition(".")[0], depth=self.depth)
            weights[name] += weight.nbytes
            trained[name] += weight.nbytes if weight.requires_grad else 0
        rows: list[dict[str, str | int]] = []
        for name in {*weights, *self._saved}:
            # A gradient is as large as its weight; frozen ones have neither gradient nor moments.
            numbers = (self._saved[name], weights[name], trained[name], _MOMENTS * trained[name])
            rows.append(dict(zip(COLUMNS, (name, *numbers))))
        return sorted(rows, key=lambda row: -sum(value for value in row.values() if isinstance(value, int)))

    def _pack(self, tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in self._seen:  # weights are no activations, and views share their storage
            self._seen.add(storage.data_ptr())
            self._saved[self.ranges.here()[0]] += storage.nbytes()
        return tensor


def write_memory(rows: list[dict[str, str | int]], costs: Path) -> Path:
    """Write the rows beside a table of costs as `<name>.memory.csv`; return its path."""
    path = costs.with_name(f"{costs.name.partition('.')[0]}.memory.csv")
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    with atomic_file(path) as file:
        file.write(text.getvalue().encode())
    return path
