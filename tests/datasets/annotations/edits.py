"""Edits of a sound annotation file, and the line that reading the result ends with."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from datasets.annotations import read_annotations
from util.errors import DatasetError

Edit = Callable[[dict[str, Any]], Any]


def change(kind: str, position: int, **entries: Any) -> Edit:
    """An edit of one entry of the list `kind`."""
    return lambda data: data[kind][position].update(entries)


def lose(kind: str, position: int, key: str) -> Edit:
    """An edit that removes a key of one entry."""
    return lambda data: data[kind][position].pop(key)


def add(kind: str, position: int, **entries: Any) -> Edit:
    """An edit that appends a changed copy of one entry."""
    return lambda data: data[kind].append({**data[kind][position], **entries})


def refusal(path: Path, **asked: Any) -> str:
    """The one line that reading `path` ends with; it starts with the file's name."""
    with pytest.raises(DatasetError) as caught:
        read_annotations(path, **asked)
    line = caught.value.line()
    assert line == str(caught.value) and line.startswith(f"{path}: ") and "\n" not in line
    return line
