"""A checkpoint's classes against those of the data: an id must mean the same, or the classes are matched by name."""

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..coco_classes import COCO_NAMES, COCO_PANOPTIC_NAMES, DETECTION_COUNT, PANOPTIC_COUNT
from ..errors import UserError
from .averaged import WEIGHT_KEYS
from .schedule import is_alpha

#: Names in a message, at most; more would not be read.
SHOWN = 20
#: The logit of a class that the checkpoint does not know: it is never found, and its gradient is 0.
NEVER = -100.0


@dataclass(frozen=True)
class DataClasses:
    """The classes of the data that a checkpoint meets.

    Attributes:
        names: by category id.
        count: one more than the largest id, or more where the user asks for room.
        learned: True in training, False in an evaluation.
    """

    names: Mapping[int, str]
    count: int
    learned: bool


def names_in(checkpoint: Mapping[str, Any] | None) -> dict[int, str] | None:
    """Return a checkpoint's class names by category id; None where it has none, as files of the original."""
    names = checkpoint.get("class_names") if checkpoint is not None else None
    if not isinstance(names, Mapping) or not names:
        return None
    # A file of another program may hold anything under this key.
    usable = all(type(id_) is int and isinstance(name, str) for id_, name in names.items())
    return dict(names) if usable else None


def label_order(checkpoint: Mapping[str, Any] | None) -> tuple[int, ...] | None:
    """Return the category ids of labels 0, 1, ... of a checkpoint trained with --dense_labels; None for any other."""
    ids = checkpoint.get("category_ids") if checkpoint is not None else None
    if not isinstance(ids, Mapping) or not ids or not all(type(id_) is int for id_ in ids.values()):
        return None
    return tuple(ids[label] for label in range(len(ids))) if set(ids) == set(range(len(ids))) else None


def known_names(checkpoint: Mapping[str, Any]) -> tuple[dict[int, str] | None, str]:
    """Return a checkpoint's class names by category id, and words on a source other than itself.

    A file without names and with the class count of DETR's published ones has COCO's; any other such file has None.
    """
    names, count = names_in(checkpoint), class_count(checkpoint)
    of_coco = {DETECTION_COUNT: COCO_NAMES, PANOPTIC_COUNT: COCO_PANOPTIC_NAMES}.get(count or 0)
    if names is None and of_coco is not None:
        return of_coco, f" (COCO's, as the file has {count} classes and no names)"
    return names, ""


def trained_classes(checkpoint: Mapping[str, Any]) -> str | None:
    """Return --classes of the run that wrote a checkpoint; None of one that learned all classes of its data."""
    run = checkpoint.get("args")
    classes = run.get("classes") if isinstance(run, Mapping) else None
    return classes if isinstance(classes, str) else None


def class_count(checkpoint: Mapping[str, Any]) -> int | None:
    """Return the number of classes of a checkpoint's class head, None where it has no head."""
    weights = [value for name, value in checkpoint["model"].items() if name.endswith("class_embed.weight")]
    # The last row is "no object"; a single number is no head.
    return len(weights[0]) - 1 if weights and weights[0].ndim else None


def refuse_other_classes(checkpoint: Mapping[str, Any], path: str | os.PathLike, data: DataClasses) -> None:
    """Raise UserError where an id of the data has another name in the checkpoint, or none; both lists are named.

    A checkpoint without names passes, and classes of the checkpoint that the data lacks do no harm.
    """
    theirs = names_in(checkpoint)
    if theirs is None:
        return
    # By the data's ids: each is looked up, and one that the checkpoint lacks counts as different.
    different = [id_ for id_, name in data.names.items() if plain_name(theirs.get(id_, "")) != plain_name(name)]
    if not different:
        return
    common = set(map(plain_name, theirs.values())).intersection(map(plain_name, data.names.values()))
    ways = ["--match_classes goes by the names"] if common else []
    ways += [f"--init_from {path} starts a new run"] if data.learned else []
    ways += [] if common else ["if equal ids mean the same, give them equal names in the annotation file"]
    others = theirs.keys() - data.names.keys()
    raise UserError(
        f"{path}: its classes are {_spell(theirs, [*different, *others])}, those of the data "
        f"{_spell(data.names, different)}: {'; '.join(ways)}"
    )


