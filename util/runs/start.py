"""A new run from a checkpoint's weights: all that fits by name and shape, classes by their names, queries by number."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..errors import CheckpointError
from .checkpoint import differences, match_prefixes, two_shapes
from .class_names import known_names, plain_name, shorten_list

HEAD = ("class_embed.weight", "class_embed.bias")
QUERIES = "query_embed.weight"


@dataclass(frozen=True)
class Started:
    """Names of the tensors that were loaded whole, lines on rows that were copied, and on each tensor left alone."""

    loaded: list[str]
    copied: list[str]
    left: list[str]

    def describe(self, path: str | os.PathLike) -> str:
        """Return one line on all of it; `path` is the checkpoint's."""
        rest = [f"left as initialised: {', '.join(self.left)}"] if self.left else []
        return f"--init_from {path}: {'; '.join([f'{len(self.loaded)} tensors loaded', *self.copied, *rest])}"


def init_from(model: torch.nn.Module, checkpoint: dict[str, Any], class_names: Mapping[int, str]) -> Started:
    """Load the weights of `checkpoint` that fit `model`, which learns the classes `class_names`, by category id.

    A class of the checkpoint's class head is copied to the class of the same name, a query to that of the same number;
    the others start as `model` has them. A head without known names is copied by ids, if it has as many. Raises
    CheckpointError when nothing fits.
    """
    own = model.state_dict()
    stored = match_prefixes(checkpoint["model"], own)
    rows, on_classes = _class_rows(checkpoint, stored, own, class_names)
    copied = [on_classes] if on_classes else []
    for name in own:
        if name.endswith(HEAD) and rows is not None and _same_width(name, stored, own):
            stored[name] = _copy_rows(own[name], stored[name], rows)
        elif name.endswith(QUERIES) and _same_width(name, stored, own) and len(stored[name]) != len(own[name]):
            count = min(len(stored[name]), len(own[name]))
            copied.append(f"queries 1 to {count} of {len(own[name])} copied from {len(stored[name])}")
            stored[name] = _copy_rows(own[name], stored[name], {number: number for number in range(count)})
    misfits, missing, unexpected = differences(stored, own)
    # A bias alone would tilt a head of random weights towards other classes.
    without_weight = [f"{name.removesuffix('weight')}bias" for name in misfits if name.endswith(HEAD[0])]
    loaded = [name for name in own if name in stored and name not in [*misfits, *without_weight]]
    if not loaded:
        raise CheckpointError("--init_from: no weight in the checkpoint has a name and shape of this model")
    model.load_state_dict({name: stored[name] for name in loaded}, strict=False)
    left = [two_shapes(name, stored, own) for name in misfits]
    left += [f"{name}: nothing without its weight" for name in without_weight if name not in misfits]
    left += [f"{name}: not in the checkpoint" for name in missing]
    left += [f"{name}: not in this model" for name in unexpected]
    return Started(loaded, copied, left)


def _class_rows(
    checkpoint: Mapping[str, Any], stored: Mapping[str, Tensor], own: Mapping[str, Tensor], names: Mapping[int, str]
) -> tuple[dict[int, int] | None, str]:
    """Return the stored row of the class head for each own row that has one, and what to say about it.

    None where the head stays as it is: whole if it has as many rows, else as initialised.
    """
    head = next((name for name in own if name.endswith(HEAD[0]) and _same_width(name, stored, own)), None)
    if head is None:
        return None, ""
    theirs, ours = len(stored[head]) - 1, len(own[head]) - 1  # the last row is "no object"
    known, source = known_names(checkpoint)
    if known is None or max(known) >= theirs:
        by_ids = f"the file does not name its classes: its class head is taken by ids, as all {ours} of both"
        return None, by_ids if theirs == ours else ""
    sources = {id_: _row_of(id_, name, known) for id_, name in names.items()}
    # Own id to stored id: a class may have another number there.
    rows = {id_: row for id_, row in sources.items() if row is not None}
    free = range(min(theirs, ours))
    # Ids that neither side names keep their rows, as they were never seen; the last row, "no object", goes to the last.
    rows |= {id_: id_ for id_ in free if id_ not in names and id_ not in known} | {ours: theirs}
    same = [names[id_] for id_, row in sources.items() if row == id_]
    moved = [f"{names[id_]} {row} -> {id_}" for id_, row in sources.items() if row not in (None, id_)]
    new = [f"{id_} {names[id_]}" for id_, row in sources.items() if row is None]
    parts = [f"under their ids {shorten_list(same)}"] if same else []
    parts += [f"under new ids {shorten_list(moved)}"] if moved else []
    parts = (
        [f"classes copied by name{source} {' and '.join(parts)}"] if parts else [f"no class has a known name{source}"]
    )
    parts += [f"classes that start anew: {shorten_list(new)}"] if new else []
    return rows, "; ".join(parts)


def _row_of(id_: int, name: str, known: Mapping[int, str]) -> int | None:
    """Return the id that a class has in the checkpoint; None where none, or several others, have its name."""
    found = [other for other, theirs in known.items() if plain_name(theirs) == plain_name(name)]
    # Of several classes of one name, that under the same id is meant, if it is among them.
    return id_ if id_ in found else found[0] if len(found) == 1 else None


def _same_width(name: str, stored: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> bool:
    return name in stored and stored[name].shape[1:] == own[name].shape[1:]


def _copy_rows(own: Tensor, stored: Tensor, rows: Mapping[int, int]) -> Tensor:
    """Return `own` with some of its rows replaced by rows of `stored`."""
    result = own.detach().clone()
    places = list(rows)
    # To the model's type and device.
    result[places] = stored[[rows[place] for place in places]].to(result)
    return result
