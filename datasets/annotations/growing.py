"""Columns that grow part by part while a file is read."""

from collections.abc import Callable, Iterator
from typing import Any, Self

import numpy as np
from msgspec import Raw

from .parse import NOTHING, NULL

#: Rows at a time where an intermediate result of all rows would take as much memory as the table.
BLOCK_ROWS = 1 << 20


class GrowingColumn:
    """Rows of numbers; those that are all zero take no memory until another one comes."""

    def __init__(self, dtype: Any, width: tuple[int, ...] = ()) -> None:
        self._rows = np.zeros((0, *width), dtype)
        self._length = 0

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, row: int) -> Any:
        return self.array()[row]

    def extend(self, rows: np.ndarray) -> None:
        """Append rows (k, *width)."""
        end = self._length + len(rows)
        # By bytes: -0.0 is not the same as 0.
        if np.ascontiguousarray(rows).view(np.uint8).any():
            self._reserve(end)
            self._rows[self._length : end] = rows
        self._length = end

    def extend_zeros(self, count: int) -> None:
        """Append `count` rows of zeros."""
        self._length += count

    def array(self) -> np.ndarray:
        """Return all rows (m, *width), to be read and written; not to be extended any more."""
        self._reserve(self._length)
        return self._rows[: self._length]

    def select(self, keep: np.ndarray) -> Self:
        """Return the rows in which `keep` (m,) bool is true, as a column of its own."""
        made = type(self)(self._rows.dtype, self._rows.shape[1:])
        made.extend(self.array()[keep])
        return made

    def _reserve(self, length: int) -> None:
        if length > len(self._rows):
            # Half as much again, so that a row is copied twice on average; zeros that nobody writes take no memory.
            rows = np.zeros((max(length, len(self._rows) * 3 // 2), *self._rows.shape[1:]), self._rows.dtype)
            rows[: len(self._rows)] = self._rows
            self._rows = rows


class GrowingTexts:
    """A JSON text for each row, one behind the other in one block; `null` takes no room."""

    def __init__(self) -> None:
        self._content = bytearray()
        self._starts = GrowingColumn(np.int64)
        self._lengths = GrowingColumn(np.int64)
        self._replaced: dict[int, Raw] = {}

    def extend(self, texts: list[Raw]) -> None:
        """Append texts."""
        # Counting compares by identity first, and most files have none or one for each object.
        if texts.count(NULL) == len(texts):
            zeros = np.zeros(len(texts), np.int64)
            self._starts.extend(zeros)
            self._lengths.extend(zeros)
            return
        texts = [NOTHING if text == NULL else text for text in texts]
        lengths = np.fromiter(map(len, texts), np.int64, len(texts))
        self._starts.extend(len(self._content) + np.cumsum(lengths) - lengths)
        self._lengths.extend(lengths)
        self._content += b"".join(texts)

    def __getitem__(self, row: int) -> Raw:
        if row in self._replaced:
            return self._replaced[row]
        start, length = int(self._starts.array()[row]), int(self._lengths.array()[row])
        return Raw(memoryview(self._content)[start : start + length]) if length else NULL

    def __setitem__(self, row: int, text: Raw) -> None:
        self._replaced[row] = text

    def present(self) -> np.ndarray:
        """Mark the rows (m,) bool with a text other than `null`."""
        return self._lengths.array() > 0

    def first_bytes(self, rows: np.ndarray) -> np.ndarray:
        """Return the first byte (k,) uint8 of the texts of `rows` (k,), all present."""
        if not len(rows):
            return np.zeros(0, np.uint8)
        return np.frombuffer(self._content, np.uint8)[self._starts.array()[rows]]

    def select(self, keep: np.ndarray) -> "GrowingTexts":
        """Return the rows in which `keep` (m,) bool is true; the texts themselves are shared."""
        made = GrowingTexts()
        made._content = self._content
        made._starts, made._lengths = self._starts.select(keep), self._lengths.select(keep)
        return made


def blocks(count: int) -> Iterator[slice]:
    """Yield slices of at most BLOCK_ROWS rows that cover `count` of them."""
    return (slice(first, min(first + BLOCK_ROWS, count)) for first in range(0, count, BLOCK_ROWS))


def by_block(count: int, dtype: Any, compute: Callable[[slice], Any]) -> np.ndarray:
    """Return what `compute` gives for the rows of each block, as one column (count,) of `dtype`."""
    column = np.zeros(count, dtype)
    for part in blocks(count):
        column[part] = compute(part)
    return column