def match_classes(checkpoint: dict[str, Any], path: str | os.PathLike, data: DataClasses) -> tuple[dict[str, Any], str]:
    """Return the checkpoint with its class head in the order of the data's ids, and a line that says what moved.

    Rows of weights and of the optimizer's averages move along. Classes that the data lacks keep a row at an id that the
    data does not use, so that scores stay as they are. `path` is for messages. Raises UserError for a checkpoint
    without names, for two classes of one name, and for classes of the data that it does not know: in an evaluation
    only where it knows none.
    """
    (theirs, source), count = known_names(checkpoint), class_count(checkpoint)
    # Names beyond the head's rows would move rows that are not there.
    if theirs is None or count is None or max(theirs) >= count:
        raise UserError(f"--match_classes: {path} does not say the names of its classes")
    # Name to old id; `sources` below is new id to old id.
    places = _by_name(theirs, path)
    sources = {id_: places.get(name) for name, id_ in _by_name(data.names, "the data").items()}
    unknown = [id_ for id_, source in sources.items() if source is None]
    # In an evaluation a class that is unknown is simply never found; in training it would start from a row of nothing.
    if len(unknown) == len(sources) or (unknown and data.learned):
        way = f"; --init_from {path} starts a new run, which learns them" if data.learned else ""
        missing = _spell_some(data.names, unknown)
        raise UserError(f"--match_classes: {path} does not know {missing}; its classes are {_spell(theirs)}{way}")
    rows = _rows(sources, theirs=count, ours=data.count)
    matched = checkpoint | {
        **{
            key: {name: _move(value, rows, name) for name, value in checkpoint[key].items()}
            for key in WEIGHT_KEYS
            if key in checkpoint
        },
        "class_names": dict(data.names),
    }
    if "optimizer" in checkpoint:
        # AdamW's averages are rows of the same classes: left where they are, each class would go on with another's.
        matched["optimizer"] = _move_averages(checkpoint["optimizer"], list(checkpoint["model"]), rows)
    moved = [f"{data.names[id_]} {source} -> {id_}" for id_, source in sources.items() if source not in (None, id_)]
    line = f"--match_classes{source}: {shorten_list(moved) or 'every class has its id already'}"
    if unknown:
        line += f"; never found, for the checkpoint lacks them: {_spell_some(data.names, unknown)}"
    return matched, line


def _rows(sources: Mapping[int, int | None], *, theirs: int, ours: int) -> list[int | None]:
    """Return, for each row of the new head, the row of the old one that it was; None for a new one."""
    used = set(sources.values())
    # Rows of classes that the data lacks stay, at ids that the data has no name for, so that the head keeps its size.
    left = [row for row in range(theirs) if row not in used]
    rows: list[int | None] = []
    for id_ in range(ours):
        rows.append(sources[id_] if id_ in sources else left.pop(0) if left else None)
    return [*rows, *left, theirs]  # "no object" stays the last


def _move(value: Tensor, rows: list[int | None], name: str, *, new: float | None = None) -> Tensor:
    """Return the rows of a class head's weight or bias at their new places; another tensor as it is."""
    if not name.endswith(("class_embed.weight", "class_embed.bias")):
        return value
    if new is None:
        new = NEVER if name.endswith("bias") else 0.0
    # (C + 1, D) or (C + 1,)
    result = torch.full((len(rows), *value.shape[1:]), new, dtype=value.dtype)
    for place, row in enumerate(rows):
        if row is not None:
            result[place] = value[row]
    return result


def _move_averages(optimizer: Mapping[str, Any], names: list[str], rows: list[int | None]) -> dict[str, Any]:
    """Return the state of AdamW over DETR's two groups with the averages of the class head moved.

    The first group has the weights outside of the backbone in their order; a frozen detector is not among them, nor are
    alphas of attentions.
    """
    head = [name for name in names if "backbone" not in name and not is_alpha(name)]
    numbers = optimizer["param_groups"][0]["params"]
    state = dict(optimizer["state"])
    # Of another count the numbers do not tell the tensors, and restoring the optimizer says so.
    if len(head) == len(numbers):
        for name, number in zip(head, numbers):
            averages = state.get(number, {})
            state[number] = {
                key: _move(value, rows, name, new=0.0) if isinstance(value, Tensor) and value.dim() else value
                for key, value in averages.items()
            }
    return {**optimizer, "state": state}


def _by_name(names: Mapping[int, str], owner: str | os.PathLike) -> dict[str, int]:
    result: dict[str, int] = {}
    for id_, name in names.items():
        if result.setdefault(plain_name(name), id_) != id_:
            raise UserError(f"--match_classes: {owner} has two classes {name!r}: {result[plain_name(name)]} and {id_}")
    return result


def plain_name(name: str) -> str:
    """Return a name without the differences that mean nothing: upper and lower case, spaces around it."""
    return name.strip().casefold()


def _spell(names: Mapping[int, str], ids: Iterable[int] | None = None) -> str:
    """List ids and names; of a long list only those with these ids."""
    chosen = set(names if ids is None or len(names) <= SHOWN else ids)
    listed = [f"{id_} {name}" for id_, name in sorted(names.items()) if id_ in chosen]
    return shorten_list(listed) + (f" (of {len(names)})" if len(listed) < len(names) else "")


def _spell_some(names: Mapping[int, str], ids: Iterable[int]) -> str:
    return shorten_list([f"{id_} {names[id_]}" for id_ in ids])


def shorten_list(parts: list[str]) -> str:
    return ", ".join(parts[:SHOWN]) + (f" and {len(parts) - SHOWN} more" if len(parts) > SHOWN else "")
