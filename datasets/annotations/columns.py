"""Columns of values as JSON files have them: cast to arrays, marked by a test, numbered."""

import struct
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .parse import to_int

#: Numbers up to here are counted in a table.
MOST_COUNTED = 1 << 20


def cast_column(
    values: list[Any], cast: Callable[[Any], Any], plain: set[type], dtype: type
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return `values` as numbers (0 for none), the mask of those known, and of those `cast` from no `plain` type."""
    # The usual file: one pass over types, one conversion of the whole column.
    # Types exactly, so that True is not taken for the integer 1.
    if set(map(type, values)) <= plain:
        try:
            return np.array(values, dtype=dtype), np.ones(len(values), dtype=bool), np.zeros(len(values), dtype=bool)
        except OverflowError:
            pass  # an integer of more than 64 bits
    numbers = [cast(value) for value in values]
    known = np.array([number is not None for number in numbers], dtype=bool)
    odd = np.array([type(value) not in plain for value in values], dtype=bool)
    # 0 stands where nothing is known: the mask, not the value, says so.
    return np.array([number or 0 for number in numbers], dtype=dtype), known, known & odd


def pack(numbers: Sequence[int | float], code: str) -> np.ndarray:
    """Return numbers as an array (k,), to be read only, of int64 (`code` "q") or float64 ("d").

    A third of the time of `np.array`, with equal results. Raises OverflowError for one of too many bits.
    """
    try:
        return np.frombuffer(struct.pack(f"{len(numbers)}{code}", *numbers), code)
    except struct.error as error:
        raise OverflowError(str(error)) from None


def to_flag(value: Any) -> int | None:
    """Return true and false as 1 and 0, and else what `to_int` does."""
    return int(value) if isinstance(value, bool) else to_int(value)


def is_none(value: Any) -> bool:
    """Return True for None."""
    return value is None


def mark(values: list[Any], test: Callable[[Any], bool]) -> np.ndarray:
    """Return the result of `test` for each value (m,) bool."""
    return np.fromiter(map(test, values), bool, len(values))


def free_numbers(count: int, *, taken: np.ndarray) -> np.ndarray:
    """Return `count` integers from 1 on that are not `taken`: after the largest where 64 bits have room for them."""
    largest = int(taken.max(initial=0))
    if largest < 2**62:
        return np.arange(largest + 1, largest + 1 + count)
    # Of so many numbers at least `count` are free.
    return np.setdiff1d(np.arange(1, 1 + count + len(taken)), taken)[:count]


def distinct(numbers: np.ndarray) -> np.ndarray:
    """Return the different numbers among `numbers` (m,), rising."""
    # Labels are small: counting them takes one pass and no memory.
    if len(numbers) and numbers.min() >= 0 and numbers.max() <= MOST_COUNTED:
        return np.flatnonzero(np.bincount(numbers))
    return np.unique(numbers)


def are_unique(numbers: np.ndarray) -> bool:
    """Return True where no number of (m,) comes twice."""
    # Most files count up; sorting takes a third of the memory of what finds the first of each.
    if (numbers[1:] > numbers[:-1]).all():
        return True
    ordered = np.sort(numbers)
    return bool((ordered[1:] != ordered[:-1]).all())


def any_of_row(marks: np.ndarray) -> np.ndarray:
    """Mark the rows (m,) of `marks` (m, w) with any that is true."""
    # Over rows of four numbers numpy is slow, and mostly there is nothing to find.
    return np.asarray(marks.any(1)) if marks.any() else np.zeros(len(marks), dtype=bool)
