"""The rules for the images of an annotation file."""

import unicodedata
from collections import defaultdict
from collections.abc import Iterable
from itertools import chain
from operator import attrgetter
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from util.errors import DatasetError

from . import kinds
from .growing import by_block
from .kinds import IssueLog
from .masks import LARGEST_SIDE, Size
from .parse import ImageEntry, to_int

#: Image ids have a table where they span less than so many times their number.
DENSE = 4


class ImageFiles(Protocol):
    """The files that belong to a file's images, by file_name and image id."""

    #: True where asking for a size costs nothing: then all sizes are asked for.
    sizes_known: bool

    def path(self, file_name: str, image_id: int) -> Path | None:
        """Return the file of an image, None where there is no folder to look into."""

    def size(self, file_name: str, image_id: int, listed: Size | None) -> Size | None:
        """Return (height, width) of an image's file, turned by EXIF to the one listed; None where it is not known."""

    def set_ambiguous(self, last_parts: Iterable[str]) -> None:
        """Look names that end in one of these up by more than their last part."""


class NoFiles:
    """No folder to look into."""

    sizes_known = False

    def path(self, file_name: str, image_id: int) -> Path | None:
        """Return None."""
        return None

    def size(self, file_name: str, image_id: int, listed: Size | None) -> Size | None:
        """Return None."""
        return None

    def set_ambiguous(self, last_parts: Iterable[str]) -> None:
        """Do nothing."""


