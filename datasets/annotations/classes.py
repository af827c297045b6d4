"""Some of a file's classes, as if it listed no others (`--classes`)."""

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from util.errors import DatasetError

from .dense import DenseLabels
from .listed import ListedObjects

#: A file's categories by id.
Categories = dict[int, dict[str, Any]]
#: Names in a message, at most; more would not be read.
SHOWN = 20


@dataclass(frozen=True, kw_only=True)
class ChosenClasses:
    """The classes to keep; objects of all others are left away, and their images stay.

    Attributes:
        words: names in upper or lower case; a number that is no name is a category id.
        required: the file must list all of them; else one is enough.
        labels: what `read_annotations` takes as `num_classes` where all classes are kept.
    """

    words: tuple[str, ...]
    required: bool = True
    labels: int | DenseLabels | None = None

    def choose(self, categories: Mapping[int, dict[str, Any]], path: Path) -> Categories:
        """Return the categories of these names, in the file's order; raises DatasetError, which names `path`."""
        by_name = {str(category["name"]).strip().casefold(): id_ for id_, category in categories.items()}
        chosen, unknown = set(), []
        for word in self.words:
            # A name first: a class may be called "7", whatever its id.
            id_ = by_name.get(word.casefold(), int(word) if word.isdecimal() else None)
            if id_ in categories:
                chosen.add(id_)
            else:
                unknown.append(word)
        if not self.words or (unknown and (self.required or not chosen)):
            names = [str(category["name"]) for category in categories.values()]
            raise DatasetError(f"--classes {','.join(unknown) or '(none)'}: {path} has {_near(unknown, names)}")
        return {id_: category for id_, category in categories.items() if id_ in chosen}

    def keep(self, entries: ListedObjects, categories: Categories, path: Path) -> tuple[ListedObjects, Categories]:
        """Return annotations and categories without those of other classes; `path` is for messages.

        An annotation that names no category stays, to be refused as ever. Raises DatasetError as `choose` does, and
        where a file that must list all classes has no object of any.
        """
        chosen = self.choose(categories, path)
        others = categories.keys() - chosen.keys()
        # `not in others`, not `in chosen`: an annotation of an unknown category must reach the check that refuses it.
        ids = entries.numbers["category_id"]
        keep = ids.unknown.array() | ~np.isin(ids.numbers.array(), list(others))
        if len(entries) and not keep.any() and self.required:
            raise DatasetError(f"--classes {','.join(self.words)}: {path} has {len(entries)} objects, none of them")
        return entries.select(keep), chosen


def words_of(classes: str) -> tuple[str, ...]:
    """Return the words of `--classes a,b`."""
    return tuple(filter(None, (word.strip() for word in classes.split(","))))


def _near(unknown: list[str], names: list[str]) -> str:
    """Say that there is no such class, with the nearest names, or else with the first of them all."""
    folded = {name.casefold(): name for name in names}
    near = [folded[name] for word in unknown for name in difflib.get_close_matches(word.casefold(), folded, n=2)]
    return (
        f"no such class; near: {', '.join(near)}"
        if near
        else f"no such class; known are {', '.join(names[:SHOWN])}{' ...' if len(names) > SHOWN else ''}"
    )
