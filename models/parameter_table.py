"""Parameters of a detector by module, for `main.py --describe`."""

import re
from typing import NamedTuple

from torch import nn

#: Modules whose parts have a row of their own: a backbone's layers, the transformer's layers.
SPLIT = re.compile(
    r"((?:detr\.)?(?:backbone\.0\.body\.[^.]+|transformer\.(?:encoder|decoder)\.(?:layers\.\d+|[^.]+)|[^.]+))"
)


class ModuleParameters(NamedTuple):
    """A row of the table: a module, and the numbers in its parameters that training changes, and that it leaves."""

    name: str
    trainable: int
    frozen: int


def parameters_by_module(model: nn.Module) -> list[ModuleParameters]:
    """Return a row for each part of a model that has parameters, in the order of the state dict.

    Statistics and weights of frozen batch norms are buffers and no parameters.
    """
    rows: dict[str, ModuleParameters] = {}
    for name, parameter in model.named_parameters():
        found = SPLIT.match(name)
        part = found[1] if found else name
        row = rows.get(part, ModuleParameters(part, 0, 0))
        # A module may hold both, as a ResNet with its first stages frozen: hence two columns and no flag.
        more = (parameter.numel(), 0) if parameter.requires_grad else (0, parameter.numel())
        rows[part] = ModuleParameters(part, row.trainable + more[0], row.frozen + more[1])
    return list(rows.values())


def format_parameters(rows: list[ModuleParameters]) -> str:
    """Return the rows as a table with their share of all parameters, and a last line for the sum."""
    total = ModuleParameters("in all", sum(row.trainable for row in rows), sum(row.frozen for row in rows))
    count = max(1, total.trainable + total.frozen)
    width = max(len(row.name) for row in [*rows, total])
    lines = [f"{'module':{width}}  {'parameters':>12}  {'trainable':>12}  {'frozen':>12}   share"]
    for name, trainable, frozen in [*rows, total]:
        share = (trainable + frozen) / count
        lines.append(f"{name:{width}}  {trainable + frozen:12,}  {trainable:12,}  {frozen:12,}  {share:6.1%}")
    return "\n".join(lines)
