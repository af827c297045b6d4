"""Questions of an annotation file's reader to the image files: the answers are part of what must not change."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from .images import ImageFiles
from .masks import Size


class AskedFiles:
    """Image files that note each question with its answer, to ask again later (`same_answers`)."""

    def __init__(self, files: ImageFiles) -> None:
        self.files = files
        self.sizes_known = files.sizes_known
        #: Question and answer, in plain types, in their order.
        self.asked: list[list[Any]] = []

    def path(self, file_name: str, image_id: int) -> Path | None:
        """Return what the files do."""
        path = self.files.path(file_name, image_id)
        self.asked.append(["path", file_name, image_id, None if path is None else str(path)])
        return path

    def size(self, file_name: str, image_id: int, listed: Size | None) -> Size | None:
        """Return what the files do."""
        size = self.files.size(file_name, image_id, listed)
        self.asked.append(["size", file_name, image_id, _plain(listed), _plain(size)])
        return size

    def set_ambiguous(self, last_parts: Iterable[str]) -> None:
        """Tell the files."""
        parts = list(last_parts)
        self.files.set_ambiguous(parts)
        self.asked.append(["ambiguous", parts])


def same_answers(asked: Iterable[list[Any]], files: ImageFiles) -> bool:
    """Ask again; False at the first answer that differs. Names that are ambiguous are told to `files`, as before."""
    for kind, *words in asked:
        if kind == "ambiguous":
            # Before the questions behind it: it decides how names are looked up.
            files.set_ambiguous(words[0])
        elif kind == "path":
            path = files.path(words[0], words[1])
            if words[2] != (None if path is None else str(path)):
                return False
        else:
            listed = None if words[2] is None else (words[2][0], words[2][1])
            if words[3] != _plain(files.size(words[0], words[1], listed)):
                return False
    return True


def _plain(size: Size | None) -> list[int] | None:
    return None if size is None else [int(side) for side in size]