class Images:
    """The images of a file by their ids: `ids` (n,) int64 rising, `names`, `sizes` (n, 2) height, width or -1."""

    def __init__(
        self,
        entries: list[ImageEntry],
        issues: IssueLog,
        *,
        need_sizes: bool,
        files: ImageFiles,
        fixing: bool = False,
    ) -> None:
        """Read the images; with `fixing`, those of one file become the first of them."""
        if not entries:
            raise DatasetError(f"{issues.path}: it lists no images")
        self.issues = issues
        self.files = files
        listed = self._by_id(entries)
        ids = [entry.id for entry in listed]
        self.ids = np.array(ids if set(map(type, ids)) == {int} else list(map(to_int, ids)), dtype=np.int64)
        self.names: list[str] = [entry.file_name for entry in listed]
        self._first_of = self._find_shared()
        if fixing and self._first_of:
            kept = [k for k, id_ in enumerate(self.ids.tolist()) if id_ not in self._first_of]
            self.ids, self.names, listed = self.ids[kept], [self.names[k] for k in kept], [listed[k] for k in kept]
        else:
            # Only --fix merges them; else the finding refuses the file.
            self._first_of = {}
        # Arrays, not objects: loader workers share their memory instead of copying it page by page as counts of
        # references change.
        self.sizes = self._read_sizes(listed, need=need_sizes)
        # Asked only where no file has to be opened for it.
        if files.sizes_known:
            self.measure(np.arange(len(self.ids)))

    def positions(self, ids: np.ndarray) -> np.ndarray:
        """Return the position of each of `ids` (m,), (m,) int64, -1 for one that is not listed."""
        if not len(self.ids):
            return np.full(len(ids), -1)
        if self._first_of:
            ids = np.array([self._first_of.get(id_, id_) for id_ in ids.tolist()], dtype=np.int64)
        return self._find_ids(ids)

    def _find_ids(self, ids: np.ndarray) -> np.ndarray:
        first, last = int(self.ids[0]), int(self.ids[-1])
        if last - first < DENSE * len(self.ids):
            # A table by id: one look instead of twenty steps of a search.
            table = np.full(last - first + 1, -1)
            table[self.ids - first] = np.arange(len(self.ids))
            return by_block(len(ids), np.int64, lambda part: _look_up(table, ids[part], first, last))
        return by_block(len(ids), np.int64, lambda part: self._search(ids[part]))

    def _search(self, ids: np.ndarray) -> np.ndarray:
        # Ids rise, so a binary search finds them all at once; a place whose id is another means not listed.
        places = np.searchsorted(self.ids, ids).clip(max=len(self.ids) - 1)
        return np.where(self.ids[places] == ids, places, -1)

    def size(self, position: int) -> Size | None:
        """Return (height, width) of an image, None where it is not known."""
        height, width = self.sizes[position].tolist()
        # -1 is kept in the array where nothing is listed: an int32 column has no None.
        return (height, width) if height > 0 else None

    def measure(self, positions: np.ndarray) -> None:
        """Ask for the true sizes of some images and take those."""
        for position in positions.tolist():
            size = self.files.size(self.names[position], int(self.ids[position]), self.size(position))
            if size is not None and size != self.size(position):
                listed = self.sizes[position].tolist()
                if listed != [-1, -1]:
                    self.issues.add(kinds.WRONG_SIZE, "image", int(self.ids[position]), "[height, width]", listed)
                self.sizes[position] = size

    def _find_shared(self) -> dict[int, int]:
        """Note files that several images have: by one name, or by names of which the disk knows the last part only.

        Returns the id of the first image of the file for each of the others.
        """
        first_of: dict[int, int] = {}
        parts = last_parts(self.names)
        alike: dict[str, list[int]] = defaultdict(list)
        # Only names with the same last part can lead to one file: the rest is not looked up.
        if len(set(parts)) < len(parts):
            for position, part in enumerate(parts):
                alike[part].append(position)
        alike = {part: positions for part, positions in alike.items() if len(positions) > 1}
        for positions in alike.values():
            first: dict[Path | str, int] = {}
            for position in positions:
                id_ = int(self.ids[position])
                # Without a folder the names themselves tell; with one, different names may lead to one file.
                place = self.files.path(self.names[position], id_) or self.names[position].replace("\\", "/")
                if first.setdefault(place, id_) != id_:
                    first_of[id_] = first[place]
                    field = f"file_name (image id {first[place]} has the same file)"
                    self.issues.add(kinds.SHARED_FILES, "image", id_, field, self.names[position])
        self.files.set_ambiguous(alike)
        return first_of

    def _by_id(self, entries: list[ImageEntry]) -> list[ImageEntry]:
        """Return the images that count, by their ids rising; note the others."""
        ids = [entry.id for entry in entries]
        names = [entry.file_name for entry in entries]
        # The usual file: a few passes in C.
        if (
            set(map(type, names)) == {str}
            and all(names)
            and set(map(type, ids)) == {int}
            and len(set(ids)) == len(ids)
            and max(map(abs, ids)) < 2**63
        ):
            return sorted(entries, key=attrgetter("id"))
        by_id: dict[int, ImageEntry] = {}
        for entry in entries:
            id_ = read_id(entry.id, "image", self.issues)
            if id_ is not None and self._has_name(entry):
                # By id, so that the same image listed twice does not count twice.
                known = by_id.setdefault(id_, entry)
                if known is not entry:
                    same = known.file_name == entry.file_name
                    kind = kinds.REPEATED_IMAGES if same else kinds.CONTRADICTING_IMAGES
                    self.issues.add(kind, "image", id_, "file_name", entry.file_name)
        return [by_id[id_] for id_ in sorted(by_id)]

    def _read_sizes(self, entries: list[ImageEntry], *, need: bool) -> np.ndarray:
        """Return height and width (n, 2) int32 of the images, -1 where they are not known."""
        listed = [entry.height for entry in entries], [entry.width for entry in entries]
        sizes, odd = np.full((len(entries), 2), -1, np.int32), np.arange(len(entries))
        if set(map(type, chain(*listed))) == {int}:
            # (n, 2). Integers beyond 64 bits make floats or objects, which are compared alike.
            sides = np.array(listed).T
            sound = ((sides > 0) & (sides <= LARGEST_SIDE)).all(1)
            sizes[sound], odd = sides[sound], np.flatnonzero(~sound)
        for k in odd.tolist():
            sizes[k] = self._size(entries[k], need=need)
        return sizes

    def _has_name(self, entry: ImageEntry) -> bool:
        # An empty name would lead to the folder itself.
        has = isinstance(entry.file_name, str) and entry.file_name != ""
        if not has:
            self.issues.add(kinds.NO_FILE_NAME, "image", entry.id, "file_name", entry.file_name)
        return has

    def _size(self, entry: ImageEntry, *, need: bool) -> Size:
        listed = [entry.height, entry.width]
        if listed == [None, None]:
            kind = kinds.NO_SIZE
        else:
            height, width = map(to_int, listed)
            if height and width and 0 < min(height, width) and max(height, width) <= LARGEST_SIDE:
                if not all(type(side) is int for side in listed):
                    self.issues.add(kinds.CAST_NUMBERS, "image", entry.id, "[height, width]", listed)
                return height, width
            kind = kinds.BAD_SIZE
        # The file is asked only where masks need it: opening every image of a large set takes long.
        size = self.files.size(entry.file_name, to_int(entry.id) or 0, None) if need else None
        if need and size is None:
            kind = kinds.SIZE_FOR_MASKS
        self.issues.add(kind, "image", entry.id, "[height, width]", listed)
        # -1 stands for a side that nobody knows.
        return size or (-1, -1)


def last_part(file_name: str) -> str:
    """Return a name without its folders, with slashes of either kind, in one form of its accents."""
    part = file_name.replace("\\", "/").rpartition("/")[2]
    return part if part.isascii() else unicodedata.normalize("NFC", part)


def last_parts(file_names: list[str]) -> list[str]:
    """Return what `last_part` does for each name."""
    # A look at all of them together is many times as fast as one at each.
    every = "".join(file_names)
    if every.isascii() and "\\" not in every:
        return [name.rpartition("/")[2] for name in file_names]
    return list(map(last_part, file_names))


def _look_up(table: np.ndarray, ids: np.ndarray, first: int, last: int) -> np.ndarray:
    inside = (ids >= first) & (ids <= last)
    return np.where(inside, table[np.where(inside, ids - first, 0)], -1)


def read_id(value: Any, what: str, issues: IssueLog) -> int | None:
    """Return the id of an image or a category, None for one that is no integer; `what` says of which, for the notes."""
    id_ = to_int(value)
    if id_ is None:
        issues.add(kinds.BAD_IDS, what, value)
    elif type(value) is not int:
        issues.add(kinds.CAST_NUMBERS, what, value)
    return id_
