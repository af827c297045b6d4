"""Folders in which all images were found before: as long as nothing came or went there, nobody looks again.

A folder's times change with every name that is added, removed or renamed in it, so that the state of some folders
stands for that of millions of files. The note lies where parsed annotations are kept, and only this user's runs of this
machine's files can have made it: inodes and their times are in no archive.
"""

import hashlib
import json
import os
import time
from contextlib import suppress
from pathlib import Path

import numpy as np

from util.runs.atomic import atomic_file

from ..annotations.cache import kept_places
from ..coco import CocoDetection

#: Nanoseconds within which a file system may give two changes the same time: nothing so new is noted.
SAME_TIME = 2_000_000_000


class SeenFolders:
    """The note about the folders of a split's images; without `--no_cache`, or else it is neither read nor written."""

    def __init__(self, dataset: CocoDetection, indices: np.ndarray) -> None:
        """Take the images `indices` (k,) of `dataset`."""
        self.folder, self.cached = dataset.files.folder.resolve(), dataset.cached
        columns = dataset.annotations.columns()
        digest = hashlib.blake2b(digest_size=16)
        for part in (columns["names"], columns["name_ends"], indices):
            digest.update(np.ascontiguousarray(part).data)
        self._digest = digest.hexdigest()
        self._places = kept_places(dataset.ann_file, str(self.folder), "seen")
        self._states: dict[str, list[int]] = {}

    def unchanged(self) -> bool:
        """Return True where all folders are as they were when all of the images were there."""
        if not self.cached:
            return False
        for place in self._places:
            with suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
                note = json.loads(place.read_bytes())
                if note["images"] == self._digest:
                    return all(self._state(parent) == state for parent, state in note["folders"].items())
        return False

    def add(self, parent: str) -> None:
        """Take a folder, by its name in that of the images, before its files are listed."""
        with suppress(OSError):
            self._states[parent] = self._state(parent)

    def keep(self) -> None:
        """Note that all images are in the folders that were taken."""
        newest = time.time_ns() - SAME_TIME
        if not self.cached or any(max(state[1:]) > newest for state in self._states.values()):
            return
        for place in self._places:
            with suppress(OSError), atomic_file(place) as file:
                file.write(json.dumps({"images": self._digest, "folders": self._states}).encode())
                return

    def _state(self, parent: str) -> list[int]:
        state = os.stat(Path(self.folder, parent))
        return [state.st_ino, state.st_mtime_ns, state.st_ctime_ns]
