"""The annotations of a file as it lists them, in columns: as Python objects they would take ten times the memory.

Numbers of the types that JSON should hold are kept as numbers. A row with anything else stays as it was parsed, too, so
that it can be shown and looked at.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from itertools import chain
from operator import attrgetter
from typing import Any, Self, cast

import numpy as np
from msgspec import Raw

from .columns import any_of_row, cast_column, is_none, mark, pack, to_flag
from .growing import GrowingColumn, GrowingTexts
from .parse import NOTHING, Entry, PlainEntry, parse_segmentation, to_float, to_int

#: From here on not every integer is a float.
INEXACT = 2.0**53
ZEROS = [0, 0, 0, 0]
#: Fields of one integer.
INTEGERS = ("id", "image_id", "category_id", "iscrowd")

_marks = partial(field, default_factory=lambda: GrowingColumn(bool), init=False)


@dataclass
class Numbers:
    """A field of one number; `cast`, `plain` and `dtype` are what `cast_column` takes. Columns (m,):

    `numbers`, 0 where there is none; marks of the rows without the field or with null (`absent`), with no number or
    none at all (`unknown`), with a number that was made from another type (`was_cast`), and, of floats, with an
    integer (`whole`).
    """

    cast: Callable[[Any], Any]
    plain: set[type]
    dtype: type
    numbers: GrowingColumn = field(init=False)
    absent: GrowingColumn = _marks()
    unknown: GrowingColumn = _marks()
    was_cast: GrowingColumn = _marks()
    whole: GrowingColumn = _marks()

    def __post_init__(self) -> None:
        self.numbers = GrowingColumn(self.dtype)

    def extend(self, values: list[Any]) -> np.ndarray:
        """Append values; return the mask (k,) of those that the columns do not give back as they were."""
        numbers, known, cast = cast_column(values, self.cast, self.plain, self.dtype)
        absent = np.zeros(len(values), dtype=bool) if known.all() else mark(values, is_none)
        whole = mark_integers(values, numbers)
        self.numbers.extend(numbers)
        self.absent.extend(absent)
        self.unknown.extend(~known)
        self.was_cast.extend(cast)
        self.whole.extend(whole)
        return (~known & ~absent) | cast | (whole & (np.abs(numbers) >= INEXACT))

    def extend_plain(self, numbers: np.ndarray, whole: np.ndarray | None = None) -> None:
        """Append numbers (k,) of the plain types; `whole` (k,) marks integers in a column of floats."""
        self.numbers.extend(numbers)
        for marks in (self.absent, self.unknown, self.was_cast):
            marks.extend_zeros(len(numbers))
        if whole is None:
            self.whole.extend_zeros(len(numbers))
        else:
            self.whole.extend(whole)

    def value(self, row: int) -> Any:
        """Return the number of a row as the file has it, None for none."""
        return None if self.absent[row] else _number(self.numbers[row], self.whole[row])


@dataclass
class Boxes:
    """The boxes as they are listed. Columns:

    `numbers` (m, 4), 0 where there is none, `whole` (m, 4), and marks (m,) of rows with no box or an empty list
    (`absent`), with no list of four (`shapeless`), with nothing or only zeros (`empty`), with a number that is none
    (`unknown`) or was made from another type (`was_cast`).
    """

    numbers: GrowingColumn = field(default_factory=lambda: GrowingColumn(np.float64, (4,)))
    whole: GrowingColumn = field(default_factory=lambda: GrowingColumn(bool, (4,)))
    absent: GrowingColumn = _marks()
    shapeless: GrowingColumn = _marks()
    empty: GrowingColumn = _marks()
    unknown: GrowingColumn = _marks()
    was_cast: GrowingColumn = _marks()

    def extend(self, boxes: list[Any]) -> np.ndarray:
        """Append boxes; return the mask (k,) of those that the columns do not give back as they were."""
        shapeless = np.zeros(len(boxes), dtype=bool)
        # The usual file: two passes in C.
        if set(map(type, boxes)) != {list} or set(map(len, boxes)) != {4}:
            shapeless = mark(boxes, lambda box: type(box) is not list or len(box) != 4)
        absent = mark(boxes, lambda box: box is None or box == []) if shapeless.any() else shapeless
        # Four numbers in every row, so that the column can be flattened to (4 k,).
        values = list(chain.from_iterable(ZEROS if bad else box for box, bad in zip(boxes, shapeless.tolist())))
        numbers, known, cast = cast_column(values, to_float, {int, float}, np.float64)
        whole = mark_integers(values, numbers)
        odd = ~known | cast | (whole & (np.abs(numbers) >= INEXACT))
        empty = ~np.any(numbers.reshape(-1, 4).T, axis=0)
        if odd.any() or shapeless.any():
            empty = mark(boxes, lambda box: not box or box == ZEROS)
        self.numbers.extend(numbers.reshape(-1, 4))
        self.whole.extend(whole.reshape(-1, 4))
        self.absent.extend(absent)
        self.shapeless.extend(shapeless)
        self.empty.extend(empty)
        self.unknown.extend(any_of_row(~known.reshape(-1, 4)))
        self.was_cast.extend(any_of_row(cast.reshape(-1, 4)))
        return any_of_row(odd.reshape(-1, 4)) | shapeless

    def extend_plain(self, numbers: np.ndarray, whole: np.ndarray) -> None:
        """Append boxes (k, 4) of plain numbers, of which `whole` (k, 4) are integers."""
        self.numbers.extend(numbers)
        self.whole.extend(whole)
        self.empty.extend(~np.any(numbers.T, axis=0))
        for marks in (self.absent, self.shapeless, self.unknown, self.was_cast):
            marks.extend_zeros(len(numbers))

    def value(self, row: int) -> list[Any]:
        """Return the box of a row of four plain numbers as the file has it."""
        return [_number(number, whole) for number, whole in zip(self.numbers[row], self.whole[row])]


class ListedObjects:
    """The m annotations of a file: columns by field, texts of segmentations, and any row as it was (`[row]`)."""

    def __init__(self) -> None:
        self.boxes = Boxes()
        self.numbers = {name: Numbers(to_int, {int}, np.int64) for name in ("id", "image_id", "category_id")}
        self.numbers["iscrowd"] = Numbers(to_flag, {int}, np.int64)
        self.numbers["area"] = Numbers(to_float, {int, float}, np.float64)
        #: Marks of the boxes that are to be turned.
        self.rotated = GrowingColumn(bool)
        self.segmentations = GrowingTexts()
        # Rows of which the columns do not tell all.
        self._odd: dict[int, Entry] = {}
        # Rows (k,), rising, and their boxes (k, 4) before they were changed.
        self._changed: list[tuple[np.ndarray, np.ndarray]] = []

    def __len__(self) -> int:
        return len(self.rotated)

    def extend(self, entries: list[Entry] | list[PlainEntry]) -> None:
        """Append annotations, all of one type."""
        if entries and isinstance(entries[0], PlainEntry):
            plain = cast(list[PlainEntry], entries)
            if self._extend_plain(plain):
                return
            entries = [entry.as_entry() for entry in plain]
        self._extend_any(cast(list[Entry], entries))

    def _extend_plain(self, entries: list[PlainEntry]) -> bool:
        """Append annotations; False, and nothing is appended, where a number is beyond what its column holds."""
        sides: list[int | float] = list(chain.from_iterable(map(attrgetter("bbox"), entries)))  # (4 k,)
        areas = list(map(attrgetter("area"), entries))
        try:
            boxes, area = pack(sides, "d"), pack(areas, "d")
            integers = {name: pack(list(map(attrgetter(name), entries)), "q") for name in INTEGERS}
        except OverflowError:
            return False
        whole, whole_area = mark_integers(sides, boxes), mark_integers(areas, area)
        if any((np.abs(numbers[marks]) >= INEXACT).any() for numbers, marks in ((boxes, whole), (area, whole_area))):
            return False
        self.boxes.extend_plain(boxes.reshape(-1, 4), whole.reshape(-1, 4))
        for name, numbers in integers.items():
            self.numbers[name].extend_plain(numbers)
        self.numbers["area"].extend_plain(area, whole_area)
        self.rotated.extend_zeros(len(entries))
        self.segmentations.extend([entry.raw_segmentation for entry in entries])
        return True

    def _extend_any(self, entries: list[Entry]) -> None:
        first = len(self)
        odd = self.boxes.extend([entry.bbox for entry in entries])
        for name, column in self.numbers.items():
            odd |= column.extend(list(map(attrgetter(name), entries)))
        rotated = _mark_rotated(entries)
        self.rotated.extend(rotated)
        self.segmentations.extend([entry.raw_segmentation for entry in entries])
        for k in np.flatnonzero(odd | rotated).tolist():
            self._odd[first + k] = _alone(entries[k])

    def __getitem__(self, row: int) -> Entry:
        """Return an annotation as it is in the file, but for fields of exporters that say nothing of a rotation."""
        entry = self._odd.get(row)
        if entry is None:
            entry = Entry(**{name: column.value(row) for name, column in self.numbers.items()}, bbox=self._box(row))
        entry.raw_segmentation = self.segmentations[row]
        return entry

    def segmentation(self, row: int) -> Any:
        """Return the segmentation of a row, parsed each time. Raises ValueError where its text is no JSON."""
        return parse_segmentation(self.segmentations[row])

    def change_boxes(self, rows: np.ndarray, boxes: np.ndarray) -> None:
        """Put `boxes` (k, 4) xywh into `rows` (k,), rising; messages still show what is in the file."""
        numbers = self.boxes.numbers.array()
        self._changed.append((rows, numbers[rows]))
        numbers[rows] = boxes

    def select(self, keep: np.ndarray) -> Self:
        """Return the annotations for which `keep` (m,) bool is true."""
        made = type(self)()
        for name in self.numbers:
            _select(self.numbers[name], made.numbers[name], keep)
        _select(self.boxes, made.boxes, keep)
        made.rotated = self.rotated.select(keep)
        made.segmentations = self.segmentations.select(keep)
        places = np.cumsum(keep) - 1
        made._odd = {int(places[row]): entry for row, entry in self._odd.items() if keep[row]}
        return made

    def _box(self, row: int) -> list[Any]:
        # The first change has what the file has.
        for rows, boxes in self._changed:
            k = int(np.searchsorted(rows, row))
            if k < len(rows) and rows[k] == row:
                return [_number(number, whole) for number, whole in zip(boxes[k], self.boxes.whole[row])]
        return self.boxes.value(row)


def mark_integers(values: list[Any], numbers: np.ndarray) -> np.ndarray:
    """Mark the `values` (k,) that are integers where their column `numbers` (k,) is one of floats."""
    marks = np.zeros(len(values), dtype=bool)
    if numbers.dtype.kind == "f":
        # Only where the number is whole: those with a fraction need no look.
        places = np.flatnonzero(numbers == np.rint(numbers))
        marks[places] = [type(values[k]) is int for k in places.tolist()]
    return marks


def _number(number: Any, whole: Any) -> int | float:
    """Return a number of a column as Python has it; `whole`: an integer in a column of floats."""
    return int(number) if whole else number.item()


def _mark_rotated(entries: list[Entry]) -> np.ndarray:
    # Almost no file has either field.
    fields = [entry.rotation for entry in entries], [entry.attributes for entry in entries]
    if all(values.count(nothing) == len(entries) for values, nothing in zip(fields, (None, NOTHING))):
        return np.zeros(len(entries), dtype=bool)
    return mark(entries, lambda entry: entry.is_rotated)


def _alone(entry: Entry) -> Entry:
    """Return a copy that does not hold the text of the file, of which it was parsed, in memory."""
    known = {name: getattr(entry, name) for name in ("id", "image_id", "category_id", "bbox", "area", "iscrowd")}
    return Entry(**known, rotation=entry.rotation, attributes=Raw(bytes(entry.attributes)))


def _select(column: Numbers | Boxes, into: Numbers | Boxes, keep: np.ndarray) -> None:
    for name, part in vars(column).items():
        if isinstance(part, GrowingColumn):
            setattr(into, name, part.select(keep))
